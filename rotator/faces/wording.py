"""Times, durations and counts in words."""

from __future__ import annotations

import re
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

# A command of rotator, or SQL: no sentence follows it.
_PASTED: Final = re.compile(r"(?:rotator [a-z-]+|[A-Z]{4,} )(?:(?!\. [A-Z]).)*(?<!\.)")
_UNITS: Final = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def at(moment: datetime | None, *, seconds: bool = False) -> str:
    """Return a time in UTC; a dash for none."""
    if moment is None:
        return "-"
    shape = "%Y-%m-%d %H:%M:%S UTC" if seconds else "%Y-%m-%d %H:%M UTC"
    return moment.astimezone(UTC).strftime(shape)


def span(of: timedelta) -> str:
    """Return a duration in its two largest units: `3 d 4 h`, `12 s`."""
    left = max(0, int(of.total_seconds()))
    parts: list[str] = []
    for unit, size in _UNITS:
        if left >= size or (unit == "s" and not parts):
            parts.append(f"{left // size} {unit}")
            left %= size
        elif parts:
            break
    return " ".join(parts[:2])


def relative(moment: datetime | None, now: datetime) -> str:
    """Return `in 3 d`, `2 h ago`, or a dash for none."""
    if moment is None:
        return "-"
    return f"in {span(moment - now)}" if moment > now else f"{span(now - moment)} ago"


def answerable(owner: str, basis: str) -> str:
    """Return who answers for a secret and why it is rotated so; empty where neither is named."""
    named = (("owner", owner), ("basis", basis))
    return ", ".join(f"{name} {text}" for name, text in named if text)


def plural(count: int, noun: str) -> str:
    """Return `1 secret`, `2 secrets`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def hint_parts(hint: str) -> list[tuple[str, str]]:
    """Return the lines of a hint, each as prose and the command or statement at its end; one may be empty."""
    return [_hint_line(line) for line in hint.splitlines()]


def _hint_line(line: str) -> tuple[str, str]:
    whole = _PASTED.fullmatch(line)
    if whole is not None:
        return "", line
    # The last one: a sentence before it may name a command too.
    for colon in reversed([one.end() for one in re.finditer(": ", line)]):
        if _PASTED.fullmatch(line[colon:]):
            return line[:colon].rstrip(), line[colon:]
    return line, ""
