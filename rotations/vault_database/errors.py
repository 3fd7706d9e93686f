"""What the engine says when it does not do what it was asked, by kind.

It answers 400 or 500 with the words of the database's driver. They tell what happened, and may hold
a password: kinds are told by them, and not one of them is repeated.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rotator.api import ServerResponse


class Failure(Enum):
    """Why the engine did not do it."""

    NO_ROLE = auto()
    NO_CONNECTION = auto()
    NOT_ALLOWED = auto()
    UNREACHABLE = auto()
    LOCKED_OUT = auto()
    NO_LOGIN = auto()
    NO_RIGHT = auto()
    REFUSED = auto()
    ELSE = auto()


# In this order: what the database said may be wrapped in what the engine makes of it. PostgreSQL is
# told by its SQLSTATE, MySQL and MariaDB by the number of the error, Valkey by its first word.
_WORDS: Final[dict[Failure, tuple[str, ...]]] = {
    Failure.NO_ROLE: ("unknown role", "no static role found"),
    Failure.NO_CONNECTION: ("failed to find entry for connection", "unable to find connection"),
    Failure.NOT_ALLOWED: ("is not an allowed role",),
    Failure.LOCKED_OUT: (
        r"SQLSTATE 28P01",
        r"SQLSTATE 28000",
        r"Error 1045",
        r"Error 1698",
        r"WRONGPASS",
        r"NOAUTH",
    ),
    Failure.UNREACHABLE: (
        r"dial (tcp|error|unix)",
        r"connection (refused|reset)",
        r"i/o timeout",
        r"no such host",
        r"no route to host",
        r"broken pipe",
        r"unexpected EOF",
        r"bad connection",
        r"context deadline",
        r"SQLSTATE (57P0[123]|53300|08\w{3})",
        r"Error (1040|1053|2006|2013)",
    ),
    Failure.NO_LOGIN: (
        r"SQLSTATE 42704",
        r"Error 1396",
        r"does not appear to exist",
        r"user .{0,200}not found",
        # Valkey, whose answer for nobody is another one than was expected.
        r"reset of passwords for user .{0,200}expected prefix",
    ),
    Failure.NO_RIGHT: (
        r"SQLSTATE (42501|25006)",
        r"Error (1044|1142|1227|1290|1410|1836)",
        r"NOPERM",
    ),
    Failure.REFUSED: (r"SQLSTATE (28P02|22\w{3})", r"Error (1819|1372|3638)"),
}
_KINDS: Final = {
    failure: re.compile("|".join(words), re.IGNORECASE) for failure, words in _WORDS.items()
}


def kind(answer: ServerResponse) -> Failure:
    """Return why the engine refused."""
    return next((one for one, words in _KINDS.items() if words.search(answer.said)), Failure.ELSE)
