"""How old the served credential was, at most, inside a period.

Order is the order of the chain. A clock that jumps makes an age larger, never smaller: a credential
counts as made at the earliest, and as served until the latest, of the times recorded while it was served.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rotator.core.history import moment
from rotator.core.model import Kind, Step
from rotator.report.model import Age

if TYPE_CHECKING:
    from datetime import datetime

    from rotator.core.history import SecretRecord
    from rotator.core.model import Event
    from rotator.report.model import Period


@dataclass(slots=True, kw_only=True)
class Served:
    """One credential while it is served. `made_at` None: not known, but at the latest at `since`."""

    made_at: datetime | None
    since: datetime
    start: datetime
    end: datetime
    ended: bool = False

    def at(self, when: datetime) -> Age:
        """Return its age at a moment."""
        made = min(self.made_at or self.since, self.start)
        return Age(age=when - made, exact=self.made_at is not None)


class ServedCredentials:
    """The credentials that one secret served, in order."""

    def __init__(self) -> None:
        self._all: list[Served] = []

    def add(self, event: Event, record: SecretRecord) -> None:
        """Take the next event; `record`: the secret's record after it."""
        current = self._all[-1] if self._all and not self._all[-1].ended else None
        if _ends(event):
            self._close(current, event.at)
        elif _replaces(event):
            at = _replaced_at(event, current)
            if at < event.at and current is not None:
                current.end, current.ended = at, True
            else:
                self._close(current, event.at)
            self._begin(record.rotated_at, record.since or at, at)
        elif current is None and _shows_one(event, record):
            # Something is served, and nothing shows since when.
            self._begin(None, event.at, event.at)
        elif current is not None:
            current.start, current.end = min(current.start, event.at), max(current.end, event.at)

    def age(self, at: datetime) -> Age | None:
        """Return the age at a moment; None when nothing was served."""
        lasting = [one for one in self._all if one.start <= at and (not one.ended or one.end > at)]
        return lasting[-1].at(at) if lasting else None

    def oldest(self, period: Period) -> Age | None:
        """Return the maximum age inside the period; None when nothing was served in it.

        While one credential of the period has no known beginning, the maximum is not exact.
        """
        ages = [
            one.at(min(one.end, period.until) if one.ended else period.until)
            for one in self._all
            if period.overlaps(one.start, one.end if one.ended else None)
            and not (one.ended and one.end == one.start)
        ]
        if not ages:
            return None
        return Age(age=max(one.age for one in ages), exact=all(one.exact for one in ages))

    def _begin(self, made_at: datetime | None, since: datetime, at: datetime) -> None:
        self._all.append(Served(made_at=made_at, since=min(since, at), start=at, end=at))

    def _close(self, current: Served | None, at: datetime) -> None:
        if current is not None:
            current.end, current.ended = max(current.end, at), True


def _ends(event: Event) -> bool:
    return event.kind is Kind.RETIRED or (event.kind is Kind.RENAMED and "to" in event.data)


def _replaces(event: Event) -> bool:
    match event.kind, event.step:
        case Kind.ADOPTED, _:
            return event.data.get("served") is not False
        case Kind.FINISHED, (Step.PUBLISH | Step.PROVE | Step.RESTORE):
            return True
        case ((Kind.FOLLOWED | Kind.RENAMED), _):
            return event.kind is Kind.FOLLOWED or event.data.get("version") is not None
        case _:
            return False


def _shows_one(event: Event, record: SecretRecord) -> bool:
    """Return whether an event shows that something is served that no event has published."""
    if record.retired is not None or record.renamed_to is not None:
        return False
    requested = event.kind is Kind.REQUESTED and event.data.get("old_version") is not None
    return requested or (event.kind is Kind.CHECKED and event.data.get("version") is not None)


def _replaced_at(event: Event, current: Served | None) -> datetime:
    """Return when the new credential was served first: another system may have replaced it earlier."""
    by_another = event.kind is Kind.FOLLOWED or event.step is Step.PROVE
    at = moment(event.data, "rotated_at") if by_another else None
    if at is None or at > event.at or (current is not None and at < current.start):
        return event.at
    return at
