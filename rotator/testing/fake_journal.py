"""The audit journal in memory, for tests: it looks for what must never be asked of a journal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rotator.core.secret import scrub
from rotator.journal import memory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rotator.core.model import Event
    from rotator.core.ports import Clock
    from rotator.core.signs import Sign, SignKind


class MemoryJournal(memory.MemoryJournal):
    """It outlives the engines of a test as a database outlives ours.

    `violations` collects what must never be asked of a journal: a secret in an event.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        actor: str = "test",
        is_dead: Callable[[str], bool] = lambda _holder: False,
        watchful: bool = True,
    ) -> None:
        """`watchful`: look for secrets in every event; slow where there are thousands of them."""
        super().__init__(clock=clock, actor=actor, is_dead=is_dead)
        self._watchful: bool = watchful
        self.violations: list[str] = []

    def _write(self, events: list[Event]) -> None:
        if not self._watchful:
            return
        said = str([dict(event.data) for event in events])
        if scrub(said) != said:
            kinds = ", ".join(event.kind.value for event in events)
            self.violations.append(f"P6: a secret was written into the journal ({kinds}).")


class MemorySigns:
    """Signs beside a journal in memory."""

    def __init__(self) -> None:
        self._kept: dict[tuple[SignKind, str], Sign] = {}

    def put(self, sign: Sign) -> bool:
        """Write a sign in the place of the one before it; return whether there was none."""
        key = (sign.kind, sign.subject)
        new = key not in self._kept
        self._kept[key] = sign
        return new

    def remove(self, kind: SignKind, subject: str) -> Sign | None:
        """Forget a sign and return it."""
        return self._kept.pop((kind, subject), None)

    def replace(self, kind: SignKind, prefix: str, signs: Sequence[Sign]) -> None:
        """Put `signs` in the place of all of this kind whose subject begins with `prefix`."""
        for sign in self.all(kind):
            if sign.subject.startswith(prefix):
                _ = self.remove(kind, sign.subject)
        for sign in signs:
            _ = self.put(sign)

    def all(self, kind: SignKind) -> list[Sign]:
        """Return the signs of a kind, by subject."""
        return [self._kept[key] for key in sorted(self._kept) if key[0] is kind]
