"""The daemon as a process of its own, over a real PostgreSQL."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from rotator import client
from rotator.bootstrap import open_app
from rotator.client import psycopg as client_psycopg
from rotator.client.sources import LocalSource
from rotator.core.version_mark import with_mark
from rotator.testing.postgres import ScratchPostgres
from rotator.testing.scratch import free_port
from tests.cli.installed_program import APP_PASSWORD, Real, prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PERIOD = "every: 3s, grace: 1s, drain: {wait: 1s, then: hold, poll: 200ms}"
_PATIENCE = 60.0


@pytest.fixture
def server() -> Iterator[ScratchPostgres]:
    with ScratchPostgres() as started:
        prepare(started)
        yield started


@pytest.fixture
def rotator(tmp_path: Path, server: ScratchPostgres) -> Real:
    """A folder whose application is due every three seconds, and taken over."""
    real = Real(folder=tmp_path, server=server)
    real("init")
    real.configure(grace="1s")
    config = tmp_path / "rotator.yaml"
    text = config.read_text().replace("every: 30d, grace: 1s", _PERIOD)
    text = text.replace('listen: "127.0.0.1:9464"', f'listen: "127.0.0.1:{free_port()}"')
    text = text.replace("checkpoint_every: 10m", "checkpoint_every: 2s")
    config.write_text(text.replace("verify_every: 1d", "verify_every: 2s"))
    real("adopt", "app", "--username", "app", "--password-from", "env:APP_PASSWORD")
    return real


class Daemon:
    """A running one; its log is kept in a file."""

    def __init__(self, rotator: Real) -> None:
        self._rotator = rotator
        self._log = (rotator.folder / "daemon.log").open("a")
        self.process = rotator.start("daemon", stderr=self._log, stdout=subprocess.DEVNULL)
        found = re.search(r'listen: "([\d.:]+)"', (rotator.folder / "rotator.yaml").read_text())
        assert found is not None
        self.address = found[1]

    def __enter__(self) -> Daemon:
        until(lambda: self.get("/readyz")[0] == 200, self.log)
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._log.close()
        log = self.log()
        assert APP_PASSWORD not in log
        assert "Traceback" not in log

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://{self.address}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def log(self) -> str:
        return (self._rotator.folder / "daemon.log").read_text()

    def lines(self, event: str) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]
        return [line for line in found if line["event"] == event]

    def done(self) -> float:
        """Return how many rotations have ended well."""
        found = re.search(
            r'rotator_rotations_total\{outcome="done",.*\} (\S+)', self.get("/metrics")[1]
        )
        return float(found[1]) if found else 0.0

    def leave(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=_PATIENCE)


def until(true: Callable[[], bool], said: Callable[[], str] = str) -> None:
    """Wait until something is so: a process's own time cannot be travelled."""
    end = time.monotonic() + _PATIENCE
    while not true():
        assert time.monotonic() < end, said()
        time.sleep(0.05)


def _rotations(rotator: Real) -> list[dict[str, Any]]:
    return rotator.json("history", "app", "--limit", "100").data["rotations"]


def test_a_daemon_rotates_what_is_due_and_locks_nobody_out(rotator: Real):
    """Again and again, with grace, drain and proof; then it leaves, and the journal is sound."""
    stop, failures, logins = threading.Event(), list[str](), 0

    def application() -> None:
        nonlocal logins
        with open_app(rotator.folder / "rotator.yaml") as app:
            while not stop.is_set():
                current = app.backend("local").current("app")
                assert current is not None
                login = current.credential
                try:
                    rotator.server.connect(
                        user=login.username, password=login.password.reveal()
                    ).close()
                except psycopg.Error as error:
                    failures.append(str(error))
                logins += 1

    with Daemon(rotator) as daemon:
        client = threading.Thread(target=application)
        client.start()
        try:
            # Not by a command in this process: it would change the environment under libpq.
            until(lambda: daemon.done() >= 3, daemon.log)
        finally:
            stop.set()
            client.join()
        status, metrics = daemon.get("/metrics")
        assert status == 200
        assert re.search(
            r'rotator_rotations_total\{outcome="done",plugin="postgresql"\} [3-9]', metrics
        )
        assert 'rotator_secret_due_timestamp_seconds{secret="app"}' in metrics
        assert "rotator_journal_up 1.0" in metrics
        assert "rotator_journal_sound 1.0" in metrics
        assert daemon.get("/healthz")[0] == 200
        assert daemon.get("/nothing")[0] == 404
        assert daemon.leave() == 0
        assert "left" in daemon.log()
    assert failures == []
    assert logins > 100
    ended = [one for one in _rotations(rotator) if one["outcome"] == "done"]
    assert all(one["old_refused"] for one in ended)
    assert {one["reason"] for one in _rotations(rotator)} == {"due"}
    audited = rotator.json("audit", "verify").data
    assert audited["ok"] is True
    assert audited["checkpoints"] > 1


def test_a_bad_configuration_is_refused_and_the_old_one_stays(rotator: Real):
    """A good one then comes into force, by a signal or automatically."""
    config = rotator.folder / "rotator.yaml"
    good = config.read_text()
    with Daemon(rotator) as daemon:
        config.write_text(good.replace("strategy: new-user", "strategy: new-usr"))
        until(lambda: bool(daemon.lines("configuration refused")), daemon.log)
        assert "new-user" in daemon.lines("configuration refused")[0]["what"]
        assert "rotator_config_reload_successful 0.0" in daemon.get("/metrics")[1]
        before = daemon.done()
        until(lambda: daemon.done() > before, daemon.log)
        config.write_text(good)
        until(lambda: bool(daemon.lines("configuration in force")), daemon.log)
        assert "rotator_config_reload_successful 1.0" in daemon.get("/metrics")[1]
        daemon.process.send_signal(signal.SIGHUP)
        until(lambda: len(daemon.lines("configuration in force")) == 2, daemon.log)
        before = daemon.done()
        until(lambda: daemon.done() > before, daemon.log)
        assert daemon.leave(signal.SIGINT) == 0


def test_a_change_of_an_included_file_comes_into_force(rotator: Real):
    """A new file of a folder too; a bad one is refused, and the old configuration stays."""
    config, folder = rotator.folder / "rotator.yaml", rotator.folder / "secrets.d"
    folder.mkdir()
    config.write_text(config.read_text() + "\ninclude: secrets.d\n")
    with Daemon(rotator) as daemon:
        (folder / "more.yaml").write_text("secrets: {app: }")
        until(lambda: bool(daemon.lines("configuration refused")), daemon.log)
        assert "secrets.d/more.yaml:1:" in daemon.lines("configuration refused")[0]["what"]
        (folder / "more.yaml").write_text("policies: {slow: {every: 90d}}")
        until(lambda: bool(daemon.lines("configuration in force")), daemon.log)
        assert daemon.leave() == 0


def test_a_second_signal_leaves_at_once_and_the_next_daemon_goes_on(rotator: Real):
    """The next daemon completes what was under way."""
    rotator("rotate", "app", "--timeout", "0s")
    with Daemon(rotator) as daemon:
        daemon.process.send_signal(signal.SIGTERM)
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(timeout=10) in (0, 143)
    with Daemon(rotator) as daemon:
        until(lambda: any(one["outcome"] == "done" for one in _rotations(rotator)), daemon.log)
        assert daemon.leave() == 0


def test_an_old_login_that_is_still_in_use_is_held_and_notified(rotator: Real):
    """Who uses it is in the notice, which is signed."""
    notices = list[tuple[dict[str, str], bytes]]()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            notices.append(({key.lower(): one for key, one in self.headers.items()}, body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] # says nothing
            pass

    hook = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=hook.serve_forever, daemon=True).start()
    key = rotator.folder / "webhook-key"
    key.touch(mode=0o600)
    key.write_text("key-of-the-webhook")
    url = f"http://127.0.0.1:{hook.server_address[1]}/hook"
    with (rotator.folder / "rotator.yaml").open("a") as file:
        file.write(
            f'notifications: [{{type: webhook, url: "{url}", secret: "file:webhook-key"}}]\n'
        )
    session = rotator.server.connect(user="app", password=APP_PASSWORD)
    try:
        with Daemon(rotator) as daemon:
            until(lambda: any(b'"rotator.drain-held"' in body for _, body in notices), daemon.log)
            assert daemon.leave() == 0
    finally:
        session.close()
        hook.shutdown()
        hook.server_close()
    headers, body = next(one for one in notices if b"drain-held" in one[1])
    event = json.loads(body)
    assert event["specversion"] == "1.0"
    assert event["subject"] == "app"
    assert event["data"]["sessions"][0]["login"] == "app"
    assert headers["content-type"] == "application/cloudevents+json"
    assert headers["webhook-signature"].startswith("v1,")
    assert APP_PASSWORD.encode() not in b"".join(body for _, body in notices)


def _with_consumer(rotator: Real) -> str:
    """Declare `web`, which can end the grace period; return where it reports."""
    config = rotator.folder / "rotator.yaml"
    token = rotator.folder / "web-token"
    token.touch(mode=0o600)
    token.write_text("token-of-the-tests")
    address = f"127.0.0.1:{free_port()}"
    text = config.read_text()
    assert "    listen: none" in text
    text = text.replace("    listen: none", f'    listen: "{address}"')
    text = text.replace("every: 3s, grace: 1s", "grace: 'until-acknowledged, at most 1h'")
    text += "consumers: {web: {gate: hold, token: file:web-token}}\n"
    config.write_text(text + "defaults: {consumers: [web]}\n")
    return address


def _current(rotator: Real) -> tuple[str, str, str]:
    with rotator.open() as app:
        entry = app.settings.secrets["app"]
        current = app.backend(entry.backend).current(entry.path)
        assert current is not None
        return current.id, current.credential.username, current.credential.password.reveal()


def _state(rotator: Real) -> dict[str, Any]:
    return rotator.json("status").answer["data"]["secrets"][0]


@pytest.mark.slow  # the test with the client library is the same way, and more
def test_an_old_login_is_revoked_as_soon_as_its_consumer_has_reported(rotator: Real):
    """Not after the hour that the policy allows; a wrong token reports nothing."""
    address = _with_consumer(rotator)

    def report(token: str) -> int:
        version, _, _ = _current(rotator)
        row = {"secret": "app", "version": version, "level": "used"}
        row |= {"instance": "web-1", "kind": "client"}
        link = http.client.HTTPConnection(address, timeout=10)
        with closing(link):
            link.request(
                "POST",
                "/v1/acknowledgements",
                json.dumps({"acknowledgements": [row]}),
                {"Authorization": f"Bearer {token}"},
            )
            return link.getresponse().status

    with Daemon(rotator) as daemon:
        rotator("rotate", "app", "--timeout", "0s")
        assert report("another-token") == 401
        assert _state(rotator)["state"] == "grace"
        begun = time.monotonic()
        assert report("token-of-the-tests") == 204
        until(lambda: _state(rotator)["last_outcome"] == "done", daemon.log)
        assert time.monotonic() - begun < 10
        assert (
            'rotator_consumer_instances{consumer="web",on="current",secret="app"} 1.0'
            in (daemon.get("/metrics")[1])
        )
        assert daemon.leave() == 0
    assert "token-of-the-tests" not in daemon.log()
    with pytest.raises(psycopg.OperationalError):
        rotator.server.connect(user="app", password=APP_PASSWORD)


def test_an_old_login_is_revoked_once_the_server_shows_the_consumer_on_the_new_version(
    rotator: Real,
):
    """By the version mark in the name of its session: it reports nothing."""
    _with_consumer(rotator)
    with Daemon(rotator) as daemon:
        rotator("rotate", "app", "--timeout", "0s")
        version, login, password = _current(rotator)
        name = with_mark("web", version)
        place = rotator.server.dsn("postgres", login, password)
        session = psycopg.connect(**place, application_name=name)
        try:
            until(lambda: _state(rotator)["last_outcome"] == "done", daemon.log)
        finally:
            session.close()
        assert daemon.leave() == 0


def test_an_application_with_the_client_library_ends_the_grace_period(rotator: Real):
    """It hears of the new version from the daemon, logs in with it, and the old login is revoked."""
    address = _with_consumer(rotator)
    rotator("rotate", "app", "--timeout", "0s")
    with Daemon(rotator) as daemon:
        source = LocalSource(
            "app",
            file=rotator.folder / "rotator-secrets.db",
            key_file=rotator.folder / "rotator.key",
        )
        link = client.Daemon(f"http://{address}", token="token-of-the-tests")
        credential = client.Credential(source, refresh=300, daemon=link, name="app")
        place = {"host": rotator.server.host, "port": rotator.server.port, "dbname": "postgres"}
        changed: list[float] = []
        ended = credential.on_change(lambda _login: changed.append(time.monotonic()))
        with closing(credential), closing(link):
            with client_psycopg.connect(credential, **place) as before:
                assert before.execute("SELECT 1").fetchone() == (1,)
            until(lambda: _state(rotator)["last_outcome"] == "done", daemon.log)
            first = credential.current().username
            begun = time.monotonic()
            # The command waits a while for the consumers itself.
            rotating = rotator.start("rotate", "app", stdout=subprocess.DEVNULL)
            until(lambda: bool(changed), daemon.log)
            with client_psycopg.connect(credential, **place) as after:
                user = after.execute("SELECT current_user").fetchone()
            assert user is not None
            assert credential.current().username != first
            until(
                lambda: first not in {str(role[0]) for role in rotator.roles() if role[1]},
                daemon.log,
            )
            assert time.monotonic() - begun < 20
            assert rotating.wait(60) == 0
        ended()
        assert daemon.leave() == 0
