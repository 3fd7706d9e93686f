"""Users as ACL LIST tells of them: read, compared and written again."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rotations.valkey.options import MARK
from rotations.valkey.wire import NotRespError, encoded

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rotator.api import Secret

_DIGITS: Final = 24
# `user NAME on nopass #HASH ... RULE ...`: what is no rule.
_STATES: Final = frozenset({"on", "off", "nopass"})
_LINE: Final = 3
_ESCAPED: Final = re.compile(r'(["\\])')


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """One user of one node. `rules`: what it may do, each ready to be an argument of ACL SETUSER."""

    name: str
    on: bool
    nopass: bool
    hashes: frozenset[str]
    rules: tuple[str, ...]

    @staticmethod
    def parse(line: str) -> User:
        """Read one line of ACL LIST. No name, hash or pattern in it holds a blank."""
        _, name, *rest = line.split(" ", _LINE - 1)
        words = rest[0].split(" ") if rest else []
        rules = [one for one in words if one not in _STATES and not one.startswith("#")]
        return User(
            name=name,
            on="on" in words,
            nopass="nopass" in words,
            hashes=frozenset(one[1:] for one in words if one.startswith("#")),
            rules=tuple(_joined(rules)),
        )

    @property
    def may(self) -> frozenset[tuple[str, ...]]:
        """Its rules, to be compared: Redis 7.0 lists subcommands in another order each time."""
        return frozenset(tuple(sorted(one.split(" "))) for one in self.rules)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Whose a user is: a digest of the secret and the user, and one of the rotation that made it."""

    of: str
    rotation: str

    @staticmethod
    def make(secret: str, user: str, rotation: str) -> Mark:
        """Return the mark of a user that this rotation of this secret creates."""
        return Mark(of=_digest(f"{secret}\0{user}"), rotation=_digest(rotation))

    @property
    def name(self) -> str:
        """The user that is the mark: off, without a password, without a command."""
        return f"{MARK}{self.of}"

    @property
    def rules(self) -> tuple[str, ...]:
        """What tells the rotation: a key that nobody has, for a user who may do nothing with it."""
        return ("reset", f"~{self.rotation}")


class Users:
    """All users of one node at one moment."""

    def __init__(self, lines: Iterable[str]) -> None:
        """`lines` are those of ACL LIST. Raises `NotRespError` for others."""
        self.lines: list[str] = list(lines)
        if not all(
            line.startswith("user ") and line.count(" ") >= _LINE - 1 for line in self.lines
        ):
            raise NotRespError

    def everybody(self) -> list[User]:
        """Return all users but the marks."""
        users = [User.parse(line) for line in self.lines]
        return [user for user in users if not user.name.startswith(MARK)]

    def get(self, name: str) -> User | None:
        """Return the user of this name."""
        start = f"user {name} "
        found = next((line for line in self.lines if line.startswith(start)), None)
        return User.parse(found) if found is not None else None

    def mark(self, names: Iterable[str], name: str) -> Mark | None:
        """Return the mark of a user of the secret with these names; None when we did not make it."""
        for secret in names:
            wanted = Mark.make(secret, name, "")
            found = self.get(wanted.name)
            if found is not None:
                rotation = next((one[1:] for one in found.rules if one.startswith("~")), "")
                return Mark(of=wanted.of, rotation=rotation)
        return None

    def unreadable(self, *, quotes: bool) -> str | None:
        """Return a user whom a server would write to its file and not read again.

        It then does not start. Selectors are split at quotes and at words that end with a bracket;
        `quotes`: all the line is split at quotes, as in a configuration file.
        """
        for line in self.lines:
            _, _, selectors = line.partition(" (")
            words = selectors.split(" ")
            if any(one[:1] in "~%&" and (one.endswith(")") or _has_quote(one)) for one in words):
                return User.parse(line).name
            if quotes and _has_quote(line):
                return User.parse(line).name
        return None


def hash_of(password: Secret) -> str:
    """Return what the servers keep of a password: its SHA-256, without a salt."""
    return hashlib.sha256(encoded(password.reveal())).hexdigest()


def _joined(words: list[str]) -> Iterable[str]:
    """Put each selector together: from `(` to the command that ends with `)`, as commands stand last.

    A pattern may hold brackets too. Inside a selector the servers take quotes for quotes.
    """
    inside: list[str] = []
    for word in words:
        if not inside and not word.startswith("("):
            yield word
            continue
        first = word if inside else word[1:]
        ends = first[:1] in "+-" and first.endswith(")")
        inside.append(_quoted(first[:-1] if ends else first))
        if ends:
            yield f"({' '.join(inside)})"
            inside = []


def _quoted(word: str) -> str:
    if not _has_quote(word):
        return word
    escaped = _ESCAPED.sub(r"\\\1", word)
    return f'"{escaped}"'


def _has_quote(text: str) -> bool:
    return '"' in text or "'" in text


def _digest(text: str) -> str:
    return hashlib.sha256(encoded(text)).hexdigest()[:_DIGITS]
