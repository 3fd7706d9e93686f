"""Connections whose requests end in time as a whole.

The timeouts of urllib3 are those of one read: a server that sends a byte now and then passes them
for ever. Here each read gets what `time_limit` leaves, and so do connecting and sending.
"""

from __future__ import annotations

import io
import socket
import threading
from typing import TYPE_CHECKING, Any, Final, cast

from urllib3.connection import HTTPConnection
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from rotator.api import seconds_left

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

# Of a call that neither a limit nor a timeout of urllib3's is around.
_LONGEST: Final = 60.0


class Limited(HTTPConnection):
    """A connection that takes no longer than it may; also to be put before another class of urllib3's."""

    def connect(self) -> None:
        """Connect, and shake hands where it is TLS."""
        super().connect()
        self.sock: Any = _Socket(cast("socket.socket", self.sock))

    def _new_conn(self) -> socket.socket:
        failed: Exception = OSError("it has no address")
        for family, address in self._addresses():
            made = socket.socket(family, socket.SOCK_STREAM)
            try:
                for option in self.socket_options or ():
                    made.setsockopt(*option)
                made.settimeout(_left(self.timeout))
                made.connect(address)
                # A TLS handshake, which follows, keeps it as a whole.
                made.settimeout(_left(self.timeout))
            except OSError as error:
                made.close()
                failed = error
                continue
            return made
        if isinstance(failed, TimeoutError):
            raise ConnectTimeoutError(self, f"Connection to {self.host} timed out.") from failed
        raise NewConnectionError(self, f"Failed to connect: {failed}") from failed

    def _addresses(self) -> list[tuple[socket.AddressFamily, Any]]:
        """Look the host up. The system's resolver knows no limit of ours: it is left behind."""
        found: list[tuple[socket.AddressFamily, Any]] = []
        failed: list[socket.gaierror] = []

        def look_up() -> None:
            try:
                told = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
                found.extend((family, address) for family, _, _, _, address in told)
            except socket.gaierror as error:
                failed.append(error)

        thread = threading.Thread(target=look_up, daemon=True)
        thread.start()
        thread.join(seconds_left(_LONGEST))
        if failed:
            raise NewConnectionError(
                self, f"Failed to resolve {self.host!r}: {failed[0]}"
            ) from failed[0]
        if thread.is_alive():
            raise ConnectTimeoutError(self, f"The name {self.host} was not resolved in time.")
        return found


class _Socket:
    """A socket that sends and reads within the limit."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock: socket.socket = sock
        self._longest: float | None = sock.gettimeout()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def settimeout(self, seconds: float | None) -> None:
        """Take what urllib3 allows for each read: the longest where no limit is around."""
        self._longest = seconds
        self._sock.settimeout(seconds)

    def sendall(self, data: ReadableBuffer) -> None:
        """Send all of it."""
        self._sock.settimeout(_left(self._longest))
        self._sock.sendall(data)

    def makefile(self, *_: Any, **__: Any) -> io.BufferedReader:
        """Return what answers are read from."""
        return io.BufferedReader(_Answers(self._sock, self._longest))


class _Answers(io.RawIOBase):
    """What comes over a socket, each part within the rest of the time."""

    def __init__(self, sock: socket.socket, longest: float | None) -> None:
        self._sock: socket.socket = sock
        self._longest: float | None = longest
        self._raw: socket.SocketIO = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        self._sock.settimeout(_left(self._longest))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def _left(longest: float | None) -> float:
    left = seconds_left(_LONGEST if longest is None else longest)
    if left <= 0:
        raise TimeoutError("timed out")
    return left
