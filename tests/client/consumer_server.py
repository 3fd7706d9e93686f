"""A small HTTP server in the daemon's place: it answers what the test wants."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class ConsumerServer:
    """Listens on loopback, by TLS where it is given a folder of certificates."""

    def __init__(self, certificates: Path | None = None) -> None:
        self.requests: list[dict[str, Any]] = []
        self.arrived = threading.Condition()
        self.versions: dict[str, str] = {}
        self.following: dict[str, str] = {}
        # The answer to each POST: a status and a body.
        self.answer: tuple[int, Any] = (204, None)
        # Handles a request in another way, such as by hanging; returns whether it did.
        self.fault: Callable[[BaseHTTPRequestHandler], bool] | None = None
        self._published = threading.Condition()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        scheme = "http"
        if certificates is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificates / "server.crt", certificates / "server.key")
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
            scheme = "https"
        self.url = f"{scheme}://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.01}
        )

    def __enter__(self) -> ConsumerServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(10)

    def publish(self, secret: str, version: str) -> None:
        with self._published:
            self.versions[secret] = version
            self._published.notify_all()

    def prepare(self, secret: str, rotation: str | None) -> None:
        """Announce the rotation of the next version, or that there is none."""
        with self._published:
            self.following = {} if rotation is None else {secret: rotation}
            self._published.notify_all()

    def wait_for(self, count: int, seconds: float = 10) -> list[dict[str, Any]]:
        """Return the requests once there are `count` of them."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.requests) >= count, seconds)
            return list(self.requests)

    def rows(self) -> list[dict[str, str]]:
        """Return all rows that were acknowledged."""
        with self.arrived:
            bodies = [one["body"] for one in self.requests if one["body"]]
        return [row for body in bodies for row in body["acknowledgements"]]

    def wait_for_row(self, seconds: float = 10, **wanted: str) -> None:
        """Return once a row with these values was acknowledged."""

        def arrived() -> bool:
            return any(wanted.items() <= row.items() for row in self.rows())

        with self.arrived:
            assert self.arrived.wait_for(arrived, seconds), self.rows()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._note(None)
                if server.fault is not None and server.fault(self):
                    return
                query = dict(pair.split("=", 1) for pair in self.path.partition("?")[2].split("&"))
                secret, known = query["secret"], query.get("known", "").partition("%3A")[2]
                upcoming = query.get("next", "").partition("%3A")[2]

                def is_news() -> bool:
                    is_next = server.following.get(secret, "") != upcoming and "next" in query
                    return is_next or server.versions.get(secret) != known

                with server._published:
                    server._published.wait_for(is_news, float(query["wait"]))
                    answer = {"versions": server.versions, "next": server.following}
                    self._answer(200, answer)

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                self._note(json.loads(self.rfile.read(length)))
                if server.fault is not None and server.fault(self):
                    return
                self._answer(*server.answer)

            def _note(self, body: Any) -> None:
                request = {
                    "method": self.command,
                    "path": self.path,
                    "headers": dict(self.headers),
                    "body": body,
                }
                with server.arrived:
                    server.requests.append(request)
                    server.arrived.notify_all()

            def _answer(self, status: int, body: Any) -> None:
                content = b"" if body is None else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: Any) -> None:
                pass

        return Handler


def hang(handler: BaseHTTPRequestHandler) -> bool:
    """Answer nothing until the client gives up."""
    handler.connection.settimeout(60)
    handler.connection.recv(1)
    handler.close_connection = True
    return True


def garbage(handler: BaseHTTPRequestHandler) -> bool:
    """Answer what is no HTTP."""
    handler.connection.sendall(b"\x00\xff canary garbage\r\n\r\n")
    handler.close_connection = True
    return True


def close(handler: BaseHTTPRequestHandler) -> bool:
    """Close the connection without an answer."""
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True
    return True


def status(code: int) -> Callable[[BaseHTTPRequestHandler], bool]:
    """Answer a status and text that repeats the token."""

    def answer(handler: BaseHTTPRequestHandler) -> bool:
        handler.send_response(code)
        handler.end_headers()
        handler.wfile.write(str(handler.headers).encode())
        handler.close_connection = True
        return True

    return answer
