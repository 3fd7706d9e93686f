"""Tells others what the daemon meets: signed webhooks, and by Apprise mail and chat services.

A queue of its own, in a thread of its own: no rotation waits for it. Nothing that is sent is secret.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import queue
import socket
import ssl
import threading
import urllib.parse
import urllib.request
import uuid
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from rotator.core.daemon_settings import Topic
from rotator.core.errors import RotatorError, UsageError
from rotator.core.secret import scrub

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rotator.core.daemon_settings import Subscriber
    from rotator.core.model import Json
    from rotator.core.ports import Log
    from rotator.core.secret import Secret

_MOST_WAITING: Final = 10_000
_TRIES: Final = 6
_FIRST_WAIT: Final = 1.0
# Of one try as a whole, in seconds; a service may need several requests.
_TIMEOUT: Final = 10.0
_SERVICE_TIMEOUT: Final = 30.0
_SAYS: Final[Mapping[Topic, str]] = {
    Topic.ROTATED: "was rotated",
    Topic.FAILED: "could not be rotated; the change is undone",
    Topic.PARKED: "is parked until an operator fixes the cause",
    Topic.OVERDUE: "has been due for more than a day",
    Topic.DRAIN_HELD: "was rotated, but its old login is still in use",
    Topic.GATE_HELD: "waits for a consumer that has not confirmed the new version",
    Topic.CONSUMER_BEHIND: "has a consumer that has not confirmed the new version",
    Topic.BREAK_GLASS: "was changed without the approval that a rule wants (--break-glass)",
    Topic.LEASE_STRANDED: "has a lease whose login could not be dropped at its end",
    Topic.DRIFT: "was changed by another writer",
    Topic.INCIDENT_OPENED: "has a leaked password; it is being replaced",
    Topic.INCIDENT_PROVEN: "had a leaked password, which every address now rejects",
    Topic.INCIDENT_UNPROVEN: "has a leaked password that may still be accepted",
    Topic.LEAK_REPORTED: "a scanner reports a leaked password",
    Topic.REFUSED: "does not authenticate: the application is NOT safe",
    Topic.JOURNAL_BROKEN: "the audit journal was modified",
    Topic.CHECKPOINT: "the audit journal was signed; keep this notice for later verification",
    Topic.CONFIG_REFUSED: "the new configuration was rejected; the previous one stays in effect",
    Topic.TEST: "is a test of this channel; there is no problem",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One thing to tell. `secret` is empty for what is about no secret."""

    id: str
    topic: Topic
    secret: str
    at: datetime
    data: Mapping[str, Json]

    def cloud_event(self) -> bytes:
        """Return it as a CloudEvent in JSON (https://cloudevents.io, version 1.0)."""
        event = {
            "specversion": "1.0",
            "id": self.id,
            "source": f"rotator://{socket.gethostname()}",
            "type": f"rotator.{self.topic.value}",
            "time": self.at.isoformat(),
            "datacontenttype": "application/json",
            "data": {"secret": self.secret or None, "message": self.line(), **self.data},
            **({"subject": self.secret} if self.secret else {}),
        }
        return scrub(json.dumps(event, default=str)).encode()

    def line(self) -> str:
        """Return it in a sentence, with the cause and the cure where they are known."""
        said = self._says()
        what, hint = str(self.data.get("what") or ""), str(self.data.get("hint") or "")
        sentence = f"{said}: {what}" if what else f"{said}."
        return scrub(f"{sentence} Next: {hint}" if hint else sentence)

    def _says(self) -> str:
        if self.topic in (Topic.UNAVAILABLE, Topic.AVAILABLE):
            count = self.data.get("secrets")
            waiting = f"; its {count} secrets wait, none is parked" if count else ""
            return (
                f"{self.data.get('host')} is unavailable{waiting}"
                if self.topic is Topic.UNAVAILABLE
                else (
                    f"{self.data.get('host')} is available again; its secrets continue"
                    " automatically"
                )
            )
        return f"{self.secret} {_SAYS[self.topic]}" if self.secret else _SAYS[self.topic]


class Notifier:
    """Sends notices, one after the other, to everybody who wants them."""

    def __init__(
        self,
        settings: Sequence[Subscriber],
        resolve: Callable[[str], Secret],
        log: Log,
        *,
        first_wait: float = _FIRST_WAIT,
    ) -> None:
        """`resolve` looks up a reference, anew for each notice. Call `start` to begin."""
        self._settings: Sequence[Subscriber] = settings
        self._resolve: Callable[[str], Secret] = resolve
        self._log: Log = log
        self._first_wait: float = first_wait
        self._queue: queue.Queue[Notice | None] = queue.Queue(_MOST_WAITING)
        # No notice is accepted any more; then: none is sent any more.
        self._closing: threading.Event = threading.Event()
        self._leaving: threading.Event = threading.Event()
        # By subscriber: the call of a service's library that has not come back.
        self._hanging: dict[int, threading.Thread] = {}
        self._thread: threading.Thread = threading.Thread(
            target=self._work, name="notify", daemon=True
        )

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def tell(self, topic: Topic, secret: str, data: Mapping[str, Json]) -> None:
        """Take in a notice; never waits and never fails."""
        if not any(topic in one.topics for one in self._settings):
            return
        notice = Notice(
            id=str(uuid.uuid4()), topic=topic, secret=secret, at=datetime.now(UTC), data=data
        )
        if self._closing.is_set():
            self._log.error("notice lost", topic=topic.value, secret=secret, why="it is closed")
            return
        try:
            self._queue.put_nowait(notice)
        except queue.Full:
            self._log.error(
                "notice lost", topic=topic.value, secret=secret, why="too many wait"
            )  # it says everything

    def close(self, timeout: float = 5.0) -> None:
        """Send what is left, for at most `timeout` seconds, whatever the receivers do."""
        if not self._thread.is_alive():
            return
        self._closing.set()
        # It wakes who waits for a notice; where the queue is full, nobody does.
        with suppress(queue.Full):
            self._queue.put_nowait(None)
        self._thread.join(timeout)
        self._leaving.set()
        left = sum(1 for one in list(self._queue.queue) if one is not None)
        if left:
            self._log.error(
                "notices lost", count=left, why="the time limit for closing was reached"
            )

    def _work(self) -> None:
        while not self._leaving.is_set():
            if self._closing.is_set() and self._queue.empty():
                return
            notice = self._queue.get()
            for one in self._settings:
                if notice is not None and notice.topic in one.topics:
                    self._send(one, notice)

    def test(self, to: Subscriber) -> str | None:
        """Send a test notice once, now; return why it was not delivered, None when it was."""
        notice = Notice(
            id=str(uuid.uuid4()), topic=Topic.TEST, secret="", at=datetime.now(UTC), data={}
        )
        return self._tried(to, notice)

    def unreachable(self, to: Subscriber) -> str | None:
        """Return why a notice could not be delivered, as far as that shows without sending one."""
        try:
            if to.secret is not None:
                _ = self._resolve(to.secret)
            if to.type == "apprise":
                _ = self._service(to)
            else:
                _connect(to.url or "")
        except RotatorError as error:
            return error.what
        except (OSError, ValueError) as error:
            return f"{type(error).__name__}: {getattr(error, 'strerror', None) or 'no connection'}"
        return None

    def _tried(self, to: Subscriber, notice: Notice) -> str | None:
        """Send a notice once; return why that failed, None when it did not."""
        try:
            self._apprise(to, notice) if to.type == "apprise" else self._webhook(to, notice)
        except Exception as error:  # noqa: BLE001 # a service's library may raise anything; the next notice goes out all the same
            # Only its kind: an error of a client may repeat the address with its key.
            code = getattr(error, "code", "")
            why = error.what if isinstance(error, RotatorError) else type(error).__name__
            return f"{why} {code}".strip()
        return None

    def _send(self, to: Subscriber, notice: Notice) -> None:
        wait, why = self._first_wait, ""
        for _ in range(_TRIES):
            failed = self._tried(to, notice)
            if failed is None:
                return
            why = failed
            if self._leaving.wait(wait):
                break
            wait *= 2
        self._log.error("notice lost", topic=notice.topic.value, secret=notice.secret, why=why)

    def _webhook(self, to: Subscriber, notice: Notice) -> None:
        body = notice.cloud_event()
        headers = {"Content-Type": "application/cloudevents+json", "User-Agent": "rotator"}
        if to.secret is not None:
            headers |= signature(self._resolve(to.secret), notice.id, datetime.now(UTC), body)
        request = urllib.request.Request(to.url or "", data=body, headers=headers)  # noqa: S310 # checked with the configuration
        with _Watch(_TIMEOUT), _OPENER.open(request, timeout=_TIMEOUT) as answer:
            _ = answer.read(1)

    def _apprise(self, to: Subscriber, notice: Notice) -> None:
        service = self._service(to)
        given = {"title": f"rotator: {notice.topic.value}", "body": notice.line()}
        if not self._in_time(to, lambda: bool(service.notify(**given))):
            raise UsageError("the service did not accept the notice.")

    def _in_time(self, to: Subscriber, send: Callable[[], bool]) -> bool:
        """Call a service's library, which knows limits of single reads only, and leave it at our limit."""
        before = self._hanging.get(id(to))
        if before is not None and before.is_alive():
            raise TimeoutError
        taken: list[bool] = []
        thread = threading.Thread(target=lambda: taken.append(send()), daemon=True)
        thread.start()
        thread.join(_SERVICE_TIMEOUT)
        if thread.is_alive():
            self._hanging[id(to)] = thread
            raise TimeoutError
        return taken == [True]

    def _service(self, to: Subscriber) -> Any:
        try:
            import apprise  # noqa: PLC0415 # an extra, and a second to import
        except ImportError as error:
            raise UsageError(
                "Apprise is not installed.", hint="pip install 'credential-rotator[notify]'"
            ) from error
        service: Any = apprise.Apprise()
        if not service.add(self._resolve(to.secret or "").reveal()):
            raise UsageError("Apprise does not support the service's URL.")
        return service


def _connect(url: str) -> None:
    """Connect to the host of a URL, with TLS where the URL has it, and send nothing."""
    parts = urllib.parse.urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    with socket.create_connection((host, port), timeout=_TIMEOUT) as plain:
        if parts.scheme == "https":
            context = ssl.create_default_context()
            context.wrap_socket(plain, server_hostname=host).close()


def signature(key: Secret, name: str, at: datetime, body: bytes) -> dict[str, str]:
    """Return the headers that prove who sent a body, and when, as Standard Webhooks has them.

    HMAC-SHA256 over `id.timestamp.body` (https://www.standardwebhooks.com). A key that begins with
    `whsec_` is base64, any other is taken as it is.
    """
    plain = key.reveal()
    raw = base64.b64decode(plain[6:]) if plain.startswith("whsec_") else plain.encode()
    stamp = str(int(at.timestamp()))
    digest = hmac.new(raw, f"{name}.{stamp}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": name,
        "webhook-timestamp": stamp,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect may lead to a place that is not encrypted."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Follow none."""
        return


class _Watch:
    """Shuts what is connected inside of it after its time: timeouts of sockets are those of single reads."""

    current: threading.local = threading.local()

    def __init__(self, seconds: float) -> None:
        """The time begins with the `with` block."""
        self._links: list[socket.socket] = []
        self._timer: threading.Timer = threading.Timer(seconds, self._shut)
        self._timer.daemon = True
        self._is_over: bool = False

    def add(self, link: socket.socket) -> None:
        """Watch a connection too. TLS takes the socket over; a copy of it shuts both."""
        self._links.append(link.dup())
        if self._is_over:
            self._shut()

    def __enter__(self) -> None:
        self.current.watch = self
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self.current.watch = None
        self._timer.cancel()
        self._timer.join()
        for link in self._links:
            link.close()

    def _shut(self) -> None:
        self._is_over = True
        for link in self._links:
            with suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)


class _Timed(http.client.HTTPConnection):
    """A connection that is watched."""

    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(*args, **given)
        self._create_connection: Callable[..., socket.socket] = _watched


def _watched(*args: Any, **given: Any) -> socket.socket:
    made = socket.create_connection(*args, **given)
    watch: _Watch | None = getattr(_Watch.current, "watch", None)
    if watch is not None:
        watch.add(made)
    return made


class _TimedTls(http.client.HTTPSConnection, _Timed):
    """The same over TLS."""


class _Http(urllib.request.HTTPHandler):
    """Opens URLs of http."""

    def http_open(self, req: urllib.request.Request) -> Any:
        """Open one."""
        return self.do_open(_Timed, req)


class _Https(urllib.request.HTTPSHandler):
    """Opens URLs of https."""

    def https_open(self, req: urllib.request.Request) -> Any:
        """Open one."""
        return self.do_open(_TimedTls, req)


_OPENER: Final = urllib.request.build_opener(_NoRedirect, _Http, _Https)
