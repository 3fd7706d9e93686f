"""One HTTP request for a plugin: within a time and size limit, over verified TLS, without a redirect."""

from __future__ import annotations

import base64
import socket
import ssl
import threading
from contextlib import closing, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from rotator.core.deadline import call_within
from rotator.core.errors import StepError, Transient, Unavailable, Unknown, UsageError
from rotator.core.net import is_local

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rotator.core.model import Credential

MOST_BYTES: Final = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    """What a server answered. `body` may repeat the request, with its secrets: show nothing of it."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpServer:
    """Where requests go: `url`, as `require_http_url` accepts it, and `ca`, a file of authorities.

    `target` is the name of the target whose option `ca` it is, for hints.
    """

    url: str
    ca: Path | None
    target: str

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    def send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes | None,
        *,
        seconds: float,
        doing: str,
        changes: bool,
    ) -> HttpAnswer:
        """Send a request below `url` and return the answer, whatever its status.

        Without an answer it raises `Unknown` for what `changes` something and may have been sent, and
        `Transient` otherwise.
        """
        parts = urlsplit(self.url)
        connection = self._connection(parts.scheme, str(parts.hostname), parts.port, seconds)
        sent = threading.Event()

        def run() -> HttpAnswer:
            with closing(connection):
                connection.connect()
                sent.set()
                connection.request(method, parts.path.rstrip("/") + path, body, dict(headers))
                with connection.getresponse() as response:
                    return HttpAnswer(status=response.status, body=_read(response))

        try:
            return call_within(seconds, run)
        except Exception as error:  # noqa: BLE001 # whatever it is, it becomes ours
            failed = self._failure(error, doing, may_have_happened=changes and sent.is_set())
        _end(connection)
        raise failed

    def _failure(self, error: Exception, doing: str, *, may_have_happened: bool) -> StepError:
        hint = ""
        if isinstance(error, ssl.SSLCertVerificationError):
            why = f"its certificate is invalid ({error.verify_message})"
            hint = f"Set `ca` of target {self.target!r} to the authority that signed it."
        elif isinstance(error, TimeoutError):
            why = "no answer within the step's time"
        else:
            why = f"no valid answer ({type(error).__name__})"
        kind = Unknown if may_have_happened else Transient
        return kind(f"{self}: {doing}: {why}.", hint=hint)

    def _connection(
        self, scheme: str, host: str, port: int | None, seconds: float
    ) -> HTTPConnection:
        if scheme == "http":
            return HTTPConnection(host, port, timeout=seconds)
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except OSError as error:
            raise Unavailable(
                f"the certificate authority file {self.ca} cannot be read.",
                hint=f"Correct `ca` of target {self.target!r}.",
            ) from error
        return HTTPSConnection(host, port, timeout=seconds, context=context)


def require_http_url(url: str) -> None:
    """Raise `UsageError` for a URL with a login or parameters, or in plain text across a network."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise UsageError("`url` must be an http or https URL without parameters.")
    if parts.username is not None or parts.password is not None:
        raise UsageError(
            "`url` contains a login (redacted).", hint="Set it as `admin` of the target."
        )
    if parts.scheme == "http" and not is_local(parts.hostname):
        raise UsageError("`url` must be https: passwords would be sent in plain text.")


def basic_auth(login: Credential) -> str:
    """Return the header `Authorization` for HTTP Basic."""
    pair = f"{login.username}:{login.password.reveal()}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


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
