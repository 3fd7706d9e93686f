"""Connections to one server: pooled ones of the admin, and single attempts of a login."""

from __future__ import annotations

import functools
import re
import ssl
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import pymysql

from rotations.mysql.failures import brief, is_refusal, translated, unreachable
from rotations.mysql.mariadb import MariaDbAccounts
from rotations.mysql.mysql8 import MySqlAccounts
from rotator.api import Denied

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from rotations.mysql.accounts import Accounts
    from rotations.mysql.options import TargetOptions
    from rotator.api import Credential, Secret

PROGRAM: Final = "rotator"
# Below a step's deadline of 30 s, so that the server gives up before we do.
_SECONDS: Final = 20
_FRESH_SECONDS: Final = 5.0
_VERSION: Final = re.compile(r"(\d+)\.(\d+)\.(\d+)")
# Two authentication alternatives: MariaDB 10.4. Two passwords: MySQL 8.0.14.
_MARIADB_SINCE: Final = (10, 4, 0)
_MYSQL_SINCE: Final = (8, 0, 14)


class Connection:
    """One connection in autocommit mode, whose statements come with their values apart."""

    def __init__(self, raw: Any, user: str, password: Secret) -> None:
        """`raw` is PyMySQL's, logged in by these."""
        self._raw: Any = raw
        self.user: str = user
        self.password: Secret = password

    def run(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Send one statement; return its rows. `%s` stands for a value, `%%` for a per cent sign."""
        with self._raw.cursor() as cursor:
            cursor.execute(statement, tuple(values))
            return list(cursor.fetchall())

    @property
    def id(self) -> int:
        """The server's number of this connection."""
        return int(self._raw.thread_id())

    def use(self, database: str) -> None:
        """Make a database the current one."""
        self._raw.select_db(database)

    def begin(self) -> None:
        """Begin a transaction."""
        self._raw.begin()

    def rollback(self) -> None:
        """Take back what was done since."""
        self._raw.rollback()

    def is_alive(self) -> bool:
        """Ask."""
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
        self.where: str = f"MariaDB or MySQL at {options.host}:{options.port}"
        self._admin: Callable[[], Credential] = admin
        self._idle: list[tuple[Accounts, float]] = []
        self._guard: threading.Lock = threading.Lock()

    @contextmanager
    def admin(self, doing: str) -> Generator[Accounts]:
        """Lend what an admin connection sees and does. Errors inside come out as ours."""
        accounts = self._take()
        try:
            with translated(self.where, doing):
                yield accounts
        except BaseException:
            accounts.admin.close()
            raise
        self._give(accounts)

    def login(self, credential: Credential) -> Connection | None:
        """Log in once: the connection, or None when these credentials are refused.

        Raises `Transient` or `Denied` when it cannot be told.
        """
        # An empty password would let in as an anonymous account.
        if not credential.password.reveal():
            return None
        try:
            connection = self._connect(credential.username, credential.password)
            # Whose password has expired is let in, and may do nothing.
            _ = connection.run("DO 1")
        except pymysql.MySQLError as error:
            if is_refusal(error):
                return None
            raise unreachable(self.where, error) from error
        except OSError as error:
            raise unreachable(self.where, error) from error
        except RuntimeError as error:
            # PyMySQL, where caching_sha2_password needs RSA: the connection has no TLS.
            raise Denied(
                f"{self.where}: a login without TLS needs a package more: {brief(error)}",
                hint="pip install cryptography, or connect with TLS.",
            ) from error
        return connection

    def close(self) -> None:
        """Close the idle admin connections."""
        with self._guard:
            idle, self._idle = self._idle, []
        for accounts, _ in idle:
            accounts.admin.close()

    def _take(self) -> Accounts:
        while True:
            with self._guard:
                accounts, since = self._idle.pop() if self._idle else (None, 0.0)
            if accounts is None:
                return self._connect_admin()
            if time.monotonic() - since < _FRESH_SECONDS or accounts.admin.is_alive():
                return accounts
            accounts.admin.close()

    def _give(self, accounts: Accounts) -> None:
        with self._guard:
            if len(self._idle) < self.options.pool_size:
                self._idle.append((accounts, time.monotonic()))
                return
        accounts.admin.close()

    def _connect_admin(self) -> Accounts:
        admin = self._admin()
        found = self.login(admin)
        if found is None:
            # The admin's own password may just have been rotated: look once more.
            again = self._admin()
            if (again.username, again.password) != (admin.username, admin.password):
                found = self.login(again)
            if found is None:
                raise Denied(
                    f"{self.where} refuses the admin login {again.username!r}.",
                    hint=f"Look at `admin` of target {self.name!r}: is the password right?",
                )
        with translated(self.where, "beginning"):
            said = str(found.run("SELECT VERSION()")[0][0])
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
            f"{self.where} says that it is {said!r}, which rotator does not know.",
            hint="MariaDB 10.4 and newer and MySQL 8.0.14 and newer are known.",
            safety="Nothing was changed.",
        )

    def _connect(self, user: str, password: Secret) -> Connection:
        options = self.options
        place: dict[str, Any] = (
            {"unix_socket": options.host}
            if options.host.startswith("/")
            else {"host": options.host, "port": options.port}
        )
        raw: Any = pymysql.connect(
            **place,
            user=user,
            # As the bytes that its hash is made of: PyMySQL would take a text for Latin-1.
            password=password.reveal().encode(),
            connect_timeout=options.connect_timeout,
            # For the greeting and the login too: a host may take the connection and say nothing.
            read_timeout=options.connect_timeout,
            write_timeout=_SECONDS,
            charset="utf8mb4",
            autocommit=True,
            program_name=PROGRAM,
            # Quotes and escapes mean what we take them for, whatever the server's own mode is.
            init_command="SET SESSION sql_mode = ''",
            ssl=self._tls,
            ssl_disabled=options.tls == "disable",
            local_infile=False,
        )
        raw._read_timeout = _SECONDS  # noqa: SLF001 # PyMySQL has one for both
        return Connection(raw, user, password)

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
        return context
