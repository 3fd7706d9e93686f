"""The daemon's interface for leases: a consumer takes a short-lived login, renews it, and lets go of it.

    POST /v1/leases          {"secret": "shop", "instance": "web-1"}
    POST /v1/leases/renew    {"lease": "5f0c...", "instance": "web-1"}
    POST /v1/leases/release  {"lease": "5f0c...", "instance": "web-1"}

The token names the holder, and the configuration the secrets that it may take leases of: a request
decides neither. Only the answer to the first one holds a value. Times are seconds from now, so that the
clock of a consumer does not matter.
"""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, cast

from rotator.core.errors import Busy, JournalError, LeaseEnded, RotatorError, Transient, UsageError
from rotator.core.leases import LeaseState
from rotator.engine import LeaseRequest
from rotator.faces.http_server import HttpResponse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from rotator.bootstrap import App
    from rotator.core.leases import LeaseRecord

PREFIX: Final = "/v1/leases"
# How long a request waits for others of the same secret: less than a client waits for its answer.
_PATIENCE: Final = timedelta(seconds=8)
# Each request has a thread; requests beyond this number are answered with 429.
_MOST_AT_ONCE: Final = 200
_LONGEST_TEXT: Final = 200
_MOST_REFUSED: Final = 100
_AGAIN: Final = {"Retry-After": "1"}
_PRIVATE: Final = {"Cache-Control": "no-store"}


class _Rejected(Exception):
    """A request that is not carried out."""

    def __init__(self, status: HTTPStatus, what: str) -> None:
        super().__init__(what)
        self.response: HttpResponse = HttpResponse.json(status, {"error": what})


class ConsumerLeases:
    """Lends logins to consumers. Used by many threads at once."""

    def __init__(self, app: Callable[[], App]) -> None:
        """`app` is that of the configuration in force."""
        self._app: Callable[[], App] = app
        self._guard: threading.Lock = threading.Lock()
        self._turns: dict[str, threading.Lock] = {}
        self._free: threading.BoundedSemaphore = threading.BoundedSemaphore(_MOST_AT_ONCE)

    def answer(
        self, path: str, consumer: str, secrets: frozenset[str], body: bytes
    ) -> HttpResponse:
        """Return the answer to a request of a consumer, which is declared for `secrets`."""
        if not self._free.acquire(blocking=False):
            return HttpResponse.json(429, {"error": "too many ask for leases"}, _AGAIN)
        try:
            match path.removeprefix(PREFIX):
                case "":
                    return self._issued(consumer, secrets, body)
                case "/renew":
                    return self._renewed(consumer, secrets, body)
                case "/release":
                    return self._released(consumer, body)
                case _:
                    listed = f"POST {PREFIX}, {PREFIX}/renew and {PREFIX}/release"
                    return HttpResponse.json(404, {"error": f"not found; there are {listed}"})
        except _Rejected as rejected:
            return rejected.response
        except RotatorError as error:
            return _failed(error)
        finally:
            self._free.release()

    def _issued(self, consumer: str, secrets: frozenset[str], body: bytes) -> HttpResponse:
        asked = _read(body, {"secret", "instance", "reason", "ttl", "refused"})
        name, refused = _text(asked, "secret"), asked.get("refused", [])
        if not isinstance(refused, list) or len(cast("list[Any]", refused)) > _MOST_REFUSED:
            raise _Rejected(
                HTTPStatus.BAD_REQUEST, f"`refused` is a list of at most {_MOST_REFUSED} ids."
            )
        self._require_declared(consumer, secrets, name)
        request = LeaseRequest(
            holder=consumer,
            instance=_text(asked, "instance"),
            purpose=_text(asked, "reason", required=False),
            ttl=_seconds(asked),
            refused=frozenset(map(str, cast("list[Any]", refused))),
        )
        app = self._app()
        with self._turn(name):
            issued = app.engine.leases.issue(app.secret(name), request, patience=_PATIENCE)
        record, credential, now = issued.record, issued.credential, app.clock.now()
        given: dict[str, object] = {
            "lease": record.id,
            "username": credential.username,
            "password": credential.password.reveal(),
            "fields": dict(credential.fields),
            "ends_in": (record.ends_at - now).total_seconds(),
            "take_next_in": (issued.take_next_at - now).total_seconds(),
        }
        return HttpResponse.json(200, given, _PRIVATE)

    def _renewed(self, consumer: str, secrets: frozenset[str], body: bytes) -> HttpResponse:
        asked = _read(body, {"lease", "instance", "ttl"})
        app, record = self._app(), self._held(consumer, asked)
        if _text(asked, "instance") not in record.instances:
            raise _unknown()
        self._require_declared(consumer, secrets, record.secret)
        with self._turn(record.secret):
            renewed = app.engine.leases.renew(
                app.lender(record), record.id, ttl=_seconds(asked), patience=_PATIENCE
            )
        now = app.clock.now()
        given = {
            "lease": record.id,
            "ends_in": (renewed.record.ends_at - now).total_seconds(),
            "take_next_in": (renewed.take_next_at - now).total_seconds(),
            "final": renewed.final,
        }
        return HttpResponse.json(200, given)

    def _released(self, consumer: str, body: bytes) -> HttpResponse:
        """Let go of a lease: also one of a secret that the consumer is no longer declared for."""
        asked = _read(body, {"lease", "instance"})
        app, record = self._app(), self._held(consumer, asked)
        if record.state is not LeaseState.ENDED:
            with self._turn(record.secret):
                record = app.engine.leases.release(
                    app.lender(record), record.id, _text(asked, "instance"), patience=_PATIENCE
                )
        return HttpResponse.json(200, {"lease": record.id, "state": record.shown_state})

    def _held(self, consumer: str, asked: Mapping[str, Any]) -> LeaseRecord:
        record = self._app().journal.leases.get(_text(asked, "lease"))
        if record is None or record.holder != consumer:
            raise _unknown()
        return record

    @staticmethod
    def _require_declared(consumer: str, secrets: frozenset[str], name: str) -> None:
        if name not in secrets:
            what = f"consumer {consumer} is not declared for {name}"
            raise _Rejected(HTTPStatus.FORBIDDEN, what)

    def _turn(self, secret: str) -> AbstractContextManager[object]:
        """Return what keeps the requests of one secret in this process apart: waiting asks nothing of the journal."""
        with self._guard:
            lock = self._turns.setdefault(secret, threading.Lock())
        return _Turn(lock)


class _Turn:
    """A lock that is waited for only so long."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock: threading.Lock = lock

    def __enter__(self) -> None:
        if not self._lock.acquire(timeout=_PATIENCE.total_seconds()):
            raise Busy("other requests for leases of this secret are in progress.")

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def _failed(error: RotatorError) -> HttpResponse:
    """Return what an error of the engine means to a consumer."""
    told = {"error": error.what, "kind": error.kind, "hint": error.hint}
    match error:
        case LeaseEnded():
            return HttpResponse.json(410, told)
        case UsageError():
            return HttpResponse.json(422, told)
        case JournalError():
            what = {"error": "the journal is not available", "kind": error.kind}
            return HttpResponse.json(503, what, _AGAIN)
        case Busy() | Transient():
            return HttpResponse.json(503, told, _AGAIN)
        case _:
            return HttpResponse.json(502, told, _AGAIN)


def _unknown() -> _Rejected:
    what = "this consumer holds no such lease by this instance"
    return _Rejected(HTTPStatus.NOT_FOUND, what)


def _read(body: bytes, keys: set[str]) -> Mapping[str, Any]:
    try:
        found: object = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise _Rejected(HTTPStatus.BAD_REQUEST, "the body is no JSON object")
    if strange := sorted(set(cast("dict[str, Any]", found)) - keys):
        listed = ", ".join(sorted(keys))
        raise _Rejected(HTTPStatus.BAD_REQUEST, f"unknown key {strange[0]!r}; there are {listed}")
    return cast("dict[str, Any]", found)


def _text(asked: Mapping[str, Any], key: str, *, required: bool = True) -> str:
    found = asked.get(key, "")
    is_text = isinstance(found, str) and len(found) <= _LONGEST_TEXT and found.isprintable()
    if not is_text or (required and not found.strip()):
        what = f"`{key}` is a text of at most {_LONGEST_TEXT} printable characters"
        raise _Rejected(HTTPStatus.BAD_REQUEST, what)
    return found


def _seconds(asked: Mapping[str, Any]) -> timedelta | None:
    found = asked.get("ttl")
    if found is None:
        return None
    with suppress(ValueError, OverflowError):
        if isinstance(found, (int, float)) and not isinstance(found, bool):
            return timedelta(seconds=found)
    raise _Rejected(HTTPStatus.BAD_REQUEST, "`ttl` is a number of seconds")
