"""Connections whose requests end in time as a whole, and whose answers are not endless.

The timeouts of urllib3 are those of one read: a server that sends a byte now and then passes them
for ever. Here each read gets what `time_limit` leaves, and so do connecting and sending. An answer's
bytes are counted as they come from the network, headers and interim answers included.
"""

from __future__ import annotations

import io
import socket
import threading
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, cast

from urllib3.connection import HTTPConnection
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from rotator.api import seconds_left, time_limit

if TYPE_CHECKING:
    from collections.abc import Generator

    from _typeshed import ReadableBuffer, WriteableBuffer

# Of a call that neither a limit nor a timeout of urllib3's is around.
_LONGEST: Final = 60.0
# Of one answer. Vault and OpenBao take values of 1 MiB at most, AWS of 64 KiB.
MOST_BYTES: Final = 3 * 2**20
# Of all answers to one call of a backend.
_MOST_IN_ALL: Final = 32 * 2**20
_LEFT: Final[ContextVar[list[int] | None]] = ContextVar("bytes left", default=None)


class TooLong(OSError):  # as sockets raise them, so that libraries end the connection
    """The answer has more bytes than it may."""


@contextmanager
def budget(seconds: float) -> Generator[None]:
    """Let what is called inside take so many seconds and 32 MiB of answers; outer limits still hold."""
    token = _LEFT.set([_MOST_IN_ALL]) if _LEFT.get() is None else None
    try:
        with time_limit(seconds):
            yield
    finally:
        if token is not None:
            _LEFT.reset(token)


def is_too_long(error: BaseException) -> bool:
    """Return whether an error of a library comes of an answer that was too long."""
    todo, seen = [error], list[BaseException]()
    while todo:
        one = todo.pop()
        if isinstance(one, TooLong):
            return True
        seen.append(one)
        below = (one.__cause__, one.__context__, getattr(one, "reason", None), *one.args)
        todo += [
            other
            for other in below
            if isinstance(other, BaseException) and not any(other is known for known in seen)
        ]
    return False


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
            raise ConnectTimeoutError(self, f"Host name {self.host} was not resolved in time.")
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
        # Each answer is read from one of these.
        self._left: int = MOST_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        self._sock.settimeout(_left(self._longest))
        count = self._raw.readinto(buffer)
        self._left -= count or 0
        in_all = _LEFT.get()
        if in_all is not None:
            in_all[0] -= count or 0
        if self._left < 0 or (in_all is not None and in_all[0] < 0):
            raise TooLong("the response is too long")
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


def _left(longest: float | None) -> float:
    left = seconds_left(_LONGEST if longest is None else longest)
    if left <= 0:
        raise TimeoutError("timed out")
    return left
