"""Durations as people write them: `30d`, `12h`, `1d12h`, `500ms`."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

# Each unit at most once, the largest first. The schema shows this pattern to editors, so it keeps
# to what ECMAScript understands as well.
PATTERN: Final = r"^(?=\d)(\d{1,9}w)?(\d{1,9}d)?(\d{1,9}h)?(\d{1,9}m(?!s))?(\d{1,9}s)?(\d{1,9}ms)?$"
EXAMPLES: Final = "`30d`, `12h`, `15m`, `10s` or `1d12h`"
# Far beyond any sense, and near enough that no date computed from it leaves the calendar.
LONGEST: Final = timedelta(days=36_500)

_UNITS: Final = {
    "w": timedelta(weeks=1),
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
}
_WHOLE: Final = re.compile(PATTERN, re.ASCII)
_PART: Final = re.compile(r"(\d+)([a-z]+)")


# The grace period that ends early: `until-acknowledged`, or with another limit than the default.
UNTIL_ACKNOWLEDGED: Final = "until-acknowledged"
_AT_MOST: Final = ", at most "


def parse(text: str) -> timedelta:
    """Return the duration that `text` says. Raises `ValueError` with a text for a person."""
    if _WHOLE.fullmatch(text) is None:
        raise ValueError("a duration is a number with a unit")
    parts = [(int(number), unit) for number, unit in _PART.findall(text)]
    try:
        total = sum((number * _UNITS[unit] for number, unit in parts), timedelta())
    except OverflowError:
        total = timedelta.max
    if total > LONGEST:
        raise ValueError("a duration is at most a hundred years")
    return total


def write(duration: timedelta) -> str:
    """Return how a person would write `duration`, whole milliseconds of it."""
    left, parts = duration, list[str]()
    for unit, size in _UNITS.items():
        # Weeks are read but not written: `14d` says more than `2w` to most people.
        if unit == "w":
            continue
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def parse_grace(text: str, longest: timedelta) -> tuple[timedelta, bool]:
    """Return how long a grace period is at most, and whether consumers can end it.

    `longest`: the limit where `text` names none. Raises `ValueError` as `parse` does.
    """
    if text == UNTIL_ACKNOWLEDGED:
        return longest, True
    early = text.startswith(UNTIL_ACKNOWLEDGED + _AT_MOST)
    return parse(text.removeprefix(UNTIL_ACKNOWLEDGED + _AT_MOST) if early else text), early


def write_grace(grace: timedelta, *, until_acknowledged: bool) -> str:
    """Return how a person would write a grace period."""
    return f"{UNTIL_ACKNOWLEDGED}{_AT_MOST}{write(grace)}" if until_acknowledged else write(grace)
