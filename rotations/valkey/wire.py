"""One connection to one node: RESP, version 2 (https://valkey.io/topics/protocol/).

redis-py would try a refused AUTH ten times more, say who it is before it has logged in, and not tell whether
a command had gone out when its connection broke.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    import ssl

    from rotations.valkey.options import Place
    from rotator.api import Secret

# RESP's arrays nest; their parts are told apart where they are used.
Reply: TypeAlias = "str | int | list[Reply] | None"

# Below a step's deadline of 30 s.
_SECONDS: Final = 10.0
_KIND: Final = 1


class Said(Exception):
    """The node answered with an error. `code` is its first word in capitals, such as NOPERM."""

    def __init__(self, text: str) -> None:
        first, _, rest = text.partition(" ")
        self.code: str = first if first.isupper() else "ERR"
        self.text: str = rest if first.isupper() else text
        super().__init__(self.text)


class Link:
    """A connection that sends one command at a time. Raises `OSError` where it breaks."""

    def __init__(self, place: Place, tls: ssl.SSLContext | None, *, connect_timeout: float) -> None:
        """Connect. Nobody is logged in yet."""
        self.place: Place = place
        self.user: str = ""
        raw = self._open(place, connect_timeout)
        try:
            if tls is not None:
                raw = tls.wrap_socket(raw, server_hostname=place.host)
            raw.settimeout(_SECONDS)
        except BaseException:
            raw.close()
            raise
        self._socket: socket.socket = raw
        self._answers = raw.makefile("rb")

    @property
    def address(self) -> str:
        """Our own end, as the node shows it where nothing translates addresses between."""
        found: object = self._socket.getsockname()
        return f"{found[0]}:{found[1]}" if isinstance(found, tuple) else ""

    def call(self, *command: str | int) -> Reply:
        """Send one command and return its answer. Raises `Said` for an error of the node's."""
        return self._call([encoded(str(one)) for one in command])

    def log_in(self, user: str, password: Secret) -> None:
        """Say who we are. Raises `Said`, with the code WRONGPASS where that is not believed."""
        _ = self._call([b"AUTH", encoded(user), encoded(password.reveal())])
        self.user = user

    def close(self) -> None:
        """Hang up."""
        with suppress(OSError):
            self._answers.close()
            self._socket.close()

    def _call(self, command: list[bytes]) -> Reply:
        parts = [b"*%d\r\n" % len(command)]
        parts += [b"$%d\r\n%b\r\n" % (len(one), one) for one in command]
        self._socket.sendall(b"".join(parts))
        answer = self._read()
        if isinstance(answer, Said):
            raise answer
        return answer

    def _read(self) -> Reply | Said:
        line = self._answers.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionResetError("the node hung up")
        kind, text = line[:_KIND], line[_KIND:-2]
        if kind == b"+":
            return _text(text)
        if kind == b"-":
            return Said(_text(text))
        if kind == b":":
            return int(text)
        if kind == b"$":
            return self._bulk(int(text))
        if kind == b"*":
            return self._array(int(text))
        raise ConnectionAbortedError("what answers there speaks another protocol")

    def _bulk(self, length: int) -> str | None:
        if length < 0:
            return None
        found = self._answers.read(length + 2)
        if len(found) != length + 2:
            raise ConnectionResetError("the node hung up")
        return _text(found[:-2])

    def _array(self, length: int) -> Reply:
        found: list[Reply] = []
        for _ in range(length):
            one = self._read()
            if isinstance(one, Said):
                raise one
            found.append(one)
        return None if length < 0 else found

    @staticmethod
    def _open(place: Place, seconds: float) -> socket.socket:
        if not place.host.startswith("/"):
            try:
                return socket.create_connection((place.host, place.port), seconds)
            except UnicodeError as error:
                raise ConnectionError(f"{place.host!r} is no name of a host") from error
        made = socket.socket(socket.AF_UNIX)
        try:
            made.settimeout(seconds)
            made.connect(place.host)
        except BaseException:
            made.close()
            raise
        return made


def texts(reply: Reply) -> list[str]:
    """Return the texts of an array."""
    return [one for one in reply if isinstance(one, str)] if isinstance(reply, list) else []


def pairs(reply: Reply) -> dict[str, str]:
    """Return an array of names and values as a mapping."""
    found = texts(reply)
    return dict(zip(found[::2], found[1::2], strict=False))


def encoded(text: str) -> bytes:
    """Return a text as it is sent, and bytes that came as no text as they came."""
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        # Not raised on: the error would carry the text, which may be a password.
        return text.encode(errors="surrogatepass")


def _text(given: bytes) -> str:
    # A pattern may hold any bytes; sent back they are the same.
    return given.decode(errors="surrogateescape")
