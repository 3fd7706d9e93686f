"""Reads the body of an HTTP request, up to a limit: one way for the daemon and for the agent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from email.message import Message
    from io import BufferedIOBase

# The most bytes of a rejected body that are read.
_DROPPED: Final = 8_000_000
_DIGITS: Final = 12
_PIECE: Final = 1 << 16


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
