"""A stand-in for MySQL 8, of which only 9.7 can be had: accounts as its reference manual says, strictly.

It reads the statements as a server would get them (the driver's values put in), takes those forms only that
the manual's grammar has, and refuses everything else as a syntax error. It cannot show that MySQL does what
its manual says.
"""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pymysql
import pymysql.converters

from rotations.mysql.passwords import is_hash_of
from rotations.mysql.server import Connection, Server
from rotator.api import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pytest

_NAME: Final = r"`(?:[^`]|``)*`@`(?:[^`]|``)*`"
_TEXT: Final = r"'(?:[^'\\]|\\.)*'"
_TAIL: Final = (
    r" REQUIRE (?P<tls>NONE|SSL|X509|(?:(?: AND )?(?:ISSUER|SUBJECT|CIPHER) " + _TEXT + r")+)"
    r" WITH MAX_QUERIES_PER_HOUR (?P<questions>\d+) MAX_UPDATES_PER_HOUR (?P<updates>\d+)"
    r" MAX_CONNECTIONS_PER_HOUR (?P<connections>\d+) MAX_USER_CONNECTIONS (?P<together>\d+)"
    r" PASSWORD EXPIRE (?P<expire>DEFAULT|NEVER|INTERVAL \d+ DAY)"
    r" PASSWORD HISTORY (?P<history>DEFAULT|\d+)"
    r" PASSWORD REUSE INTERVAL (?P<interval>DEFAULT|\d+ DAY)"
    r" PASSWORD REQUIRE CURRENT(?P<current>| DEFAULT| OPTIONAL)"
    r"(?: FAILED_LOGIN_ATTEMPTS (?P<tries>\d+) PASSWORD_LOCK_TIME (?P<days>\d+|UNBOUNDED))?"
)
_WAY: Final = rf" IDENTIFIED WITH (?P<plugin>\w+) AS (?P<kept>{_TEXT})"


@dataclass(slots=True)
class Kept:
    """One row of mysql.user, with what it was granted."""

    plugin: str
    primary: str
    secondary: str = ""
    locked: bool = True
    limits: dict[str, str | None] = field(default_factory=dict)
    attribute: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    grants: dict[str, tuple[frozenset[str], bool]] = field(default_factory=dict)
    revoked: set[str] = field(default_factory=set)
    roles: dict[str, bool] = field(default_factory=dict)
    default: tuple[str, ...] = ()


class MySql:
    """One server. `statements` holds whatever was sent to it to change something."""

    def __init__(self, version: str = "8.0.36") -> None:
        self.version: str = version
        self.accounts: dict[tuple[str, str], Kept] = {}
        self.sessions: dict[int, str] = {}
        self.statements: list[str] = []
        self.read_only: bool = False
        self.role: str = ""
        self.admin: list[str] = ["GRANT ALL PRIVILEGES ON *.*", "GRANT ROLE_ADMIN ON *.*"]
        self.primary: list[tuple[str, str]] = []
        self.definers: set[str] = set()
        self._numbers: int = 0

    @contextmanager
    def reached(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[MySql]:
        """Have every connection of the plugin come here."""

        def connect(_server: Server, user: str, password: Secret, _seconds: float) -> Connection:
            return Connection(self.connect(user, password.reveal()), user, password)

        with monkeypatch.context() as patch:
            patch.setattr(Server, "_connect", connect)
            yield self

    def connect(self, user: str, password: str) -> Raw:
        """Log in."""
        found = next(
            (one for host in ("127.0.0.1", "%") if (one := self.accounts.get((user, host)))), None
        )
        kept = [] if found is None else [found.primary, found.secondary]
        if not any(one and is_hash_of(one, Secret(password)) for one in kept):
            raise pymysql.OperationalError(1045, f"Access denied for user '{user}'@'127.0.0.1'")
        if found is not None and found.locked:
            raise pymysql.OperationalError(3118, f"Access denied for user '{user}'; is locked")
        self._numbers += 1
        self.sessions[self._numbers] = user
        return Raw(self, self._numbers, user)

    def run(self, statement: str, user: str) -> list[tuple[Any, ...]]:
        """Do what the statement says, or raise as the server does."""
        if statement.lstrip().startswith("SELECT"):
            statement = " ".join(statement.split())
        for form, work in _FORMS.items():
            if found := re.fullmatch(form, statement, re.DOTALL):
                if not statement.startswith(
                    ("SELECT", "SHOW", "SET TRANS", "SET SESS", "DO", "KILL")
                ):
                    self.statements.append(statement)
                return work(self, found, user) or []
        raise pymysql.ProgrammingError(1064, f"You have an error in your SQL syntax: {statement}")

    # -- the statements, one method each -------------------------------------------------------

    def create(self, found: re.Match[str], _user: str) -> None:
        key = _key(found["name"])
        if key in self.accounts:
            raise pymysql.OperationalError(
                1396, f"Operation CREATE USER failed for {found['name']}"
            )
        if self.version < "8.0.21":
            raise pymysql.ProgrammingError(1064, "You have an error near 'ATTRIBUTE'")
        self.accounts[key] = Kept(
            found["plugin"],
            _value(found["kept"]),
            limits=found.groupdict(),
            attribute=json.loads(_value(found["attribute"])),
        )

    def alter(self, found: re.Match[str], _user: str) -> None:
        one = self._account(found["name"], "ALTER USER")
        if found["plugin"] is not None:
            if found["retain"]:
                if found["plugin"] != one.plugin or not one.primary:
                    raise pymysql.OperationalError(3894, "Current password can not be retained")
                one.secondary = one.primary
            one.plugin, one.primary = found["plugin"], _value(found["kept"])
        if found["tls"]:
            one.limits = found.groupdict()
        if found["lock"]:
            one.locked = found["lock"] == "LOCK"

    def discard(self, found: re.Match[str], _user: str) -> None:
        self._account(found["name"], "ALTER USER").secondary = ""

    def own(self, found: re.Match[str], user: str) -> None:
        one = self.accounts[user, "%"]
        if not is_hash_of(one.primary, Secret(_value(found["before"]))):
            raise pymysql.OperationalError(3891, "Incorrect current password.")
        one.primary = "*" + _native(_value(found["kept"]))
        one.plugin = "mysql_native_password"

    def drop(self, found: re.Match[str], _user: str) -> None:
        _ = self.accounts.pop(_key(found["name"]), None)

    def grant(self, found: re.Match[str], _user: str) -> None:
        one = self._account(found["name"], "GRANT")
        if found["object"] is None:
            one.roles[found["what"]] = found["option"] == "ADMIN"
            return
        taken = f"{found['what']} ON {found['object']}"
        if taken in one.revoked:
            one.revoked.discard(taken)
            return
        had, option = one.grants.get(found["object"], (frozenset[str](), False))
        privileges = had | set(_privileges(found["what"]))
        one.grants[found["object"]] = (privileges, option or found["option"] == "GRANT")

    def revoke(self, found: re.Match[str], _user: str) -> None:
        one = self._account(found["name"], "REVOKE")
        what, where = found["what"], found["object"]
        if where is None:
            del one.roles[what]
            one.default = tuple(role for role in one.default if role != what)
        elif where not in one.grants:
            # A partial revoke, of something that is granted for all.
            one.revoked.add(f"{what} ON {where}")
        else:
            had, option = one.grants[where]
            left = had - set(_privileges(what)) - {"GRANT OPTION", "USAGE"}
            option = option and what != "GRANT OPTION"
            one.grants[where] = (left, option)
            if not left and not option:
                del one.grants[where]

    def default_role(self, found: re.Match[str], _user: str) -> None:
        one = self._account(found["name"], "SET DEFAULT ROLE")
        roles = () if found["roles"] == "NONE" else tuple(found["roles"].split(", "))
        if missing := set(roles) - one.roles.keys():
            raise pymysql.OperationalError(3530, f"{missing} is not granted to {found['name']}")
        one.default = roles

    def show_grants(self, found: re.Match[str], _user: str) -> list[tuple[str]]:
        one = self._account(found["name"], "SHOW GRANTS")
        name, lines = found["name"], []
        for where, (privileges, option) in sorted(
            {"*.*": (frozenset(), False), **one.grants}.items()
        ):
            behind = " WITH GRANT OPTION" if option else ""
            said = ", ".join(sorted(privileges)) or "USAGE"
            lines.append(f"GRANT {said} ON {where} TO {name}{behind}")
        lines += [f"REVOKE {taken} FROM {name}" for taken in sorted(one.revoked)]
        for admin in (False, True):
            if roles := sorted(role for role, option in one.roles.items() if option is admin):
                behind = " WITH ADMIN OPTION" if admin else ""
                lines.append(f"GRANT {','.join(roles)} TO {name}{behind}")
        return [(line,) for line in lines]

    def rows(self, found: re.Match[str], _user: str) -> list[tuple[Any, ...]]:
        name = _value(found["name"])
        return [
            _row(host, one) for (user, host), one in sorted(self.accounts.items()) if user == name
        ]

    def attributes(self, found: re.Match[str], user: str) -> list[tuple[Any, ...]]:
        return [(row[4],) for row in self.rows(found, user)]

    def role_edges(self, found: re.Match[str], _user: str) -> list[tuple[Any, ...]]:
        one = self.accounts[_value(found["name"]), _value(found["host"])]
        return [(*_key(role), "Y" if admin else "N") for role, admin in sorted(one.roles.items())]

    def default_roles(self, found: re.Match[str], _user: str) -> list[tuple[Any, ...]]:
        one = self.accounts[_value(found["name"]), _value(found["host"])]
        return [_key(role) for role in sorted(one.default)]

    def anonymous(self, _found: re.Match[str], _user: str) -> list[tuple[Any, ...]]:
        return [(host,) for user, host in self.accounts if not user]

    def processes(self, found: re.Match[str], _user: str) -> list[tuple[Any, ...]]:
        name = _value(found["name"])
        return [
            (n, "127.0.0.1:5", "shop", None) for n, user in self.sessions.items() if user == name
        ]

    def defined(self, found: re.Match[str], _user: str) -> list[tuple[Any, ...]]:
        return [("views", 1)] if _value(found["name"]) in self.definers else []

    def kill(self, found: re.Match[str], _user: str) -> None:
        if self.sessions.pop(int(found["number"]), None) is None:
            raise pymysql.OperationalError(1094, "Unknown thread id")

    def _account(self, name: str, doing: str) -> Kept:
        if _key(name) not in self.accounts:
            raise pymysql.OperationalError(1396, f"Operation {doing} failed for {name}")
        return self.accounts[_key(name)]


class Raw:
    """What PyMySQL's connection and cursor are to the plugin."""

    def __init__(self, server: MySql, number: int, user: str) -> None:
        self._server, self._number, self._user = server, number, user
        self.ends: float = 0.0
        self._rows: list[tuple[Any, ...]] = []

    def cursor(self) -> Raw:
        return self

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def execute(self, statement: str, values: Sequence[object] = ()) -> None:
        if self._number not in self._server.sessions:
            raise pymysql.OperationalError(2013, "Lost connection to MySQL server during query")
        given = tuple(pymysql.converters.escape_item(one, "utf8mb4") for one in values)
        self._rows = self._server.run(statement % given, self._user)

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self._rows

    def thread_id(self) -> int:
        return self._number

    def select_db(self, database: str) -> None:
        assert database == "shop"

    def begin(self) -> None:
        pass

    def rollback(self) -> None:
        pass

    def ping(self, *, reconnect: bool) -> None:
        self.execute(f"DO {int(not reconnect)}")

    def close(self) -> None:
        _ = self._server.sessions.pop(self._number, None)


def _row(host: str, one: Kept) -> tuple[Any, ...]:
    said = one.limits
    tls = said.get("tls") or "NONE"
    kind = {"NONE": "", "SSL": "ANY", "X509": "X509"}.get(tls, "SPECIFIED")
    parts = {word: _value(text).encode() for word, text in re.findall(rf"(\w+) ({_TEXT})", tls)}
    attributes = dict(one.extra)
    if one.secondary:
        attributes["additional_password"] = one.secondary
    if one.attribute:
        attributes["metadata"] = one.attribute
    if said.get("tries"):
        days = said["days"]
        attributes["Password_locking"] = {
            "failed_login_attempts": int(said["tries"] or 0),
            "password_lock_time_days": -1 if days == "UNBOUNDED" else int(days or 0),
        }
    expire, again = said.get("expire") or "DEFAULT", said.get("interval") or "DEFAULT"
    history = said.get("history") or "DEFAULT"
    return (
        host,
        one.plugin,
        one.primary,
        "Y" if one.locked else "N",
        json.dumps(attributes) if attributes else None,
        "N",
        kind,
        parts.get("CIPHER", b""),
        parts.get("ISSUER", b""),
        parts.get("SUBJECT", b""),
        *(int(said.get(key) or 0) for key in ("questions", "updates", "connections", "together")),
        {"DEFAULT": None, "NEVER": 0}.get(expire, int((re.findall(r"\d+", expire) or ["0"])[0])),
        None if history == "DEFAULT" else int(history),
        None if again == "DEFAULT" else int(again.split()[0]),
        {"": "Y", " OPTIONAL": "N"}.get(said.get("current", " DEFAULT") or ""),
    )


def _key(name: str) -> tuple[str, str]:
    user, _, host = name.rpartition("@")
    return user[1:-1].replace("``", "`"), host[1:-1].replace("``", "`")


def _value(literal: str) -> str:
    return re.sub(r"\\(.)", lambda one: {"n": "\n", "0": "\0"}.get(one[1], one[1]), literal[1:-1])


def _privileges(text: str) -> list[str]:
    return re.split(r", (?![^(]*\))", text)


def _native(password: str) -> str:
    from rotations.mysql.passwords import native_hash

    return native_hash(Secret(password))[1:]


_FORMS: Final[dict[str, Callable[[MySql, re.Match[str], str], Any]]] = {
    r"SELECT VERSION\(\)": lambda server, _, __: [(server.version,)],
    r"SELECT unix_timestamp\(\)": lambda _, __, ___: [(1_700_000_000,)],
    r"SHOW GLOBAL STATUS LIKE 'Uptime'": lambda _, __, ___: [("Uptime", "3600")],
    r"SELECT max\(ID\) FROM information_schema\.PROCESSLIST": lambda server, _, __: [
        (max(server.sessions),)
    ],
    r"DO \d": lambda _, __, ___: [],
    r"SHOW GLOBAL VARIABLES LIKE 'caching_sha2_password_%'": lambda _, __, ___: [],
    r"ALTER USER USER\(\) DISCARD OLD PASSWORD": lambda _, __, ___: [],
    r"SHOW CREATE USER CURRENT_USER\(\)": lambda _, __, ___: [
        ("... PASSWORD HISTORY DEFAULT PASSWORD REUSE INTERVAL DEFAULT PASSWORD REQUIRE",)
    ],
    r"SELECT @@global\.password_history, @@global\.password_reuse_interval": lambda _, __, ___: [
        (0, 0)
    ],
    r"SELECT PLUGIN_STATUS FROM information_schema\.PLUGINS WHERE PLUGIN_NAME = .*": lambda _, __, ___: [
        ("ACTIVE",)
    ],
    r"SET SESSION lock_wait_timeout = \d+, .*": lambda _, __, ___: [],
    r"SELECT GET_LOCK\('rotator:\w+', 0\)": lambda _, __, ___: [(1,)],
    r"DO RELEASE_LOCK\('rotator:\w+'\)": lambda _, __, ___: [],
    r"SELECT .* FROM mysql\.columns_priv WHERE .*": lambda _, __, ___: [],
    r"SHOW GLOBAL VARIABLES WHERE Variable_name IN \('performance_schema.*": lambda _, __, ___: [],
    r"SHOW GLOBAL VARIABLES LIKE 'require_secure_transport'": lambda _, __, ___: [],
    r"SET SESSION TRANSACTION READ WRITE": lambda _, __, ___: [],
    r"SELECT USER\(\)": lambda _, __, user: [(f"{user}@127.0.0.1",)],
    r"SELECT CURRENT_USER\(\)": lambda _, __, user: [(f"{user}@%",)],
    r"SELECT @@global\.read_only OR @@global\.innodb_read_only": lambda server, _, __: [
        (int(server.read_only),)
    ],
    r"SET TRANSACTION READ ONLY": lambda _, __, ___: [],
    r"SELECT count\(\*\) FROM shop\.orders": lambda _, __, ___: [(0,)],
    rf"SELECT Host, plugin, .* FROM mysql\.user WHERE User = (?P<name>{_TEXT}) ORDER BY Host": MySql.rows,
    rf"SELECT User_attributes FROM mysql\.user WHERE User = (?P<name>{_TEXT})": MySql.attributes,
    r"SELECT Host FROM mysql\.user WHERE User = ''": MySql.anonymous,
    rf"SELECT .* FROM mysql\.role_edges WHERE TO_USER = (?P<name>{_TEXT}) AND TO_HOST = (?P<host>{_TEXT}) .*": MySql.role_edges,
    rf"SELECT .* FROM mysql\.default_roles WHERE USER = (?P<name>{_TEXT}) AND HOST = (?P<host>{_TEXT}) .*": MySql.default_roles,
    rf"SELECT .* FROM information_schema\.PROCESSLIST p .*WHERE p\.USER = (?P<name>{_TEXT}) .*": MySql.processes,
    rf"SELECT kind, count\(\*\) FROM \(.*\) AS defined WHERE DEFINER = (?P<name>{_TEXT}) .*": MySql.defined,
    r"SELECT count\(\*\) FROM mysql\.(proxies_priv|role_edges) WHERE .*": lambda _, __, ___: [(0,)],
    rf"SHOW GRANTS FOR (?P<name>{_NAME})": MySql.show_grants,
    r"SHOW REPLICA STATUS": lambda server, _, __: server.primary,
    r"SELECT CURRENT_ROLE\(\)": lambda server, _, __: [(server.role or "NONE",)],
    r"SHOW GRANTS FOR CURRENT_USER\(\)": lambda server, _, __: [
        (f"{one} TO `x`@`%` WITH GRANT OPTION",) for one in server.admin
    ],
    r"SHOW GRANTS FOR CURRENT_USER\(\) USING `boss`@`%`": lambda _, __, ___: [
        ("GRANT CREATE USER, PROCESS ON *.* TO `x`@`%`",),
        ("GRANT CONNECTION_ADMIN ON *.* TO `x`@`%`",),
    ],
    r"SELECT count\(\*\) FROM information_schema\.ROUTINES WHERE .* 'rds_kill' ?": lambda _, __, ___: [
        (0,)
    ],
    rf"CREATE USER (?P<name>{_NAME}){_WAY}{_TAIL} ACCOUNT LOCK ATTRIBUTE (?P<attribute>{_TEXT})": MySql.create,
    rf"ALTER USER (?P<name>{_NAME})(?:{_WAY}(?P<retain> RETAIN CURRENT PASSWORD)?)?(?:{_TAIL})?(?: ACCOUNT (?P<lock>LOCK|UNLOCK))?": MySql.alter,
    rf"ALTER USER (?P<name>{_NAME}) DISCARD OLD PASSWORD": MySql.discard,
    rf"ALTER USER USER\(\) IDENTIFIED BY (?P<kept>{_TEXT}) REPLACE (?P<before>{_TEXT})": MySql.own,
    rf"DROP USER IF EXISTS (?P<name>{_NAME})": MySql.drop,
    rf"GRANT (?P<what>[^`]+?|.+?) ON (?P<object>.+?) TO (?P<name>{_NAME})(?: WITH (?P<option>GRANT) OPTION)?": MySql.grant,
    rf"(?P<object>(?!))?GRANT (?P<what>{_NAME}) TO (?P<name>{_NAME})(?: WITH (?P<option>ADMIN) OPTION)?": MySql.grant,
    rf"REVOKE (?P<what>[^`].*?) ON (?P<object>.+?) FROM (?P<name>{_NAME})": MySql.revoke,
    rf"(?P<object>(?!))?REVOKE (?P<what>{_NAME}) FROM (?P<name>{_NAME})": MySql.revoke,
    rf"SET DEFAULT ROLE (?P<roles>NONE|{_NAME}(?:, {_NAME})*) TO (?P<name>{_NAME})": MySql.default_role,
    r"KILL CONNECTION (?P<number>\d+)": MySql.kill,
}
