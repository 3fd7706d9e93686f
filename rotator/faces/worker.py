"""`rotator worker`: does the jobs that daemons put into the queue, on any number of machines."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, cast

from rotator.bootstrap import App
from rotator.core.errors import RotatorError, UsageError
from rotator.faces.service import Generation, Service
from rotator.notify import Notifier
from rotator.system import tell_systemd

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from rotator.config import Settings
    from rotator.dispatch.ready_queue import Job
    from rotator.dispatch.worker import JobResult, Worker
    from rotator.faces.service import Begun

_LOOK: Final = 1.0
_ASK: Final = 5.0


@dataclass(slots=True, kw_only=True)
class _Working(Generation):
    """A generation that does jobs."""

    worker: Worker
    count: int = 0
    guard: threading.Lock = field(default_factory=threading.Lock)

    @property
    def under_way(self) -> int:
        return self.count

    def stop(self) -> None:
        pass

    def do(self, job: Job, tries: int) -> JobResult | None:
        with self.guard:
            self.count += 1
        try:
            return self.worker.do(job, tries)
        finally:
            with self.guard:
                self.count -= 1


class WorkerService(Service):
    """One process. `run` returns its exit code."""

    face: str = "worker"

    def __init__(
        self,
        config: Path,
        *,
        jobs: int | None,
        listen: str,
        begun: Callable[[Begun], None] | None = None,
    ) -> None:
        """`jobs`: how many at once. Raises `ConfigError`, `JournalError`, `UsageError`."""
        self._where: str = listen
        self._answers: bool = True
        super().__init__(config, begun=begun)
        queue = self._made.app.queue
        if queue is None:
            raise UsageError(
                f"{config} hands work to the daemon's own threads: there is no queue to work for.",
                hint="Set daemon.dispatch to `procrastinate`, then: rotator db upgrade",
            )
        self._queue = queue
        self._jobs: int = jobs or self._made.settings.daemon.limits.total
        self._thread: threading.Thread = threading.Thread(
            target=self._serve, name="queue", daemon=True
        )

    def _build(self, settings: Settings) -> Generation:
        stop = self._leaving.is_set
        app = App(settings, face="worker", observer=self._observe, should_stop=stop)
        notifier = Notifier(settings.notifications, app.resolve, self._log)
        try:
            app.check_queue()
        except RotatorError:
            app.close()
            raise
        worker = app.worker(tell=notifier.tell)
        return _Working(settings=settings, app=app, notifier=notifier, worker=worker)

    def _listen(self) -> str:
        return self._where

    def _timed(self) -> Mapping[Callable[[], None], float]:
        return {self._look: _LOOK, self._ask: _ASK}

    def _start(self) -> None:
        self._thread.start()

    def _serve(self) -> None:
        self._queue.serve(self._do, jobs=self._jobs, leaving=self._leaving, log=self._log)

    def _do(self, job: Job, tries: int) -> JobResult | None:
        if self._leaving.is_set():
            return None
        return cast("_Working", self._made).do(job, tries)

    def _look(self) -> None:
        self._close_old()
        tell_systemd("WATCHDOG=1")

    def _ask(self) -> None:
        try:
            _ = self._queue.workers()
        except RotatorError:
            self._answers = False
        else:
            self._answers = True

    def _last(self) -> None:
        # The answers of the jobs that have just ended; a daemon that misses one asks the journal.
        self._thread.join(_ASK)

    def _alive(self) -> bool:
        return self._thread.is_alive()

    def _ready(self) -> str | None:
        return None if self._answers else "the queue's database does not answer: nothing is done"
