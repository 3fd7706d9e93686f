"""Keys that a target draws: which of those that it holds nobody knows, because an answer was lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def orphans(held: Iterable[str], named: Iterable[str | None]) -> tuple[str, ...]:
    """Return the keys that no version of the secret and no event of its journal names, in order.

    `held`: the keys of the secret on the target. The value of an orphan is lost, so nobody can use it. A key
    that a rotation has named is none, although it may be left over: an operator may have decided that.
    """
    known = set(named)
    return tuple(sorted(set(held) - known))
