"""The logins of each target that nobody manages, as the newest look in a period found them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rotator.core.target_logins import TargetLogins, chain_of
from rotator.report.controls import EXCEPTION, OPERATED
from rotator.report.model import NOT_COVERED, Deviation

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from rotator.core.model import Event
    from rotator.report.model import Period

UNMANAGED = "unmanaged"
# So many names are in the words of an exception.
_NAMED = 10


@dataclass(slots=True, kw_only=True)
class Coverage:
    """What is known of the logins of one target. `listed_at` None: no look was recorded.

    `seq` and `head`: of the event of the newest look. `is_recent`: it was in the period.
    """

    target: str
    listed_at: datetime | None = None
    is_recent: bool = False
    logins: TargetLogins = field(default_factory=lambda: TargetLogins.of(()))
    seq: int | None = None
    head: str | None = None
    deviations: list[Deviation] = field(default_factory=list[Deviation])

    @property
    def word(self) -> str:
        """One of: exception, not covered, operated."""
        if not self.is_recent:
            return NOT_COVERED
        return EXCEPTION if self.logins.not_managed else OPERATED


def coverage(target: str, events: Iterable[Event], period: Period) -> Coverage:
    """Return what the events of a target's chain show, up to the end of a period."""
    found = Coverage(target=target)
    opened: Deviation | None = None
    for event in events:
        if event.at > period.until:
            continue
        found.logins, found.listed_at = TargetLogins.from_event(event), event.at
        found.seq, found.head = event.seq, event.hash
        found.is_recent = event.at >= period.since
        if found.logins.not_managed:
            if opened is None:
                opened = Deviation(
                    secret=chain_of(target),
                    kind=UNMANAGED,
                    what="",
                    opened_at=event.at,
                    opened_event=event.seq,
                )
                found.deviations.append(opened)
            opened.what = _what(found.logins)
        elif opened is not None:
            opened.closed_at, opened.closed_event = event.at, event.seq
            opened = None
    found.deviations = [
        one for one in found.deviations if one.closed_at is None or one.closed_at > period.since
    ]
    return found


def _what(logins: TargetLogins) -> str:
    names = logins.not_managed_names
    more = logins.not_managed - len(names[:_NAMED])
    shown = ", ".join(names[:_NAMED]) + (f" and {more} more" if more else "")
    count = "1 login" if logins.not_managed == 1 else f"{logins.not_managed} logins"
    return f"{count} that rotator does not manage: {shown}"
