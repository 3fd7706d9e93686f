"""What readers return: passwords with their place, the proof of their role and their account."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rotator.core.secret import Secret

# A shorter value appears in names by chance.
_SHORTEST_REDACTED: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The account that a password belongs to, as far as its neighbourhood names it.

    `hosts`: each `HOST` or `HOST:PORT`; a URL may name several. `engine`: postgresql, mysql, redis.
    """

    login: str | None = None
    hosts: tuple[str, ...] = ()
    database: str | None = None
    engine: str | None = None

    @property
    def host(self) -> str | None:
        """The first host without its port."""
        return split_host(self.hosts[0])[0] if self.hosts else None

    @property
    def port(self) -> int | None:
        """The port of the first host."""
        return split_host(self.hosts[0])[1] if self.hosts else None


class Dialect(StrEnum):
    """How a connection string of `key=value` escapes a value. Each but the last is a conversion of templates."""

    LIBPQ = "libpq"
    ADO = "ado"
    ODBC = "odbc"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A password in a text. `start` and `end` enclose its literal, `role` proves that it is one.

    `weak`: the value is a well-known example, such as `changeme`. `name`: the key or the argument. `dialect`:
    how the connection string around it escapes a value; None outside of such strings.
    """

    start: int
    end: int
    value: Secret
    role: str
    name: str
    account: Account = field(default_factory=Account)
    weak: bool = False
    form: str = ""
    dialect: Dialect | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A password in a file. `line` and `column` count from 1; `commit` is set in Git history."""

    file: str
    line: int
    column: int
    match: Match
    commit: str | None = None
    # The managed secret and the kept version that has this value.
    known: str | None = None

    @property
    def is_weak(self) -> bool:
        """Whether the value is only a well-known example, and no managed secret has it."""
        return self.match.weak and self.known is None

    def without_value(self, text: str) -> str:
        """Return a text for a report: a name that repeats the password is redacted."""
        value = self.match.value.reveal()
        if text == value:
            return "(redacted)"
        if self.match.weak or len(value) < _SHORTEST_REDACTED:
            return text
        return text.replace(value, "(redacted)")

    @property
    def place(self) -> str:
        """The place, as editors and compilers write it."""
        place = f"{self.file}:{self.line}:{self.column}"
        return f"{self.commit[:12]}:{place}" if self.commit else place


class Cause(StrEnum):
    """Why a file was not read, or not wholly."""

    BINARY = "binary"
    TOO_LARGE = "too large"
    BROKEN = "invalid syntax, searched as text"
    OUTSIDE = "symbolic link out of the tree"
    SUBMODULE = "submodule"
    UNREADABLE = "unreadable"
    SPECIAL = "not a regular file"
    SHALLOW = "shallow clone: older commits are missing"
    MISSING_OBJECT = "object missing in the repository"
    REASON = "rotator:allow without a reason"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """A file, or a part of one, that could not be read. A report with one is never clean."""

    file: str
    cause: Cause
    detail: str = ""


def split_host(text: str) -> tuple[str, int | None]:
    """Return the host and the port of `HOST`, `HOST:PORT` or `[IPV6]:PORT`."""
    host, colon, port = text.rpartition(":")
    if colon and port.isdecimal() and port.isascii() and (":" not in host or host.endswith("]")):
        return host.strip("[]"), int(port) if len(port) < 6 else None  # noqa: PLR2004 # 65535
    return text.strip("[]"), None
