"""Connection strings within a text: URLs, JDBC, libpq and ADO pairs, Go's DSN, SQL, client commands."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from rotator.core.secret import Secret
from rotator.find import values
from rotator.find.model import Account, Dialect, Match
from rotator.find.names import Meaning, engine_of, meaning

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SCHEMES: Final = (
    "postgresql|postgres|pgsql|psql|postgis|mysql|mysqlx|mariadb|rediss|redis|valkeys|valkey|mongodb"
    "|mssql|sqlserver|oracle|cockroachdb|cockroach|redshift|timescaledb|clickhouse|amqps|amqp|db2|vertica"
    "|mysql2|tds|crate|pgbouncer"
)
# The longest text that is taken for one URL.
_LONGEST: Final = 2000
_URL: Final = re.compile(
    rf"(?<![A-Za-z0-9_])(?P<jdbc>jdbc:)?(?P<scheme>{SCHEMES})(?:[+][a-z0-9_]{{1,30}}|:(?:aurora|loadbalance|replication|thin))?(?:[+:][a-z]{{1,12}})?:(?P<slashes>//|@)",
    re.IGNORECASE,
)
_RUN: Final = re.compile(r"""[^\s"'`<>\\]{1,2000}""")
_TEMPLATE: Final = re.compile(r"\{\{[^{}]{0,100}\}\}|\$\{[^{}]{0,100}\}|<[^<>\s]{0,60}>")
_QUERY: Final = re.compile(
    r"[?&;](?:amp;)?(?P<name>[A-Za-z_][\w.\-]{0,40})=(?P<value>[^&;\s\"'<>`\\]{0,500})"
)
_PAIR: Final = re.compile(
    r"(?P<name>[A-Za-z][A-Za-z_]{0,30}(?:[ ][A-Za-z]{1,20})?)[ ]?=[ ]?"
    r"(?:'(?P<single>(?:[^'\\\n]|\\.){0,500}+)'|\"(?P<double>[^\"\n]{0,500}+)\"|(?P<bare>[^\s;'\",&]{0,500}+))"
)
_PAIR_NAMES: Final = frozenset(
    {"host", "hostaddr", "user", "dbname", "port", "password", "sslmode", "service", "passfile"}
    | {"server", "database", "user id", "uid", "pwd", "data source", "initial catalog", "driver"}
    | {
        "username",
        "address",
        "addr",
        "connect_timeout",
        "application_name",
        "unix_socket",
        "charset",
    }
    | {
        "userid",
        "db",
        "integrated security",
        "persist security info",
        "encrypt",
        "dsn",
        "sslrootcert",
    }
)
_GO: Final = re.compile(
    r"(?<![\w:/])(?P<login>[\w.\-]{1,64}):(?P<password>[^\s@\"'`/]{1,200})@(?:(?:tcp|unix)\(|\((?=[\w.\-]{1,200}:\d))(?P<host>[^()\s]{1,200})\)(?:/(?P<database>[\w\-]{0,64}))?"
)
_SQL: Final = re.compile(
    r"""(?:identified\s{1,8}(?:with\s{1,8}[\w'"]{1,60}\s{1,8})?by(?:\s{1,8}password)?
        |(?:encrypted\s{1,8}|unencrypted\s{1,8})?password(?:\s{0,8}=)?(?:\s{0,8}password)?|(?:master|source)_password\s{0,8}=
        |password\s{1,8}for\s{1,8}[^\s;=]{1,120}\s{0,8}=(?:\s{0,8}password)?|sp_addlogin\s{1,8}'\w{1,60}'\s{0,8},|requirepass)\s{0,8}[(]?\s{0,8}(?:[EN](?='))?
        '(?P<value>(?:[^'\\\n]|''|\\.){1,300}+)'""",
    re.IGNORECASE | re.VERBOSE,
)
_STATEMENT: Final = re.compile(
    r"\b(?:create|alter|grant|change|set\s{1,8}password|options\s{0,4}\(|exec|insert)\b",
    re.IGNORECASE,
)
_SQL_LOGIN: Final = re.compile(
    r"\b(?:user|role|login|to|for)\s{1,8}(?:if\s{1,4}not\s{1,4}exists\s{1,4}|if\s{1,4}exists\s{1,4})?"
    r"(?:=\s{0,4})?[\"'`]?(?P<login>[\w.\-]{1,64})[\"'`]?(?:@[\"'`]?(?P<host>[\w.%\-]{1,100}))?",
    re.IGNORECASE,
)
_OPTION: Final = re.compile(
    r"\b(?P<name>user|host|port|dbname|server)\s{1,8}'(?P<value>[^']{1,100})'", re.IGNORECASE
)
_BEFORE: Final = 400
_SQL_WORDS: Final = frozenset(
    {"if", "mapping", "current_user", "public", "with", "password", "server"}
)
_TRIGGER: Final = re.compile(
    r"://|:@|password|pwd|identified|@tcp\(|@unix\(|@\(|requirepass|passwd|PASS=", re.IGNORECASE
)
_ENGINES: Final = {"pgsql": "postgresql", "psql": "postgresql", "postgis": "postgresql"}


def may_hold(text: str) -> bool:
    """Return whether it is worth scanning a text."""
    return len(text) > 8 and _TRIGGER.search(text) is not None  # noqa: PLR2004 # shorter than any


def is_url(text: str) -> bool:
    """Return whether a value is a connection URL."""
    return _URL.match(text.strip()) is not None


def scan(text: str) -> list[Match]:
    """Return the passwords of all connection strings in a text."""
    found = list(_of_urls(text))
    if "@tcp(" in text or "@unix(" in text or "@(" in text:
        found += _of_go(text)
    lower = text.lower()
    if "password" in lower or "pwd" in lower:
        found += _of_pairs(text)
    if "password" in lower or "identified" in lower or "requirepass" in lower:
        found += _of_sql(text)
    return found


def urls(text: str) -> list[Match]:
    """Return the passwords of the URLs in a text; for prose and comments."""
    return list(_of_urls(text))


def target(text: str) -> Account | None:
    """Return what a URL names beside a password: `jdbc:postgresql://db:5432/shop`."""
    found = _URL.search(text, 0, _LONGEST)
    if found is None:
        return None
    rest = _run(text, found.end(), len(text))
    _, _, account = _authority(rest, _engine(found))
    return account


def _engine(found: re.Match[str]) -> str | None:
    scheme = found["scheme"].lower()
    return _ENGINES.get(scheme) or engine_of(scheme) or scheme


def _run(text: str, start: int, end: int) -> str:
    """Return the text up to the end of a URL; templates in it may contain spaces."""
    at, last = start, min(end, start + _LONGEST)
    while at < last:
        template = _TEMPLATE.match(text, at, last) if text[at] in "{$<" else None
        if template is not None:
            at = template.end()
            continue
        part = _RUN.match(text, at, last)
        if part is None:
            break
        inner = min((i for mark in ("{{", "${") if (i := part[0].find(mark, 1)) > 0), default=-1)
        at = part.end() if inner < 0 else at + inner
    return text[start:at].rstrip(".,;)]") if at < last else text[start:at]


def _of_urls(text: str) -> Iterator[Match]:
    urls_found = list(_URL.finditer(text))
    for i, found in enumerate(urls_found):
        # A URL ends where the next one begins: together they are read once.
        end = urls_found[i + 1].start() if i + 1 < len(urls_found) else len(text)
        rest = _run(text, found.end(), end)
        login_end, host_start, account = _authority(rest, _engine(found))
        scheme = found["scheme"].lower()
        if host_start:
            raw = rest[login_end + 1 : host_start - 1]
            start = found.end() + login_end + 1
            match = _match(raw, unquote(raw), start, f"password of a {scheme} URL", account)
            if match is not None:
                yield match
                continue
        parts = list(_QUERY.finditer(rest))
        named = {one["name"].lower(): unquote(one["value"]) for one in parts}
        for part in parts:
            if meaning(part["name"])[0] is Meaning.PASSWORD and part["value"]:
                login = account.login or named.get("user") or named.get("username")
                paired = Account(
                    login=login,
                    hosts=account.hosts or ((named["host"],) if "host" in named else ()),
                    database=account.database
                    or named.get("databasename")
                    or named.get("database")
                    or named.get("dbname"),
                    engine=account.engine,
                )
                raw = part["value"]
                role = f"parameter {part['name']} of a {scheme} URL"
                match = _match(raw, unquote(raw), found.end() + part.start("value"), role, paired)
                if match is not None:
                    yield match


def _authority(rest: str, engine: str | None) -> tuple[int, int, Account]:
    """Return where the password begins (its colon) and the host begins (0: no password), and the account.

    A password that was not escaped may hold `@`, `/`, `#` and `?`: the last `@` before the path counts.
    """
    first = rest.find("@")
    slash = next((i for i, one in enumerate(rest) if one in "/?#;"), len(rest))
    colon = rest.find(":")
    if (
        first >= 0
        and first > slash
        and not (0 <= colon < slash and not _port_before(rest, colon, slash))
    ):
        first = -1
    if first < 0:
        hosts, path = rest[:slash], rest[slash:]
        return 0, 0, _account(None, hosts, path, engine)
    end = next((i for i in range(first, len(rest)) if rest[i] in "/?#;"), len(rest))
    at = rest.rfind("@", 0, end)
    colon = rest.find(":", 0, at)
    slash_login = rest.find("/", 0, at)
    if engine == "oracle" and colon < 0 <= slash_login:
        colon = slash_login
    login = unquote(rest[: colon if colon >= 0 else at]) or None
    account = _account(login, rest[at + 1 : end], rest[end:], engine)
    return (colon, at + 1, account) if colon >= 0 else (0, 0, account)


def _port_before(rest: str, colon: int, slash: int) -> bool:
    return rest[colon + 1 : slash].isdecimal()


def _account(login: str | None, hosts: str, path: str, engine: str | None) -> Account:
    named = tuple(one for one in hosts.split(",") if one and "\x00" not in one)
    database = re.match(r"/(?P<name>[\w.\-]{1,64})", path)
    login = login if login is None or values.kind(login) is not values.Kind.REFERENCE else None
    return Account(
        login=login,
        hosts=named,
        database=database["name"] if database is not None else None,
        engine=engine,
    )


def _match(raw: str, value: str, start: int, role: str, account: Account) -> Match | None:
    inner = values.default_of(raw)
    if inner is not None:
        start, value = start + inner[0], inner[1]
        raw = value
    found = values.kind(value, account.login)
    if found is values.Kind.REFERENCE or (value.startswith("$") and account.login is None):
        return None
    return Match(
        start=start,
        end=start + len(raw),
        value=Secret(value),
        role=role,
        name="password",
        account=account,
        weak=found is values.Kind.WEAK,
    )


def _of_go(text: str) -> Iterator[Match]:
    for found in _GO.finditer(text):
        account = Account(
            login=found["login"],
            hosts=(found["host"],),
            database=found["database"] or None,
            engine="mysql",
        )
        raw = found["password"]
        match = _match(raw, raw, found.start("password"), "password of a Go MySQL DSN", account)
        if match is not None:
            yield match


def _of_pairs(text: str) -> Iterator[Match]:
    """Yield the passwords of `host=... user=... password=...` and `Server=...;Password=...;`."""
    run: list[re.Match[str]] = []
    for pair in _PAIR.finditer(text):
        gap = text[run[-1].end() : pair.start()] if run else ""
        if run and (len(gap) > 3 or gap.strip(" ;\n\t,")):  # noqa: PLR2004 # "; " and a line's end
            yield from _of_run(run)
            run = []
        run.append(pair)
    yield from _of_run(run)


def _of_run(run: list[re.Match[str]]) -> Iterator[Match]:
    named: dict[str, str] = {}
    for pair in run:
        name = pair["name"].strip().lower()
        _ = named.setdefault(name, pair["single"] or pair["double"] or pair["bare"] or "")
    # A word before the first pair belongs to the text around it: `dsn host=...`.
    if run and " " in (first := run[0]["name"].strip().lower()) and first not in _PAIR_NAMES:
        _ = named.setdefault(first.rpartition(" ")[2], named[first])
    if len(named.keys() & _PAIR_NAMES) < 2 or len(run) < 2:  # noqa: PLR2004 # a password and another
        return
    host = next(
        (
            named[one]
            for one in ("host", "hostaddr", "server", "data source", "addr")
            if named.get(one)
        ),
        "",
    )
    port = named.get("port", "")
    login = next(
        (named[one] for one in ("user", "user id", "uid", "username", "userid") if named.get(one)),
        None,
    )
    hosts = tuple(
        f"{one}:{port}" if port.isdecimal() and ":" not in one else one
        for one in host.split(",")
        if one
    )
    libpq = not {"server", "data source", "initial catalog", "user id", "pwd"} & named.keys()
    account = Account(
        login=login,
        hosts=hosts,
        database=next(
            (named[one] for one in ("dbname", "database", "initial catalog") if named.get(one)),
            None,
        ),
        engine="postgresql" if libpq and "dbname" in named and "charset" not in named else None,
    )
    for pair in run:
        name = pair["name"].strip()
        if meaning(name)[0] is not Meaning.PASSWORD:
            continue
        group = next((one for one in ("single", "double", "bare") if pair[one]), None)
        if group is None or (group == "bare" and _is_call(run[0])):
            continue
        raw = pair[group]
        value = re.sub(r"\\(.)", r"\1", raw) if group == "single" else raw
        match = _match(raw, value, pair.start(group), "password of a connection string", account)
        if match is not None:
            yield replace(match, dialect=_dialect(run, named))


def _dialect(run: list[re.Match[str]], named: Mapping[str, str]) -> Dialect:
    """Return how these pairs escape a value."""
    text = run[0].string
    gaps = "".join(text[a.end() : b.start()] for a, b in pairwise(run))
    if ";" in gaps:
        # PDO replaces each semicolon by a blank, also within a value.
        is_pdo = text[: run[0].start()].rstrip().endswith("pgsql:")
        is_odbc = not {"driver", "dsn"}.isdisjoint(named)
        return Dialect.UNKNOWN if is_pdo else Dialect.ODBC if is_odbc else Dialect.ADO
    is_libpq = "dbname" in named or {"host", "user"} <= named.keys()
    return Dialect.LIBPQ if is_libpq and not gaps.strip() else Dialect.UNKNOWN


def _is_call(first: re.Match[str]) -> bool:
    """Return whether pairs are the arguments of a call in a text: `login(user=x, password=y)` names variables."""
    before = first.string[max(0, first.start() - _BEFORE) : first.start()].rpartition("\n")[2]
    opened = before.rpartition("(")
    return bool(opened[1]) and ")" not in opened[2] and opened[0][-1:].isidentifier()


def _of_sql(text: str) -> Iterator[Match]:
    for found in _SQL.finditer(text):
        before = text[max(0, found.start() - _BEFORE) : found.start()].rpartition(";")[2]
        if _STATEMENT.search(before) is None and not before[-30:].strip().lower().endswith(
            "config set"
        ):
            continue
        mysql = "identified" in found[0].lower() or "master_" in found[0].lower()
        after = text[found.end() : found.end() + _BEFORE].partition(";")[0]
        raw, account = found["value"], _sql_account(before, after, mysql=mysql)
        value = raw.replace("''", "'")
        match = _match(raw, value, found.start("value"), "password of an SQL statement", account)
        if match is not None:
            yield match


def _sql_account(before: str, after: str, *, mysql: bool) -> Account:
    options = before[max(0, before.lower().rfind("options")) :] + after
    named = {one["name"].lower(): one["value"] for one in _OPTION.finditer(options)}
    if "user" in named:
        return Account(login=named["user"], engine="postgresql")
    accounts = [
        one for one in _SQL_LOGIN.finditer(before) if one["login"].lower() not in _SQL_WORDS
    ]
    if not accounts:
        return Account()
    host = accounts[-1]["host"]
    return Account(
        login=accounts[-1]["login"],
        hosts=(host,) if host and "%" not in host else (),
        engine="mysql" if mysql or host else None,
    )
