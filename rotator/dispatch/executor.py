"""Executors run the jobs of the dispatcher: threads of this process, or a queue's workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotator.dispatch.ready_queue import Job
    from rotator.dispatch.worker import JobResult, Worker

    # Called once with the result of a job; None when its process left before the job was done.
    Ended: TypeAlias = "Callable[[JobResult | None], None]"


class Executor(Protocol):
    """Runs jobs. `here`: whether a running job ends with this process."""

    @property
    def here(self) -> bool:
        """Whether this process must wait for its running jobs before it leaves."""
        ...

    def take(self, job: Job, tries: int, ended: Ended) -> None:
        """Run it, now or soon. `tries`: how often in a row it could not even be begun."""
        ...

    def look(self) -> None:
        """Report the jobs that have ended since the last call, where no thread does."""
        ...


class Pool(Protocol):
    """Runs work, now or soon, in this thread or another."""

    def submit(self, work: Callable[[], None], /) -> object:
        """Run it."""
        ...


class ThreadExecutor:
    """Runs jobs in threads of this process."""

    here: bool = True

    def __init__(self, pool: Pool, worker: Worker) -> None:
        self._pool: Pool = pool
        self._worker: Worker = worker

    def take(self, job: Job, tries: int, ended: Ended) -> None:
        """Give it to a thread."""
        _ = self._pool.submit(lambda: ended(self._worker.do(job, tries)))

    def look(self) -> None:
        """Do nothing: each thread reports its own job."""
