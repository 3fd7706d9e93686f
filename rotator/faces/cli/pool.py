"""Works on secrets in threads, and stops between two steps on Ctrl-C or SIGTERM."""

from __future__ import annotations

import queue
import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from rotator.core.model import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from types import FrameType

    from rotator.core.model import Event

_Answer = TypeVar("_Answer")


# Seconds that a started step may still take after Ctrl-C. A rotation that is cut off later loses
# nothing, since `rotator resume` completes it.
_LAST_STEP: Final = 10.0
_LAST_WORD: Final = 0.5
_GLANCE: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Done(Generic[_Answer]):
    """The result of the work on one secret: an answer or an error."""

    name: str
    answer: _Answer | None = None
    error: BaseException | None = None


class Pool(Generic[_Answer]):
    """Threads that work through a list of secrets."""

    def __init__(
        self,
        names: Sequence[str],
        do: Callable[[str], _Answer],
        parallel: int,
        stop: threading.Event,
    ) -> None:
        """`do` works on one secret. At most `parallel` secrets are worked on at once.

        `stop` is set on a signal. `do` must then return between two steps.
        """
        self.signal: int | None = None
        self.under_way: set[str] = set()
        # Secrets inside a step, not in a wait between two steps.
        self._in_step: set[str] = set()
        self._do: Callable[[str], _Answer] = do
        self._size: int = max(1, min(parallel, len(names)))
        self._left: list[str] = list(reversed(names))
        self._ended: queue.SimpleQueue[Done[_Answer]] = queue.SimpleQueue()
        self._stopping: threading.Event = stop
        self._guard: threading.Lock = threading.Lock()
        self._until: float = 0.0
        self._soon: float = 0.0

    def observe(self, event: Event) -> None:
        """Record whether the secret of an event is inside a step."""
        with self._guard:
            if event.kind is Kind.STARTED:
                self._in_step.add(event.secret)
            else:
                self._in_step.discard(event.secret)

    def run(self, on_stop: Callable[[], None]) -> Iterator[Done[_Answer]]:
        """Yield the result of each secret as it ends.

        On Ctrl-C or SIGTERM, `on_stop` is called once, started steps are finished, and no new step
        is started. A second Ctrl-C ends at once. `under_way` then names the secrets that are in a
        wait or inside a step.
        """
        with _signals(self._stop):
            for _ in range(self._size):
                threading.Thread(target=self._work, daemon=True).start()
            warned = False
            while not self._over():
                if self._stopping.is_set() and not warned:
                    warned = True
                    on_stop()
                try:
                    yield self._ended.get(timeout=_GLANCE)
                except queue.Empty:
                    continue

    def _stop(self, signum: int, _frame: FrameType | None) -> None:
        if self._stopping.is_set():
            self._until = self._soon = 0.0
            return
        self.signal = signum
        self._soon = time.monotonic() + _LAST_WORD
        self._until = time.monotonic() + _LAST_STEP
        self._stopping.set()

    def _over(self) -> bool:
        with self._guard:
            if not self._ended.empty():
                return False
            if self._stopping.is_set():
                busy, now = self.under_way & self._in_step, time.monotonic()
                # A wait between two steps may last hours, so it is cut off.
                return not self.under_way or now > (self._until if busy else self._soon)
            return not self.under_way and not self._left

    def _work(self) -> None:
        while (name := self._next()) is not None:
            done = self._one(name)
            with self._guard:
                self._ended.put(done)
                self.under_way.discard(name)

    def _next(self) -> str | None:
        with self._guard:
            if self._stopping.is_set() or not self._left:
                return None
            name = self._left.pop()
            self.under_way.add(name)
            return name

    def _one(self, name: str) -> Done[_Answer]:
        try:
            return Done(name=name, answer=self._do(name))
        except BaseException as error:  # noqa: BLE001 # carried to the main thread, which reports it
            return Done(name=name, error=error)


@contextmanager
def _signals(handler: Callable[[int, FrameType | None], None]) -> Generator[None]:
    """Send Ctrl-C and SIGTERM to `handler`; only in the main thread, where Python allows it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {one: signal.signal(one, handler) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for one, old in before.items():
            signal.signal(one, old)
