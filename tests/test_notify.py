"""Notices: signed, tried again, never in the way of a rotation, and never with a secret in them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from rotator import notify
from rotator.core.daemon_settings import Subscriber, Topic
from rotator.core.errors import UsageError
from rotator.core.secret import Secret
from rotator.notify import Notifier, signature
from rotator.testing.fakes import ListLog
from rotator.testing.hostile import HTTP, HostileServer, within

if TYPE_CHECKING:
    from collections.abc import Iterator

_KEY = Secret("key-of-the-webhook")


class _Hook:
    """A receiver with answers by a script."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.met: list[tuple[dict[str, str], bytes]] = []
        self.arrived = threading.Event()

    def url(self, server: ThreadingHTTPServer) -> str:
        return f"http://127.0.0.1:{server.server_address[1]}/hook"


@contextmanager
def _hook() -> Iterator[tuple[_Hook, str]]:
    hook = _Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            hook.met.append(({key.lower(): one for key, one in self.headers.items()}, body))
            status = hook.answers.pop(0) if hook.answers else 204
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "http://127.0.0.1:1/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()
            if status == 204:
                hook.arrived.set()

        def log_message(self, *_: object) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] # says nothing
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hook, hook.url(server)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _notifier(url: str, log: ListLog, **given: Any) -> Notifier:
    to = Subscriber(type="webhook", topics=frozenset(Topic), url=url, secret="file:key", **given)
    return Notifier([to], lambda _reference: _KEY, log, first_wait=0.01)


def test_a_webhook_is_a_cloud_event_whose_signature_holds():
    """With the key a receiver can check that it is ours, and when it was sent."""
    with _hook() as (hook, url):
        notifier = _notifier(url, ListLog())
        notifier.start()
        notifier.tell(Topic.PARKED, "app", {"what": "the admin lacks a right"})
        assert hook.arrived.wait(10)
        notifier.close()
    headers, body = hook.met[0]
    event = json.loads(body)
    assert event["type"] == "rotator.parked"
    assert event["subject"] == "app"
    assert (
        event["data"]["message"]
        == "app is parked until an operator fixes the cause: the admin lacks a right"
    )
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    right = hmac.new(_KEY.reveal().encode(), signed, hashlib.sha256).digest()
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(right).decode()}"
    assert headers["webhook-id"] == event["id"]


def test_the_signature_is_the_one_of_the_standards_example():
    """https://github.com/standard-webhooks/standard-webhooks, the libraries' own test."""
    key = Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    at = datetime.fromtimestamp(1614265330, UTC)
    body = b'{"test": 2432232314}'
    headers = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", at, body)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_failed_notice_is_sent_again_under_the_same_id():
    """So that a receiver does not take it for a second one."""
    with _hook() as (hook, url):
        hook.answers = [500, 429, 302]
        notifier = _notifier(url, ListLog())
        notifier.start()
        notifier.tell(Topic.ROTATED, "app", {})
        assert hook.arrived.wait(10)
        notifier.close()
    assert len(hook.met) == 4
    assert len({headers["webhook-id"] for headers, _ in hook.met}) == 1


def test_a_notice_that_nobody_takes_is_given_up_and_logged_without_the_address():
    """Addresses of webhooks are passwords, often."""
    log = ListLog()
    notifier = _notifier("http://127.0.0.1:1/hook/t0ken-in-the-path", log)
    notifier.start()
    notifier.tell(Topic.FAILED, "app", {})
    notifier.close(timeout=10)
    assert [event for _, event, _ in log.lines] == ["notice lost"]
    assert "t0ken" not in str(log.lines)


def test_a_key_that_is_not_there_stops_no_other_notice():
    """It may be there again by the next one."""
    log, keys = ListLog(), iter([UsageError("no key."), _KEY])

    def resolve(_reference: str) -> Secret:
        found = next(keys)
        if isinstance(found, UsageError):
            raise found
        return found

    with _hook() as (hook, url):
        to = Subscriber(type="webhook", topics=frozenset(Topic), url=url, secret="file:key")
        notifier = Notifier([to], resolve, log, first_wait=0.01)
        notifier.start()
        notifier.tell(Topic.ROTATED, "app", {})
        assert hook.arrived.wait(10)
        notifier.close()
    assert log.lines == []


def test_a_subscriber_receives_only_its_topics():
    """By topic."""
    with _hook() as (hook, url):
        to = Subscriber(type="webhook", topics=frozenset({Topic.PARKED}), url=url)
        notifier = Notifier([to], lambda _reference: _KEY, ListLog())
        notifier.start()
        notifier.tell(Topic.ROTATED, "app", {})
        notifier.tell(Topic.PARKED, "app", {})
        assert hook.arrived.wait(10)
        notifier.close()
    assert [json.loads(body)["type"] for _, body in hook.met] == ["rotator.parked"]
    assert "webhook-signature" not in hook.met[0][0]


def test_no_secret_is_in_a_notice():
    """Whatever somebody puts into it."""
    password = Secret("canary-of-the-notices")
    with _hook() as (hook, url):
        notifier = _notifier(url, ListLog())
        notifier.start()
        notifier.tell(Topic.REFUSED, "app", {"what": f"tried {password.reveal()}"})
        assert hook.arrived.wait(10)
        notifier.close()
    assert b"canary" not in hook.met[0][1]
    assert password


def test_apprise_receives_the_line_and_the_address_of_the_service():
    """Here the service is a JSON webhook, in Apprise's own words."""
    with _hook() as (hook, url):
        address = Secret(url.replace("http://", "json://"))
        to = Subscriber(type="apprise", topics=frozenset(Topic), secret="file:url")
        hook.answers = [200]
        notifier = Notifier([to], lambda _reference: address, ListLog(), first_wait=0.01)
        notifier.start()
        notifier.tell(Topic.DRIFT, "app", {})
        notifier.close(timeout=20)
    sent = json.loads(hook.met[0][1])
    assert sent["title"] == "rotator: drift"
    assert sent["message"] == "app was changed by another writer."


# -- receivers that do what they like -----------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [
        *("never answers", "drips its headers", "drips its body", "floods headers"),
        *("floods interim answers", "redirects for ever", "sends noise"),
    ],
)
def test_an_attempt_ends_in_its_time_whatever_the_receiver_does(
    monkeypatch: pytest.MonkeyPatch, kind: str
):
    """Also where it sends a byte now and then; then the next notice has its turn."""
    monkeypatch.setattr(notify, "_TIMEOUT", 0.2)
    with HostileServer(HTTP[kind]) as server:
        url = f"http://127.0.0.1:{server.port}/hook"
        notifier = _notifier(url, ListLog())
        (to,) = notifier._settings
        with within(seconds=0.2):
            _ = notifier.test(to)


def test_closing_ends_in_its_time_with_a_full_queue_and_a_dead_receiver(
    monkeypatch: pytest.MonkeyPatch,
):
    """What is lost is counted in the log."""
    monkeypatch.setattr(notify, "_MOST_WAITING", 3)
    log = ListLog()
    with HostileServer(HTTP["never answers"]) as server:
        notifier = _notifier(f"http://127.0.0.1:{server.port}/hook", log)
        notifier.start()
        for _ in range(9):
            notifier.tell(Topic.PARKED, "app", {})
        with within(seconds=0.2):
            notifier.close(timeout=0.2)
        notifier.tell(Topic.PARKED, "app", {})
    lines = [(event, facts.get("count"), facts.get("why")) for _, event, facts in log.lines]
    assert {
        ("notices lost", left, "the time limit for closing was reached") for left in (2, 3)
    } & set(lines)
    assert ("notice lost", None, "it is closed") in lines


def test_a_service_that_hangs_is_left_and_not_asked_again(monkeypatch: pytest.MonkeyPatch):
    """Its library knows limits of single reads only."""
    monkeypatch.setattr(notify, "_SERVICE_TIMEOUT", 0.1)
    hangs, asked = threading.Event(), list[str]()

    class Service:
        def notify(self, title: str, body: str) -> bool:
            asked.append(title)
            return hangs.wait()

    monkeypatch.setattr(Notifier, "_service", lambda *_: Service())
    to = Subscriber(type="apprise", topics=frozenset(Topic), secret="file:key")
    notifier = Notifier([to], lambda _: _KEY, ListLog())
    for _ in range(3):
        with within(seconds=0.1):
            assert notifier.test(to) == "TimeoutError"
    assert len(asked) == 1
    hangs.set()
