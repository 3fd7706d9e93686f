"""Connections to one server: pooled ones of the admin, and single attempts of a login."""

from __future__ import annotations

import functools
import re
import ssl
import struct
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pymysql
import pymysql.connections

from rotations.mysql.accounts import digest_of
from rotations.mysql.errors import (
    brief,
    is_refusal,
    number,
    rejected_admin,
    translated,
    unreachable,
)
from rotations.mysql.mariadb import MariaDbAccounts
from rotations.mysql.mysql8 import MySqlAccounts
from rotator.api import Denied, Transient, Unknown, admin_logins, split_address

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    from rotations.mysql.accounts import Accounts
    from rotations.mysql.options import TargetOptions
    from rotator.api import Credential, MarkedLogin, Secret, StepContext

PROGRAM: Final = "rotator"
# For what is asked outside a step.
_SECONDS: Final = 20.0
# What a call keeps back of its time: then it ends on the server a statement whose answer did not come.
_SPARE: Final = 1.0
_SPARE_PART: Final = 0.2
_LEAST: Final = 0.05
# Quotes and escapes mean what we take them for, whatever the server's own modes are.
_MODES: Final = "SET SESSION sql_mode = '', sql_quote_show_create = 1, "
# Each server reads its own of the two comments: whole seconds for locks; for a statement, MariaDB takes
# seconds and MySQL, for SELECT only, milliseconds.
_LIMITS: Final = (
    "lock_wait_timeout = {lock}, innodb_lock_wait_timeout = {lock}"
    "/*M!100100 , max_statement_time = {all:.3f}*//*!80000 , max_execution_time = {all_ms:.0f}*/"
)
_FRESH_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.02
# In a file's mode: what others than its owner may do with it.
_OTHERS: Final = 0o077
# Of one user, asked after the password: too many connections now, or too many in this hour.
_AT_LIMIT: Final = frozenset({1203, 1226})
_VERSION: Final = re.compile(r"(\d+)\.(\d+)\.(\d+)")
# Two authentication alternatives: MariaDB 10.4. Two passwords: MySQL 8.0.14.
_MARIADB_SINCE: Final = (10, 4, 0)
_MYSQL_SINCE: Final = (8, 0, 14)


class AtLimit(Transient):
    """The server accepted the password, and then no connection more: its account has too many."""


class _Timed(pymysql.connections.Connection):
    """PyMySQL's connection, all of whose waits together end at one instant of the monotonic clock."""

    ends: float = 0.0

    @property
    def _read_timeout(self) -> float:
        return max(_LEAST, self.ends - time.monotonic())

    @_read_timeout.setter
    def _read_timeout(self, _: object) -> None:
        """PyMySQL sets one for each wait."""

    _write_timeout = _read_timeout


class Connection:
    """One connection in autocommit mode, whose statements come with their values apart."""

    def __init__(self, raw: Any, user: str, password: Secret) -> None:
        """`raw` is PyMySQL's, logged in by these."""
        self._raw: Any = raw
        self.user: str = user
        self.password: Secret = password
        self._ends: float = 0.0
        self._lock_seconds: int = 0

    def allow(self, seconds: float) -> None:
        """Let statements take so long from now, all together, on the server as well as here."""
        self._ends = time.monotonic() + seconds
        self._raw.ends = self._ends - spare(seconds)
        if lock_seconds(seconds) != self._lock_seconds:
            self._limit()

    def run(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Send one statement; return its rows. `%s` stands for a value, `%%` for a per cent sign."""
        if lock_seconds(self._ends - time.monotonic()) < self._lock_seconds:
            self._limit()
        return self.ask(statement, values)

    def ask(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Do the same for what changes nothing that outlives the connection."""
        with self._raw.cursor() as cursor:
            cursor.execute(statement, tuple(values))
            return list(cursor.fetchall())

    def _limit(self) -> None:
        seconds = self._ends - time.monotonic()
        self._lock_seconds = lock_seconds(seconds)
        _ = self.ask("SET SESSION " + limits(seconds))

    @property
    def id(self) -> int:
        """The server's number of this connection."""
        return int(self._raw.thread_id())

    @property
    def client_port(self) -> int:
        """The TCP port of this end."""
        return int(self._raw._sock.getsockname()[1])  # noqa: SLF001 # PyMySQL has no other way

    def seconds_left(self) -> float:
        """Return what is left of the time that it was allowed."""
        return self._ends - time.monotonic()

    def use(self, database: str) -> None:
        """Make a database the current one."""
        self._raw.select_db(database)

    def begin(self) -> None:
        """Begin a transaction."""
        self._raw.begin()

    def rollback(self) -> None:
        """Take back what was done since."""
        self._raw.rollback()

    def is_alive(self, seconds: float) -> bool:
        """Ask, and wait for so long."""
        self._raw.ends = time.monotonic() + seconds * _SPARE_PART
        try:
            self._raw.ping(reconnect=False)
        except (pymysql.MySQLError, OSError):
            return False
        return True

    def close(self) -> None:
        """Hang up."""
        with suppress(pymysql.MySQLError, OSError):
            self._raw.close()


class Server:
    """One server. Safe to use from threads."""

    def __init__(self, name: str, options: TargetOptions, admin: Callable[[], Credential]) -> None:
        """Nothing is connected yet."""
        self.name: str = name
        self.options: TargetOptions = options
        self.address: str = f"{options.host}:{options.port}"
        self.where: str = f"MariaDB or MySQL at {self.address}"
        self.admin_credential: Callable[[], Credential] = admin
        self._idle: list[tuple[Accounts, float]] = []
        self._guard: threading.Lock = threading.Lock()
        places = [split_address(one, options.port) for one in options.readers]
        # The replicas that applications read from.
        self.readers: tuple[Server, ...] = tuple(
            Server(name, replace(options, host=host, port=port, readers=()), admin)
            for host, port in places
        )
        # With which number a login was rejected last: one more try could lock its account.
        self._rejected: dict[str, int] = {}

    def marked(self, ctx: StepContext) -> list[MarkedLogin]:
        """Return the accounts that bear marks of ours."""
        with self.admin("reading marked accounts", ctx) as accounts:
            return accounts.marked()

    @contextmanager
    def admin(
        self, doing: str, ctx: StepContext | None = None, instead: Credential | None = None
    ) -> Generator[Accounts]:
        """Lend what an admin connection sees and does. Errors inside come out as ours.

        All of it together takes no longer than the step may. `instead`: the login that acts.
        """
        accounts = self._take(ctx) if instead is None else self._connect_admin(ctx, lambda: instead)
        try:
            with translated(self.where, doing, accounts.explain):
                accounts.admin.allow(_seconds(ctx))
                yield accounts
        except BaseException as error:
            accounts.admin.close()
            if isinstance(error, Unknown):
                self._end(accounts.admin, ctx)
            raise
        if instead is None:
            self._give(accounts)
        else:
            accounts.admin.close()

    def admin_name(self) -> str:
        """Return the login that the target names as its admin."""
        return self.admin_credential().username

    @contextmanager
    def step(
        self, doing: str, ctx: StepContext, instead: Credential | None = None
    ) -> Generator[Accounts]:
        """Do as `admin` for what changes accounts: alone, once the server has ended what a step left.

        A statement whose client is gone may still wait there, for a lock or on a host that was frozen,
        and take effect later than this step. A lock of the session names its connection, which is killed.
        """
        with self.admin(doing, ctx, instead) as accounts:
            name = f"{PROGRAM}:{digest_of(ctx.secret, '')}"
            while not accounts.admin.ask("SELECT GET_LOCK(%s, 0)", [name])[0][0]:
                ctx.require_time()
                for (holder,) in accounts.admin.ask("SELECT IS_USED_LOCK(%s)", [name]):
                    if holder is not None:
                        accounts.end(int(holder))
                ctx.clock.sleep(_POLL_SECONDS)
            yield accounts
            _ = accounts.admin.ask("DO RELEASE_LOCK(%s)", [name])

    def login(self, credential: Credential, ctx: StepContext | None = None) -> Connection | None:
        """Log in once: the connection, or None when these credentials are refused.

        Raises `Transient` or `Denied` when it cannot be told.
        """
        # An empty password would let in as an anonymous account.
        if not credential.password.reveal():
            return None
        try:
            connection = self._connect(credential.username, credential.password, _seconds(ctx))
            # Whose password has expired is let in, and may do nothing.
            _ = connection.run("DO 1")
        except pymysql.MySQLError as error:
            if is_refusal(error):
                self._rejected[credential.username] = number(error)
                return None
            raise unreachable(self.where, error, credential.username) from error
        except OSError as error:
            raise unreachable(self.where, error, credential.username) from error
        except RuntimeError as error:
            # PyMySQL, where caching_sha2_password needs RSA: the connection has no TLS.
            raise Denied(
                f"{self.where}: a login without TLS requires another package: {brief(error)}",
                hint="pip install cryptography, or connect with TLS.",
            ) from error
        except (ValueError, IndexError, TypeError, AssertionError, struct.error) as error:
            # PyMySQL, of an answer that is not this protocol's.
            raise unreachable(self.where, error, credential.username) from error
        return connection

    def rejected_with(self, login: str) -> int:
        """Return the number with which a login was rejected last; 0 if it was not."""
        return self._rejected.get(login, 0)

    def close(self) -> None:
        """Close the idle admin connections."""
        with self._guard:
            idle, self._idle = self._idle, []
        for accounts, _ in idle:
            accounts.admin.close()
        for reader in self.readers:
            reader.close()

    def _take(self, ctx: StepContext | None) -> Accounts:
        while True:
            with self._guard:
                accounts, since = self._idle.pop() if self._idle else (None, 0.0)
            if accounts is None:
                return self._connect_admin(ctx)
            if time.monotonic() - since < _FRESH_SECONDS or accounts.admin.is_alive(_seconds(ctx)):
                return accounts
            accounts.admin.close()

    def _end(self, lost: Connection, ctx: StepContext | None) -> None:
        """Kill on the server, if time allows, the connection whose answer did not come."""
        seconds = min(_seconds(ctx), lost.seconds_left())
        if seconds <= _LEAST:
            return
        with suppress(pymysql.MySQLError, OSError, RuntimeError):
            fresh = self._connect(lost.user, lost.password, seconds)
            try:
                _ = fresh.ask("KILL CONNECTION %s", [lost.id])
            finally:
                fresh.close()

    def _give(self, accounts: Accounts) -> None:
        with self._guard:
            if len(self._idle) < self.options.pool_size:
                self._idle.append((accounts, time.monotonic()))
                return
        accounts.admin.close()

    def _connect_admin(
        self, ctx: StepContext | None, who: Callable[[], Credential] | None = None
    ) -> Accounts:
        found, name = None, ""
        for admin in admin_logins(who or self.admin_credential):
            name, found = admin.username, self.login(admin, ctx)
            if found is not None:
                break
        if found is None:
            raise rejected_admin(self.where, self.name, name, self.rejected_with(name))
        with translated(self.where, "beginning"):
            said = str(found.run("SELECT VERSION()")[0][0])
            # The server's default may be otherwise.
            _ = found.run("SET SESSION TRANSACTION READ WRITE")
        try:
            return self._accounts(found, said)
        except Denied:
            found.close()
            raise

    def _accounts(self, admin: Connection, said: str) -> Accounts:
        """Tell the two servers apart, as their statements differ. Raises `Denied` for others."""
        found = _VERSION.match(said)
        version = tuple(int(one) for one in found.groups()) if found else ()
        if "mariadb" in said.lower() and version >= _MARIADB_SINCE:
            return MariaDbAccounts(admin, version)
        if not re.search("mariadb|tidb|oceanbase|vitess", said.lower()) and version >= _MYSQL_SINCE:
            return MySqlAccounts(admin, version)
        raise Denied(
            f"{self.where} identifies itself as {said!r}, which rotator does not support.",
            hint="rotator supports MariaDB 10.4 and newer, and MySQL 8.0.14 and newer.",
            safety="Nothing was changed.",
        )

    def _connect(self, user: str, password: Secret, seconds: float) -> Connection:
        options = self.options
        place: dict[str, Any] = (
            {"unix_socket": options.host}
            if options.host.startswith("/")
            else {"host": options.host, "port": options.port}
        )
        patience = max(_LEAST, min(float(options.connect_timeout), seconds - spare(seconds)))
        raw = _Timed(
            **place,
            user=user,
            # As the bytes that its hash is made of: PyMySQL would take a text for Latin-1.
            password=password.reveal().encode(),
            connect_timeout=patience,
            charset="utf8mb4",
            autocommit=True,
            program_name=PROGRAM,
            init_command=_MODES + limits(seconds),
            ssl=self._tls,
            ssl_disabled=options.tls == "disable",
            local_infile=False,
            defer_connect=True,
        )
        # For the greeting and the login too: a host may take the connection and say nothing.
        raw.ends = time.monotonic() + patience
        try:
            raw.connect()
        except pymysql.MySQLError as error:
            # A server, or a proxy, may refuse everybody in the place of its greeting: that proves nothing.
            if number(error) in _AT_LIMIT and hasattr(raw, "server_version"):
                raise AtLimit(
                    f"{self.where} accepted the password of {user!r}, but rejected the"
                    f" connection: {brief(error)}",
                    hint=f"Close connections of {user!r}, or raise MAX_USER_CONNECTIONS or MAX_CONNECTIONS_PER_HOUR.",
                ) from error
            raise
        connection = Connection(raw, user, password)
        connection.allow(seconds)
        return connection

    @functools.cached_property
    def _tls(self) -> ssl.SSLContext | None:
        """Made once: to read the system's authorities takes longer than a login."""
        mode = self.options.tls
        if mode == "disable":
            return None
        authorities = self.options.sslrootcert
        context = ssl.create_default_context(cafile=str(authorities) if authorities else None)
        context.check_hostname = mode == "verify-full"
        if mode == "require":
            context.verify_mode = ssl.CERT_NONE
        if self.options.sslcert is not None and self.options.sslkey is not None:
            _load(context, self.options.sslcert, self.options.sslkey)
        return context


def spare(seconds: float) -> float:
    """Return what a call that may take so long keeps back."""
    return min(_SPARE, max(0.0, seconds) * _SPARE_PART)


def lock_seconds(seconds: float) -> int:
    """Return how long the server may wait for a lock, where all may take so long."""
    return max(1, int(seconds - 1.5 * spare(seconds)))


def limits(seconds: float) -> str:
    """Return what SET SESSION sets, so that the server gives up before the client does."""
    most = max(_LEAST, seconds - 1.2 * spare(seconds))
    return _LIMITS.format(lock=lock_seconds(seconds), all=most, all_ms=most * 1000)


def _seconds(ctx: StepContext | None) -> float:
    return _SECONDS if ctx is None else ctx.seconds_left()


def _load(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Load the client certificate. Raises `Denied` where its key is not kept secret, or is no key."""
    try:
        if key.stat().st_mode & _OTHERS:
            raise Denied(
                f"the key {key} is readable by other users, so rotator did not use it.",
                hint=f"chmod 600 {key}",
                safety="Nothing was changed.",
            )
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise Denied(
            f"cannot use the client certificate {certificate} with its key {key}: {brief(error)}",
            hint="Check `sslcert` and `sslkey` of the target.",
            safety="Nothing was changed.",
        ) from error
