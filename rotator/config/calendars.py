"""Cron lines, time zones and days, as a configuration writes them.

Cron lines follow Debian's cron, by the library cronsim: what falls into an hour that the clocks
skip comes right after it, and what falls into an hour that comes twice comes once, unless it recurs
within the hour.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Annotated, Final, TypeAlias
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, WithJsonSchema

from rotator.config.errors import wrong

_EXAMPLE: Final = (
    "Five fields: minute, hour, day of month, month, day of week. Example: `0 3 * * 6`."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cron:
    """The moments of a cron line in a time zone."""

    line: str
    zone: str = "UTC"

    def __str__(self) -> str:
        return f"{self.line} ({self.zone})"

    def after(self, moment: datetime) -> datetime | None:
        """Return the first of them that is later than `moment`, in UTC; None when there is none."""
        for local in CronSim(self.line, moment.astimezone(_zone(self.zone))):
            found = local.astimezone(UTC)
            # In an hour that comes twice the library may look back into the first of the two.
            if found > moment:
                return found
        return None


def start_of(day: str, zone: str) -> datetime:
    """Return when a day (`2026-12-24`) begins in a time zone, in UTC."""
    parsed = date.fromisoformat(day)
    midnight = datetime(parsed.year, parsed.month, parsed.day, tzinfo=_zone(zone))
    return midnight.astimezone(UTC)


def end_of(day: str, zone: str) -> datetime:
    """Return when a day is over in a time zone, in UTC."""
    return start_of((date.fromisoformat(day) + timedelta(days=1)).isoformat(), zone)


@cache
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def _check_cron(line: str) -> str:
    try:
        _ = CronSim(line, datetime(2026, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        raise wrong(
            f"invalid cron expression: {str(error).lower() or 'wrong'}.", _EXAMPLE
        ) from None
    return line


def _check_zone(name: str) -> str:
    try:
        _ = _zone(name)
    # What is no name at all, what no file has, and what is a folder.
    except (ValueError, OSError, KeyError):
        hint = "Use a name of the IANA database, such as `Europe/Berlin` or `UTC`."
        raise wrong("unknown time zone.", hint) from None
    return name


def _check_day(day: str) -> str:
    try:
        return date.fromisoformat(day).isoformat()
    except ValueError:
        raise wrong("expected a date.", "Write year, month and day: `2026-12-24`.") from None


CronLine: TypeAlias = Annotated[str, AfterValidator(_check_cron)]
Zone: TypeAlias = Annotated[str, AfterValidator(_check_zone)]
Day: TypeAlias = Annotated[
    str,
    AfterValidator(_check_day),
    WithJsonSchema({"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$"}),
]
