"""One fault of a target is one fault, under a running daemon and on the command line, on a real server."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from rotator.bootstrap import open_app
from rotator.testing.postgres import ScratchPostgres
from rotator.testing.scratch import free_port
from tests.cli.installed_program import ADMIN_PASSWORD, Real, prepare
from tests.dispatch.test_daemon import Daemon, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_COUNT = 6
_NAMES = {f"app{number}" for number in range(_COUNT)}


@pytest.fixture
def server() -> Iterator[ScratchPostgres]:
    with ScratchPostgres() as started:
        prepare(started)
        yield started


@pytest.fixture
def notices() -> Iterator[list[dict[str, Any]]]:
    """What a webhook on this machine has been sent; its port is in the first entry."""
    found: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] # says nothing
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        found.append({"port": listening.server_address[1]})
        yield found
        listening.shutdown()


@pytest.fixture
def rotator(tmp_path: Path, server: ScratchPostgres, notices: list[dict[str, Any]]) -> Real:
    """Several secrets on one server, each due every second."""
    real = Real(folder=tmp_path, server=server)
    real("init")
    real.configure(grace="0s")
    with server.connect() as admin:
        for number in range(_COUNT):
            name = f"app{number}"
            admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'first'".encode())
            admin.execute(f"GRANT {name} TO rotator_admin WITH ADMIN OPTION".encode())
    config = tmp_path / "rotator.yaml"
    text = config.read_text().split("secrets:\n  app:")[0].replace("every: 30d", "every: 1s")
    text = text.replace('listen: "127.0.0.1:9464"', f'listen: "127.0.0.1:{free_port()}"')
    text = text.replace("    wait: 30s  ", "    wait: 200ms  ").replace(
        "longest: 10m", "longest: 400ms"
    )
    text += "secrets:\n" + "".join(
        f"  app{number}: {{target: main, backend: local, strategy: new-user, options: {{group: app{number}}}}}\n"
        for number in range(_COUNT)
    )
    text = text.replace("notifications: []\n", "")
    url = f"http://127.0.0.1:{notices[0]['port']}/"
    text += f"notifications:\n  - {{type: webhook, url: '{url}', events: [unavailable, available, parked, failed]}}\n"
    config.write_text(text)
    real.environ["FIRST"] = "first"
    for number in range(_COUNT):
        name = f"app{number}"
        real("adopt", name, "--username", name, "--password-from", "env:FIRST")
    return real


def _set_admin(server: ScratchPostgres, password: str) -> None:
    with server.connect() as admin:
        admin.execute(f"ALTER ROLE rotator_admin PASSWORD '{password}'".encode())
        admin.execute(
            b"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'rotator_admin'"
        )


def _rotated(daemon: Daemon, since: int = 0) -> set[str]:
    """Return the secrets whose rotation has ended, by the steps after the first `since`."""
    ended = [one for one in daemon.lines("finished")[since:] if one["step"] == "revoke"]
    return {one["secret"] for one in ended}


def _parked(rotator: Real) -> list[str]:
    with open_app(rotator.folder / "rotator.yaml") as app:
        return [one.name for one in app.journal.secrets() if one.parked is not None]


def test_an_admin_that_is_rejected_is_one_notice_and_mends_automatically(
    rotator: Real, server: ScratchPostgres, notices: list[dict[str, Any]]
):
    """Nothing is parked while the password is wrong, and all go on once it is right again."""
    with Daemon(rotator) as daemon:
        until(lambda: _rotated(daemon) == _NAMES, daemon.log)
        _set_admin(server, "changed-by-somebody")
        until(lambda: len(notices) >= 2, daemon.log)
        _ = rotator("rotate", "app0", code=3)
        assert _parked(rotator) == []
        before = len(daemon.lines("finished"))
        _set_admin(server, ADMIN_PASSWORD)
        until(lambda: _rotated(daemon, before) == _NAMES, daemon.log)
        until(lambda: len(notices) >= 3, daemon.log)
        assert daemon.leave() == 0
        assert [one["type"] for one in notices[1:]] == ["rotator.unavailable", "rotator.available"]
        told = notices[1]["data"]
        assert told["host"] == "target main"
        assert told["secrets"] == _COUNT
        assert told["hint"]
        assert len(daemon.lines("unavailable")) == 1
        assert len(daemon.lines("available")) == 1
        assert daemon.lines("parked") == []


def test_rotate_all_with_a_rejected_admin_is_one_message(rotator: Real, server: ScratchPostgres):
    """It names the target and counts the secrets; nothing is parked, and the code is 3."""
    _set_admin(server, "changed-by-somebody")
    done = rotator("rotate", "--all", code=3)
    assert done.err.count("target main is unavailable") == 1
    assert f"{_COUNT} secrets wait" in done.err
    assert _parked(rotator) == []
    answer = rotator.json("rotate", "--all", code=3)
    assert [one["kind"] for one in answer.errors] == ["unavailable"]
    assert len(answer.data["away"][0]["secrets"]) == _COUNT
    _set_admin(server, ADMIN_PASSWORD)
    rotator("rotate", "--all")


def test_unpark_mends_what_an_older_release_parked(rotator: Real):
    """In one command, by target; a target that is not there is misuse."""
    for number in range(_COUNT):
        rotator("park", f"app{number}", "--reason", "denied: the admin is rejected")
    rotator("unpark", "--target", "nope", code=2)
    rotator("unpark", "--tag", "nope", code=2)
    rotator("unpark", code=2)
    done = rotator.json("unpark", "--target", "main")
    assert len(done.data["secrets"]) == _COUNT
    assert "No secret is parked." in rotator("unpark", "--all").out
    rotator("rotate", "--all")
