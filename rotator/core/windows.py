"""When work may begin: windows that open again and again, hours and days that are forbidden."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

# Windows that do not open within this time, or only behind so many forbidden stretches, never do.
_HORIZON: Final = timedelta(days=5 * 366)
_MOST_STEPS: Final = 20_000


class Recurring(Protocol):
    """Moments that come again and again, such as those of a cron line in a time zone."""

    def after(self, moment: datetime) -> datetime | None:
        """Return the first of them that is later than `moment`, in UTC; None when there is none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """From each moment of `opens` on, for as long as it `lasts`."""

    opens: Recurring
    lasts: timedelta

    def last_end(self, moment: datetime) -> datetime | None:
        """Return when the stretch that `moment` lies in is over; None outside of any.

        Where stretches run into each other, that is the end of the last one that has begun.
        """
        # A stretch that began exactly `lasts` ago is just over.
        opened, found = self.opens.after(moment - self.lasts), None
        while opened is not None and opened <= moment:
            found, opened = opened + self.lasts, self.opens.after(opened)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Blackout:
    """One stretch of time in which nothing begins; `end` is not part of it."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """When work may begin: in one of `allow` (always, when there are none), and never in a `deny`
    or a blackout.
    """

    allow: tuple[Window, ...] = ()
    deny: tuple[Window, ...] = ()
    blackouts: tuple[Blackout, ...] = ()

    def next_open(self, moment: datetime) -> datetime | None:
        """Return the first time from `moment` on at which work may begin; None when there is none."""
        at: datetime | None = moment
        for _ in range(_MOST_STEPS):
            if at is None or at > moment + _HORIZON:
                return None
            closed_until = self._closed_until(at)
            if closed_until is not None:
                at = closed_until
            elif not self.allow or any(one.last_end(at) is not None for one in self.allow):
                return at
            else:
                at = _first(one.opens.after(at) for one in self.allow)
        return None

    def open_until(self, moment: datetime) -> datetime:
        """Return until when work may begin without a break, from a moment at which it may."""
        ends = [one.last_end(moment) for one in self.allow]
        allowed = max((end for end in ends if end is not None), default=moment + _HORIZON)
        closes = [one.opens.after(moment) for one in self.deny]
        closes += [one.start for one in self.blackouts if one.start > moment]
        return min([allowed, *(one for one in closes if one is not None)])

    def is_open(self, moment: datetime) -> bool:
        """Return whether work may begin at this moment."""
        return self.next_open(moment) == moment

    def _closed_until(self, moment: datetime) -> datetime | None:
        ends = [one.last_end(moment) for one in self.deny]
        ends += [one.end for one in self.blackouts if one.start <= moment < one.end]
        found = [end for end in ends if end is not None]
        return max(found, default=None)


ALWAYS: Final = Windows()


def _first(moments: Iterable[datetime | None]) -> datetime | None:
    return min((one for one in moments if one is not None), default=None)
