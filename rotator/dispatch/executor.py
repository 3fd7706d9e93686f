"""Who does the work that the dispatcher gives out: threads of this process, or a queue's workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

from rotator.core.stopping import Stopped

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotator.dispatch.ready_queue import Job
    from rotator.dispatch.worker import JobResult, Worker

    # Told once how a job ended; None when it was left because its process is leaving.
    Ended: TypeAlias = "Callable[[JobResult | None], None]"


class Executor(Protocol):
    """Takes jobs. `here`: whether what is under way ends with this process."""

    @property
    def here(self) -> bool:
        """Whether this process must wait for what is under way before it leaves."""
        ...

    def take(self, job: Job, tries: int, ended: Ended) -> None:
        """Have it done, now or soon. `tries`: how often in a row it could not even be begun."""
        ...

    def look(self) -> None:
        """Tell of what has ended since the last time, where nobody else does."""
        ...


class Pool(Protocol):
    """Runs work, now or soon, in this thread or another."""

    def submit(self, work: Callable[[], None], /) -> object:
        """Have it run."""
        ...


class ThreadExecutor:
    """Those of this process."""

    here: bool = True

    def __init__(self, pool: Pool, worker: Worker) -> None:
        self._pool: Pool = pool
        self._worker: Worker = worker

    def take(self, job: Job, tries: int, ended: Ended) -> None:
        """Give it to a thread."""
        _ = self._pool.submit(lambda: ended(self._done(job, tries)))

    def look(self) -> None:
        """Do nothing: a thread tells by itself."""

    def _done(self, job: Job, tries: int) -> JobResult | None:
        try:
            return self._worker.do(job, tries)
        except Stopped:
            return None
