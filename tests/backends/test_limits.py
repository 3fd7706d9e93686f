"""Every call of every backend ends in time, however its server hangs."""

from __future__ import annotations

import socket
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pytest

from rotator.api import Conflict, Secret, StepError, Transient, Unknown, seconds_left, time_limit
from rotator.backends.aws.backend import AwsBackend
from rotator.backends.encryption import Keys, new_key
from rotator.backends.local import LocalBackend
from rotator.testing.backend_suite import credential, publish
from rotator.testing.certificates import make_certificates
from tests.backends.opened import aws, vault

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

_TIMEOUT: Final = 0.5
_CALLS: Final[dict[str, Callable[[Any], object]]] = {
    "current": lambda backend: backend.current("p"),
    "read": lambda backend: backend.read("p", _version(backend)),
    "staged": lambda backend: backend.staged("p", "r1"),
    "stage": lambda backend: backend.stage("p", "r1", credential("a")),
    "publish": lambda backend: backend.publish("p", "r1", expect=None),
    "discard": lambda backend: backend.discard("p", "r1"),
    "restore": lambda backend: backend.restore("p", expect="2", to="1"),
    "get_value": lambda backend: backend.get_value("p", "f"),
    "put_value": lambda backend: backend.put_value("p", "f", Secret("x")),
    "rotation_ids": lambda backend: backend.rotation_ids("p"),
}


def _drip(link: socket.socket, stop: threading.Event) -> None:
    """Send a header that never ends, a byte at a time."""
    link.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not stop.wait(0.05):
        link.sendall(b"x")


def _drip_body(link: socket.socket, stop: threading.Event) -> None:
    """Send an answer whose body never comes to its end."""
    link.sendall(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n{"
    )
    while not stop.wait(0.05):
        link.sendall(b" ")


def _half(link: socket.socket, stop: threading.Event) -> None:
    """Answer half, and no more."""
    link.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n{"data":')
    _ = stop.wait()


def _nothing(link: socket.socket, stop: threading.Event) -> None:
    """Take the request, and never answer."""
    _ = link, stop.wait()


_HANGS: Final = {"drips": _drip, "drips its body": _drip_body, "half": _half, "nothing": _nothing}


@contextmanager
def _hanging(answer: Callable[[socket.socket, threading.Event], None]) -> Generator[int]:
    """Listen on a port, take whatever comes, and hang in one way."""
    stop = threading.Event()

    def serve(link: socket.socket) -> None:
        try:
            with link:
                link.recv(65_536)
                answer(link, stop)
        except OSError:
            pass

    def accept(listening: socket.socket) -> None:
        while not stop.is_set():
            link, _address = listening.accept()
            threading.Thread(target=serve, args=(link,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        thread = threading.Thread(target=accept, args=(listening,), daemon=True)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            stop.set()
            socket.create_connection(listening.getsockname()).close()
            thread.join()


_vault = partial(vault, seconds=_TIMEOUT, token="a-token")
_aws = partial(aws, seconds=_TIMEOUT)


def _version(backend: Any) -> str:
    return "1" * (32 if isinstance(backend, AwsBackend) else 1)


def _time_of(call: Callable[[Any], object], backend: Any) -> tuple[float, Exception | None]:
    begun = time.monotonic()
    try:
        _ = call(backend)
    except StepError as error:
        return time.monotonic() - begun, error
    return time.monotonic() - begun, None


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTING")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up-for-the-tests")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")


@pytest.mark.timeout(30)
@pytest.mark.parametrize("hang", _HANGS)
@pytest.mark.parametrize("opened", [_vault, _aws])
def test_each_call_ends_in_its_timeout_whatever_the_server_does(
    opened: Callable[[int], Any], hang: str
):
    """All calls at once, each on a connection of its own."""
    with _hanging(_HANGS[hang]) as port, ThreadPoolExecutor(len(_CALLS)) as pool:
        backend = opened(port)
        results = pool.map(lambda call: _time_of(call, backend), _CALLS.values())
        took = dict(zip(_CALLS, results, strict=True))
    for name, (seconds, error) in took.items():
        assert isinstance(error, Transient | Unknown), name
        # A tenth more than the timeout, and what a busy machine takes to wake threads.
        assert seconds <= _TIMEOUT * 1.1 + 0.4, (name, seconds)


@pytest.mark.timeout(30)
def test_a_tls_handshake_that_drips_ends_in_time(tmp_path: Path):
    """A limit of single reads would never end it."""
    make_certificates(tmp_path)

    def drip(link: socket.socket, stop: threading.Event) -> None:
        # The beginning of a TLS record of 16 KB.
        link.sendall(b"\x16\x03\x03\x40\x00")
        while not stop.wait(0.05):
            link.sendall(b"\x00")

    with _hanging(drip) as port:
        seconds, error = _time_of(
            _CALLS["current"], _vault(port, scheme="https", ca=tmp_path / "ca.crt")
        )
    assert isinstance(error, Transient)
    assert seconds <= _TIMEOUT * 1.1 + 0.4


@pytest.mark.parametrize("opened", [_vault, _aws])
def test_a_call_takes_no_longer_than_the_step_around_it(opened: Callable[[int], Any]):
    """Its own timeout may be longer."""
    with _hanging(_nothing) as port, time_limit(0.2):
        seconds, error = _time_of(_CALLS["publish"], opened(port))
    assert isinstance(error, StepError)
    assert seconds <= 0.45


@pytest.mark.parametrize("name", _CALLS)
def test_the_local_backend_waits_for_a_lock_no_longer_than_the_step_takes(
    tmp_path: Path, name: str
):
    """Somebody else holds the file, such as a backup; nothing is written."""
    backend = LocalBackend("local", tmp_path / "s.db", Keys([new_key()]))
    _ = publish(backend, "p", "r0", "b")
    backend.stage("p", "r2", credential("c"))
    with closing(sqlite3.connect(tmp_path / "s.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with time_limit(0.1):
            seconds, error = _time_of(_CALLS[name], backend)
    assert seconds <= 0.4
    assert error is None or "locked by another process" in str(error) or isinstance(error, Conflict)
    backend.close()


def test_a_thread_waits_for_another_one_no_longer_than_the_step_takes(tmp_path: Path):
    """They queue before SQLite."""
    backend = LocalBackend("local", tmp_path / "s.db", Keys([new_key()]))
    turn: Any = getattr(backend, "_turn")  # noqa: B009 # another thread's
    with turn, time_limit(0.1):
        seconds, error = _time_of(_CALLS["stage"], backend)
    assert error is not None
    assert seconds <= 0.4
    backend.close()


def test_the_nearest_of_the_limits_around_a_call_counts():
    """A call may have less time than its step, and never more."""
    assert seconds_left(7) == 7
    with time_limit(100):
        assert seconds_left(7) == 7
        with time_limit(1000):
            assert 99 < seconds_left(10_000) <= 100
        with time_limit(0):
            assert seconds_left(10) == 0
        assert 99 < seconds_left(10_000) <= 100
