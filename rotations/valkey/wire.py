"""One connection to one node: RESP, version 2 (https://valkey.io/topics/protocol/).

redis-py would try a refused AUTH ten times more, say who it is before it has logged in, and not tell whether
a command had gone out when its connection broke.
"""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from rotator.api import scrub

if TYPE_CHECKING:
    import ssl

    from rotations.valkey.options import Endpoint
    from rotator.api import Secret

# RESP's arrays nest; their parts are told apart where they are used.
Reply: TypeAlias = "str | int | list[Reply] | None"

# The longest that one command may take, whatever is left of the step.
_SECONDS: Final = 10.0
_KIND: Final = 1
_CHUNK: Final = 65_536
# No answer of a server nests deeper than this.
_DEPTH: Final = 16
# CLIENT LIST of 20,000 connections, and ACL LIST of 100,000 users, are shorter.
_MOST_BYTES: Final = 8 * 2**20
_MOST_PARTS: Final = 200_000
_NUMBER: Final = re.compile(rb"-?[0-9]{1,18}")
# A TLS record of an alert: the node speaks TLS, and got none.
_ALERT: Final = b"\x15"
# Closing discards what was not sent yet, and resets the connection.
_RESET: Final = struct.pack("ii", 1, 0)


class ErrorReply(Exception):
    """The node answered with an error. `code` is its first word in capitals, such as NOPERM."""

    def __init__(self, text: str) -> None:
        # A node may repeat what it was sent.
        text = scrub(text)
        first, _, rest = text.partition(" ")
        self.code: str = first if first.isupper() else "ERR"
        self.text: str = rest if first.isupper() else text
        super().__init__(self.text)


class NotRespError(ConnectionError):
    """What answers is neither Valkey nor Redis. `speaks_tls`: it answered with a TLS record."""

    def __init__(self, *, speaks_tls: bool = False) -> None:
        self.speaks_tls: bool = speaks_tls
        super().__init__("the response is not in the protocol of Valkey and Redis")


class TooLongError(ConnectionError):
    """The answer is longer than any that a server has."""

    def __init__(self) -> None:
        super().__init__("its response exceeds the size limit")


class NoTlsError(ConnectionError):
    """TLS was asked for, and the node does not speak it."""


class Limit:
    """A moment by which everything has to be over: sockets know limits for single reads only."""

    def __init__(self, seconds: float) -> None:
        """Begin to count."""
        # Not the clock port: sockets wait in real time, also where a test has set the clock.
        self._ends: float = time.monotonic() + seconds

    def within(self, seconds: float) -> Limit:
        """Return the nearer of this and so many seconds from now."""
        return Limit(min(seconds, self._ends - time.monotonic()))

    def left(self) -> float:
        """Return the seconds that are left. Raises `TimeoutError` where there are none."""
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError("it did not answer in time")
        return left


class WireConnection:
    """A connection that sends one command at a time. Raises `OSError` where it breaks.

    All that it does ends by its `limit`, however slowly the node sends.
    """

    def __init__(self, place: Endpoint, tls: ssl.SSLContext | None, limit: Limit) -> None:
        """Connect. Nobody is logged in yet."""
        self.place: Endpoint = place
        self.user: str = ""
        # As the node knows it; empty where it does not tell.
        self.id: str = ""
        # Of the node, since it was started.
        self.run_id: str = ""
        self.limit: Limit = limit
        # Whether a command was sent whose answer has not come.
        self.is_waiting: bool = False
        self._buffer: bytearray = bytearray()
        # What the answer that is being read may still have.
        self._bytes_left: int = 0
        self._parts_left: int = 0
        raw = _connected(place, limit)
        try:
            if tls is not None:
                raw.settimeout(limit.left())
                # The limit of a handshake is that of all its parts together.
                raw = tls.wrap_socket(raw, server_hostname=place.host)
        except BaseException:
            raw.close()
            raise
        self._socket: socket.socket = raw

    @property
    def address(self) -> str:
        """Our own end, as the node shows it where nothing translates addresses between."""
        found: object = self._socket.getsockname()
        return f"{found[0]}:{found[1]}" if isinstance(found, tuple) else ""

    def call(self, *command: str | int) -> Reply:
        """Send one command and return its answer. Raises `ErrorReply` for an error of the node's."""
        return self._call([encoded(str(one)) for one in command])

    def log_in(self, user: str, password: Secret) -> None:
        """Say who we are. Raises `ErrorReply`, with the code WRONGPASS where that is not believed."""
        _ = self._call([b"AUTH", encoded(user), encoded(password.reveal())])
        self.user = user

    def identify(self) -> None:
        """Ask for this connection's id: every user may, as it is part of a login."""
        try:
            found = self.call("HELLO", "2")
        except ErrorReply:
            return
        words = found if isinstance(found, list) else []
        self.id = next((str(value) for name, value in _couples(words) if name == "id"), "")

    def close(self) -> None:
        """Hang up; what was sent and not answered is not sent again by our side."""
        with suppress(OSError):
            if self.is_waiting:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._socket.close()

    def _call(self, command: list[bytes]) -> Reply:
        parts = [b"*%d\r\n" % len(command)]
        parts += [b"$%d\r\n%b\r\n" % (len(one), one) for one in command]
        # Half, so that a node that does not answer leaves the time to undo what others have done.
        limit = self.limit.within(min(_SECONDS, self.limit.left() / 2))
        self._socket.settimeout(limit.left())
        if self._buffer:
            # Answers that nobody asked for: the next one would be taken for that of another command.
            raise NotRespError
        self._bytes_left, self._parts_left = _MOST_BYTES, _MOST_PARTS
        self.is_waiting = True
        # A node that refuses a connection says why and closes it: that is read even so.
        try:
            self._socket.sendall(b"".join(parts))
        except TimeoutError:
            raise
        except OSError:
            pass
        answer = self._read(limit)
        self.is_waiting = False
        if isinstance(answer, ErrorReply):
            raise answer
        return answer

    def _read(self, limit: Limit, depth: int = 0) -> Reply | ErrorReply:
        self._parts_left -= 1
        if self._parts_left < 0:
            raise TooLongError
        line = self._line(limit)
        kind, text = line[:_KIND], line[_KIND:]
        if kind == b"+":
            return _text(text)
        if kind == b"-":
            return ErrorReply(_text(text))
        if _NUMBER.fullmatch(text) is None:
            raise NotRespError(speaks_tls=kind == _ALERT)
        number = int(text)
        if kind == b":":
            return number
        if kind == b"$":
            return None if number < 0 else self._text(number, limit)
        if kind == b"*" and depth < _DEPTH:
            return self._array(number, limit, depth + 1)
        raise NotRespError

    def _array(self, length: int, limit: Limit, depth: int) -> Reply | ErrorReply:
        if length > self._parts_left:
            raise TooLongError
        found: list[Reply] = []
        failed: ErrorReply | None = None
        # To its end, whatever it holds: what was left would be taken for the next answer.
        for _ in range(length):
            one = self._read(limit, depth)
            if isinstance(one, ErrorReply):
                failed = failed or one
            else:
                found.append(one)
        return failed or (None if length < 0 else found)

    def _text(self, length: int, limit: Limit) -> str:
        if length > self._bytes_left + len(self._buffer):
            raise TooLongError
        found = self._bytes(length + 2, limit)
        if not found.endswith(b"\r\n"):
            raise NotRespError
        return _text(found[:-2])

    def _line(self, limit: Limit) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            speaks_tls = self._buffer.startswith(_ALERT)
            if speaks_tls or len(self._buffer) > _CHUNK:
                raise NotRespError(speaks_tls=speaks_tls)
            self._fill(limit)
        return self._bytes(end + 2, limit)[:-2]

    def _bytes(self, length: int, limit: Limit) -> bytes:
        while len(self._buffer) < length:
            self._fill(limit)
        found = bytes(self._buffer[:length])
        del self._buffer[:length]
        return found

    def _fill(self, limit: Limit) -> None:
        self._socket.settimeout(limit.left())
        found = self._socket.recv(_CHUNK)
        if not found:
            raise ConnectionResetError("the node closed the connection")
        self._bytes_left -= len(found)
        if self._bytes_left < 0:
            raise TooLongError
        self._buffer += found


def texts(reply: Reply) -> list[str]:
    """Return the texts of an array."""
    return [one for one in reply if isinstance(one, str)] if isinstance(reply, list) else []


def number(text: str) -> int:
    """Return a whole number of 9 digits at most. Raises `NotRespError` for anything else."""
    if re.fullmatch(r"[0-9]{1,9}", text) is None:
        raise NotRespError
    return int(text)


def pairs(reply: Reply) -> dict[str, str]:
    """Return an array of names and values as a mapping."""
    return dict(_couples(texts(reply)))


def encoded(text: str) -> bytes:
    """Return a text as it is sent, and bytes that came as no text as they came."""
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        # Not raised on: the error would carry the text, which may be a password.
        return text.encode(errors="surrogatepass")


def _connected(place: Endpoint, limit: Limit) -> socket.socket:
    """Connect to the first address of a host that answers in time."""
    failed: OSError = ConnectionError(f"{place.host!r} has no address")
    for family, address in _addresses(place, limit):
        made = socket.socket(family)
        try:
            made.settimeout(limit.left())
            made.connect(address)
        except OSError as error:
            made.close()
            failed = error
            continue
        if family != socket.AF_UNIX:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made
    raise failed


def _addresses(place: Endpoint, limit: Limit) -> list[tuple[socket.AddressFamily, Any]]:
    """Look a host up. The system's resolver knows no limit of ours: it is left behind at the limit."""
    if place.host.startswith("/"):
        return [(socket.AF_UNIX, place.host)]
    found: list[tuple[socket.AddressFamily, Any]] = []
    failed: list[OSError] = []

    def look_up() -> None:
        try:
            told = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
            found.extend((family, address) for family, _, _, _, address in told)
        except UnicodeError:
            failed.append(ConnectionError(f"{place.host!r} is not a valid host name"))
        except OSError as error:
            failed.append(error)

    if place.host.replace(".", "").isdecimal() or ":" in place.host:
        look_up()
    else:
        thread = threading.Thread(target=look_up, daemon=True)
        thread.start()
        thread.join(limit.left())
        if thread.is_alive():
            raise TimeoutError(f"host name {place.host!r} was not resolved in time")
    for error in failed:
        raise error
    return found


def _couples(words: list[Any]) -> list[tuple[Any, Any]]:
    return list(zip(words[::2], words[1::2], strict=False))


def _text(given: bytes) -> str:
    # A pattern may hold any bytes; sent back they are the same.
    return given.decode(errors="surrogateescape")
