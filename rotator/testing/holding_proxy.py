"""A proxy on loopback that keeps back what one client sends, and passes it on after that client has gone."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_CHUNK: Final = 65_536
# A server that has been silent for so long has done what it was sent.
_QUIET_SECONDS: Final = 0.15
_MOST_SECONDS: Final = 5.0


class HoldingProxy:
    """Forwards TCP to a server on loopback, for as long as the `with` block lasts."""

    def __init__(self, host: str, port: int) -> None:
        """Nothing listens yet."""
        self._target: tuple[str, int] = (host, port)
        self._listener: socket.socket = socket.create_server(("127.0.0.1", 0))
        self._links: dict[int, _Link] = {}
        self._guard: threading.Lock = threading.Lock()
        self._ended: bool = False
        # Whether new connections are accepted and then left without an answer.
        self.silent: bool = False

    @property
    def port(self) -> int:
        """Where it listens, on 127.0.0.1."""
        return int(self._listener.getsockname()[1])

    def hold(self, client: int) -> Callable[[], None]:
        """Keep back what the client with this local TCP port sends; return what passes it on.

        What is passed on reaches the server although its client may have hung up long ago.
        """
        with self._guard:
            link = self._links[client]
        link.hold()
        return link.release

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Closing alone would not wake the thread that waits in accept().
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._guard:
            self._ended = True
            links = list(self._links.values())
        for link in links:
            link.close()

    def _accept(self) -> None:
        while True:
            try:
                client, address = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target)
            except OSError:
                client.close()
                continue
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link = _Link(client, server)
            if self.silent:
                link.hold()
            with self._guard:
                # The system gives a client the port of one that has gone.
                before, self._links[address[1]] = self._links.get(address[1]), link
                ended = self._ended
            if before is not None:
                before.close()
            if ended:
                link.close()
                return
            link.start()


class _Link:
    """One client's connection and ours to the server."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self._client: socket.socket = client
        self._server: socket.socket = server
        self._guard: threading.Lock = threading.Lock()
        self._held: bytearray | None = None
        self._client_gone: bool = False
        self._server_gone: threading.Event = threading.Event()
        self._heard: float = 0.0

    def start(self) -> None:
        threading.Thread(target=self._upward, daemon=True).start()
        threading.Thread(target=self._downward, daemon=True).start()

    def hold(self) -> None:
        with self._guard:
            self._held = bytearray()

    def release(self) -> None:
        with self._guard:
            held, self._held = self._held or bytearray(), None
            self._heard = time.monotonic()
            with contextlib.suppress(OSError):
                self._server.sendall(held)
            gone = self._client_gone
        ends = time.monotonic() + _MOST_SECONDS
        while held and time.monotonic() < min(ends, self._heard + _QUIET_SECONDS):
            if self._server_gone.wait(0.01):
                break
        if gone:
            self.close()

    def close(self) -> None:
        for one in (self._client, self._server):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _upward(self) -> None:
        while data := _received(self._client):
            with self._guard:
                if self._held is not None:
                    self._held += data
                    continue
                with contextlib.suppress(OSError):
                    self._server.sendall(data)
        with self._guard:
            self._client_gone = True
            if self._held is None:
                with contextlib.suppress(OSError):
                    self._server.shutdown(socket.SHUT_RDWR)

    def _downward(self) -> None:
        while data := _received(self._server):
            self._heard = time.monotonic()
            with contextlib.suppress(OSError):
                self._client.sendall(data)
        self._server_gone.set()
        with contextlib.suppress(OSError):
            self._client.shutdown(socket.SHUT_RDWR)


def _received(end: socket.socket) -> bytes:
    try:
        return end.recv(_CHUNK)
    except OSError:
        return b""
