"""Sends one request: within the step's time and size limits, over verified TLS, without a redirect."""

from __future__ import annotations

import base64
import json
import re
import socket
import ssl
import threading
from contextlib import closing, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from rotations.http_api.options import ADMIN, ADMIN_PASSWORD, Request, TargetOptions
from rotator.api import (
    Conflict,
    Denied,
    Refused,
    Transient,
    Unavailable,
    Unknown,
    UsageError,
    call_within,
    json_object,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rotator.api import Credential, StepContext

MOST_BYTES: Final = 2**20
_MOVED: Final = range(300, 400)
_FAILED: Final = range(500, 600)
_UNAUTHORIZED: Final = 401
_FORBIDDEN: Final = 403
_CONFLICT: Final = 409
_BUSY: Final = frozenset({429, 503})
_INVALID: Final = frozenset({400, 422})
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]|[^\x00-\xff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an API answered."""

    status: int
    body: bytes

    def at(self, path: str) -> object:
        """Return the value at a path such as `data.0.name`; None where there is none."""
        try:
            found: Any = json_object(self.body)
        except ValueError:
            return None
        for key in path.split("."):
            if isinstance(found, dict):
                found = found.get(key)
            elif isinstance(found, list) and key.isdecimal() and int(key) < len(found):
                found = found[int(key)]
            else:
                return None
        return found


class Api:
    """What all rotations on one target share."""

    def __init__(self, name: str, options: TargetOptions, admin: Callable[[], Credential]) -> None:
        """Nothing is connected yet."""
        self.options: TargetOptions = options
        self._name: str = name
        self._admin: Callable[[], Credential] = admin
        self._url: Any = urlsplit(options.url)

    def __str__(self) -> str:
        return f"{self._url.scheme}://{self._url.netloc}"

    def ask(
        self,
        request: Request,
        values: Mapping[str, str],
        ctx: StepContext,
        *,
        doing: str,
        changes: bool = False,
        login: Credential | None = None,
    ) -> Answer:
        """Send a request with the admin's values, or as `login`. Raises only where there is no answer."""
        ctx.require_time()
        admin = None if login is not None else self._admin()
        if admin is not None:
            values = {**values, ADMIN: admin.username, ADMIN_PASSWORD: admin.password.reveal()}
        headers = {"Accept": "application/json"} | request.filled_headers(values)
        who = login or admin
        if request.basic and who is not None:
            pair = f"{who.username}:{who.password.reveal()}".encode()
            headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        if any(_CONTROL.search(value) for value in headers.values()):
            raise Denied(f"{self}: {doing}: a value has characters that no header may contain.")
        body = None
        if request.body is not None:
            body = json.dumps(request.filled_body(values)).encode()
            headers["Content-Type"] = "application/json"
        path = self._url.path.rstrip("/") + request.filled_path(values)
        return self._send(request.method, path, headers, body, ctx, doing=doing, changes=changes)

    def require_ok(self, request: Request, answer: Answer, *, doing: str) -> None:
        """Raise our error for a status that is not among those of success."""
        status = answer.status
        if status in request.ok:
            return
        what = f"{self}: {doing}: the API answered with status {status}."
        if status in _MOVED:
            raise Denied(
                f"{self}: {doing}: the API answered with a redirect ({status}), which rotator does not follow.",
                hint=f"Set `url` of target {self._name!r} to the final address.",
            )
        if status == _UNAUTHORIZED:
            raise Unavailable(what, hint=f"Check `admin` of target {self._name!r}.")
        if status == _FORBIDDEN:
            raise Denied(what, hint="Give the admin the right to send this request.")
        if status == _CONFLICT:
            raise Conflict(what, hint="Another client changed this login, or it exists already.")
        if status in _BUSY:
            raise Transient(what)
        if status in _FAILED:
            raise Unknown(what)
        if status in _INVALID:
            raise Refused(what, hint="Compare the request of the target with the API's manual.")
        raise Denied(what, hint="If this status means success, add it to `ok` of the request.")

    def _send(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes | None,
        ctx: StepContext,
        *,
        doing: str,
        changes: bool,
    ) -> Answer:
        seconds = ctx.seconds_left()
        connection = self._connection(seconds)
        sent = threading.Event()

        def run() -> Answer:
            with closing(connection):
                connection.connect()
                sent.set()
                connection.request(method, path, body, headers)
                with connection.getresponse() as response:
                    return Answer(status=response.status, body=_read(response))

        try:
            return call_within(seconds, run)
        except Exception as error:  # noqa: BLE001 # whatever it is, it becomes ours
            # Its bytes may have reached the server.
            kind = Unknown if changes and sent.is_set() else Transient
            why, hint = self._reason(error)
        _end(connection)
        raise kind(f"{self}: {doing}: {why}.", hint=hint)

    def _reason(self, error: Exception) -> tuple[str, str]:
        """Return why there is no answer, as a clause, and the remedy."""
        if isinstance(error, ssl.SSLCertVerificationError):
            return (
                f"its certificate is invalid ({error.verify_message})",
                f"Set `ca` of target {self._name!r} to the authority that signed it.",
            )
        if isinstance(error, TimeoutError):
            return "no answer within the step's time", ""
        return f"no valid answer ({type(error).__name__})", ""

    def _connection(self, seconds: float) -> HTTPConnection:
        host, port = str(self._url.hostname), self._url.port
        if self._url.scheme == "http":
            return HTTPConnection(host, port, timeout=seconds)
        try:
            context = ssl.create_default_context(cafile=self.options.ca)
        except OSError as error:
            raise Unavailable(
                f"the certificate authority file {self.options.ca} cannot be read.",
                hint=f"Correct `ca` of target {self._name!r}.",
            ) from error
        return HTTPSConnection(host, port, timeout=seconds, context=context)


def unknown_placeholder(name: str, known: frozenset[str]) -> UsageError:
    """Return the error for a placeholder that neither rotator nor the secret has."""
    return UsageError(
        f"a request has the unknown placeholder {{{name}}}.",
        hint=f"Known: {', '.join(sorted(known))}. Add others to `values` of the secret's options.",
    )


def _end(connection: HTTPConnection) -> None:
    """Wake the thread that still reads."""
    sock: socket.socket | None = connection.sock
    if sock is not None:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def _read(response: Any) -> bytes:
    body = response.read(MOST_BYTES + 1)
    if len(body) > MOST_BYTES:
        raise HTTPException
    return body
