"""SIGTERM, SIGINT and SIGHUP, for a process that runs until it is stopped.

A signal may strike at any line of the main thread, also one that holds a lock, and inside the handler
of another signal: the handlers here wait for nothing. And it may strike just before the main thread
blocks, too late for its handler: so the C library's handler writes its number into a pipe (see
`signal.set_wakeup_fd` in Python's documentation), and that is what is waited for.
"""

from __future__ import annotations

import os
import select
import signal
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from types import FrameType

_LEAVE: Final = frozenset({signal.SIGTERM, signal.SIGINT})


class Signals:
    """The signals that came, from `with` on; only in the main thread. A second one to stop exits at once."""

    def __init__(self) -> None:
        """Listen to nothing yet."""
        # How many SIGHUPs came, at least: another number than before means another one.
        self.hangups: int = 0
        self._leave: bool = False
        self._before: dict[int, Any] = {}
        self._pipe: tuple[int, int] = (-1, -1)
        self._wakeup_before: int = -1

    def __enter__(self) -> Self:
        self._pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wakeup_before = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        for number in _LEAVE:
            self._before[number] = signal.signal(number, self._on_leave)
        self._before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._on_hangup)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            _ = signal.signal(number, handler)
        _ = signal.set_wakeup_fd(self._wakeup_before)
        for end in self._pipe:
            os.close(end)

    @property
    def is_leaving(self) -> bool:
        """Whether SIGTERM or SIGINT has come."""
        return self._leave

    def wait(self) -> None:
        """Return when SIGTERM or SIGINT has come, at once if it came before."""
        told = False
        while not told:
            _ = select.select([self._pipe[0]], [], [])
            told = not _LEAVE.isdisjoint(os.read(self._pipe[0], 512))

    def _on_leave(self, number: int, _frame: FrameType | None) -> None:
        if self._leave:
            # What is under way is in the journal: the next process goes on with it.
            os._exit(128 + number)
        self._leave = True

    def _on_hangup(self, _number: int, _frame: FrameType | None) -> None:
        self.hangups += 1
