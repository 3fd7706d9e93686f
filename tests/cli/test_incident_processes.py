"""Incidents of several processes: two commands at once, and a command beside a daemon."""

from __future__ import annotations

import signal
import subprocess
import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import psycopg
import pytest

from rotator.core.model import Kind
from rotator.testing.postgres import ScratchPostgres
from tests.cli.installed_program import ADMIN_PASSWORD, Real, prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
_LONGEST = 60.0
_WAITS = "another process works on it"


@pytest.fixture(scope="module")
def server() -> Iterator[ScratchPostgres]:
    """A server with an application's roles."""
    with ScratchPostgres() as started:
        prepare(started)
        yield started


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, server: ScratchPostgres) -> Real:
    """An application's secret that was rotated once, and whose rotation has ended."""
    real = Real(folder=tmp_path_factory.mktemp("incident"), server=server)
    real("init")
    real.configure()
    real("adopt", "app", "--username", "app", "--password-from", "env:APP_PASSWORD")
    real("rotate", "app")
    real("revoke", "app")
    return real


@pytest.fixture
def rotator(installed: Real, monkeypatch: pytest.MonkeyPatch) -> Iterator[Real]:
    """The same for each test: an incident is closed after it."""
    monkeypatch.setenv("ROTATOR_ADMIN_PASSWORD", ADMIN_PASSWORD)
    yield installed
    installed("incident", "close", "app", "--reason", "the test has ended")


def _served(rotator: Real) -> tuple[str, str]:
    with rotator.open() as app:
        version = app.secret("app").backend.current(app.secret("app").path)
    assert version is not None
    return version.credential.username, version.credential.password.reveal()


def _logs_in(rotator: Real, login: str, password: str) -> bool:
    try:
        rotator.server.connect(user=login, password=password).close()
    except psycopg.OperationalError:
        return False
    return True


def _leaks(rotator: Real) -> tuple[int, list[str]]:
    """Return the number of rotations, and the incidents in their order."""
    with rotator.open() as app:
        reports = [
            str(one.data["incident"])
            for one in app.journal.events("app")
            if one.kind is Kind.LEAKED and one.rotation_id is None
        ]
        return len(app.journal.rotations("app")), list(dict.fromkeys(reports))


@contextmanager
def _at_the_same_time(
    rotator: Real, *commands: tuple[str, ...]
) -> Iterator[list[subprocess.Popen[str]]]:
    """Start commands, and let go of their secret once each of them waits for it."""
    with rotator.open() as app:
        lock = app.journal.acquire("app", "a running step", timedelta(minutes=1))
        started = [
            rotator.start(*one, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for one in commands
        ]
        try:
            for one in started:
                assert one.stderr is not None
                line = one.stderr.readline()
                assert _WAITS in line, (line, one.stderr.read())
            app.journal.release(lock)
            yield started
        finally:
            for one in started:
                one.kill()
                _ = one.communicate()


@pytest.mark.parametrize("first", ["kill", "map"])
def test_two_commands_that_report_the_same_leak_replace_it_once(rotator: Real, first: str):
    """One wins. The other joins its incident, and both report the same end: the stricter mode counts."""
    leaked = _served(rotator)
    rotations, incidents = _leaks(rotator)
    commands = [
        ("incident", "open", "app", "--reason", "x", "--mode", one) for one in (first, "kill")
    ]
    with _at_the_same_time(rotator, *commands) as started:
        ends = [(*one.communicate(timeout=_LONGEST), one.returncode) for one in started]
    assert [code for *_, code in ends] == [0, 0], ends
    after, (*before, incident) = _leaks(rotator)
    assert (after, before) == (rotations + 1, incidents)
    for out, *_ in ends:
        assert "rejected at 1 address" in out or (
            first == "map" and f"{incident} is recorded" in out
        )
    assert sum(f"joins incident {incident}" in err for _, err, _ in ends) == 1
    assert not _logs_in(rotator, *leaked)
    assert rotator.json("audit", "verify").data["ok"]


def test_a_command_takes_over_what_a_daemon_carries_out(rotator: Real):
    """A daemon waits for a session; the command turns `move` into `kill`, and the daemon goes on beside it."""
    login, password = leaked = _served(rotator)
    rotations, incidents = _leaks(rotator)
    session = rotator.server.connect(user=login, password=password)
    daemon = rotator.start("daemon", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        arguments = ("--reason", "x", "--mode", "move", "--within", "10m")
        opened = rotator.start(
            "incident",
            "open",
            "app",
            *arguments,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _until(lambda: _leaks(rotator)[1] != incidents)
        opened.kill()
        _ = opened.wait(_LONGEST)
        # The new password is served: the daemon, or the command before its end, has begun.
        _until(lambda: _served(rotator) != leaked)
        assert session.execute("SELECT 1").fetchone() == (1,)
        answer = rotator.json("incident", "resume", "app", "--mode", "kill", process=True)
        (result,) = answer.data["results"]
        assert result["proven"]
        assert not _logs_in(rotator, *leaked)
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")
        assert daemon.poll() is None
    finally:
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(_LONGEST) == 0
        session.close()
    after, known = _leaks(rotator)
    assert (after, len(known)) == (rotations + 1, len(incidents) + 1)
    assert rotator.json("audit", "verify").data["ok"]


def _until(holds: Callable[[], bool]) -> None:
    ends = time.monotonic() + _LONGEST
    while not holds():
        assert time.monotonic() < ends
        time.sleep(0.1)
