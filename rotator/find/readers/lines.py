"""Forms of lines: dotenv, INI, properties, `my.cnf`, `redis.conf`, systemd units, plain text."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from rotator.core.secret import Secret
from rotator.find import command_line, connection, values
from rotator.find.fields import Group
from rotator.find.model import Account, Match
from rotator.find.readers.shell import words_of
from rotator.find.reading import NestedReader, Reading, connections, of_groups

if TYPE_CHECKING:
    from collections.abc import Iterator

_DOTENV: Final = re.compile(
    r"""^[ \t]{0,40}(?P<comment>\#[ \t#]{0,8})?(?:(?:export|set|SET)[ \t]{1,8})?(?P<name>[A-Za-z_][\w.\-]{0,120})[ \t]{0,8}=[ \t]{0,8}
        (?:'(?P<single>[^'\n]*+)'|"(?P<double>(?:[^"\\]|\\.)*+)"|(?P<bare>[^\n]*+))""",
    re.VERBOSE | re.MULTILINE,
)
_SECTION: Final = re.compile(r"[ \t]{0,40}\[(?P<name>[^\]\n]{1,200})\]")
_ENTRY: Final = re.compile(
    r"[ \t]{0,80}(?P<name>[A-Za-z_@$%][\w.\-/$@%]*+(?:\[\w{1,40}\])?(?: [A-Za-z]\w{0,40})?)[ \t]{0,20}(?P<sign>=>|[=:])[ \t]{0,20}(?P<value>[^\n]*+)"
)
_SPACED: Final = re.compile(
    r"[ \t]{0,40}(?P<name>requirepass|masterauth|primaryauth|masteruser|sentinel[ ]+auth-pass[ ]+\S+)[ \t]+[\"']?(?P<value>[^\s\"']+)"
)
_USER: Final = re.compile(r"[ \t]{0,40}user[ \t]+(?P<login>\S{1,100})[ \t](?P<rules>[^\n]*+)")
_HASH: Final = re.compile(r"[ \t]#")
_INLINE: Final = re.compile(r"[ \t][;#]")
_ESCAPE: Final = re.compile(r"\\([:=# !\\])")
_ENVIRONMENT: Final = (
    "environment",
    "env",
    "environ",
    "exec_start",
    "execstart",
    "command",
    "exec",
)
_TEXT_NAME: Final = re.compile(
    r"^[ \t>$]{0,20}(?:export |set |- )?(?P<name>[A-Z][A-Z0-9_]{1,80})=(?P<value>[^\s]{1,300})",
    re.MULTILINE,
)


def dotenv(text: str, nested: NestedReader) -> Reading:
    """Read `NAME=VALUE` lines; commented ones too, since what was commented out was used once."""
    _ = nested
    group, retired = Group(), Group()
    for found in _DOTENV.finditer(text):
        part = next(one for one in ("single", "double", "bare") if found[one] is not None)
        value, start = found[part], found.start(part)
        if part == "bare":
            value = _without_comment(value)
        elif part == "double":
            value = value.replace('\\"', '"').replace("\\\\", "\\")
        chosen = retired if found["comment"] else group
        if found["comment"] and " " in value:
            continue
        chosen.add(
            found["name"], value, start, found.end(part) if part != "bare" else start + len(value)
        )
    retired.parent = group
    return of_groups(text, [group, retired])


def ini(text: str, nested: NestedReader) -> Reading:
    """Read sections of `name = value` lines."""
    return _entries(text, nested, properties=False)


def properties(text: str, nested: NestedReader) -> Reading:
    """Read Java properties."""
    return _entries(text, nested, properties=True)


def plain(text: str, nested: NestedReader) -> Reading:
    """Read any other text: connection strings, and lines such as `PGPASSWORD=VALUE`."""
    _ = nested
    group = Group()
    for found in _TEXT_NAME.finditer(text):
        value = found["value"].strip("\"'`,;")
        at = found.start("value") + found["value"].find(value)
        group.add(found["name"], value, at, at + len(value))
    reading = of_groups(text, [group])
    if connection.may_hold(text):
        reading.matches += connections(text, 0, len(text))
    return reading


def prose(text: str, nested: NestedReader) -> Reading:
    """Read documentation and translations: only URLs."""
    _ = nested
    return Reading(matches=connection.urls(text))


def _entries(text: str, nested: NestedReader, *, properties: bool) -> Reading:
    root = Group()
    group, groups, extra = root, [root], list[Match]()
    at = 0
    for line in text.splitlines(keepends=True):
        start, at = at, at + len(line)
        stripped = line.strip()
        if not stripped:
            continue
        if stripped[0] in "#;!":
            extra += [_shifted(one, start) for one in connection.urls(line)]
            continue
        section = _SECTION.match(line)
        if section is not None and not properties:
            group = Group(label=section["name"])
            groups.append(group)
            continue
        spaced = _SPACED.match(line)
        if spaced is not None:
            name = spaced["name"].split()[0] if spaced["name"][0] != "s" else "auth-pass"
            group.add(
                name, spaced["value"], start + spaced.start("value"), start + spaced.end("value")
            )
            group.label = group.label or "redis"
            continue
        user = _USER.match(line)
        if (
            user is not None
            and (password := re.search(r"(?:^|\s)>(\S+)", user["rules"])) is not None
        ):
            place = start + user.start("rules") + password.start(1)
            role = "password of a Valkey user"
            account = Account(login=user["login"], engine="redis")
            extra += direct(place, password[1], role, account)
            continue
        entry = _ENTRY.match(line)
        if entry is None:
            extra += [_shifted(one, start) for one in connection.urls(line)]
            continue
        if " " in entry["name"].strip():
            # A host of an inventory with its variables: `db1 ansible_host=db postgres_password=VALUE`.
            groups.append(Group(parent=group))
            _environment(line, start, groups[-1])
        _entry(entry, start, group, properties=properties)
        if entry["name"].strip().lower() in _ENVIRONMENT:
            _environment(entry["value"], start + entry.start("value"), group)
    reading = of_groups(text, groups)
    reading.matches += extra
    _ = nested
    return reading


def _entry(entry: re.Match[str], start: int, group: Group, *, properties: bool) -> None:
    value, begin = entry["value"].rstrip(), start + entry.start("value")
    end = begin + len(value)
    if value[:1] in ("'", '"', "`") and value.find(value[0], 1) > 0:
        value = value[1 : value.find(value[0], 1)]
    elif properties:
        value = _ESCAPE.sub(r"\1", value)
    else:
        value = _without_comment(value, _INLINE)
        end = begin + len(value)
    group.add(entry["name"].strip(), value, begin, end)


def _environment(value: str, start: int, group: Group) -> None:
    """Read several variables of one line: `Environment="A=b" "C=d"` of systemd, and supervisord's."""
    for words in words_of(value.replace(",", " "), 0, len(value)):
        placed = [command_line.Word(one.value, one.start + start, one.end + start) for one in words]
        command_line.read(placed, group)


def direct(
    start: int, value: str, role: str, account: Account, *, length: int | None = None
) -> Iterator[Match]:
    """Yield the password of a form in which its position alone proves the role."""
    found = values.kind(value, account.login)
    if found is not values.Kind.REFERENCE:
        yield Match(
            start=start,
            end=start + (len(value) if length is None else length),
            value=Secret(value),
            role=role,
            name="password",
            account=account,
            weak=found is values.Kind.WEAK,
        )


def _shifted(match: Match, by: int) -> Match:
    return replace(match, start=match.start + by, end=match.end + by)


def _without_comment(value: str, mark: re.Pattern[str] = _HASH) -> str:
    found = mark.search(value)
    return (value[: found.start()] if found is not None else value).strip()
