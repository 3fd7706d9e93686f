"""A credential with a daemon: what it acknowledges, how soon it sees a change, and what a fault costs."""

from __future__ import annotations

import os
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from rotator.client import Credential, Daemon, Login, Refusal, SourceError
from rotator.core.secret import Secret
from tests.client.consumer_server import ConsumerServer, close, garbage, hang, status

if TYPE_CHECKING:
    from collections.abc import Iterator

_FAULTS = {
    "hangs": hang,
    "garbage": garbage,
    "401": status(401),
    "403": status(403),
    "500": status(500),
    "no JSON": status(200),
    "closes": close,
}


class Denied(Exception):
    """The server refused a login."""


class Source:
    """A backend that serves what the test wants, and is read again by the credential's wish alone."""

    refresh = 3600.0

    def __init__(self) -> None:
        self.served = "1"
        self.pending: str | None = None
        self.lag = 0
        self.is_away = False

    def read(self) -> Login:
        if self.is_away:
            raise SourceError("the backend is unreachable.")
        if self.lag:
            self.lag -= 1
            return self._login("1")
        return self._login(self.served)

    def next(self) -> Login | None:
        return None if self.pending is None else self._login(self.pending)

    def _login(self, version: str) -> Login:
        return Login(username="app", password=Secret(f"password-{version}"), version=version)


@pytest.fixture
def server() -> Iterator[ConsumerServer]:
    with ConsumerServer() as started:
        started.publish("shop", "1")
        yield started


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def credential(server: ConsumerServer, source: Source) -> Iterator[Credential]:
    with (
        closing(Daemon(server.url, token="canary-token", timeout=1)) as daemon,
        closing(Credential(source, daemon=daemon, name="shop")) as opened,
    ):
        yield opened


def _connect(credential: Credential, *refused: str) -> str:
    def connect(login: Login) -> str:
        if login.version in refused:
            raise Denied
        return login.version

    def refusal_of(error: BaseException) -> Refusal | None:
        return Refusal.PASSWORD if isinstance(error, Denied) else None

    return credential.connect(connect, refusal_of=refusal_of)


def _levels(server: ConsumerServer) -> list[tuple[str, str]]:
    return [(row["version"], row["level"]) for row in server.rows()]


def test_a_version_is_loaded_when_it_is_read_and_used_when_a_login_succeeded(
    server: ConsumerServer, credential: Credential
):
    assert credential.current().version == "1"
    server.wait_for_row(version="1", level="loaded")
    _connect(credential)
    server.wait_for_row(version="1", level="used")
    (row,) = {tuple(sorted(row.items() - {("level", row["level"])})) for row in server.rows()}
    known = dict(row)
    host, process, chance = known.pop("instance").rsplit(":", 2)
    assert (host, process, len(chance)) == (os.uname().nodename, str(os.getpid()), 6)
    assert known == {"secret": "shop", "version": "1", "kind": "client"}


def test_a_published_version_is_read_within_two_seconds(
    server: ConsumerServer, source: Source, credential: Credential
):
    changes: list[str] = []
    credential.on_change(lambda login: changes.append(login.version))
    credential.current()
    server.wait_for_row(version="1")
    source.served = "2"
    server.publish("shop", "2")
    server.wait_for_row(2, version="2", level="loaded")
    assert (credential.current().version, changes) == ("2", ["2"])


def test_a_backend_that_lags_behind_the_daemon_is_read_again(
    server: ConsumerServer, source: Source, credential: Credential
):
    credential.current()
    source.served, source.lag = "2", 3
    server.publish("shop", "2")
    server.wait_for_row(version="2", level="loaded")


def test_a_backend_that_is_away_is_read_again(
    server: ConsumerServer, source: Source, credential: Credential
):
    credential.current()
    source.served, source.is_away = "2", True
    server.publish("shop", "2")
    server.wait_for(4)
    source.is_away = False
    server.wait_for_row(version="2", level="loaded")


def test_the_level_of_a_version_never_goes_down(
    server: ConsumerServer, source: Source, credential: Credential
):
    """A login by the next version is used before it is read as the current one."""
    credential.current()
    source.pending = "2"
    assert _connect(credential, "1") == "2"
    source.served = "2"
    credential.refresh()
    server.wait_for_row(version="2", level="used")
    credential.ack("read")
    time.sleep(0.05)  # what must not be sent would be under way
    assert _levels(server)[-1] == ("2", "used")


def test_a_late_login_by_the_version_before_is_not_acknowledged(
    server: ConsumerServer, source: Source, credential: Credential
):
    credential.current()

    def connect(login: Login) -> str:
        source.served = "2"
        credential.refresh()
        return login.version

    assert credential.connect(connect, refusal_of=lambda _error: None) == "1"
    server.wait_for_row(version="2", level="loaded")
    assert ("1", "used") not in _levels(server)


def test_ack_is_for_code_that_connects_without_an_adapter(
    server: ConsumerServer, credential: Credential
):
    credential.ack()
    server.wait_for_row(version="1", level="used")


def test_a_daemon_needs_the_name_of_the_secret(source: Source):
    daemon = Daemon("http://127.0.0.1:1", token="canary-token")
    with pytest.raises(ValueError, match="needs the secret's `name`"):
        Credential(source, daemon=daemon)


@pytest.mark.parametrize("fault", _FAULTS.values(), ids=_FAULTS)
def test_a_broken_daemon_slows_no_connection_and_raises_nothing(
    server: ConsumerServer, source: Source, credential: Credential, fault: Any
):
    server.fault = fault
    slowest = 0.0
    for number in range(200):
        begun = time.perf_counter()
        assert _connect(credential) == source.served
        slowest = max(slowest, time.perf_counter() - begun)
        if number % 50 == 0:
            source.served = str(number)
            credential.refresh()
    assert slowest < 0.5
    deadline = time.monotonic() + 10
    while credential.health().daemon_error is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)  # until the daemon's fault is known
    assert "canary" not in f"{credential.health()} {credential!r}"


@pytest.mark.parametrize("fault", [close, status(200), status(500)], ids=["closes", "200", "500"])
def test_a_broken_daemon_is_not_hammered(
    server: ConsumerServer, credential: Credential, fault: Any
):
    server.fault = fault
    credential.current()
    time.sleep(1)  # of real time: the pauses of the polling thread are what is measured
    assert len(server.requests) <= 8


def test_a_daemon_that_answers_at_once_is_not_hammered(
    server: ConsumerServer, credential: Credential
):
    server.fault = _at_once
    credential.current()
    time.sleep(1)  # as above
    assert len(server.requests) <= 4


def _at_once(handler: Any) -> bool:
    content = b'{"versions": {"shop": "1"}}'
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)
    return True


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_is_another_instance_that_hears_of_changes_too(
    server: ConsumerServer, source: Source, credential: Credential
):
    _connect(credential)
    server.wait_for_row(version="1", level="used")
    (parent,) = {row["instance"] for row in server.rows()}
    child = os.fork()
    if child == 0:
        try:
            source.served = "2"
            _connect(credential)
            deadline = time.monotonic() + 10
            while credential.current().version != "2" and time.monotonic() < deadline:
                time.sleep(0.01)  # until the background read of the child is over
            _connect(credential)
            time.sleep(0.5)  # until it is sent
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    server.wait_for_row(version="2", level="used")
    instances = {row["instance"] for row in server.rows()}
    assert len(instances) == 2
    assert {name.rsplit(":", 2)[1] for name in instances} == {str(os.getpid()), str(child)}
    assert parent in instances


class Ahead(Source):
    """A source with a version that comes next."""

    following: Login | None = None
    next_reads: int = 0

    def next(self) -> Login | None:
        self.next_reads += 1
        return self.following


def _next(version: str, rotation: str) -> Login:
    password = Secret(f"password-{version}")
    return Login(username="app", password=password, version=version, rotation=rotation)


@pytest.fixture
def ahead(server: ConsumerServer) -> Iterator[tuple[Credential, Ahead]]:
    source = Ahead()
    with (
        closing(Daemon(server.url, token="canary-token", timeout=1)) as daemon,
        closing(Credential(source, daemon=daemon, name="shop")) as opened,
    ):
        assert opened.current().version == "1"
        yield opened, source


def test_an_announced_next_version_is_read_kept_and_acknowledged(
    server: ConsumerServer, ahead: tuple[Credential, Ahead]
):
    """The current one is still acknowledged; a refusal then asks no backend."""
    credential, source = ahead
    source.following = _next("2", "r-2")
    server.prepare("shop", "r-2")
    server.wait_for_row(version="r-2", level="prepared")
    assert credential.following == source.following
    server.wait_for_row(version="1", level="loaded")
    reads = source.next_reads
    assert _connect(credential, "1") == "2"
    assert source.next_reads == reads


def test_the_next_version_is_used_once_it_is_published(
    server: ConsumerServer, ahead: tuple[Credential, Ahead]
):
    """A login with it counts from then on: the daemon knows no version that is not published."""
    credential, own = ahead
    own.following = _next("2", "r-2")
    server.prepare("shop", "r-2")
    server.wait_for_row(version="r-2", level="prepared")
    assert _connect(credential, "1") == "2"
    assert ("2", "used") not in _levels(server)
    own.served = "2"
    server.prepare("shop", None)
    server.publish("shop", "2")
    server.wait_for_row(version="2", level="used")
    assert credential.following is None


def test_a_next_version_of_an_undone_rotation_is_forgotten(
    server: ConsumerServer, ahead: tuple[Credential, Ahead]
):
    credential, source = ahead
    source.following = _next("2", "r-2")
    server.prepare("shop", "r-2")
    server.wait_for_row(version="r-2", level="prepared")
    source.following = None
    server.prepare("shop", None)
    deadline = time.monotonic() + 10
    while credential.following is not None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_next_version_that_the_backend_shows_late_is_read_again(
    server: ConsumerServer, ahead: tuple[Credential, Ahead]
):
    _, source = ahead
    source.following = _next("2", "r-1")
    server.prepare("shop", "r-2")
    while source.next_reads == 0:
        time.sleep(0.01)
    source.following = _next("2", "r-2")
    server.wait_for_row(version="r-2", level="prepared")
    assert ("r-1", "prepared") not in _levels(server)


def test_without_a_next_version_nothing_is_acknowledged_as_prepared(
    server: ConsumerServer, credential: Credential
):
    assert credential.current().version == "1"
    server.prepare("shop", "r-2")
    server.wait_for_row(version="1", level="loaded")
    time.sleep(0.3)
    assert "prepared" not in {level for _, level in _levels(server)}
