"""What a verification of the journal, or of an export of it, has found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rotator.core.printable import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rotator.journal.handovers import Handover


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """One place where the journal does not say what was written. `where` names it exactly.

    `restore`: what stays the same of it, where a database that was put back to an older state explains
    it; such a place can be acknowledged.
    """

    where: str
    what: str
    restore: str | None = None


@dataclass(slots=True, kw_only=True)
class AuditReport:
    """What a verification found. `signatures`: whether they were checked against a public key."""

    events: int = 0
    secrets: int = 0
    rotations: int = 0
    checkpoints: int = 0
    signatures: bool = False
    # Whether events and records were authenticated, as far as they can be.
    authenticated: bool = True
    unsigned_events: int = 0
    damage: list[Damage] = field(default_factory=list[Damage])
    # The secrets that could not be compared with their backends, with the reason.
    unread: list[Damage] = field(default_factory=list[Damage])
    # What an operator has acknowledged, with the reason.
    acknowledged: list[tuple[Damage, str]] = field(default_factory=list[tuple[Damage, str]])

    # Where another signing key took over.
    handovers: list[Handover] = field(default_factory=list["Handover"])

    @property
    def ok(self) -> bool:
        """Whether nothing is amiss."""
        return not self.damage

    def add(self, where: str, what: str, *, restore: str | None = None) -> None:
        """Note one place."""
        # What was tampered with may hold anything.
        found = Damage(where=printable(where), what=printable(what), restore=restore)
        self.damage.append(found)

    def skip(self, where: str, why: str) -> None:
        """Note what could not be looked at."""
        self.unread.append(Damage(where=printable(where), what=printable(why)))

    def acknowledge(self, reasons: Mapping[str, str]) -> None:
        """Take what is acknowledged out of the damage. `reasons`: by what stays the same of a place."""
        known = [one for one in self.damage if one.restore in reasons]
        self.acknowledged += [(one, reasons[one.restore or ""]) for one in known]
        self.damage = [one for one in self.damage if one.restore not in reasons]
