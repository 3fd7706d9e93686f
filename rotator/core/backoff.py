"""How long to wait between two tries: doubled with each failure, limited, spread by a jitter."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import timedelta

_JITTER: Final = 0.25
# Enough to reach any limit.
_MOST_DOUBLINGS: Final = 30


def backoff(
    failures: int, *, first: timedelta, longest: timedelta, key: str = "", sooner: bool = True
) -> timedelta:
    """Return the wait after the n-th failure in a row: `first`, doubled each time up to `longest`.

    The jitter is a quarter either way, and the same each time for one `key`; none without a key.
    `sooner` False: it only lengthens the wait.
    """
    factor = 2 ** min(max(failures - 1, 0), _MOST_DOUBLINGS)
    wait = longest if first > longest / factor else first * factor
    if not key:
        return wait
    part = stable_part(key, wait * _JITTER)
    return wait * (1 - _JITTER) + 2 * part if sooner else wait + part


def stable_part(key: str, whole: timedelta) -> timedelta:
    """Return a part of `whole`, below all of it, that is always the same for one key."""
    drawn = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8])
    return whole * (drawn / 2**64)
