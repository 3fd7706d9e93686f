"""An incident beside a daemon that works on its secret, beside other operators, and its notices."""

from __future__ import annotations

import http.server
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from rotator.core.errors import Busy, UsageError
from rotator.core.history import PROVEN
from rotator.core.model import Kind
from rotator.engine import Engine, LeakReport, Mode
from rotator.faces.cli import leaks
from rotator.faces.cli.leaks import WhenFree

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.cli.conftest import Cli

MINUTE = timedelta(minutes=1)


def served(cli: Cli, name: str = "app") -> tuple[str, str]:
    """Return login and password that the backend serves."""
    version = cli.app().secret(name).backend.current(cli.app().secret(name).path)
    assert version is not None
    return version.credential.username, version.credential.password.reveal()


@pytest.fixture
def rotated(cli: Cli) -> Cli:
    """Every secret was rotated once, and its rotation has ended."""
    cli("rotate", "--all")
    return cli


# -- others at work --------------------------------------------------------------------------------


@contextmanager
def _at_work(cli: Cli, monkeypatch: pytest.MonkeyPatch, method: str) -> Generator[list[str]]:
    """Let another process hold the lock of `app` until somebody has met it."""
    app = cli.app()
    lock = app.journal.acquire("app", "daemon", MINUTE)
    met: list[str] = []
    works = getattr(Engine, method)

    def call(engine: Engine, secret: object, *arguments: object, **named: object) -> object:
        try:
            return works(engine, secret, *arguments, **named)
        except Busy:
            met.append(method)
            app.journal.release(lock)
            raise

    monkeypatch.setattr(Engine, method, call)
    yield met


@pytest.mark.parametrize("mode", ["kill", "move", "map"])
def test_open_takes_over_after_the_running_step_of_a_daemon(
    rotated: Cli, monkeypatch: pytest.MonkeyPatch, mode: str
):
    """It says so, and needs no second call."""
    leaked = served(rotated)
    with _at_work(rotated, monkeypatch, "open_incident") as met:
        outcome = rotated("incident", "open", "app", "--mode", mode, "--reason", "x")
    assert met == ["open_incident"]
    assert "app: another process works on it; the incident takes over" in outcome.err
    assert rotated.server.target.accepts(*leaked) is (mode == "map")


def test_resume_takes_over_after_the_running_step_of_a_daemon(
    rotated: Cli, monkeypatch: pytest.MonkeyPatch
):
    """As `open` does."""
    rotated("incident", "open", "app", "--mode", "kill", "--reason", "x")
    with _at_work(rotated, monkeypatch, "contain") as met:
        assert "rejected at 1 address" in rotated("incident", "resume", "app").out
    assert met == ["contain"]


def test_the_others_are_recorded_while_one_is_worked_on(
    rotated: Cli, monkeypatch: pytest.MonkeyPatch
):
    """The one that is locked is the last."""
    with _at_work(rotated, monkeypatch, "open_incident"):
        rotated("incident", "open", "--all", "--mode", "kill", "--reason", "x", "--id", "I-1")
    found = rotated.json("incident", "list").data["incidents"]
    assert {(one["secret"], one["state"]) for one in found} == {
        (name, "proven") for name in ("app", "web", "old")
    }
    first = {name: rotated.app().journal.events(name) for name in ("app", "web", "old")}
    at = {
        name: next(one.at for one in events if one.kind is Kind.LEAKED)
        for name, events in first.items()
    }
    assert max(at, key=lambda name: at[name]) == "app"


def test_a_command_that_waits_longer_than_a_step_is_named(
    rotated: Cli, monkeypatch: pytest.MonkeyPatch
):
    """Exit code 4, with what to end."""
    monkeypatch.setattr(leaks, "_MARGIN", -60.0)
    lock = rotated.app().journal.acquire("app", "another", MINUTE)
    error = rotated.json("incident", "open", "app", "--reason", "x", code=4).errors[0]
    assert error["kind"] == "busy"
    assert "rotator rotate --wait" in error["hint"]
    rotated.app().journal.release(lock)
    assert rotated("incident", "list").out.strip() == "No incident is open."


class _Meanwhile(threading.Event):
    """A stop that nobody asks for; somebody else works in the first wait."""

    def __init__(self, work: object) -> None:
        super().__init__()
        self.work = work

    def wait(self, timeout: float | None = None) -> bool:
        """Work instead of waiting."""
        assert timeout is not None
        assert timeout < 10
        work, self.work = self.work, lambda: None
        assert callable(work)
        work()
        return False


def test_move_lets_another_operator_turn_it_into_kill_while_it_waits(rotated: Cli):
    """Its waits lock nobody out; it ends with what the other one has done."""
    leaked = served(rotated)
    rotated.server.target.open_session(leaked[0])
    app, other = rotated.app(), rotated.app()
    move = LeakReport(id="I-1", reason="x", mode=Mode.MOVE, within=10 * MINUTE)
    kill = LeakReport(
        id="I-1", reason="now", mode=Mode.KILL, version=app.journal.secret("app").version
    )  # type: ignore[union-attr]
    app.engine.open_incident(app.secret("app"), move)
    proven: list[bool] = []

    def by_another() -> None:
        assert rotated.server.target.accepts(*leaked)
        other.engine.open_incident(other.secret("app"), kill)
        proven.append(other.engine.contain(other.secret("app")).is_proven)

    done = WhenFree(app, _Meanwhile(by_another)).contain("app", 10 * MINUTE)
    assert proven == [True]
    assert done.is_proven
    assert not rotated.server.target.accepts(*leaked)


@pytest.mark.parametrize("ids", [("I-1", "I-1"), ("I-1", "I-2")])
def test_two_processes_that_report_the_same_leak_at_once_replace_it_once(
    rotated: Cli, ids: tuple[str, str]
):
    """The second report of the same id joins in; one with another id names the first."""
    leaked = served(rotated)
    before = len(rotated.app().journal.rotations("app"))
    gate = threading.Barrier(2)

    def operator(id_: str) -> bool | str:
        app = rotated.app()
        free = WhenFree(app, threading.Event())
        report = LeakReport(id=id_, reason="a paste", mode=Mode.KILL)
        gate.wait(10)
        try:
            free.do("app", lambda secret: app.engine.open_incident(secret, report))
        except UsageError as error:
            return error.what
        return free.contain("app", MINUTE).is_proven

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(operator, ids))
    app = rotated.app()
    record = app.journal.secret("app")
    assert record is not None
    assert record.incident_state == PROVEN
    assert len(app.journal.rotations("app")) == before + 1
    assert rotated.server.target.violations == []
    assert not rotated.server.target.accepts(*leaked)
    if ids[0] == ids[1]:
        assert all(one is True or "already" in str(one) for one in results)
    else:
        assert min(map(str, results)) == "True"
        assert "is in incident" in max(map(str, results))
    assert rotated.json("audit", "verify").data["ok"]


# -- notices ---------------------------------------------------------------------------------------


@contextmanager
def _receiver(cli: Cli) -> Generator[tuple[list[str], threading.Event]]:
    """Return the kinds of the notices that arrive, and what is set at the first one."""
    kinds: list[str] = []
    arrived = threading.Event()

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            kinds.append(json.loads(body)["type"])
            self.send_response(204)
            self.end_headers()
            arrived.set()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/"
        wanted = "[incident-opened, incident-proven]"
        cli.config.write_text(
            cli.config.read_text()
            + f"\nnotifications:\n  - {{type: webhook, url: '{url}', events: {wanted}}}\n"
        )
        try:
            yield kinds, arrived
        finally:
            server.shutdown()
            thread.join()


def test_the_notice_of_an_opened_incident_is_sent_before_anything_is_replaced(
    rotated: Cli, monkeypatch: pytest.MonkeyPatch
):
    """A command that is killed afterwards has told somebody."""
    heard: list[list[str]] = []
    works = Engine.contain

    with _receiver(rotated) as (kinds, arrived):

        def contain(engine: Engine, secret: object, **named: object) -> object:
            assert arrived.wait(10)
            heard.append(list(kinds))
            return works(engine, secret, **named)  # type: ignore[arg-type]

        monkeypatch.setattr(Engine, "contain", contain)
        rotated("incident", "open", "app", "--mode", "kill", "--reason", "x", "--id", "I-1")
    assert heard == [["rotator.incident-opened"]]
    assert kinds == ["rotator.incident-opened", "rotator.incident-proven"]


def test_the_notice_of_a_recorded_leak_is_sent(rotated: Cli):
    """An operator has to decide."""
    with _receiver(rotated) as (kinds, _):
        rotated("incident", "open", "app", "--mode", "map", "--reason", "x")
    assert kinds == ["rotator.incident-opened"]


# -- prompts ---------------------------------------------------------------------------------------


def test_a_prompt_without_a_terminal_names_the_option_of_the_leaked_value(rotated: Cli):
    """`--password-from` belongs to other commands."""
    error = rotated.json(
        "incident", "open", "--value-from", "prompt", "--reason", "x", code=2
    ).errors[0]
    assert "--value-from" in error["hint"]
    assert "--password-from" not in error["hint"]
