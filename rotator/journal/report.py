"""What a verification of the journal, or of an export of it, has found."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """One place where the journal does not say what was written. `where` names it exactly."""

    where: str
    what: str


@dataclass(slots=True, kw_only=True)
class AuditReport:
    """What a verification found. `signatures`: whether they were checked against a public key."""

    events: int = 0
    secrets: int = 0
    rotations: int = 0
    checkpoints: int = 0
    signatures: bool = False
    unsigned_events: int = 0
    damage: list[Damage] = field(default_factory=list[Damage])

    @property
    def ok(self) -> bool:
        """Whether nothing is amiss."""
        return not self.damage

    def add(self, where: str, what: str) -> None:
        """Note one place."""
        self.damage.append(Damage(where=_printable(where), what=_printable(what)))


def _printable(text: str) -> str:
    # What was tampered with may hold anything, also what would steer a terminal.
    return text if text.isprintable() else text.encode("unicode_escape").decode()
