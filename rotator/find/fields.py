"""Named values of one file, grouped as its structure groups them; they become matches in pairs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from rotator.core.secret import Secret
from rotator.find import connection, values
from rotator.find.model import Account, Match
from rotator.find.names import Meaning, engine_of, meaning

if TYPE_CHECKING:
    from collections.abc import Iterator

# A group looks for what it lacks in the groups around it, but not for ever.
_MOST_LEVELS: Final = 4
_TYPED_TWICE: Final = re.compile(r"(?:new_)?password_?[12]", re.IGNORECASE)
_ENGINE_NAMES: Final = ("engine", "adapter", "driver", "dialect", "type", "scheme")
_LONGEST_FIRST: Final = len(max(_ENGINE_NAMES, key=len))


@dataclass(slots=True, eq=False)
class Group:
    """The values of one mapping, section, call or file. `label`: the name of the group itself."""

    parent: Group | None = None
    label: str = ""
    fields: list[Field] = field(default_factory=list["Field"])
    _index: _Index | None = None

    def add(self, name: str, value: str, start: int, end: int, *, role: str = "") -> None:
        """Add a value with its name; `start` and `end` enclose its literal in the text."""
        self.fields.append(Field(name, value, start, end, role))

    def index(self) -> _Index:
        """Return the values by their meaning; built again where fields were added since."""
        if self._index is None or self._index.count != len(self.fields):
            self._index = _Index(self.fields)
        return self._index

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


class Literal:
    """A decoded value and its literal in a text: finds the places of parts of the value."""

    def __init__(self, text: str, start: int, end: int, value: str) -> None:
        self._raw: str = text[start:end]
        self._start: int = start
        self._end: int = end
        self._value: str = value
        self._whole: int = self._raw.find(value) if len(value) <= end - start else -1

    def place(self, offset: int, length: int) -> tuple[int, int]:
        """Return the start and the end of a part in the text, or those of the whole literal."""
        value, start = self._value, self._start
        if self._whole >= 0:
            return start + self._whole + offset, start + self._whole + offset + length
        part = value[offset : offset + length]
        # A block of YAML is indented: its lines are in the text, the whole is not.
        begin = value.rfind("\n", 0, offset) + 1
        end = value.find("\n", offset)
        line = value[begin : end if end >= 0 else len(value)]
        at = self._raw.find(line) if line and "\n" not in part else -1
        if at >= 0:
            at += offset - begin
            return start + at, start + at + length
        at = self._raw.find(part) if part else -1
        return (start + at, start + at + len(part)) if at >= 0 else (start, self._end)


class _Index:
    """The plain values of a group by meaning and stem: a group may hold 100,000 fields."""

    def __init__(self, fields: list[Field]) -> None:
        self.count: int = len(fields)
        self.first: dict[str, str] = {}
        self._stems: dict[Meaning, dict[str, set[str]]] = {}
        self._all: dict[Meaning, list[str]] = {}
        # The longest stem that begins with these words.
        self._longer: dict[Meaning, dict[str, str]] = {}
        for one in fields:
            if len(one.name) <= _LONGEST_FIRST:
                _ = self.first.setdefault(one.name.lower(), one.value)
            kind, stem = meaning(one.name)
            if kind in (Meaning.OTHER, Meaning.PASSWORD) or not (value := _plain(one.value)):
                continue
            stems = self._stems.setdefault(kind, {})
            distinct = self._all.setdefault(kind, [])
            # Two different values are ambiguous already.
            if len(distinct) < 2 and value not in distinct:  # noqa: PLR2004 # as above
                distinct.append(value)
            if stem not in stems:
                self._prefixes(self._longer.setdefault(kind, {}), stem)
            stems.setdefault(stem, set()).add(value)

    @staticmethod
    def _prefixes(longer: dict[str, str], stem: str) -> None:
        words = stem.split()
        for count in range(1, len(words)):
            prefix = " ".join(words[:count])
            if len(stem) > len(longer.get(prefix, "")):
                longer[prefix] = stem

    def __contains__(self, wanted: Meaning) -> bool:
        return wanted in self._all

    def only(self, wanted: Meaning) -> str | None:
        """Return the value of this meaning if all names have the same one."""
        values_of = self._all[wanted]
        return values_of[0] if len(values_of) == 1 else None

    def closest(self, wanted: Meaning, stem: str) -> str | None:
        """Return the value by the closest stem; None if there is none, or several."""
        stems = self._stems[wanted]
        for same in (stem, self._related(wanted, stem), ""):
            values_of = stems.get(same, set()) if same is not None else set[str]()
            if len(values_of) == 1:
                return next(iter(values_of))
        return None

    def _related(self, wanted: Meaning, stem: str) -> str | None:
        """Return the longest other stem that starts with this one, or that this one starts with."""
        longer = self._longer.get(wanted, {}).get(stem) if stem else None
        if longer is not None:
            return longer
        words = stem.split()
        prefixes = (" ".join(words[:count]) for count in range(len(words), 0, -1))
        return next((one for one in prefixes if one in self._stems[wanted]), None)


def matches(text: str, groups: list[Group]) -> Iterator[Match]:
    """Yield the passwords among named values, each paired with its account."""
    for group in groups:
        twice = _typed_twice(group)
        for one in group.fields:
            if one.name in twice:
                continue
            kind, stem = meaning(one.name)
            if kind is Meaning.OTHER and one.name.lower() in ("default", "value", "content"):
                kind, stem = meaning(group.label)
            if kind is Meaning.PASSWORD or one.role:
                match = _of_password(text, group, one, stem)
                if match is not None:
                    yield match
                    continue
            yield from in_value(text, one, group)


def _typed_twice(group: Group) -> set[str]:
    """Return the names of a form in which a new password is typed twice: `password1` and `password2`."""
    names = {one.name for one in group.fields if _TYPED_TWICE.fullmatch(one.name)}
    return names if {one[-1] for one in names} == {"1", "2"} else set()


def in_value(text: str, one: Field, group: Group | None = None) -> Iterator[Match]:
    """Yield the passwords of connection strings within a value."""
    if not connection.may_hold(one.value):
        return
    literal = Literal(text, one.start, one.end, one.value)
    for part in connection.scan(one.value):
        start, end = literal.place(part.start, part.end - part.start)
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
            dialect=part.dialect,
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
    found = values.kind(value, account.login, one.name)
    if found is values.Kind.REFERENCE:
        return None
    literal = Literal(text, one.start, one.end, one.value)
    start, end = literal.place(offset, len(value))
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
    if login is None and group.label.endswith("_user"):
        # A task of Ansible: `postgresql_user: {name: LOGIN, password: VALUE}`.
        login = group.index().first.get("name")
    if engine is None:
        labels = (part.label for part in group.around())
        first = group.index().first
        engine = engine_of(stem, *labels, *(first.get(part, "") for part in _ENGINE_NAMES))
    return Account(login=login, hosts=hosts, database=database, engine=engine)


def _beside(group: Group, wanted: Meaning, stem: str) -> str | None:
    """Return the value of this meaning beside a password, by the closest stem; None if ambiguous."""
    for around in group.around():
        index = around.index()
        if wanted not in index:
            continue
        value = index.closest(wanted, stem)
        if value is None and around is group:
            value = index.only(wanted)
        if value is not None:
            return value
    return None


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
