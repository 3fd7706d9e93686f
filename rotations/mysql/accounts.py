"""Accounts: their hosts, passwords, grants, limits, and whose they are. What MariaDB and MySQL share.

An account is ours when it bears our mark: a digest of the secret's and the account's name, and one of the
rotation that made it.
"""

from __future__ import annotations

import hashlib
import json
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final

import pymysql

from rotations.mysql.errors import is_about_rights
from rotations.mysql.profile import (
    Profile,
    attribute_facts,
    attribute_patch,
    givings,
    parsed,
    takings,
)
from rotator.api import Denied, MarkedLogin, Secret, Session, Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rotations.mysql.profile import Rights
    from rotations.mysql.server import Connection
    from rotator.api import StepContext, StepError

_DIGITS: Final = 24
# Wrong passwords in a row that an account must bear: ours, a repeated one, and one of the application's.
_TRIES: Final = 3
# DROP USER: the account defines objects (MySQL); it is a mandatory role.
_STILL_NEEDED: Final = frozenset({4006, 3628})
_NO_TABLE: Final = 1146
_NAME_THE_PRIMARY: Final = (
    "Set `host` to the primary: this server is read-only, and a primary is read-only too"
    " during a failover."
)
_ROLE: Final = re.compile(r"`(?:[^`]|``)*`(?:@`(?:[^`]|``)*`)?")
_GRANTEE: Final = re.compile(rf" TO (?:{_ROLE.pattern}|PUBLIC)(?= WITH | IDENTIFIED | REQUIRE |$)")
# KILL: of another's session, without the right; and of one that is gone.
NOT_OWNER: Final = 1095
_NO_SESSION: Final = 1094
_NO_RIGHT: Final = 1227
# A table that the admin may not read, or that the server was built without.
_UNREADABLE: Final = frozenset({1044, 1049, 1142, _NO_TABLE})
_PROGRAMS: Final = "performance_schema.session_connect_attrs"
_ASKS_PROGRAMS: Final = "SELECT 1 FROM performance_schema.session_connect_attrs LIMIT 1"
_SESSIONS: Final = """
SELECT p.ID, p.HOST, coalesce(p.DB, ''), {program} FROM information_schema.PROCESSLIST p {attributes}
WHERE p.USER = %s AND p.ID <> CONNECTION_ID() AND p.COMMAND <> 'Killed' ORDER BY p.ID
"""
# https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/mysql-stored-proc-ending.html
_RDS: Final = """
SELECT count(*) FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = 'mysql' AND ROUTINE_NAME = 'rds_kill'
"""
_DEFINED: Final = """
SELECT kind, count(*) FROM (
    SELECT 'routines' AS kind, DEFINER FROM information_schema.ROUTINES UNION ALL
    SELECT 'views', DEFINER FROM information_schema.VIEWS UNION ALL
    SELECT 'triggers', DEFINER FROM information_schema.TRIGGERS UNION ALL
    SELECT 'events', DEFINER FROM information_schema.EVENTS
) AS defined WHERE DEFINER = %s GROUP BY kind ORDER BY kind
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One account. `ways`: its authentication plugins in order, each with what it keeps."""

    name: str
    host: str
    ways: tuple[tuple[str, str], ...]
    # The password hashes that let somebody in.
    hashes: tuple[str, ...]
    # What CREATE USER says behind that, each with its kind: TLS, limits, expiry; without the lock.
    options: tuple[tuple[str, str], ...]
    locked: bool
    # After how many wrong passwords in a row it is blocked; 0: never.
    tries: int = 0
    # Its comment and attributes, without our own.
    attributes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    # What this version of rotator does not know of it, and so cannot carry to another account.
    unknown: tuple[str, ...] = ()
    # Its password is too old, or was declared to be.
    expired: bool = False
    # The TLS that it requires: nothing, `SSL`, or more than that, which takes a certificate.
    tls: str = ""

    @property
    def sql(self) -> str:
        """How statements name it."""
        return quoted_account(self.name, self.host)

    @property
    def tail(self) -> str:
        """Its options as a statement ends with them, ready for the driver."""
        return "".join(f" {clause}" for _, clause in self.options).replace("%", "%%")

    @property
    def is_touchy(self) -> bool:
        """Whether the proof that an old password is refused could block it for the application too."""
        return 0 < self.tries < _TRIES

    def __str__(self) -> str:
        """Return how people name it."""
        return f"{self.name!r}@{self.host!r}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Whose an account is: a digest of the secret and the account, and one of the rotation."""

    of: str
    rotation: str

    @staticmethod
    def make(secret: str, account: str, rotation: str) -> Mark:
        """Return the mark of an account that this rotation of this secret creates."""
        return Mark(of=digest_of(secret, account), rotation=_digest(rotation))


class Accounts(ABC):
    """The accounts of one server, through one admin connection."""

    # The server's, as people say it.
    product: ClassVar[str]
    # What an admin needs, as GRANT says it; and what lets an account in by a password that can be rotated.
    needs: ClassVar[Sequence[str]]
    remedy: ClassVar[str]
    # The most characters that a name may have.
    name_characters: ClassVar[int]
    # On *.*, what an admin needs to see the objects that any account defines, in all databases.
    sees: ClassVar[Sequence[str]]

    def __init__(self, admin: Connection, version: tuple[int, ...]) -> None:
        """Nothing is asked yet."""
        self.admin: Connection = admin
        self._version: tuple[int, ...] = version

    # -- what there is -------------------------------------------------------------------------

    @abstractmethod
    def look(self, name: str) -> list[Account]:
        """Return the accounts of this name, one for each host part that it has."""

    @abstractmethod
    def rights(self, account: Account) -> Rights:
        """Return everything that an account was granted."""

    @abstractmethod
    def find_mark(self, secret: str, name: str) -> Mark | None:
        """Return the mark of this secret's account; None when we did not make it."""

    @abstractmethod
    def marked(self) -> list[MarkedLogin]:
        """Return the accounts that bear a mark, or may bear one of a secret that the asker knows."""

    @abstractmethod
    def anonymous_hosts(self) -> list[str]:
        """Return the host parts of accounts without a name."""

    @abstractmethod
    def lets_in(self, account: Account, password: Secret) -> bool:
        """Return whether this password is one of the account's."""

    def profile(self, account: Account) -> Profile:
        """Return all that makes the account what it is."""
        facts = dict(self.rights(account).facts())
        facts |= {kind: frozenset({clause}) for kind, clause in account.options}
        facts["comment and attributes"] = attribute_facts(account.attributes)
        return Profile(facts=facts)

    def columns(self, account: Account) -> dict[str, frozenset[str]]:
        """Return the privileges on columns, by table."""
        found: dict[str, frozenset[str]] = {}
        for database, table, column, privileges in self.admin.run(
            "SELECT Db, Table_name, Column_name, Column_priv FROM mysql.columns_priv"
            " WHERE User = %s AND Host = %s",
            [account.name, account.host],
        ):
            on = f"{_plain(database)}.{_plain(table)}"
            names = {f"{one.strip().upper()} ({_plain(column)})" for one in privileges.split(",")}
            found[on] = found.get(on, frozenset()) | names
        return found

    def dependents(self, account: Account) -> list[str]:
        """Return what would be lost with the account: for whom others' objects and rights work."""
        name = f"{account.name}@{account.host}"
        found = [
            f"{number} {kind} defined by it"
            for kind, number in self.admin.run(_DEFINED, [name])
            if number
        ]
        rows = self.admin.run(
            "SELECT count(*) FROM mysql.proxies_priv WHERE Proxied_user = %s AND Proxied_host = %s",
            [account.name, account.host],
        )
        return found + ([f"{rows[0][0]} accounts that may act as it"] if rows[0][0] else [])

    def unseen(self) -> list[str]:
        """Return the rights without which the admin does not see whose objects an account defines."""
        granted = self.own_rights()
        if "ALL PRIVILEGES" in granted:
            return []
        return [one for one in self.sees if not granted & set(one.split(" or "))]

    def is_read_only(self) -> bool:
        """Return whether nothing can be written here, as on a replica."""
        asked = "SELECT @@global.read_only OR @@global.innodb_read_only"
        return bool(self.admin.run(asked)[0][0])

    def runs_at_login(self) -> str:
        """Return the server's `init_connect`, where it runs in the admin's sessions; else nothing."""
        if self.own_rights() & {"ALL PRIVILEGES", "SUPER", self.needs[-1]}:
            return ""
        rows = self.admin.run("SHOW GLOBAL VARIABLES LIKE 'init_connect'")
        return " ".join(str(value) for _, value in rows).strip()

    def primary(self) -> str | None:
        """Return the server that this one copies from; None without one, or where we may not ask."""
        try:
            rows = self.admin.run(self._replication())
        except pymysql.MySQLError as error:
            if error.args[0] != _NO_RIGHT:
                raise
            return None
        return next((str(host) for _, host, *_ in rows), None)

    def sessions(self, name: str) -> list[tuple[int, Session]]:
        """Return the open sessions of a login with their numbers, ours excepted.

        A session has the name that its program gave itself, where the server keeps that and the admin may
        read it; else the name of its database.
        """
        # By number: what a program says of itself twice is one session.
        found = {
            int(number): Session(
                login=name,
                client=str(host).rpartition(":")[0] or str(host) or "?",
                application=str(program or "") or (f"database {database}" if database else "?"),
                since=None,
            )
            for number, host, database, program in self._with_programs(name)
        }
        return list(found.items())

    def _with_programs(self, name: str) -> list[tuple[Any, ...]]:
        attributes = (
            f"LEFT JOIN {_PROGRAMS} a ON a.PROCESSLIST_ID = p.ID AND a.ATTR_NAME = 'program_name'"
        )
        try:
            return self.admin.run(
                _SESSIONS.format(program="a.ATTR_VALUE", attributes=attributes), [name]
            )
        except pymysql.MySQLError as error:
            if error.args[0] not in _UNREADABLE:
                raise
            return self.admin.run(_SESSIONS.format(program="NULL", attributes=""), [name])

    def hides_programs(self) -> str:
        """Return why the names of programs are missing from the sessions; empty where they are not.

        https://mariadb.com/kb/en/performance-schema-session_connect_attrs-table/
        https://dev.mysql.com/doc/refman/8.4/en/performance-schema-connection-attribute-tables.html
        """
        rows = self.admin.run(
            "SHOW GLOBAL VARIABLES WHERE Variable_name IN"
            " ('performance_schema', 'performance_schema_session_connect_attrs_size')"
        )
        values = {str(key): str(value) for key, value in rows}
        if values.get("performance_schema") != "ON":
            return "performance_schema is off"
        if values.get("performance_schema_session_connect_attrs_size") == "0":
            return "performance_schema_session_connect_attrs_size is 0"
        try:
            _ = self.admin.run(_ASKS_PROGRAMS)
        except pymysql.MySQLError as error:
            if error.args[0] not in _UNREADABLE:
                raise
            return f"the admin {self.admin.user!r} lacks SELECT on {_PROGRAMS}"
        return ""

    def newest_connection(self) -> int:
        """Return the number of the newest connection that is open; no later one has a lower number."""
        return int(self.admin.run("SELECT max(ID) FROM information_schema.PROCESSLIST")[0][0])

    def started(self) -> int:
        """Return when the server started, by its own clock, in seconds; a second off at most."""
        while True:
            before = int(self.admin.run("SELECT unix_timestamp()")[0][0])
            uptime = int(self.admin.run("SHOW GLOBAL STATUS LIKE 'Uptime'")[0][1])
            if int(self.admin.run("SELECT unix_timestamp()")[0][0]) - before <= 1:
                return before - uptime

    def refuse_hashes(self) -> list[str]:
        """Return the server's password checks that refuse hashes."""
        return []

    def is_active(self, plugin: str) -> bool:
        """Return whether the server has an authentication plugin."""
        rows = self.admin.run(
            "SELECT PLUGIN_STATUS FROM information_schema.PLUGINS WHERE PLUGIN_NAME = %s", [plugin]
        )
        return [str(row[0]) for row in rows] == ["ACTIVE"]

    def own_history(self) -> list[str]:
        """Return why the login that is connected may not set its password of before again."""
        return []

    @abstractmethod
    def ends_others(self, account: Account) -> str:
        """Return the statement by which an operator ends all passwords but one."""

    def own_grants(self) -> list[str]:
        """Return what the admin was granted, its roles' rights included, as SHOW GRANTS says it."""
        return [str(row[0]) for row in self.admin.run("SHOW GRANTS")]

    def own_rights(self) -> frozenset[str]:
        """Return the privileges that the admin has on all databases."""
        given, taken = set[str](), set[str]()
        for statement in self.own_grants():
            head, _, on = statement.partition(" ON ")
            verb, _, names = head.partition(" ")
            if verb == "REVOKE":
                taken |= {one.strip() for one in names.split(",")}
            elif on.startswith("*.* TO "):
                given |= {one.strip() for one in names.split(",")}
        return frozenset(given - taken)

    def address(self) -> str:
        """Return the address from which the server sees rotator connect."""
        return str(self.admin.run("SELECT USER()")[0][0]).rpartition("@")[2]

    def wants_tls(self) -> bool:
        """Return whether every connection must have TLS."""
        rows = self.admin.run("SHOW GLOBAL VARIABLES LIKE 'require_secure_transport'")
        return any(str(value) == "ON" for _, value in rows)

    def explain(self, code: int) -> tuple[type[StepError], str] | None:
        """Look up what an error number means here, as kind and hint; None where that cannot be seen."""
        try:
            return self._lacking() if is_about_rights(code) else self._read_only()
        except (pymysql.MySQLError, OSError):
            return None

    def _lacking(self) -> tuple[type[StepError], str]:
        granted, admin = self.own_rights(), self.whoami()
        missing = [one for one in self.needs if not granted & {one, "ALL PRIVILEGES"}]
        grants = f"As root: GRANT {', '.join(missing)} ON *.* TO {admin};" if missing else ""
        if "CREATE USER" in missing:
            return Unavailable, grants
        more = (
            f"The admin {admin} needs the privileges of its logins: grants WITH GRANT OPTION,"
            " roles WITH ADMIN OPTION; `rotator doctor` lists them."
        )
        return Denied, " ".join(one for one in (grants, more) if one)

    def _read_only(self) -> tuple[type[StepError], str]:
        variables = "'read_only', 'super_read_only', 'innodb_read_only', 'transaction_read_only', 'tx_read_only', 'skip_grant_tables', 'strict_password_validation'"
        rows = self.admin.run(f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({variables})")
        on = {str(name) for name, value in rows if str(value) in ("ON", "1")}
        if on & {"read_only", "super_read_only", "innodb_read_only"}:
            return Unavailable, _NAME_THE_PRIMARY
        if on & {"transaction_read_only", "tx_read_only"}:
            return (
                Unavailable,
                "SET GLOBAL TRANSACTION READ WRITE; (transaction_read_only is ON).",
            )
        if "strict_password_validation" in on:
            return (
                Denied,
                (
                    "A password check plugin rejects hashes: SET GLOBAL strict_password_validation"
                    " = OFF;"
                ),
            )
        return (
            Unavailable,
            "A server option forbids it: the server's error message names the option.",
        )

    def whoami(self) -> str:
        """Return the admin's account as statements name it."""
        name, _, host = str(self.admin.run("SELECT CURRENT_USER()")[0][0]).rpartition("@")
        return quoted_account(name, host).replace("%%", "%")

    def own(self) -> Rights:
        """Return what the admin was granted, its roles' rights included."""
        roles: dict[str, bool] = {}
        statements: list[str] = []
        for line in self.own_grants():
            head, _, behind = _GRANTEE.sub(" TO {}", line, count=1).partition(" TO {}")
            if head.startswith("GRANT `"):
                admin = behind.startswith(" WITH ADMIN OPTION")
                roles |= dict.fromkeys(_ROLE.findall(head.removeprefix("GRANT ")), admin)
            elif head.startswith("GRANT "):
                option = " WITH GRANT OPTION" if " WITH GRANT OPTION" in behind else ""
                statements.append(f"{head} TO {{}}{option}")
        return parsed(statements, roles, ())

    def ends_sessions_by_rds(self) -> bool:
        """Return whether RDS's procedure for ending sessions is there; its admins may not KILL."""
        return bool(self.admin.run(_RDS)[0][0])

    # -- what is done to it --------------------------------------------------------------------

    def end(self, number: int) -> None:
        """End a session, if it is still there."""
        try:
            _ = self.admin.run("KILL CONNECTION %s", [number])
        except pymysql.MySQLError as error:
            if error.args[0] == NOT_OWNER and self.ends_sessions_by_rds():
                _ = self.admin.run("CALL mysql.rds_kill(%s)", [number])
            elif error.args[0] != _NO_SESSION:
                raise

    @abstractmethod
    def create(self, name: str, like: Account, mark: Mark, ctx: StepContext) -> None:
        """Make an account for the host of `like`, with its limits: marked, locked, with a dead password.

        Once more for another host of the same name. Raises `Denied` where the server has no place for
        a mark.
        """

    @abstractmethod
    def forget(self, mark: Mark, ctx: StepContext) -> None:
        """Remove what `create` has left beside accounts that are gone."""

    @abstractmethod
    def let_in(self, account: Account, new: Secret, beside: Secret, ctx: StepContext) -> None:
        """Let `new` in beside `beside`, which the account lets in already, and no other password."""

    @abstractmethod
    def let_in_only(self, account: Account, password: Secret, ctx: StepContext) -> None:
        """Let one password in and no other. One that is let in already is so all the time."""

    def fence(self, account: Account, ctx: StepContext) -> None:
        """Replace every password of an account by one that nobody knows."""
        self.let_in_only(account, dead(ctx), ctx)

    @abstractmethod
    def open(self, account: Account, password: Secret, ctx: StepContext) -> None:
        """Unlock an account, for one password."""

    @abstractmethod
    def close(self, account: Account, ctx: StepContext) -> None:
        """Lock an account, and take its passwords."""

    @abstractmethod
    def set_own(self, password: Secret, ctx: StepContext) -> None:
        """Set the password of the login that is connected, which may do nothing else."""

    def limit(self, account: Account, like: Account, ctx: StepContext) -> None:
        """Give an account the limits, TLS requirement, expiry, comment and attributes of another."""
        if account.options != like.options:
            self._send(ctx, f"ALTER USER {account.sql}{like.tail}")
        if patch := attribute_patch(like.attributes, account.attributes):
            self._send(ctx, f"ALTER USER {account.sql} ATTRIBUTE %s", [json.dumps(patch)])

    def drop(self, account: Account, ctx: StepContext) -> bool:
        """Drop an account, if it is there. Return False where the server keeps it for what needs it."""
        try:
            self._send(ctx, f"DROP USER IF EXISTS {account.sql}")
        except pymysql.MySQLError as error:
            if error.args[0] not in _STILL_NEEDED:
                raise
            return False
        return True

    def copy_grants(self, source: Account, target: Account, ctx: StepContext) -> None:
        """Take back what is too much, give what is missing: both have the same then."""
        wanted, has = self.rights(source), self.rights(target)
        name = target.sql.replace("%%", "%")
        taken = takings(wanted, has, name)
        for statement in taken:
            self._send(ctx, statement.replace("%", "%%"))
        has = self.rights(target) if taken else has
        for statement in givings(wanted, has, name, taken):
            self._grant(statement, ctx)
        roles_changed = has.roles != wanted.roles
        if wanted.default_roles != has.default_roles or (wanted.default_roles and roles_changed):
            self._send(ctx, self._default(wanted.default_roles, name).replace("%", "%%"))

    def _grant(self, statement: str, ctx: StepContext) -> None:
        """Grant. A right on a table that is not there now, or not yet, is granted together with CREATE."""
        try:
            self._send(ctx, statement.replace("%", "%%"))
        except pymysql.MySQLError as error:
            if error.args[0] != _NO_TABLE or not statement.startswith("GRANT "):
                raise
            self._send(ctx, statement.replace("GRANT ", "GRANT CREATE, ", 1).replace("%", "%%"))
            on, _, account = statement[statement.index(" ON ") :].partition(" TO ")
            account = account.removesuffix(" WITH GRANT OPTION")
            self._send(ctx, f"REVOKE CREATE{on} FROM {account}".replace("%", "%%"))

    @abstractmethod
    def _default(self, roles: frozenset[str], account: str) -> str:
        """Return the statement that makes these the default roles; none for the empty set."""

    # -- the same in words, for `plan` ---------------------------------------------------------

    @abstractmethod
    def said(self, doing: str, name: str) -> str:
        """Return what is sent to let in `beside` another password, as the `only` one, or to `open`."""

    # -- for the two servers' own --------------------------------------------------------------

    def _replication(self) -> str:
        """Return the statement that asks what is copied from another server."""
        return "SHOW SLAVE STATUS"

    def _send(self, ctx: StepContext, statement: str, values: Sequence[object] = ()) -> None:
        ctx.require_time()
        _ = self.admin.run(statement, values)

    def _require_password(self, account: Account) -> None:
        if not account.hashes:
            plugins = ", ".join(plugin for plugin, _ in account.ways) or "no password"
            raise Denied(
                f"account {account} authenticates by {plugins}, without a password that"
                " rotator can rotate.",
                hint=f"{self.remedy}, or choose another account.",
            )


def dead(ctx: StepContext) -> Secret:
    """Return a password that nobody knows."""
    return Secret(ctx.entropy.token(32).hex())


def quoted(name: str) -> str:
    """Return an identifier as statements have it, with per cent signs doubled for the driver."""
    return "`" + name.replace("`", "``").replace("%", "%%") + "`"


def quoted_account(name: str, host: str) -> str:
    """Return an account's name as statements have it."""
    return f"{quoted(name)}@{quoted(host)}"


def marked_login(user: str, host: str, marks: frozenset[str], *, locked: bool) -> MarkedLogin:
    """Return an account as one of those that may bear one of these marks."""
    return MarkedLogin(
        login=user,
        can_login=not locked,
        is_of=lambda secret: digest_of(secret, user) in marks,
        remove=f"DROP USER {_plain(user)}@{_plain(host)}",
    )


def digest_of(secret: str, account: str) -> str:
    """Return what tells a secret's account from every other."""
    return _digest(f"{secret}\0{account}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def _plain(name: object) -> str:
    return quoted(str(name)).replace("%%", "%")
