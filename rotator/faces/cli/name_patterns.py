"""Patterns of names on the command line: `app-*`."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from rotator.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

# No name of a secret contains one of them.
_WILD: Final = frozenset("*?[")


def split(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the plain names, and the patterns."""
    plain = [name for name in names if _WILD.isdisjoint(name)]
    return plain, [name for name in names if not _WILD.isdisjoint(name)]


def matches(patterns: Sequence[str], known: Callable[[], Iterable[str]]) -> list[str]:
    """Return the known names that match a pattern. `known` is called only if there is a pattern.

    Raises `UsageError` for a pattern without a match: it is probably a typing error.
    """
    if not patterns:
        return []
    names = list(known())
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UsageError(
                f"no secret matches {pattern!r}.",
                hint="A pattern matches the whole name: `*` any text, `?` one character.",
            )
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]
