"""The audit journal in memory, for tests: it looks for what must never be asked of a journal."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

from rotator.core.consumers import REPORT_LASTS, Level, ReportedInstance, newer
from rotator.core.secret import scrub
from rotator.journal import memory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rotator.core.consumers import Report
    from rotator.core.model import Event
    from rotator.core.observations import Observation, ObservationKind
    from rotator.core.ports import Clock


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
            # A secret of an earlier test may be garbage that nobody has collected.
            _ = gc.collect()
        if scrub(said) != said:
            kinds = ", ".join(event.kind.value for event in events)
            self.violations.append(f"P6: a secret was written into the journal ({kinds}).")


class MemoryObservations:
    """Observations beside a journal in memory."""

    def __init__(self) -> None:
        self._kept: dict[tuple[ObservationKind, str], Observation] = {}

    def put(self, observation: Observation) -> bool:
        """Write an observation in the place of the one before it; return whether there was none."""
        key = (observation.kind, observation.subject)
        new = key not in self._kept
        self._kept[key] = observation
        return new

    def remove(self, kind: ObservationKind, subject: str) -> Observation | None:
        """Forget an observation and return it."""
        return self._kept.pop((kind, subject), None)

    def replace(
        self, kind: ObservationKind, prefix: str, observations: Sequence[Observation]
    ) -> None:
        """Put `observations` in the place of all of this kind whose subject begins with `prefix`."""
        for observation in self.all(kind):
            if observation.subject.startswith(prefix):
                _ = self.remove(kind, observation.subject)
        for observation in observations:
            _ = self.put(observation)

    def all(self, kind: ObservationKind) -> list[Observation]:
        """Return the observations of a kind, by subject."""
        return [self._kept[key] for key in sorted(self._kept) if key[0] is kind]


class MemoryConsumers:
    """The reports of consumers, beside a journal in memory."""

    def __init__(self, clock: Clock) -> None:
        self._clock: Clock = clock
        self._kept: dict[tuple[str, str, str, bool], ReportedInstance] = {}

    def report(self, reports: Sequence[Report]) -> set[str]:
        """Write reports in the place of those before; return the secrets for which something is new."""
        changed: set[str] = set()
        for report in reports:
            is_next = report.level is Level.PREPARED
            key = (report.secret, report.consumer, report.instance, is_next)
            before = self._kept.get(key)
            kept = newer(before.report if before else None, report)
            if before is None or before.report != kept:
                changed.add(report.secret)
            self._kept[key] = ReportedInstance(report=kept, at=self._clock.now())
        return changed

    def instances(self, secret: str | None = None) -> list[ReportedInstance]:
        """Return the instances of a secret, or of all, that have reported within `REPORT_LASTS`."""
        return self._alive(secret, is_next=False)

    def prepared(self, secret: str) -> list[ReportedInstance]:
        """Return the instances that have read the secret's next version, within `REPORT_LASTS`."""
        return self._alive(secret, is_next=True)

    def _alive(self, secret: str | None, *, is_next: bool) -> list[ReportedInstance]:
        since = self._clock.now() - REPORT_LASTS
        return [
            self._kept[key]
            for key in sorted(self._kept)
            if secret in (None, key[0]) and key[3] is is_next and self._kept[key].at >= since
        ]
