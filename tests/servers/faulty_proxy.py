"""A proxy on loopback that spoils one chosen answer: for proving what a lost answer does."""

from __future__ import annotations

import socket
import struct
import threading
import time
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar, Final

from tests.servers.loopback import LoopbackServer

_HOP_BY_HOP: Final = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "content-length", "server", "date"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens to one request.

    `reaches`: whether the server gets it. Then the client gets `status`, if one is named, else the
    connection is closed after `delay` seconds, or reset.
    """

    name: str
    reaches: bool = True
    status: int | None = None
    delay: float = 0.0
    reset: bool = False

    def __str__(self) -> str:
        return self.name


FAULTS: Final = (
    Fault(name="closed before", reaches=False),
    Fault(name="closed after"),
    Fault(name="reset before", reaches=False, reset=True),
    Fault(name="reset after", reset=True),
    Fault(name="429", reaches=False, status=429),
    Fault(name="500 before", reaches=False, status=500),
    Fault(name="500 after", status=500),
    Fault(name="503", reaches=False, status=503),
)
LATE: Final = Fault(name="too late", delay=1.5)


class FaultyProxy(LoopbackServer):
    """Forwards HTTP to a server on loopback; spoils the n-th request when it is told to."""

    def __init__(self, host: str, port: int) -> None:
        """Nothing listens yet."""
        super().__init__(self._handler())
        self._target: tuple[str, int] = (host, port)
        self._guard: threading.Lock = threading.Lock()
        self._fault: Fault | None = None
        self._at: int = 0
        self.requests: list[str] = []

    def spoil(self, fault: Fault, at: int) -> None:
        """Spoil the `at`-th request from now on, counted from 1."""
        with self._guard:
            self._fault, self._at, self.requests = fault, at, []

    def watch(self) -> None:
        """Count requests from now on, and spoil none."""
        with self._guard:
            self._fault, self.requests = None, []

    def _next(self, line: str) -> Fault | None:
        with self._guard:
            self.requests.append(line)
            return self._fault if len(self.requests) == self._at else None

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version: str = "HTTP/1.1"
            disable_nagle_algorithm: ClassVar[bool] = True

            def handle_one_request(self) -> None:
                self.raw_requestline: bytes = self.rfile.readline(65537)
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection: bool = True
                    return
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                proxy.forward(self, body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 # the base class's
                """Say nothing."""

        return Handler

    def forward(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        """Pass one request on, or spoil it."""
        fault = self._next(f"{request.command} {request.path}")
        answer = None
        if fault is None or fault.reaches:
            answer = self._ask(request, body)
        if fault is None and answer is not None:
            status, headers, content = answer
            _reply(request, status, headers, content)
            return
        assert fault is not None
        time.sleep(fault.delay)
        if fault.status is not None:
            _reply(request, fault.status, [("Content-Type", "application/json")], b'{"errors":[]}')
            return
        if fault.reset:
            # Lingering for no time makes closing a reset.
            request.connection.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
        request.close_connection = True
        request.connection.close()

    def _ask(
        self, request: BaseHTTPRequestHandler, body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = HTTPConnection(*self._target, timeout=30)
        try:
            headers = {key: one for key, one in request.headers.items() if key.lower() != "host"}
            connection.request(request.command, request.path, body or None, headers)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()


def _reply(
    request: BaseHTTPRequestHandler, status: int, headers: list[tuple[str, str]], content: bytes
) -> None:
    request.send_response_only(status)
    for key, one in headers:
        if key.lower() not in _HOP_BY_HOP:
            request.send_header(key, one)
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    _ = request.wfile.write(content)
