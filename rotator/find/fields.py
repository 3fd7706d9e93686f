"""Named values of one file, grouped as its structure groups them; they become matches in pairs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rotator.core.secret import Secret
from rotator.find import connection, values
from rotator.find.model import Account, Match
from rotator.find.names import Meaning, engine_of, meaning

if TYPE_CHECKING:
    from collections.abc import Iterator

# A group looks for what it lacks in the groups around it, but not for ever.
_MOST_LEVELS = 4


@dataclass(slots=True, eq=False)
class Group:
    """The values of one mapping, section, call or file. `label`: the name of the group itself."""

    parent: Group | None = None
    label: str = ""
    fields: list[Field] = field(default_factory=list["Field"])

    def add(self, name: str, value: str, start: int, end: int, *, role: str = "") -> None:
        """Add a value with its name; `start` and `end` enclose its literal in the text."""
        self.fields.append(Field(name, value, start, end, role))

    def around(self) -> Iterator[Group]:
        """Yield this group and those around it."""
        group: Group | None = self
        for _ in range(_MOST_LEVELS):
            if group is None:
                return
            yield group
            group = group.parent


@dataclass(slots=True)
class Field:
    """One named value. `role` is set where its syntax proves more than its name does."""

    name: str
    value: str
    start: int
    end: int
    role: str = ""


def locate(
    text: str, start: int, end: int, value: str, offset: int, length: int
) -> tuple[int, int]:
    """Return the place in a text of a part of a decoded value, or the place of its whole literal."""
    raw = text[start:end]
    at = raw.find(value) if len(value) <= len(raw) else -1
    if at >= 0:
        return start + at + offset, start + at + offset + length
    part = value[offset : offset + length]
    # A block of YAML is indented: its lines are in the text, the whole is not.
    begin = value.rfind("\n", 0, offset) + 1
    line = value[begin : value.find("\n", offset) if "\n" in value[offset:] else len(value)]
    at = raw.find(line) if line and "\n" not in part else -1
    if at >= 0:
        at += offset - begin
        return start + at, start + at + length
    at = raw.find(part) if part else -1
    return (start + at, start + at + len(part)) if at >= 0 else (start, end)


def matches(text: str, groups: list[Group]) -> Iterator[Match]:
    """Yield the passwords among named values, each paired with its account."""
    for group in groups:
        for one in group.fields:
            kind, stem = meaning(one.name)
            if kind is Meaning.OTHER and one.name.lower() in ("default", "value", "content"):
                kind, stem = meaning(group.label)
            if kind is Meaning.PASSWORD or one.role:
                match = _of_password(text, group, one, stem)
                if match is not None:
                    yield match
                    continue
            yield from in_value(text, one, group)


def in_value(text: str, one: Field, group: Group | None = None) -> Iterator[Match]:
    """Yield the passwords of connection strings within a value."""
    if not connection.may_hold(one.value):
        return
    for part in connection.scan(one.value):
        start, end = locate(text, one.start, one.end, one.value, part.start, part.end - part.start)
        account = part.account
        if group is not None and part.account.login is None and part.account.engine != "redis":
            account = account_of(group, meaning(one.name)[1], account)
        yield Match(
            start=start,
            end=end,
            value=part.value,
            role=part.role,
            name=one.name or part.name,
            account=account,
            weak=part.weak,
        )


def _of_password(text: str, group: Group, one: Field, stem: str) -> Match | None:
    if connection.is_url(one.value):
        return None
    value, offset = one.value, 0
    inner = values.default_of(value)
    if inner is not None:
        offset, value = inner
    account = account_of(group, stem, Account(engine=engine_of(one.name, group.label)))
    found = values.kind(value, account.login)
    if found is values.Kind.REFERENCE:
        return None
    start, end = locate(text, one.start, one.end, one.value, offset, len(value))
    return Match(
        start=start,
        end=end,
        value=Secret(value),
        role=one.role or f"value of {one.name}" + (" (default)" if inner is not None else ""),
        name=one.name,
        account=account,
        weak=found is values.Kind.WEAK,
    )


def account_of(group: Group, stem: str, known: Account) -> Account:
    """Return the account of a password in this group, from the names beside it."""
    login = known.login or _beside(group, Meaning.LOGIN, stem)
    host = known.hosts[0] if known.hosts else _beside(group, Meaning.HOST, stem)
    port = _beside(group, Meaning.PORT, stem)
    database = known.database or _beside(group, Meaning.DATABASE, stem)
    engine = known.engine
    hosts = known.hosts
    url = _beside(group, Meaning.URL, stem) if not hosts or engine is None else None
    target = connection.target(url) if url else None
    if target is not None:
        hosts = hosts or target.hosts
        engine, login = engine or target.engine, login or target.login
        database = database or target.database
    if not hosts and host is not None:
        separate = port is not None and port.isdecimal() and ":" not in host
        hosts = (f"{host}:{port}" if separate else host,)
    if login is None and "root" in stem.split():
        login = "root"
    if engine is None:
        labels = (part.label for part in group.around())
        nearby = (part for part in ("engine", "adapter", "driver", "dialect", "type", "scheme"))
        engine = engine_of(stem, *labels, *(_named(group, part) for part in nearby))
    return Account(login=login, hosts=hosts, database=database, engine=engine)


def _named(group: Group, name: str) -> str:
    return next((one.value for one in group.fields if one.name.lower() == name), "")


def _beside(group: Group, wanted: Meaning, stem: str) -> str | None:
    """Return the value of this meaning beside a password, by the closest stem; None if ambiguous."""
    for around in group.around():
        named: list[tuple[str, str]] = []
        for one in around.fields:
            found, other = meaning(one.name)
            if found is wanted and (value := _plain(one.value)):
                named.append((other, value))
        if not named:
            continue
        for same in (stem, _shared(stem, [other for other, _ in named]), ""):
            values_of = {value for other, value in named if other == same}
            if len(values_of) == 1:
                return values_of.pop()
        if len({value for _, value in named}) == 1 and around is group:
            return named[0][1]
    return None


def _shared(stem: str, others: list[str]) -> str | None:
    """Return the longest other stem that this one starts with, or that starts with it."""
    words = stem.split()
    related = [
        other
        for other in others
        if other and (other.split() == words[: len(other.split())] or other.startswith(f"{stem} "))
    ]
    return max(related, key=len, default=None)


def _plain(value: str) -> str | None:
    """Return a value, or the default of a variable; None for a reference."""
    inner = values.default_of(value)
    if inner is not None:
        return inner[1]
    return (
        value
        if value and "${" not in value and "{{" not in value and not value.startswith("$")
        else None
    )
