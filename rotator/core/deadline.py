"""How long a call may still take. A context variable, as backends' methods have no context parameter.

It counts real seconds and not those of the clock port: what it limits are sockets and locks.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Generator

_ENDS: Final[ContextVar[float | None]] = ContextVar("ends", default=None)


@contextmanager
def time_limit(seconds: float) -> Generator[None]:
    """Let all that is called inside take at most so many seconds together; an outer limit still holds."""
    ends, outer = time.monotonic() + seconds, _ENDS.get()
    token = _ENDS.set(ends if outer is None else min(ends, outer))
    try:
        yield
    finally:
        _ENDS.reset(token)


def seconds_left(at_most: float) -> float:
    """Return the seconds that the limits around us leave, and at most so many; zero where none are."""
    ends = _ENDS.get()
    return at_most if ends is None else max(0.0, min(at_most, ends - time.monotonic()))
