"""The queue in a real PostgreSQL: what daemons put into it, workers do, and nothing is lost."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from rotator.bootstrap import open_app
from rotator.core.errors import JournalError
from rotator.dispatch import job_queue as queues
from rotator.dispatch.job_queue import Queue, QueueExecutor
from rotator.dispatch.ready_queue import Job, JobKind
from rotator.dispatch.worker import JobResult
from rotator.testing.fakes import ListLog, ManualClock
from rotator.testing.postgres import ScratchPostgres
from tests.cli.installed_program import APP_PASSWORD, Real, prepare
from tests.dispatch.test_daemon import until

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_JOB = Job(secret="app", task=JobKind.ROTATE, due=_NOW)


@pytest.fixture(scope="module")
def server() -> Iterator[ScratchPostgres]:
    with ScratchPostgres() as started:
        yield started


@pytest.fixture
def connecting(server: ScratchPostgres, request: pytest.FixtureRequest) -> dict[str, Any]:
    """A database of the test's own."""
    name = request.node.name[:60]
    with server.connect() as admin:
        admin.execute(f'CREATE DATABASE "{name}"'.encode())
    return {
        "host": server.host,
        "port": server.port,
        "user": "postgres",
        "password": server.superuser_password,
        "dbname": name,
    }


@pytest.fixture
def queue(connecting: dict[str, Any]) -> Iterator[Queue]:
    made = Queue(connecting, "the test's database")
    made.prepare()
    yield made
    made.close()


@contextmanager
def working(queue: Queue, do: Callable[[Job, int], JobResult | None]) -> Generator[ListLog]:
    """Let a worker work."""
    leaving, log = threading.Event(), ListLog()
    thread = threading.Thread(
        target=lambda: queue.serve(do, jobs=2, leaving=leaving, log=log), daemon=True
    )
    thread.start()
    try:
        yield log
    finally:
        leaving.set()
        thread.join(30)
        assert not thread.is_alive()


def test_a_job_comes_to_a_worker_and_its_answer_back(queue: Queue):
    """As it was given, with how it ended."""
    given, answers = list[tuple[Job, int]](), list[JobResult | None]()
    again = _NOW + timedelta(hours=1)

    def do(job: Job, tries: int) -> JobResult:
        given.append((job, tries))
        return JobResult(again=again, away="target db")

    hands = QueueExecutor(queue, ManualClock())
    with working(queue, do):
        hands.take(_JOB, 3, answers.append)
        until(lambda: (hands.look(), bool(answers))[1])
    assert given == [(_JOB, 3)]
    assert answers == [JobResult(again=again, away="target db")]
    hands.look()
    assert len(answers) == 1


def test_a_secret_waits_in_the_queue_once(queue: Queue):
    """Two daemons that find it due at the same time put it there once; the other looks again."""
    clock, answers = ManualClock(), list[JobResult | None]()
    one, other = QueueExecutor(queue, clock), QueueExecutor(queue, clock)
    one.take(_JOB, 0, answers.append)
    assert answers == []
    other.take(_JOB, 0, answers.append)
    assert [done.again for done in answers if done] == [clock.now() + timedelta(seconds=10)]


def test_one_secret_is_never_worked_on_by_two_at_once(queue: Queue):
    """A second job for it waits for the first, whichever worker has room."""
    running, most, ended = list[str](), list[int](), list[str]()
    other_began = threading.Event()

    def do(job: Job, _tries: int) -> JobResult:
        running.append(job.secret)
        most.append(running.count(job.secret))
        if job.secret == "other":
            other_began.set()
        # The second worker has room for the second job all the while, and takes the third.
        assert other_began.wait(10)
        running.remove(job.secret)
        ended.append(job.secret)
        return JobResult()

    with working(queue, do), working(queue, do):
        assert queue.put(_JOB, 0) is not None
        until(lambda: bool(running))
        assert queue.put(_JOB, 0) is not None
        assert queue.put(Job(secret="other", task=JobKind.RESUME, due=_NOW), 0) is not None
        until(lambda: len(ended) == 3)
    assert max(most) == 1


def test_a_job_that_was_left_is_done_again_at_once(queue: Queue):
    """A worker that leaves between two steps reports it; one that fails unseen is found."""
    clock, answers = ManualClock(), list[JobResult | None]()
    hands = QueueExecutor(queue, clock)

    def leave(_job: Job, _tries: int) -> None:
        return None

    with working(queue, leave):
        hands.take(_JOB, 0, answers.append)
        until(lambda: (hands.look(), bool(answers))[1])
    assert answers == [JobResult(again=clock.now())]


def test_a_job_that_is_gone_without_an_answer_is_looked_at_again(
    queue: Queue, connecting: dict[str, Any]
):
    """As when the database was put back: the journal decides what is to be done."""
    clock, answers = ManualClock(), list[JobResult | None]()
    hands = QueueExecutor(queue, clock)
    hands.take(_JOB, 0, answers.append)
    hands.look()
    assert answers == []
    with psycopg.connect(**connecting, options=f"-c search_path={queues.SCHEMA}") as db:
        db.execute("DELETE FROM procrastinate_jobs")
    hands.look()
    assert answers == [JobResult(again=clock.now() + timedelta(seconds=10))]


@pytest.mark.parametrize("another_waits", [False, True])
def test_the_job_of_a_worker_that_was_killed_is_taken_over(
    queue: Queue, connecting: dict[str, Any], *, another_waits: bool
):
    """Once it has been silent for long enough, and not before."""
    given = list[Job]()

    def do(job: Job, _tries: int) -> JobResult:
        given.append(job)
        return JobResult()

    number = queue.put(_JOB, 0)
    with psycopg.connect(**connecting, options=f"-c search_path={queues.SCHEMA}") as db:
        # What a worker leaves behind that was killed in the middle of it.
        db.execute("INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now())")
        db.execute(
            "UPDATE procrastinate_jobs SET status = 'doing', worker_id ="
            " (SELECT max(id) FROM procrastinate_workers) WHERE id = %s",
            [number],
        )
    # Meanwhile another daemon has put the next one there, which waits for this one.
    waiting = Job(secret="app", task=JobKind.RESUME, due=_NOW)
    if another_waits:
        assert queue.put(waiting, 0) is not None
    with working(queue, do):
        assert queue.workers() >= 1
        time.sleep(1)
        assert given == []
        with psycopg.connect(**connecting, options=f"-c search_path={queues.SCHEMA}") as db:
            db.execute(
                "UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 minute'"
                " WHERE id = (SELECT worker_id FROM procrastinate_jobs WHERE id = %s)",
                [number],
            )
        until(lambda: given == [waiting if another_waits else _JOB])


def test_a_worker_waits_for_a_database_that_goes_away(
    queue: Queue, server: ScratchPostgres, monkeypatch: pytest.MonkeyPatch
):
    """It reports that, and works on when it is back."""
    monkeypatch.setattr(queues, "_AGAIN", 0.2)
    given = list[Job]()

    def do(job: Job, _tries: int) -> JobResult:
        given.append(job)
        return JobResult()

    with working(queue, do) as log:
        until(lambda: any(event == "working" for _, event, _ in log.lines))
        server.restart()
        until(lambda: queue.put(_JOB, 0) is not None)
        until(lambda: bool(given))


def test_the_queue_is_made_anew_for_another_version_and_by_nobody_elses_schema(
    queue: Queue, connecting: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    """What was in it is in the journal too; what somebody else made is left alone."""
    queue.check()
    assert queue.put(_JOB, 0) is not None
    queue.prepare()
    assert queue.put(_JOB, 0) is None, "it was made anew though nothing had changed"
    monkeypatch.setattr(queues, "_MARK", "rotator: procrastinate 99.0")
    with pytest.raises(JournalError, match="is of another version") as refused:
        queue.check()
    assert "rotator db upgrade" in refused.value.hint
    queue.prepare()
    queue.check()
    assert queue.put(_JOB, 0) is not None
    with psycopg.connect(**connecting) as db:
        db.execute(f"COMMENT ON SCHEMA {queues.SCHEMA} IS 'of the payroll'".encode())
    with pytest.raises(JournalError, match="made by somebody else"):
        queue.prepare()
    with psycopg.connect(**connecting) as db:
        db.execute(f"DROP SCHEMA {queues.SCHEMA} CASCADE".encode())
    with pytest.raises(JournalError, match="is not there"):
        queue.check()


def test_an_unreachable_database_is_reported_without_a_traceback():
    """And without the password."""
    away = Queue({"host": "127.0.0.1", "port": 1, "password": "s3cret-of-the-queue"}, "the place")
    with pytest.raises(JournalError, match=r"the queue in the place cannot be used") as refused:
        away.check()
    assert "s3cret" not in str(refused.value)


def test_workers_do_what_a_daemon_finds_due(tmp_path: Path, server: ScratchPostgres):
    """A daemon without threads of its own and two workers; one is killed, the other goes on."""
    with server.connect() as admin:
        admin.execute(b"CREATE DATABASE journal")
    prepare(server)
    rotator = Real(folder=tmp_path, server=server)
    rotator("init")
    rotator.configure(grace="1s")
    config = tmp_path / "rotator.yaml"
    (tmp_path / "journal-password").touch(mode=0o600)
    (tmp_path / "journal-password").write_text(server.superuser_password)
    text = config.read_text()
    text = text.replace("dispatch: threads", "dispatch: procrastinate")
    text = text.replace('listen: "127.0.0.1:9464"', "listen: none")
    config.write_text(text)
    refused = rotator("check", code=2)
    assert "not in PostgreSQL" in refused.err
    url = f"postgresql://postgres@{server.host}:{server.port}/journal"
    text = text.replace("sqlite:///rotator.db", url).replace(
        "  # password:", "  password: file:journal-password #"
    )
    period = "every: 3s, grace: 1s, drain: {wait: 1s, then: hold, poll: 200ms}"
    config.write_text(text.replace("every: 30d, grace: 1s", period))
    upgraded = rotator("db", "upgrade", process=True)
    assert "upgraded" in upgraded.out
    rotator(
        "adopt", "app", "--username", "app", "--password-from", "env:APP_PASSWORD", process=True
    )
    with (tmp_path / "all.log").open("a") as log:
        faces = ("daemon", "worker", "worker")
        started = [rotator.start(face, "--log-level", "info", stderr=log) for face in faces]
        said = (tmp_path / "all.log").read_text
        try:
            with open_app(config) as app:

                def done() -> int:
                    return sum(one.outcome == "done" for one in app.journal.rotations("app"))

                until(lambda: done() >= 2, said)
                started[1].kill()
                before = done()
                until(lambda: done() >= before + 2, said)
                actors = {one.actor.split()[0] for one in app.journal.events("app") if one.step}
                for one in started[2:]:
                    one.terminate()
                    assert one.wait(30) == 0
                until(lambda: '"no worker"' in said(), said)
                assert app.verify_journal().ok
        finally:
            for one in started:
                one.kill()
                one.wait()
    assert {one.partition(":")[0] for one in actors} == {"worker"}, actors
    assert APP_PASSWORD not in said()
    assert "Traceback" not in said()
