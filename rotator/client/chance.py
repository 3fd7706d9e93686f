"""Chance, without the cost of importing `random`."""

from __future__ import annotations

import os
from typing import Final

_BYTES: Final = 4


def between(low: float, high: float) -> float:
    """Return a number from `low` to `high`, so that processes that start together part ways."""
    share: float = int.from_bytes(os.urandom(_BYTES), "big") / 256**_BYTES
    return low + (high - low) * share
