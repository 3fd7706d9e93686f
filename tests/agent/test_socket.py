"""The agent's socket: values for other languages, and only for the users that are named."""

from __future__ import annotations

import http.client
import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from rotator.agent.errors import SinkError
from rotator.agent.socket_server import SocketServer
from rotator.client.sources import AgentSource, FileSource
from rotator.core.model import Credential
from rotator.core.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rotator.agent.agent import Agent
    from tests.agent.conftest import Host

_CONFIG = "socket: {path: a.sock}\nsecrets: {shop: {}, empty: {path: nothing/there}}\n"


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("agent", timeout=20)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(self._path)


@pytest.fixture
def agent(host: Host, monkeypatch) -> Iterator[Agent]:
    # The path of a socket is limited to 107 bytes.
    monkeypatch.chdir(host.folder)
    agent = host.agent(_CONFIG)
    agent.start()
    yield agent
    agent.stop()


@pytest.fixture
def server(host: Host, agent: Agent) -> Iterator[SocketServer]:
    options = agent.consumer.options.socket
    assert options is not None
    with SocketServer(agent, options) as server:
        server.start()
        yield server
        server.shutdown()


def _ask(method: str, path: str, body: object = None) -> tuple[int, Any]:
    connection = _Connection("a.sock")
    connection.request(method, path, None if body is None else json.dumps(body))
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, json.loads(content) if content else None


def test_a_value_is_served(host: Host, server: SocketServer):
    host.publish("app", "p\u00e4ss", host="db", port=5432)
    assert _ask("GET", "/v1/secrets/shop") == (
        200,
        {
            "version": "1",
            "username": "app",
            "password": "p\u00e4ss",
            "fields": {"host": "db", "port": 5432},
            "next": None,
        },
    )
    assert stat.S_IMODE((host.folder / "a.sock").stat().st_mode) == 0o660
    assert _ask("GET", "/v1/secrets/shop?wait=5")[0] == 200


def test_the_client_library_reads_the_socket_and_a_file(host: Host, server: SocketServer):
    host.publish("app", "first-Kq83zx", host="db")
    source = AgentSource("shop", socket=host.folder / "a.sock")
    login = source.read()
    assert (login.version, login.username, login.password.reveal()) == ("1", "app", "first-Kq83zx")
    assert dict(login.fields) == {"host": "db"}
    assert source.next() is None
    sinks = "secrets: {shop: {sinks: [{file: db.json, format: json}]}}"
    assert host.agent(sinks).run_once(5) == {}
    same = FileSource(host.folder / "db.json").read()
    assert (same.version, same.username, same.password) == ("1", "app", login.password)


def test_a_long_poll_ends_with_the_next_version(host: Host, server: SocketServer):
    host.publish("app", "first-Kq83zx")
    assert _ask("GET", "/v1/secrets/shop")[1]["version"] == "1"
    threading.Timer(0.3, host.publish, ("app", "second-Kq83zx")).start()
    status, data = _ask("GET", "/v1/secrets/shop?known=1&wait=20")
    assert (status, data["version"], data["password"]) == (200, "2", "second-Kq83zx")
    start = time.monotonic()
    assert _ask("GET", "/v1/secrets/shop?known=2&wait=0.3")[1]["version"] == "2"
    assert 0.3 <= time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/secrets/other", 404),
        ("GET", "/v1/secrets/", 404),
        ("GET", "/", 404),
        ("GET", "/v1/secrets/../secrets/shop", 404),
        ("GET", "/v1/secrets/empty", 503),
        ("GET", "/v1/secrets/shop?wait=x", 400),
        ("GET", "/v1/secrets/shop?known=1&wait=nan", 503),
        ("POST", "/v1/secrets/shop", 404),
        ("DELETE", "/v1/secrets/shop", 501),
    ],
)
def test_a_bad_request_is_refused(server: SocketServer, method: str, path: str, status: int):
    connection = _Connection("a.sock")
    connection.request(method, path)
    assert connection.getresponse().status == status
    connection.close()


_ROW = {"secret": "shop", "version": "1", "level": "used", "instance": "web:1", "kind": "client"}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"acknowledgements": [_ROW]}, 204),
        ({"acknowledgements": [{**_ROW, "secret": "other"}]}, 404),
        ({"acknowledgements": [_ROW] * 1001}, 400),
        ("x" * 100_000, 400),
    ],
)
def test_acknowledgements_are_passed_on(agent, server, monkeypatch, body, status):
    rows: list[tuple[Any, ...]] = []

    class Daemon:
        def acknowledge(self, *row: str, **more: str) -> None:
            rows.append((*row, more["instance"], more["kind"]))

    object.__setattr__(agent.consumer, "daemon", Daemon())
    try:
        assert _ask("POST", "/v1/acknowledgements", body)[0] == status
    finally:
        object.__setattr__(agent.consumer, "daemon", None)
    expected = [("shop", "1", "used", "web:1", "client")]
    assert rows == (expected if body == {"acknowledgements": [_ROW]} else [])


def test_acknowledgements_need_a_daemon(server: SocketServer):
    assert _ask("POST", "/v1/acknowledgements", {"acknowledgements": [_ROW]})[0] == 503


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_another_user_is_refused(host: Host, server: SocketServer):
    """By the number that the kernel gives, also where the mode of the socket lets everybody connect."""
    host.publish("app", "s3cret-value")
    (host.folder / "a.sock").chmod(0o666)
    program = """
import os, socket
link = socket.socket(socket.AF_UNIX)
os.setgid(12345); os.setuid(12345)
link.connect("a.sock")
link.sendall(b"GET /v1/secrets/shop HTTP/1.1\\r\\nHost: agent\\r\\nConnection: close\\r\\n\\r\\n")
print(link.makefile().read())
"""
    run = [sys.executable, "-c", program]
    # The socket's name is relative, so that nothing above the folder must be open to that user.
    host.folder.chmod(0o755)
    done = subprocess.run(run, capture_output=True, text=True, cwd=host.folder, check=False)
    assert "403" in done.stdout, done
    assert "s3cret" not in done.stdout
    server.users |= {12345}
    done = subprocess.run(
        run, capture_output=True, text=True, cwd=host.folder, timeout=120, check=True
    )
    assert "s3cret-value" in done.stdout


def test_health_names_no_secret(host: Host, server: SocketServer):
    host.publish("app", "s3cret-value")
    _ask("GET", "/v1/secrets/shop")
    _, data = _ask("GET", "/v1/health")
    assert data["secrets"]["shop"]["version"] == "1"
    assert "no published version" in data["secrets"]["empty"]["error"]
    assert "s3cret" not in json.dumps(data)


def test_a_socket_in_use_is_not_taken_and_a_dead_one_is(host: Host, agent: Agent):
    options = agent.consumer.options.socket
    assert options is not None
    with SocketServer(agent, options) as first:
        first.start()
        with pytest.raises(SinkError, match="another agent serves"):
            SocketServer(agent, options)
        first.shutdown()
    assert not (host.folder / "a.sock").exists()
    dead = socket.socket(socket.AF_UNIX)
    dead.bind("a.sock")
    dead.close()
    SocketServer(agent, options).server_close()
    (host.folder / "a.sock").write_text("")
    with pytest.raises(SinkError, match="is not a socket"):
        SocketServer(agent, options)


def test_the_next_version_is_served_from_memory_while_it_is_prepared(
    host: Host, server: SocketServer
):
    """Without a daemon the agent reads it when an application asks, and no sink gets it."""
    host.publish("app_a", "canary-now")
    source = AgentSource("shop", socket="a.sock")
    assert source.next() is None
    current = source.read()
    new = Credential(username="app_b", password=Secret("canary-next"))
    host.backend.stage("shop", "r-next", new)
    _wait_until(lambda: source.next() is not None)
    following = source.next()
    assert following is not None
    assert (following.rotation, following.username) == ("r-next", "app_b")
    assert following.password == Secret("canary-next")
    assert source.read() == current
    assert _ask("GET", "/v1/secrets/shop")[1]["next"]["rotation"] == "r-next"
    files = [one for one in host.folder.rglob("*") if one.is_file()]
    assert [one for one in files if b"canary-next" in one.read_bytes()] == []
    published = host.backend.publish("shop", "r-next", expect=current.version)
    assert published == following.version
    _wait_until(lambda: source.next() is None)


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
