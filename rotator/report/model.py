"""The values of a report. Each one names the events that show it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

# A secret is late when it is still due this long after its due date, as the notice `overdue` counts it.
LATE_AFTER: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """From `since` to `until`, both included."""

    since: datetime
    until: datetime

    def overlaps(self, start: datetime, end: datetime | None) -> bool:
        """Return whether the time from `start` up to `end` (None: still lasting) is partly in the period."""
        return start <= self.until and (end is None or end > self.since)

    def contains(self, at: datetime | None) -> bool:
        """Return whether a moment is in the period."""
        return at is not None and self.since <= at <= self.until


@dataclass(frozen=True, slots=True, kw_only=True)
class Age:
    """An age. Not `exact`: it is at least this, because the journal does not know the beginning."""

    age: timedelta
    exact: bool


@dataclass(slots=True, kw_only=True)
class RotationProof:
    """One rotation and its proof. `events`: the number of the event of each moment.

    `due`: when it was due, by the policy of that time; None where the journal has no due date.
    `late`: how long after that the new credential was published. `old_refused`: whether a login with the
    old credential was tried afterwards and rejected; None: not tried. `head`: hash of its newest event.
    """

    id: str
    started_at: datetime
    reason: str = ""
    actor: str = ""
    plugin: str = ""
    strategy: str = ""
    delegated: bool = False
    old_login: str | None = None
    old_version: str | None = None
    new_login: str | None = None
    new_version: str | None = None
    published_at: datetime | None = None
    due: datetime | None = None
    late: timedelta | None = None
    old_refused: bool | None = None
    ended_at: datetime | None = None
    outcome: str | None = None
    events: dict[str, int] = field(default_factory=dict[str, int])
    head: str = ""

    @property
    def is_late(self) -> bool:
        """Whether it was published too long after its due date."""
        return self.late is not None and self.late > LATE_AFTER


@dataclass(slots=True, kw_only=True)
class Deviation:
    """An exception of one secret, from one event to another; `closed_at` None: it is open.

    `kind`: overdue, parked, refused, drift, stale-copies, old-accepted or clock.
    """

    secret: str
    kind: str
    what: str
    opened_at: datetime
    opened_event: int
    closed_at: datetime | None = None
    closed_event: int | None = None


@dataclass(slots=True, kw_only=True)
class SecretReport:
    """One secret that was managed at some moment of the period.

    `managed_from` and `managed_until`: the last time that it was managed; `ended`: retired, or the name
    that continues it. Ages are those of the credential that was served; None where none was. `owner` and
    `basis`: of the configuration.
    """

    secret: str
    managed_from: datetime
    owner: str = ""
    basis: str = ""
    managed_until: datetime | None = None
    ended: str | None = None
    target: str | None = None
    backend: str | None = None
    plugin: str | None = None
    strategy: str | None = None
    login: str | None = None
    version: str | None = None
    due: datetime | None = None
    age_start: Age | None = None
    age_end: Age | None = None
    age_max: Age | None = None
    seq: int = 0
    head: str = ""
    rotations: list[RotationProof] = field(default_factory=list[RotationProof])
    deviations: list[Deviation] = field(default_factory=list[Deviation])

    @property
    def word(self) -> str:
        """One of: exception, not covered, operated."""
        if any(one.kind != "clock" for one in self.deviations):
            return "exception"
        # Without a due date nothing shows that it is replaced in time; an unknown age is never good.
        known = self.due is not None or self.managed_until is not None
        return (
            "operated" if known and self.age_max is not None and self.age_max.exact else NOT_COVERED
        )


NOT_COVERED: Final = "not covered"
