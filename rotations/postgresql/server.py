"""Connections to one cluster: pooled ones of the admin, and single attempts of a login."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.pq import TransactionStatus

from rotations.postgresql.failures import is_refusal, translated, unreachable
from rotator.api import Denied, Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from rotations.postgresql.options import TargetOptions
    from rotator.api import Credential

Connection = psycopg.Connection[tuple[Any, ...]]

APPLICATION: Final = "rotator"
# Below a step's deadline of 30 s, so that the server gives up before we do.
_STATEMENT_TIMEOUT_MS: Final = 20_000
_LOCK_TIMEOUT_MS: Final = 10_000
# How long the kernel waits for a peer that has fallen silent (tcp(7), TCP_USER_TIMEOUT).
_SILENCE_MS: Final = 15_000
# An idle connection older than this is asked whether it is still alive before it is used.
_FRESH_SECONDS: Final = 5.0


class Server:
    """One cluster. Safe to use from threads.

    Admin connections wait on a stack of our own rather than in psycopg_pool: that pool connects in
    the background and answers a wrong password or a dead host with a bare time-out, and what went
    wrong is just what a person must be told.
    """

    def __init__(self, name: str, options: TargetOptions, admin: Callable[[], Credential]) -> None:
        """Nothing is connected yet."""
        self.name: str = name
        self.options: TargetOptions = options
        self.where: str = f"PostgreSQL at {options.host}:{options.port}"
        self._admin: Callable[[], Credential] = admin
        self._idle: list[tuple[Connection, float]] = []
        self._guard: threading.Lock = threading.Lock()

    @contextmanager
    def admin(self, doing: str) -> Generator[Connection]:
        """Lend an admin connection, in autocommit mode. Errors inside come out as ours."""
        connection = self._take()
        try:
            with translated(self.where, doing):
                yield connection
        except BaseException:
            connection.close()
            raise
        self._give(connection)

    @contextmanager
    def admin_in(self, dbname: str, doing: str) -> Generator[Connection]:
        """Lend an admin connection to another database; it is closed afterwards."""
        if dbname == self.options.dbname:
            with self.admin(doing) as connection:
                yield connection
            return
        connection = self._connect_admin(dbname)
        try:
            with translated(self.where, f"{doing} in database {dbname!r}"):
                yield connection
        finally:
            connection.close()

    def login(self, credential: Credential, dbname: str | None) -> Connection | None:
        """Log in once: the connection, or None when these credentials are refused.

        Raises `Transient` or `Denied` when it cannot be told.
        """
        # An empty password would make libpq look for one in ~/.pgpass.
        password = credential.password.reveal()
        if not password or "\0" in password:
            return None
        try:
            return self._connect(credential.username, credential.password, dbname)
        except psycopg.Error as error:
            if is_refusal(error):
                return None
            raise unreachable(self.where, error) from error

    def close(self) -> None:
        """Close the idle admin connections."""
        with self._guard:
            idle, self._idle = self._idle, []
        for connection, _ in idle:
            connection.close()

    def _take(self) -> Connection:
        while True:
            with self._guard:
                connection, since = self._idle.pop() if self._idle else (None, 0.0)
            if connection is None:
                return self._connect_admin(self.options.dbname)
            if time.monotonic() - since < _FRESH_SECONDS or _alive(connection):
                return connection
            connection.close()

    def _give(self, connection: Connection) -> None:
        usable = connection.info.transaction_status is TransactionStatus.IDLE
        with self._guard:
            if usable and len(self._idle) < self.options.pool_size:
                self._idle.append((connection, time.monotonic()))
                return
        connection.close()

    def _connect_admin(self, dbname: str) -> Connection:
        admin = self._admin()
        try:
            return self._connect(admin.username, admin.password, dbname)
        except psycopg.Error as error:
            if not is_refusal(error):
                raise unreachable(self.where, error) from error
        # The admin's own password may just have been rotated: look once more.
        again = self._admin()
        try:
            if again.password == admin.password and again.username == admin.username:
                raise Denied(
                    f"{self.where} refuses the admin login {admin.username!r}.",
                    hint=f"Look at `admin` of target {self.name!r}: is the password right?",
                )
            return self._connect(again.username, again.password, dbname)
        except psycopg.Error as error:
            if is_refusal(error):
                raise Denied(
                    f"{self.where} refuses the admin login {again.username!r}.",
                    hint=f"Look at `admin` of target {self.name!r}: is the password right?",
                ) from error
            raise unreachable(self.where, error) from error

    def _connect(self, user: str, password: Secret, dbname: str | None) -> Connection:
        options = self.options
        mode, authority = options.tls()
        return psycopg.connect(
            host=options.host,
            port=options.port,
            user=user,
            password=password.reveal(),
            dbname=dbname or options.dbname,
            connect_timeout=options.connect_timeout,
            application_name=APPLICATION,
            client_encoding="UTF8",
            tcp_user_timeout=_SILENCE_MS,
            options=f"-c statement_timeout={_STATEMENT_TIMEOUT_MS} -c lock_timeout={_LOCK_TIMEOUT_MS}",
            autocommit=True,
            prepare_threshold=None,
            # Only what is given here counts: no password file, no client certificate by chance.
            passfile="/dev/null",  # the name of an empty file
            gssencmode="disable",
            sslmode=mode,
            sslrootcert=authority,
        )


def _alive(connection: Connection) -> bool:
    try:
        _ = connection.execute("SELECT 1")
    except psycopg.Error:
        return False
    return True
