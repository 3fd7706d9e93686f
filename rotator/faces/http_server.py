"""A small HTTP server, for what the daemon answers: heartbeats, metrics, and reports of consumers."""

from __future__ import annotations

import json
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs

from rotator.core.errors import UsageError
from rotator.http_body import linger, read_body

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

# Seconds without a byte, after which a connection is closed.
_TIMEOUT: Final = 10.0
_LONGEST_BODY: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """A request. `query` has every value of each key; header names are in lower case."""

    method: str
    path: str
    query: Mapping[str, list[str]] = field(default_factory=dict[str, list[str]])
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpResponse:
    """What is answered."""

    status: int
    content: bytes = b""
    kind: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def text(cls, status: int, said: str) -> HttpResponse:
        """Return a line of text."""
        return cls(status=status, content=f"{said}\n".encode())

    @classmethod
    def json(
        cls, status: int, data: object, headers: Mapping[str, str] | None = None
    ) -> HttpResponse:
        """Return data as JSON."""
        content = json.dumps(data).encode() + b"\n"
        return cls(status=status, content=content, kind="application/json", headers=headers or {})


class Server:
    """Answers requests by a function of them. GET only, unless it also `accepts` other methods."""

    def __init__(
        self,
        listen: str,
        answer: Callable[[HttpRequest], HttpResponse],
        *,
        accepts: tuple[str, ...] = ("GET",),
        tls: ssl.SSLContext | None = None,
        option: str = "daemon.listen",
    ) -> None:
        """Take the port. Raises `UsageError`, naming `option`, when it cannot be had."""
        host, _, port = listen.rpartition(":")
        try:
            self._server: ThreadingHTTPServer = _made(
                host.strip("[]"), int(port), answer, accepts, tls
            )
        except (OSError, OverflowError) as error:
            why = error.strerror if isinstance(error, OSError) else "no such port"
            raise UsageError(
                f"nothing can listen on {listen} ({why}).",
                hint=f"Set another address under {option}, or `none`.",
            ) from error
        self._thread: threading.Thread = threading.Thread(
            target=self._server.serve_forever, name=option, daemon=True
        )

    @property
    def address(self) -> str:
        """Where it listens."""
        host, port = self._server.server_address[:2]
        return f"{host!s}:{port}"

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Answer no more."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()


def _made(
    host: str,
    port: int,
    answer: Callable[[HttpRequest], HttpResponse],
    accepts: tuple[str, ...],
    tls: ssl.SSLContext | None,
) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        # A connection that sends nothing is not waited for.
        timeout: float | None = _TIMEOUT  # pyright: ignore[reportIncompatibleVariableOverride] # as the library has it
        protocol_version: str = "HTTP/1.1"
        server_version: str = "rotator"
        sys_version: str = ""
        _lingers: bool = False

        def finish(self) -> None:
            """End the connection."""
            super().finish()
            if self._lingers:
                linger(self.connection)

        def _answered(self) -> None:
            path, _, query = self.path.partition("?")
            body = read_body(self.rfile, self.headers, _LONGEST_BODY)
            if body is None:
                self.close_connection = self._lingers = True
                response = HttpResponse.text(413, f"at most {_LONGEST_BODY} bytes are accepted")
            elif self.command not in accepts:
                self.close_connection = True
                response = HttpResponse.text(405, f"accepted: {', '.join(accepts)}")
            else:
                request = HttpRequest(
                    method=self.command,
                    path=path,
                    query=parse_qs(query, max_num_fields=10_000),
                    headers={name.lower(): value for name, value in self.headers.items()},
                    body=body,
                )
                response = answer(request)
            self.send_response(response.status)
            for name, value in response.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", response.kind)
            self.send_header("Content-Length", str(len(response.content)))
            self.end_headers()
            _ = self.wfile.write(response.content)

        def do_GET(self) -> None:
            self._answered()

        def do_POST(self) -> None:
            self._answered()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 # the base class's
            """Log nothing: probes come every few seconds."""

    class Quiet(ThreadingHTTPServer):
        daemon_threads: bool = True
        address_family: int = socket.AF_INET6 if ":" in host else socket.AF_INET
        request_queue_size: int = 512

        def finish_request(self, request: Any, client_address: Any) -> None:
            """Answer a connection, in its own thread: a slow handshake delays nobody else."""
            if tls is None:
                super().finish_request(request, client_address)
                return
            request.settimeout(_TIMEOUT)
            with tls.wrap_socket(request, server_side=True) as encrypted:
                super().finish_request(encrypted, client_address)

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that goes away, or sends no HTTP, is not an error of this program."""

    return Quiet((host, port), Handler)
