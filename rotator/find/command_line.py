"""Passwords among the words of a command: `mysql -pVALUE`, `-e PGPASSWORD=VALUE`, `--requirepass VALUE`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rotator.find.fields import Group
from rotator.find.names import Meaning, is_password, meaning

if TYPE_CHECKING:
    from collections.abc import Sequence

_MYSQL: Final = frozenset(
    {"mysql", "mysqldump", "mariadb", "mariadb-dump", "mysqladmin", "mariadb-admin", "mysqlimport"}
    | {"mysqlcheck", "mysqlshow", "mycli", "mysqlsh", "mysqlpump", "mydumper", "mariadb-check"}
    | {"mysqlslap"}
)
_REDIS: Final = frozenset({"redis-cli", "valkey-cli", "keydb-cli", "redis-benchmark"})
_POSTGRES: Final = frozenset(
    {"psql", "pg_dump", "pg_restore", "pgcli", "pg_dumpall", "createdb", "pg_basebackup"}
)
_OTHERS: Final = {
    "sqlcmd": "-P",
    "bcp": "-P",
    "mongosh": "-p",
    "mongo": "-p",
    "mongodump": "-p",
    "sshpass": "-p",
}
_CLIENTS: Final = _MYSQL | _REDIS | _POSTGRES | _OTHERS.keys()
_MYSQL_OPTIONS: Final = {"-u": "user", "-h": "host", "-P": "port", "-D": "database"}
_REDIS_OPTIONS: Final = {"-h": "host", "-p": "port"}
_POSTGRES_OPTIONS: Final = {"-U": "user", "-h": "host", "-p": "port", "-d": "dbname"}
_SQLCMD_OPTIONS: Final = {"-U": "user", "-S": "host", "-d": "database"}
_ASSIGNED: Final = re.compile(
    r"-{0,2}(?P<name>[A-Za-z_][\w.\-\[\]]{0,120})=(?P<value>.+)", re.DOTALL
)
_SEVERAL: Final = re.compile(r",(?=[A-Za-z_][\w.\-\[\]]{0,120}=)")
_FLAG: Final = re.compile(r"--?[A-Za-z][\w\-]{1,60}")
_ACL: Final = "setuser"


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a command, without its quotation, and its place in the text."""

    value: str
    start: int
    end: int

    def part(self, offset: int) -> Word:
        """Return the word from an offset; a quoted word keeps its whole place."""
        plain = self.end - self.start == len(self.value)
        return Word(self.value[offset:], self.start + (offset if plain else 0), self.end)


def read(words: Sequence[Word], group: Group) -> None:
    """Add the named values of a command to its group."""
    names = [word.value.rpartition("/")[2] for word in words]
    program, at = next(
        ((name, i) for i, name in enumerate(names) if name in _CLIENTS),
        ("", len(words)),
    )
    group.label = group.label or program
    _generic(words, group)
    rest = words[at + 1 :]
    if program in _MYSQL:
        _options(rest, group, _MYSQL_OPTIONS, attached="-p")
    elif program in _REDIS:
        _options(rest, group, _REDIS_OPTIONS, password="-a")
        _redis_command(rest, group)
    elif program in _POSTGRES:
        _options(rest, group, _POSTGRES_OPTIONS)
    elif program:
        _options(rest, group, _SQLCMD_OPTIONS, password=_OTHERS[program])


def assignment(word: Word) -> tuple[str, Word] | None:
    """Return the name and the value of `NAME=VALUE`, `--flag=VALUE` or `--from-literal=NAME=VALUE`."""
    found = _ASSIGNED.fullmatch(word.value)
    if found is None:
        return None
    value = word.part(found.start("value"))
    if word.value.startswith("-") and meaning(found["name"])[0] is Meaning.OTHER:
        inner = _ASSIGNED.fullmatch(value.value)
        if inner is not None:
            return inner["name"], value.part(inner.start("value"))
    return found["name"], value


def _generic(words: Sequence[Word], group: Group) -> None:
    for i, word in enumerate(words):
        assigned = assignment(word)
        if assigned is not None:
            name, value = assigned
            if i > 0 and words[i - 1].value.startswith("--set"):
                _several(word, group)
            else:
                group.add(name, value.value, value.start, value.end)
        elif i + 1 < len(words) and _FLAG.fullmatch(word.value) and is_password(word.value):
            value = words[i + 1]
            if word.value not in ("-p", "-pass") and not value.value.startswith("-"):
                group.add(
                    word.value.lstrip("-"),
                    value.value,
                    value.start,
                    value.end,
                    role=f"argument of {word.value}",
                )
        elif i + 1 < len(words) and word.value.startswith("--"):
            group.add(
                word.value.lstrip("-"), words[i + 1].value, words[i + 1].start, words[i + 1].end
            )


def _several(word: Word, group: Group) -> None:
    """Add each of `--set auth.username=a,auth.password=b`."""
    at = 0
    for part in _SEVERAL.split(word.value):
        assigned = assignment(Word(part, word.start + at, word.start + at + len(part)))
        if assigned is not None:
            group.add(assigned[0], assigned[1].value, word.start, word.end)
        at += len(part) + 1


def _options(
    words: Sequence[Word],
    group: Group,
    named: dict[str, str],
    *,
    attached: str = "",
    password: str = "",
) -> None:
    for i, word in enumerate(words):
        text = word.value
        if attached and text.startswith(attached) and len(text) > len(attached):
            value = word.part(len(attached))
            group.add(
                "password", value.value, value.start, value.end, role=f"argument of {attached}"
            )
        elif password and text == password and i + 1 < len(words):
            value = words[i + 1]
            group.add(
                "password", value.value, value.start, value.end, role=f"argument of {password}"
            )
        elif text[:2] in named and not text.startswith("--"):
            value = word.part(2) if len(text) > 2 else words[i + 1] if i + 1 < len(words) else None  # noqa: PLR2004 # an option's letter
            if value is not None:
                group.add(named[text[:2]], value.value, value.start, value.end)


def _redis_command(words: Sequence[Word], group: Group) -> None:
    lower = [word.value.lower() for word in words]
    if "auth" in lower:
        at = lower.index("auth") + 1
        if at < len(words):
            last = words[min(at + 1, len(words) - 1)]
            group.add("password", last.value, last.start, last.end, role="argument of AUTH")
    sets_user = _ACL in lower
    for i, text in enumerate(lower):
        if text in ("requirepass", "masterauth", "primaryauth") and i + 1 < len(words):
            group.add(text, words[i + 1].value, words[i + 1].start, words[i + 1].end)
        elif sets_user and text.startswith(">") and len(text) > 1:
            value = words[i].part(1)
            group.add(
                "password", value.value, value.start, value.end, role="password of a Valkey user"
            )
