"""A Procrastinate queue beside the journal: daemons put jobs into it, workers anywhere take them out.

It lies in a PostgreSQL schema of its own and holds nothing that matters: what is due, and what was
done, is in the journal, and the lock and its fence keep a job that is done twice from doing harm.
So it is thrown away and made anew when another version of Procrastinate needs it otherwise.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast

import procrastinate
import psycopg
from procrastinate import exceptions
from procrastinate.jobs import Status
from procrastinate.schema import SchemaManager

from rotator.core.errors import JournalError
from rotator.core.traceback_frames import forget_variables
from rotator.dispatch.ready_queue import Job, JobKind
from rotator.dispatch.worker import JobResult

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from rotator.core.model import Json
    from rotator.core.ports import Clock, Log
    from rotator.dispatch.executor import Ended

SCHEMA: Final = "rotator_queue"
_QUEUE: Final = "rotator"
_TASK: Final = "rotator.do"
# A worker says so often that it lives; after so much silence its jobs are given to others.
_HEARTBEAT: Final = 2.0
_SILENT: Final = 10.0
# Notifications tell of new jobs; this is for those that were missed.
_POLL: Final = 2.0
_AGAIN: Final = 5.0
# Before every other job that waits.
_LEAK: Final = 1
_LOCKED: Final = timedelta(seconds=10)
_VERSION: Final = ".".join(procrastinate.__version__.split(".")[:2])
_OURS: Final = "rotator: procrastinate "
_MARK: Final = _OURS + _VERSION
_RESULTS: Final = """
    CREATE TABLE rotator_results (
        job_id bigint PRIMARY KEY,
        done jsonb NOT NULL,
        at timestamptz NOT NULL DEFAULT now()
    )"""
_ANSWER: Final = """
    INSERT INTO rotator_results (job_id, done) VALUES (%(job_id)s, %(done)s)
    ON CONFLICT (job_id) DO UPDATE SET done = excluded.done, at = now()"""
# What has ended, also without an answer. One statement sees one state: a job is gone only after
# its answer is there.
_COLLECT: Final = """
    SELECT asked.id, answer.done
    FROM unnest(%(ids)s::bigint[]) AS asked (id)
    LEFT JOIN rotator_results AS answer ON answer.job_id = asked.id
    LEFT JOIN procrastinate_jobs AS job
        ON job.id = asked.id AND job.status IN ('todo', 'doing')
    WHERE answer.job_id IS NOT NULL OR job.id IS NULL"""
# Also the answers that nobody waits for any more.
_FORGET: Final = """
    DELETE FROM rotator_results
    WHERE job_id = ANY(%(ids)s::bigint[]) OR at < now() - interval '1 hour'"""
_WORKERS: Final = """
    SELECT count(*) AS number FROM procrastinate_workers
    WHERE last_heartbeat > now() - make_interval(secs => %(silent)s)"""


class Queue:
    """The queue, as daemons and workers reach it. Errors come out as `JournalError`."""

    def __init__(self, connecting: Mapping[str, Any], place: str) -> None:
        """`connecting`: what psycopg needs to reach the journal's database, which is called `place`."""
        self.place: str = place
        given = f"{connecting.get('options', '')} -c search_path={SCHEMA}".strip()
        self._pool: dict[str, Any] = {
            "conninfo": "",
            "kwargs": {**connecting, "options": given},
            "min_size": 1,
            "timeout": 10.0,
        }
        self._connector: procrastinate.SyncPsycopgConnector = procrastinate.SyncPsycopgConnector(
            max_size=4, **self._pool
        )
        self._app: procrastinate.App = procrastinate.App(connector=self._connector)
        self._guard: threading.Lock = threading.Lock()

    def close(self) -> None:
        """Give back the connections."""
        self._app.close()

    def prepare(self) -> None:
        """Make the schema, or make it anew for this version of Procrastinate."""
        with self._translated(), psycopg.connect(**self._pool["kwargs"]) as db:
            found = self._mark(db)
            if found == _MARK:
                return
            if found is not None and not found.startswith(_OURS):
                raise JournalError(
                    f"the schema {SCHEMA} in {self.place} was made by somebody else.",
                    safety="It was left as it is.",
                    hint="Keep the journal in a database of its own.",
                )
            _ = db.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE".encode())
            _ = db.execute(f"CREATE SCHEMA {SCHEMA}".encode())
            _ = db.execute(f"COMMENT ON SCHEMA {SCHEMA} IS '{_MARK}'".encode())
            _ = db.execute(SchemaManager.get_schema().encode())
            _ = db.execute(_RESULTS)

    def check(self) -> None:
        """Refuse a database whose queue is missing, or made for another version."""
        with self._translated(), psycopg.connect(**self._pool["kwargs"]) as db:
            found = self._mark(db)
        if found != _MARK:
            raise JournalError(
                f"the queue in {self.place} is {'of another version' if found else 'not there'}.",
                safety="Nothing was changed.",
                hint="Set it up: rotator db upgrade",
            )

    # -- the daemon's side ---------------------------------------------------------------------

    def put(self, job: Job, tries: int) -> int | None:
        """Put a job into the queue; return its number, None when one of this secret waits there."""
        with self._open():
            deferrer = self._app.configure_task(
                _TASK,
                queue=_QUEUE,
                lock=job.secret,
                queueing_lock=job.secret,
                priority=_LEAK if job.task is JobKind.CONTAIN else 0,
            )
            try:
                return deferrer.defer(
                    secret=job.secret,
                    task=job.task.value,
                    due=job.due.isoformat(),
                    tries=tries,
                    at_once=job.at_once,
                    away=job.away,
                )
            except exceptions.AlreadyEnqueued:
                return None

    def collect(self, numbers: list[int]) -> dict[int, dict[str, Json] | None]:
        """Return which of these jobs have ended, with their answers; None where there is none."""
        with self._open():
            found = self._connector.execute_query_all(_COLLECT, ids=numbers)
            ended = {int(row["id"]): row["done"] for row in found}
            if ended:
                self._connector.execute_query(_FORGET, ids=list(ended))
            return ended

    def workers(self) -> int:
        """Return how many workers have said lately that they live."""
        with self._open():
            return int(self._connector.execute_query_one(_WORKERS, silent=_SILENT)["number"])

    # -- a worker's side -----------------------------------------------------------------------

    def answer(self, number: int, done: dict[str, Json]) -> None:
        """Say how a job has ended."""
        with self._open():
            self._connector.execute_query(_ANSWER, job_id=number, done=done)

    def serve(
        self,
        do: Callable[[Job, int], JobResult | None],
        *,
        jobs: int,
        leaving: threading.Event,
        log: Log,
    ) -> None:
        """Do jobs, `jobs` at once, until `leaving` is set; then return when the last has ended.

        A database that is away is waited for.
        """
        asyncio.run(self._serve(do, jobs, leaving, log))

    async def _serve(
        self,
        do: Callable[[Job, int], JobResult | None],
        jobs: int,
        leaving: threading.Event,
        log: Log,
    ) -> None:
        leave = asyncio.ensure_future(asyncio.to_thread(leaving.wait))
        while not leave.done():
            # The listener takes a connection for itself, each job one as it begins and ends.
            connector = procrastinate.PsycopgConnector(max_size=4, **self._pool)
            app = procrastinate.App(connector=connector)
            _ = app.task(name=_TASK, queue=_QUEUE, pass_context=True)(self._task(do))
            try:
                with self._translated():
                    async with app.open_async():
                        log.info("working", jobs=jobs)
                        await self._work(app, jobs, leave)
            except JournalError as error:
                log.error("queue", what=error.what)  # noqa: TRY400 # its text is made for people
            _ = await asyncio.wait({leave}, timeout=_AGAIN)

    async def _work(self, app: procrastinate.App, jobs: int, leave: asyncio.Future[bool]) -> None:
        working = asyncio.create_task(
            app.run_worker_async(
                queues=[_QUEUE],
                concurrency=jobs,
                fetch_job_polling_interval=_POLL,
                delete_jobs="always",
                install_signal_handlers=False,
                update_heartbeat_interval=_HEARTBEAT,
                stalled_worker_timeout=_SILENT,
            )
        )
        freeing = asyncio.create_task(_free_stalled(app))
        try:
            _ = await asyncio.wait({leave, working, freeing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in (freeing, working):
                _ = one.cancel()
            ended = await asyncio.gather(freeing, working, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                raise error

    def _task(self, do: Callable[[Job, int], JobResult | None]) -> Callable[..., None]:
        def one(  # a job's facts, as the queue holds them
            context: procrastinate.JobContext,
            *,
            secret: str,
            task: str,
            due: str,
            tries: int,
            at_once: bool = False,
            away: str | None = None,
        ) -> None:
            job = Job(
                secret=secret,
                task=JobKind(task),
                due=datetime.fromisoformat(due),
                at_once=at_once,
                away=away,
            )
            done = do(job, tries)
            answer: dict[str, Json] = {"left": True} if done is None else _as_data(done)
            with suppress(JournalError):  # who waits finds the job gone, and asks the journal
                self.answer(cast("int", context.job.id), answer)

        return one

    # -- below ---------------------------------------------------------------------------------

    def _mark(self, db: psycopg.Connection[Any]) -> str | None:
        """Return the comment on the schema: None without a schema, '' without a comment."""
        found = db.execute(
            "SELECT coalesce(obj_description(oid, 'pg_namespace'), '') FROM pg_namespace"
            " WHERE nspname = %s",
            [SCHEMA],
        ).fetchone()
        return None if found is None else str(found[0])

    @contextmanager
    def _open(self) -> Generator[None]:
        with self._translated():
            with self._guard:
                self._app.open()  # nothing, once it is open
            yield

    @contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except (psycopg.Error, exceptions.ConnectorException, OSError) as error:
            # Frames of the driver hold the password.
            forget_variables(error)
            cause = error.__cause__ if isinstance(error.__cause__, psycopg.Error) else error
            kind = getattr(cause, "sqlstate", None) or type(cause).__name__
            raise JournalError(
                f"the queue in {self.place} cannot be used ({kind}).",
                safety="What is due stays due: the journal knows it.",
                hint="Is the journal's database running? Has `rotator db upgrade` been run?",
            ) from None


class QueueExecutor:
    """Hands that are elsewhere: a job is put into the queue, and its answer is read there."""

    here: bool = False

    def __init__(self, queue: Queue, clock: Clock) -> None:
        self._queue: Queue = queue
        self._clock: Clock = clock
        self._guard: threading.Lock = threading.Lock()
        self._waiting: dict[int, Ended] = {}

    def take(self, job: Job, tries: int, ended: Ended) -> None:
        """Put it into the queue. Raises `JournalError`."""
        number = self._queue.put(job, tries)
        if number is None:  # another daemon has put it there
            ended(JobResult(again=self._clock.now() + _LOCKED))
            return
        with self._guard:
            self._waiting[number] = ended

    def look(self) -> None:
        """Read the answers. Raises `JournalError`."""
        with self._guard:
            numbers = list(self._waiting)
        for number, answer in (self._queue.collect(numbers) if numbers else {}).items():
            with self._guard:
                ended = self._waiting.pop(number, None)
            if ended is not None:
                ended(self._done(answer))

    def _done(self, answer: dict[str, Json] | None) -> JobResult:
        now = self._clock.now()
        if answer is None:  # its worker could not say how it went; the journal knows
            return JobResult(again=now + _LOCKED)
        if answer.get("left"):
            return JobResult(again=now)
        again, away = answer.get("again"), answer.get("away")
        return JobResult(
            again=datetime.fromisoformat(str(again)) if again is not None else None,
            away=str(away) if away is not None else None,
            kind=str(answer.get("kind") or ""),
            what=str(answer.get("what") or ""),
            hint=str(answer.get("hint") or ""),
            answered=_names(answer.get("answered")),
            worked=_names(answer.get("worked")),
        )


def _names(found: Json) -> frozenset[str]:
    return frozenset(map(str, found)) if isinstance(found, list) else frozenset()


def _as_data(done: JobResult) -> dict[str, Json]:
    again = done.again.isoformat() if done.again is not None else None
    return {
        "again": again,
        "away": done.away,
        "kind": done.kind,
        "what": done.what,
        "hint": done.hint,
        "answered": sorted(done.answered),
        "worked": sorted(done.worked),
    }


async def _free_stalled(app: procrastinate.App) -> None:
    """Give the jobs of workers that have fallen silent to others, for as long as this one works."""
    while True:
        stalled = await app.job_manager.get_stalled_jobs(
            queue=_QUEUE, seconds_since_heartbeat=_SILENT
        )
        for job in stalled:
            # Another worker may have been quicker, or the one that was silent may have ended it.
            with suppress(exceptions.ConnectorException):
                try:
                    await app.job_manager.retry_job(job)
                except exceptions.UniqueViolation:
                    # The next job of this secret waits in the queue already, for this one to end.
                    await app.job_manager.finish_job(job, Status.FAILED, delete_job=True)
        await asyncio.sleep(_POLL)
