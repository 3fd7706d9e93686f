"""The source that reads an agent's Unix socket, against a small server in the agent's place."""

from __future__ import annotations

import json
import threading
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingUnixStreamServer
from typing import TYPE_CHECKING, Any

import pytest

from rotator.client import Agent as AgentLink
from rotator.client import Credential, DaemonError, ServesNext, SourceError
from rotator.client.sources import AgentSource
from tests.client.consumer_server import close, garbage, hang

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_NEXT = {"version": "8", "username": "app_b", "password": "canary-8", "fields": {}}
_ANSWER = {
    "version": "7",
    "username": "app_a",
    "password": "canary-7",
    "fields": {"host": "db"},
    "next": None,
}


class Agent:
    """Serves one answer to every request over a Unix socket."""

    def __init__(self, socket: Path) -> None:
        self.status = 200
        self.content = json.dumps(_ANSWER).encode()
        self.paths: list[str] = []
        self.bodies: list[Any] = []
        self.fault: Any = None
        agent = self

        class Handler(BaseHTTPRequestHandler):
            def address_string(self) -> str:
                return "socket"

            def do_GET(self) -> None:
                agent.paths.append(self.path)
                if agent.fault is not None and agent.fault(self):
                    return
                if self.command == "POST" and agent.status == 200:
                    self.send_response(204)
                    self.end_headers()
                    return
                self.send_response(agent.status)
                self.send_header("Content-Length", str(len(agent.content)))
                self.end_headers()
                self.wfile.write(agent.content)

            def do_POST(self) -> None:
                agent.bodies.append(
                    json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                )
                self.do_GET()

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingUnixStreamServer(str(socket), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}
        )

    def __enter__(self) -> Agent:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def serve(self, answer: object) -> None:
        self.content = json.dumps(answer).encode()


@pytest.fixture
def socket(tmp_path: Path) -> Path:
    return tmp_path / "agent.sock"


@pytest.fixture
def agent(socket: Path) -> Iterator[Agent]:
    with Agent(socket) as started:
        yield started


@pytest.fixture
def source(socket: Path) -> AgentSource:
    return AgentSource("shop", socket=socket, timeout=0.5)


def test_the_agent_serves_the_current_version(agent: Agent, source: AgentSource):
    login = source.read()
    assert (login.version, login.username, login.password.reveal()) == ("7", "app_a", "canary-7")
    assert login.fields == {"host": "db"}
    assert agent.paths == ["/v1/secrets/shop"]


def test_the_agent_serves_the_next_version_where_it_has_one(agent: Agent, source: AgentSource):
    assert isinstance(source, ServesNext)
    assert source.next() is None
    agent.serve(_ANSWER | {"next": _NEXT})
    following = source.next()
    assert following is not None
    assert (following.version, following.username) == ("8", "app_b")
    assert Credential(source).pair()[1] == following


def test_waiting_for_another_version_names_the_known_one(agent: Agent, source: AgentSource):
    agent.serve(_NEXT)
    assert source.wait("7", 25).version == "8"
    assert agent.paths == ["/v1/secrets/shop?known=7&wait=25"]


def test_a_name_is_quoted_in_the_address(agent: Agent, socket: Path):
    AgentSource("apps/shop ?x", socket=socket).read()
    assert agent.paths == ["/v1/secrets/apps%2Fshop%20%3Fx"]


def test_an_acknowledgement_is_the_daemons_without_a_token(agent: Agent, source: AgentSource):
    agent.status, agent.content = 204, b""
    source.acknowledge("7", "used", instance="web:1")
    row = {"secret": "shop", "version": "7", "level": "used", "instance": "web:1", "kind": "client"}
    assert agent.bodies == [{"acknowledgements": [row]}]


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (403, r"is not served to this user \(HTTP status 403\)"),
        (404, r"is unknown to the agent \(HTTP status 404\)"),
        (503, r"has not been read by the agent yet \(HTTP status 503\)"),
        (500, r"could not be read \(HTTP status 500\)"),
        (302, r"could not be read \(HTTP status 302\)"),
    ],
)
def test_a_status_is_an_error_of_the_source(
    agent: Agent, source: AgentSource, status: int, text: str
):
    agent.status = status
    with pytest.raises(SourceError, match=text) as failed:
        source.read()
    assert "canary" not in str(failed.value)


@pytest.mark.parametrize("fault", [hang, garbage, close])
def test_an_agent_that_fails_is_an_error_of_the_source(
    agent: Agent, source: AgentSource, fault: Any
):
    agent.fault = fault
    with pytest.raises(SourceError, match="could not be read: ") as failed:
        source.read()
    assert "canary" not in str(failed.value)


@pytest.mark.parametrize(
    "answer",
    [
        "canary-7",
        ["canary-7"],
        {"password": "canary-7"},
        _ANSWER | {"version": 7},
        _ANSWER | {"version": ""},
        _ANSWER | {"fields": ["canary-7"]},
        _ANSWER | {"password": None, "fields": {"x": "canary-7"}},
        _ANSWER | {"username": 3},
    ],
)
def test_what_is_no_login_is_named_and_not_repeated(
    agent: Agent, source: AgentSource, answer: object
):
    agent.serve(answer)
    with pytest.raises(SourceError, match="shop of the agent at") as failed:
        source.read()
    assert "canary" not in str(failed.value)


def test_text_that_is_no_utf8_is_an_error_of_the_source(agent: Agent, source: AgentSource):
    agent.content = b"\xff canary-7"
    with pytest.raises(SourceError, match="could not be read: UnicodeDecodeError"):
        source.read()


def test_a_missing_socket_is_an_error_of_the_source(source: AgentSource):
    with pytest.raises(SourceError, match="could not be read: FileNotFoundError"):
        source.read()


def test_a_credential_acknowledges_to_the_agent_and_hears_of_a_change(agent: Agent, socket: Path):
    with closing(AgentLink(socket)) as link:
        source = AgentSource("shop", socket=socket, refresh=3600)
        credential = Credential(source, daemon=link, name="shop")
        with closing(credential):
            assert credential.current().version == "7"
            _wait_until(lambda: _levels(agent) == [("7", "loaded")])
            agent.serve(_NEXT)
            _wait_until(lambda: credential.current().version == "8")
            _wait_until(lambda: ("8", "loaded") in _levels(agent))
    assert "canary" not in f"{link!r} {link.error} {credential.health()}"


@pytest.mark.parametrize("fault", [hang, garbage, close])
def test_an_agent_that_fails_is_an_error_of_the_link(agent: Agent, socket: Path, fault: Any):
    agent.fault = fault
    link = AgentLink(socket, timeout=0.3)
    with pytest.raises(DaemonError, match=r"agent\.sock\) is unreachable") as failed:
        link.versions({"shop": "7"}, 0)
    assert "canary" not in str(failed.value)


def test_what_is_no_version_is_an_error_of_the_link(agent: Agent, socket: Path):
    agent.serve({"password": "canary-7"})
    with pytest.raises(DaemonError, match="answered something else than a version") as failed:
        AgentLink(socket).versions({"shop": "7"}, 0)
    assert "canary" not in str(failed.value)


def _levels(agent: Agent) -> list[tuple[str, str]]:
    rows = [row for body in agent.bodies for row in body["acknowledgements"]]
    return [(row["version"], row["level"]) for row in rows]


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)  # until threads of the credential have worked
