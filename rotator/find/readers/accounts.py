"""Password files of clients and poolers: `.pgpass`, PgBouncer's `userlist.txt`, `.netrc`."""

from __future__ import annotations

import re
from typing import Final

from rotator.find.model import Account
from rotator.find.readers.lines import direct
from rotator.find.reading import NestedReader, Reading

_PGPASS: Final = re.compile(
    r"^(?!\#)(?P<host>(?:\\.|[^:\\\n]){1,300}+):(?P<port>\d{1,5}|\*):(?P<database>(?:\\.|[^:\\\n]){1,200}+):(?P<login>(?:\\.|[^:\\\n]){1,200}+):(?P<password>[^\n\r]{1,500}+)",
    re.MULTILINE,
)
_USERLIST: Final = re.compile(
    r'^[ \t]{0,20}"(?P<login>(?:[^"\n]|""){1,200}+)"[ \t]+"(?P<password>(?:[^"\n]|""){1,500}+)"',
    re.MULTILINE,
)
_NETRC: Final = re.compile(
    r"\bmachine\s{1,8}(?P<host>\S{1,200})(?:\s{1,8}port\s{1,8}\S{1,8})?\s{1,8}login\s{1,8}(?P<login>\S{1,200})\s{1,8}password\s{1,8}(?P<password>\S{1,500})"
)


def pgpass(text: str, nested: NestedReader) -> Reading:
    """Read `host:port:database:login:password` lines."""
    _ = nested
    reading = Reading()
    for found in _PGPASS.finditer(text):
        host, port, database, login = (
            None if found[one] == "*" else _unescaped(found[one])
            for one in ("host", "port", "database", "login")
        )
        hosts = () if host is None else (f"{host}:{port}" if port else host,)
        account = Account(login=login, hosts=hosts, database=database, engine="postgresql")
        raw = found["password"]
        reading.matches += direct(
            found.start("password"),
            _unescaped(raw),
            "line of a .pgpass file",
            account,
            length=len(raw),
        )
    return reading


def userlist(text: str, nested: NestedReader) -> Reading:
    """Read PgBouncer's `"login" "password"` lines."""
    _ = nested
    reading = Reading()
    for found in _USERLIST.finditer(text):
        raw = found["password"]
        account = Account(login=found["login"].replace('""', '"'), engine="postgresql")
        role = "line of PgBouncer's auth_file"
        reading.matches += direct(
            found.start("password"), raw.replace('""', '"'), role, account, length=len(raw)
        )
    return reading


def netrc(text: str, nested: NestedReader) -> Reading:
    """Read the machines of a `.netrc` file."""
    _ = nested
    reading = Reading()
    for found in _NETRC.finditer(text):
        account = Account(login=found["login"], hosts=(found["host"],))
        reading.matches += direct(
            found.start("password"), found["password"], "password of a machine in .netrc", account
        )
    return reading


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)
