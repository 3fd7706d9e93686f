"""Reads the body of an HTTP request, up to a limit: one way for the daemon and for the agent."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from email.message import Message
    from io import BufferedIOBase

# The most bytes of a rejected body that are read.
_DROPPED: Final = 8_000_000
_DIGITS: Final = 12
_PIECE: Final = 1 << 16
# How long a client that was answered may go on sending.
_LINGER_SECONDS: Final = 1.0


def read_body(stream: BufferedIOBase, headers: Message[str, str], longest: int) -> bytes | None:
    """Return the body, at most `longest` bytes; None where it is longer or has no valid length.

    A rejected body is read and dropped: a client that still sends would not get the answer. The
    caller must close the connection then, because what follows may be the rest of the body.
    """
    length = headers.get("Content-Length", "0")
    is_number = length.isascii() and length.isdecimal() and len(length) < _DIGITS
    number = int(length) if is_number else 0
    if is_number and number <= longest and "Transfer-Encoding" not in headers:
        return stream.read(number)
    left = min(number, _DROPPED)
    while left > 0 and (piece := stream.read(min(left, _PIECE))):
        left -= len(piece)
    return None


def linger(connection: socket.socket) -> None:
    """End an answer after which the client may still send: it reads the answer, and then the end.

    A connection that is closed at once fails the client's next write before it has read anything.
    """
    left = _DROPPED
    with suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(_LINGER_SECONDS)
        while left > 0 and (piece := connection.recv(_PIECE)):
            left -= len(piece)
