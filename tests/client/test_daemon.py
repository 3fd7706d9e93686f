"""The daemon's interface for consumers: what is sent, when, and what a broken daemon does to nobody."""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from rotator.client.daemon import Daemon, DaemonError
from rotator.core.secret import Secret
from rotator.testing.certificates import make_certificates
from tests.client.consumer_server import ConsumerServer, close, garbage, hang, status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_TOKEN = "canary-token-7f3a"


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def server() -> Iterator[ConsumerServer]:
    with ConsumerServer() as started:
        yield started


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def daemon(server: ConsumerServer, clock: Clock) -> Iterator[Daemon]:
    with closing(Daemon(server.url, token=_TOKEN, timeout=5, clock=clock)) as opened:
        yield opened


def _acknowledge(daemon: Daemon, version: str = "7", level: str = "used", **other: str) -> None:
    row = {"secret": "shop", "instance": "web:1", "kind": "client"} | other
    daemon.acknowledge(row["secret"], version, level, instance=row["instance"], kind=row["kind"])


def _pass(daemon: Daemon, clock: Clock, seconds: float) -> None:
    """Let time pass, and the sending thread look at the clock."""
    with daemon._changed:
        clock.now += seconds
        daemon._changed.notify_all()


def _wait_until(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)


def _settled(daemon: Daemon) -> None:
    """Wait until nothing is to be sent."""
    _wait_until(lambda: all(row.due == float("inf") for row in daemon._rows.values()))


def test_an_acknowledgement_is_sent_at_once_with_the_token_in_the_header(
    server: ConsumerServer, daemon: Daemon
):
    _acknowledge(daemon)
    (request,) = server.wait_for(1)
    assert (request["method"], request["path"]) == ("POST", "/v1/acknowledgements")
    assert request["headers"]["Authorization"] == f"Bearer {_TOKEN}"
    assert request["body"] == {
        "acknowledgements": [
            {
                "secret": "shop",
                "version": "7",
                "level": "used",
                "instance": "web:1",
                "kind": "client",
            }
        ]
    }
    assert daemon.error is None


def test_what_did_not_change_is_sent_once_a_minute(
    server: ConsumerServer, daemon: Daemon, clock: Clock
):
    for expected, seconds in ((1, 0), (1, 59), (2, 1), (2, 30), (3, 30)):
        clock.now += seconds
        for _ in range(50):
            _acknowledge(daemon)
        server.wait_for(expected)
        _settled(daemon)
        assert len(server.requests) == expected


@pytest.mark.parametrize("change", [{"version": "8"}, {"level": "loaded"}, {"secret": "pay"}])
def test_a_change_is_sent_at_once(server: ConsumerServer, daemon: Daemon, change: dict[str, str]):
    _acknowledge(daemon)
    server.wait_for(1)
    _settled(daemon)
    _acknowledge(daemon, **change)
    server.wait_for(2)
    assert change.items() <= server.rows()[1].items()


def test_a_thousand_rows_at_most_are_in_one_request(server: ConsumerServer, daemon: Daemon):
    with daemon._changed:
        for number in range(2500):
            _acknowledge(daemon, instance=f"web:{number}")
    server.wait_for(3)
    sizes = [len(request["body"]["acknowledgements"]) for request in server.requests]
    assert sizes == [1000, 1000, 500]
    assert len({row["instance"] for row in server.rows()}) == 2500


def test_after_an_hour_without_the_daemon_the_last_acknowledgement_is_sent(
    server: ConsumerServer, daemon: Daemon, clock: Clock
):
    server.answer = (503, None)
    for version in range(60):
        _acknowledge(daemon, str(version))
        server.wait_for(version + 1)
        _pass(daemon, clock, 60)
    assert "cannot reach its journal (HTTP status 503)" in (daemon.error or "")
    _wait_until(lambda: daemon._rows["shop", "web:1", "client", False].failures)
    server.answer = (204, None)
    _pass(daemon, clock, 60)
    _settled(daemon)
    assert server.rows()[-1]["version"] == "59"
    assert daemon.error is None


def test_retries_double_up_to_a_minute(server: ConsumerServer, daemon: Daemon, clock: Clock):
    server.answer = (500, None)
    _acknowledge(daemon)
    row = daemon._rows["shop", "web:1", "client", False]
    waits = []
    for failures in range(1, 9):
        _wait_until(lambda failures=failures: row.failures == failures)
        waits.append(row.due - clock.now)
        _pass(daemon, clock, row.due - clock.now)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]


def test_rejected_rows_alone_are_sent_again(server: ConsumerServer, daemon: Daemon, clock: Clock):
    """A login that works may be used a moment before it is published."""
    rejected = {"secret": "shop", "version": "8", "what": "never published"}
    server.answer = (422, {"rejected": [rejected]})
    with daemon._changed:
        _acknowledge(daemon, "8")
        _acknowledge(daemon, "3", secret="pay")
    server.wait_for(1)
    _wait_until(lambda: daemon._rows["shop", "web:1", "client", False].failures)
    server.answer = (204, None)
    _pass(daemon, clock, 1)
    server.wait_for(2)
    _settled(daemon)
    assert [row["secret"] for row in server.rows()] == ["shop", "pay", "shop"]


def test_a_forbidden_secret_holds_up_no_other(server: ConsumerServer, daemon: Daemon, clock: Clock):
    def forbid(handler) -> bool:
        secrets = {row["secret"] for row in server.requests[-1]["body"]["acknowledgements"]}
        return "pay" in secrets and status(403)(handler)

    server.fault = forbid
    with daemon._changed:
        for secret in ("shop", "pay", "web"):
            _acknowledge(daemon, secret=secret)
    server.wait_for(1)
    _wait_until(lambda: all(row.failures for row in daemon._rows.values()))
    _pass(daemon, clock, 1)
    server.wait_for(4)
    _wait_until(lambda: [row.failures for row in daemon._rows.values()] == [0, 2, 0])
    assert "does not know this consumer" in (daemon.error or "") or daemon.error is None


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (status(401), r"rejected the token \(HTTP status 401\)"),
        (status(403), r"does not know this consumer of the secret \(HTTP status 403\)"),
        (status(404), r"has no interface for consumers"),
        (status(500), r"failed \(HTTP status 500\)"),
        (status(302), r"failed \(HTTP status 302\)"),
        (status(200), r"answered something else than versions"),
        (garbage, r"is unreachable: BadStatusLine"),
        (close, r"is unreachable: RemoteDisconnected"),
        (hang, r"is unreachable: (TimeoutError|timeout)"),
    ],
    ids=["401", "403", "404", "500", "redirect", "no JSON", "garbage", "closes", "hangs"],
)
def test_a_daemon_that_fails_is_an_error_without_the_token(
    server: ConsumerServer, caplog: pytest.LogCaptureFixture, fault, text: str
):
    daemon = Daemon(server.url, token=Secret(_TOKEN), timeout=0.3)
    server.fault = fault
    with pytest.raises(DaemonError, match=text) as failed:
        daemon.versions({"shop": "7"}, 0)
    begun = time.monotonic()
    with caplog.at_level(logging.WARNING, "rotator.client"):
        _acknowledge(daemon)
        assert time.monotonic() - begun < 0.2
        if fault != status(200):
            _wait_until(
                lambda: daemon.error or not daemon._rows["shop", "web:1", "client", False].failures
            )
    daemon.close()
    shown = (
        f"{failed.value} {failed.value!r} {daemon!r} {daemon.error} {caplog.text} {vars(daemon)}"
    )
    assert "canary" not in shown
    assert failed.value.__cause__ is None


def test_an_unreachable_daemon_is_an_error():
    daemon = Daemon("http://127.0.0.1:1", token=_TOKEN)
    with pytest.raises(DaemonError, match=r"127\.0\.0\.1:1\) is unreachable: ConnectionRefused"):
        daemon.versions({"shop": "7"}, 0)


def test_versions_returns_at_once_when_one_differs(server: ConsumerServer, daemon: Daemon):
    server.versions = {"shop": "8", "unasked": "1"}
    assert daemon.versions({"shop": "7"}, 25) == {"shop": "8"}
    path = server.requests[-1]["path"]
    assert path == "/v1/versions?secret=shop&known=shop%3A7&wait=25"


def test_versions_waits_for_a_change(server: ConsumerServer, daemon: Daemon):
    server.versions = {"shop": "7"}
    timer = threading.Timer(0.2, server.publish, ("shop", "8"))
    timer.start()
    assert daemon.versions({"shop": "7"}, 25) == {"shop": "8"}
    timer.join()


def test_versions_returns_what_is_current_when_nothing_changed(
    server: ConsumerServer, daemon: Daemon
):
    server.versions = {"shop": "7"}
    assert daemon.versions({"shop": "7"}, 0.05) == {"shop": "7"}


def test_a_version_that_is_not_known_yet_is_asked_for_by_the_secret_alone(
    server: ConsumerServer, daemon: Daemon
):
    server.versions = {"shop": "7"}
    assert daemon.versions({"shop": ""}, 99) == {"shop": "7"}
    assert server.requests[-1]["path"] == "/v1/versions?secret=shop&wait=60"


def test_tls_is_verified(tmp_path: Path):
    make_certificates(tmp_path)
    with ConsumerServer(tmp_path) as server:
        server.versions = {"shop": "8"}
        with pytest.raises(DaemonError, match="unreachable: SSLCertVerificationError"):
            Daemon(server.url, token=_TOKEN).versions({"shop": "7"}, 0)
        trusting = Daemon(server.url, token=_TOKEN, ca_file=tmp_path / "ca.crt")
        assert trusting.versions({"shop": "7"}, 0) == {"shop": "8"}
        # The certificate is of another name.
        other = server.url.replace("127.0.0.1", "127.0.0.2")
        with pytest.raises(DaemonError, match=r"unreachable|CertVerification"):
            Daemon(other, token=_TOKEN, ca_file=tmp_path / "ca.crt").versions({"shop": "7"}, 0)


def test_a_missing_ca_file_is_named(tmp_path: Path):
    daemon = Daemon("https://127.0.0.1:1", token=_TOKEN, ca_file=tmp_path / "none.crt")
    with pytest.raises(DaemonError, match=r"none\.crt could not be read: FileNotFoundError"):
        daemon.versions({"shop": "7"}, 0)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://rotator.example.org", "use https"),
        ("rotator.example.org:8443", "is like https"),
        ("https://", "is like https"),
        ("ftp://127.0.0.1", "is like https"),
        ("https://user:canary@rotator.example.org", "without a login"),
        ("https://rotator.example.org/?token=canary", "without a query"),
        ("https://rotator.example.org:port", "is like https"),
    ],
)
def test_an_address_that_cannot_work_is_refused(url: str, text: str):
    with pytest.raises(ValueError, match=text) as refused:
        Daemon(url, token=_TOKEN)
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize("token", ["", "canary token", "canary\r\nX: y", "canary-ä"])
def test_a_token_that_no_header_can_hold_is_refused_without_repeating_it(token: str):
    with pytest.raises(ValueError, match="the token is empty, or holds") as refused:
        Daemon("https://rotator.example.org", token=token)
    assert "canary" not in str(refused.value)


def test_close_sends_what_is_left(server: ConsumerServer):
    daemon = Daemon(server.url, token=_TOKEN)
    _acknowledge(daemon)
    daemon.close()
    assert len(server.rows()) == 1


def test_close_returns_while_the_daemon_hangs(server: ConsumerServer):
    server.fault = hang
    daemon = Daemon(server.url, token=_TOKEN, timeout=3)
    _acknowledge(daemon)
    begun = time.monotonic()
    daemon.close()
    assert time.monotonic() - begun < 2


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_sends_its_own_acknowledgements(server: ConsumerServer, daemon: Daemon):
    """As a web server's workers do, which are forked from a process that has connected already."""
    _acknowledge(daemon, instance="parent")
    server.wait_for(1)
    child = os.fork()
    if child == 0:
        try:
            _acknowledge(daemon, instance="child")
            daemon.close()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    server.wait_for_row(instance="child")
