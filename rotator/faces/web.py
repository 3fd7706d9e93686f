"""A small server that says how things are; on loopback unless the configuration says otherwise."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final

from rotator.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

_TIMEOUT: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpResponse:
    """What is answered."""

    status: int
    content: bytes
    kind: str = "text/plain; charset=utf-8"

    @classmethod
    def text(cls, status: int, said: str) -> HttpResponse:
        """Return a line of text."""
        return cls(status=status, content=f"{said}\n".encode())


class Server:
    """Answers GET requests, by a function of their path."""

    def __init__(self, listen: str, answer: Callable[[str], HttpResponse]) -> None:
        """Take the port. Raises `UsageError` when it cannot be had."""
        host, _, port = listen.rpartition(":")
        try:
            self._server: ThreadingHTTPServer = _made(host.strip("[]"), int(port), answer)
        except (OSError, OverflowError) as error:
            why = error.strerror if isinstance(error, OSError) else "no such port"
            raise UsageError(
                f"nothing can listen on {listen} ({why}).",
                hint="Set another address under daemon.listen, or `none`.",
            ) from error
        self._thread: threading.Thread = threading.Thread(
            target=self._server.serve_forever, name="web", daemon=True
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


def _made(host: str, port: int, answer: Callable[[str], HttpResponse]) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        # Who opens a connection and says nothing is not waited for.
        timeout: float | None = _TIMEOUT  # pyright: ignore[reportIncompatibleVariableOverride] # as the library has it
        server_version: str = "rotator"
        sys_version: str = ""

        def do_GET(self) -> None:
            found = answer(self.path.partition("?")[0])
            self.send_response(found.status)
            self.send_header("Content-Type", found.kind)
            self.send_header("Content-Length", str(len(found.content)))
            self.end_headers()
            _ = self.wfile.write(found.content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 # the base class's
            """Say nothing: probes come every few seconds."""

    class Quiet(ThreadingHTTPServer):
        daemon_threads: bool = True
        address_family: int = _family(host)

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that goes away is none of our concern."""

    return Quiet((host, port), Handler)


def _family(host: str) -> int:
    import socket  # noqa: PLC0415 # only here

    return socket.AF_INET6 if ":" in host else socket.AF_INET
