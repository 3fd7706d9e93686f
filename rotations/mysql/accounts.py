"""Accounts: their hosts, passwords, grants, limits, and whose they are. What MariaDB and MySQL share.

An account is ours when it bears our mark: a digest of the secret's and the account's name, and one of the
rotation that made it.
"""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

import pymysql

from rotator.api import Denied, Secret, Session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rotations.mysql.server import Connection
    from rotator.api import StepContext

_DIGITS: Final = 24
# Wrong passwords in a row that an account must bear: ours, a repeated one, and one of the application's.
_TRIES: Final = 3
_OPTION: Final = " WITH GRANT OPTION"
_TO, _FROM = " TO {}", " FROM {}"
_COLUMN: Final = re.compile(r"`(?:[^`]|``)*`|[^`,\s]+")
_COLUMNS: Final = re.compile(r"(?<=[A-Z] )\(((?:`(?:[^`]|``)*`|[^`()])*)\)")
# KILL: of another's session, without the right; and of one that is gone.
NOT_OWNER: Final = 1095
_NO_SESSION: Final = 1094
_NO_RIGHT: Final = 1227
# https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/mysql-stored-proc-ending.html
_RDS: Final = """
SELECT count(*) FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = 'mysql' AND ROUTINE_NAME = 'rds_kill'
"""
_DEFINED: Final = """
SELECT count(*) FROM (
    SELECT DEFINER FROM information_schema.ROUTINES UNION ALL
    SELECT DEFINER FROM information_schema.VIEWS UNION ALL
    SELECT DEFINER FROM information_schema.TRIGGERS UNION ALL
    SELECT DEFINER FROM information_schema.EVENTS
) AS defined WHERE DEFINER = %s
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One account. `ways`: its authentication plugins in order, each with what it keeps."""

    name: str
    host: str
    ways: tuple[tuple[str, str], ...]
    # The password hashes that let somebody in.
    hashes: tuple[str, ...]
    # What CREATE USER says behind that: TLS, limits, expiry; without the lock. Ready for the driver.
    tail: str
    locked: bool
    # After how many wrong passwords in a row it is blocked; 0: never.
    tries: int = 0

    @property
    def sql(self) -> str:
        """How statements name it."""
        return quoted_account(self.name, self.host)

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
    rights: ClassVar[Sequence[str]]
    remedy: ClassVar[str]

    def __init__(self, admin: Connection, version: tuple[int, ...]) -> None:
        """Nothing is asked yet."""
        self.admin: Connection = admin
        self._version: tuple[int, ...] = version

    # -- what there is -------------------------------------------------------------------------

    @abstractmethod
    def look(self, name: str) -> list[Account]:
        """Return the accounts of this name, one for each host part that it has."""

    @abstractmethod
    def grants(self, account: Account) -> list[str]:
        """Return everything that an account was granted, as statements with `{}` where its name was."""

    @abstractmethod
    def find_mark(self, secret: str, name: str) -> Mark | None:
        """Return the mark of this secret's account; None when we did not make it."""

    @abstractmethod
    def anonymous_hosts(self) -> list[str]:
        """Return the host parts of accounts without a name."""

    @abstractmethod
    def lets_in(self, account: Account, password: Secret) -> bool:
        """Return whether this password is one of the account's."""

    def is_definer(self, account: Account) -> bool:
        """Return whether views, routines, triggers or events run with its rights."""
        return bool(self.admin.run(_DEFINED, [f"{account.name}@{account.host}"])[0][0])

    def is_read_only(self) -> bool:
        """Return whether nothing can be written here, as on a replica."""
        asked = "SELECT @@global.read_only OR @@global.innodb_read_only"
        return bool(self.admin.run(asked)[0][0])

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
        """Return the open sessions of a login with their numbers, ours excepted."""
        rows = self.admin.run(
            "SELECT p.ID, p.HOST, coalesce(p.DB, '') FROM information_schema.PROCESSLIST p"
            " WHERE p.USER = %s AND p.ID <> CONNECTION_ID() AND p.COMMAND <> 'Killed' ORDER BY p.ID",
            [name],
        )
        return [
            (
                int(number),
                Session(
                    login=name,
                    client=str(host).rpartition(":")[0] or str(host) or "?",
                    application=f"database {database}" if database else "?",
                    since=None,
                ),
            )
            for number, host, database in rows
        ]

    def own_grants(self) -> str:
        """Return what the admin was granted, its roles' rights included, as SHOW GRANTS says it."""
        return " ".join(str(row[0]) for row in self.admin.run("SHOW GRANTS"))

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

    @abstractmethod
    def open(self, account: Account, password: Secret, ctx: StepContext) -> None:
        """Unlock an account, for one password."""

    @abstractmethod
    def close(self, account: Account, ctx: StepContext) -> None:
        """Lock an account, and take its passwords."""

    @abstractmethod
    def set_own(self, password: Secret) -> None:
        """Set the password of the login that is connected, which may do nothing else."""

    def limit(self, account: Account, like: Account, ctx: StepContext) -> None:
        """Give an account the limits, TLS requirement and expiry of another."""
        if account.tail != like.tail and like.tail:
            self._send(ctx, f"ALTER USER {account.sql}{like.tail}")

    def drop(self, account: Account, ctx: StepContext) -> None:
        """Drop an account, if it is there."""
        self._send(ctx, f"DROP USER IF EXISTS {account.sql}")

    def copy_grants(self, source: Account, target: Account, ctx: StepContext) -> None:
        """Take back what is too much, give what is missing: both have the same then."""
        wanted, has = self.grants(source), self.grants(target)
        extra = [one for one in has if one not in wanted]
        for one in extra:
            for statement in taken_back(one, target.sql):
                self._send(ctx, statement)
        has = self.grants(target) if extra else has
        for one in wanted:
            if one not in has:
                self._send(ctx, granted(one, target.sql))

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
                f"account {account} logs in by {plugins}, and not by a password that can be rotated.",
                hint=f"{self.remedy}, or take another account.",
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


def granted(statement: str, account: str) -> str:
    """Return a statement of `grants` for an account, ready for the driver."""
    head, _, behind = statement.rpartition("{}")
    return f"{head.replace('%', '%%')}{account}{behind}"


def ordered(statement: str) -> str:
    """Return a statement with the columns of its privileges in order: servers keep them as they came."""
    return _COLUMNS.sub(lambda one: f"({', '.join(sorted(_COLUMN.findall(one[1])))})", statement)


def taken_back(statement: str, account: str) -> list[str]:
    """Return the statements that take one of `grants` back."""
    if statement.startswith("SET DEFAULT ROLE"):
        word = " TO " if statement.endswith(_TO) else " FOR "
        return [f"SET DEFAULT ROLE NONE{word}{account}"]
    if statement.startswith("REVOKE "):
        head = statement.removesuffix(_FROM).replace("REVOKE ", "GRANT ", 1)
        return [f"{head.replace('%', '%%')} TO {account}"]
    head, _, behind = statement.rpartition(_TO)
    head = head.replace("GRANT ", "REVOKE ", 1).replace("%", "%%")
    found = [f"{head} FROM {account}"]
    if behind == _OPTION and not head.startswith("REVOKE PROXY"):
        found.append(f"REVOKE GRANT OPTION{head[head.rindex(' ON ') :]} FROM {account}")
    return found


def digest_of(secret: str, account: str) -> str:
    """Return what tells a secret's account from every other."""
    return _digest(f"{secret}\0{account}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
