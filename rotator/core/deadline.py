"""How long a call may still take. A context variable, as backends' methods have no context parameter.

It counts real seconds and not those of the clock port: what it limits are sockets and locks.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from threading import Thread
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

T = TypeVar("T")

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


def call_within(seconds: float, run: Callable[[], T]) -> T:
    """Return what `run` returns, or raise what it raises; `TimeoutError` at the end of the time.

    It runs in a thread, for libraries whose own limits are those of one read only: a server that drips
    passes them for ever. A late thread continues, so `run` must send nothing after that time.
    """
    done: list[T] = []
    failed: list[BaseException] = []

    def caught() -> None:
        try:
            done.append(run())
        except BaseException as error:  # noqa: BLE001 # raised below, in the thread that waits
            failed.append(error)

    # With our context variables: what it calls keeps to the time limit around us.
    thread = Thread(target=copy_context().run, args=(caught,), daemon=True)
    thread.start()
    thread.join(seconds)
    if done:
        return done[0]
    raise failed[0] if failed else TimeoutError
