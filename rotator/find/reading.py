"""The contract of readers: a text in, passwords out, and whether its syntax was valid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from rotator.find.fields import Field, Group, Literal, in_value, matches
from rotator.find.model import Match


@dataclass(slots=True, kw_only=True)
class Reading:
    """What one reader found. `is_broken`: the text is no valid file of that form."""

    matches: list[Match] = field(default_factory=list[Match])
    is_broken: bool = False


# Reads a text within a text by the name of a file, such as `run.sh` or `application.properties`.
NestedReader: TypeAlias = Callable[[str, str], list[Match]]
Reader: TypeAlias = Callable[[str, NestedReader], Reading]


def of_groups(text: str, groups: list[Group], *, is_broken: bool = False) -> Reading:
    """Return the passwords among named values."""
    return Reading(matches=list(matches(text, groups)), is_broken=is_broken)


def moved(text: str, outer: Field, found: list[Match]) -> list[Match]:
    """Return matches within a value as matches within the text around it."""
    if not found:
        return []
    literal = Literal(text, outer.start, outer.end, outer.value)
    moved_matches: list[Match] = []
    for one in found:
        start, end = literal.place(one.start, one.end - one.start)
        moved_matches.append(replace(one, start=start, end=end))
    return moved_matches


def connections(text: str, start: int, end: int) -> list[Match]:
    """Return the passwords of connection strings in a part of a text."""
    return list(in_value(text, Field("", text[start:end], start, end)))
