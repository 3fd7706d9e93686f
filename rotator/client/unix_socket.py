"""HTTP over a Unix socket, by the standard library."""

from __future__ import annotations

from typing import Any


def connection_over(path: str, timeout: float) -> Any:
    """Return an `http.client.HTTPConnection` that connects to a socket's path when it is used."""
    import http.client  # noqa: PLC0415 # half of the client's import time
    import socket  # noqa: PLC0415 # as above

    class UnixConnection(http.client.HTTPConnection):
        def connect(self) -> None:
            self.sock: socket.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(timeout)
            self.sock.connect(path)

    return UnixConnection("agent", timeout=timeout)
