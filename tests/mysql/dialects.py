"""What tests say otherwise to MariaDB than to MySQL."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pymysql

from rotations.mysql.passwords import is_hash_of, native_hash
from tests.servers.mariadb import PACKAGES, ScratchMariaDB
from tests.servers.mariadb import is_installed as has_mariadb
from tests.servers.mysql import REMEDY, ScratchMySQL
from tests.servers.mysql import installed as mysql_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rotator.api import Secret
    from tests.servers.mysql_like import MySqlLikeServer

_LOGS: Final = ("--general-log=1", "--general-log-file=general.log", "--log-bin=binlog")
# Wrong, unknown, locked, expired: with these numbers a server refuses a login.
REFUSALS: Final = frozenset({1045, 4151, 1698, 3118, 1820})


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One of the two servers. `missing`: why it cannot be started here, or nothing."""

    product: str
    server: type[MySqlLikeServer]
    missing: str
    # Between SET DEFAULT ROLE and the account.
    default_role_for: str
    # Of mysql.user, or of what stands for it.
    table: str
    is_locked: str
    state: str
    # The servers' words for an account that logs in by the server's own plugin for passwords.
    hashed: str
    by_socket: str
    # Begins to copy from a server that is not there, and ends it.
    replication: tuple[str, str]
    # Begin to copy what {port} writes from now on: where it is now, and what is sent to the replica.
    position: str
    follow: tuple[str, ...]
    # Stop and start applying what the other server has written.
    pause: str
    resume: str
    # Of its own, beside the logs.
    options: tuple[str, ...] = ()

    def start(self, *options: str) -> MySqlLikeServer:
        """Return a server whose general log holds every statement, and its binary log every change."""
        return self.server(*_LOGS, *self.options, *options)

    def default_role(self, role: str, account: str) -> str:
        """Return the statement that makes a role the default one."""
        return f"SET DEFAULT ROLE {role} {self.default_role_for} {account}"

    def accounts(self, server: MySqlLikeServer, pattern: str) -> dict[str, bool]:
        """Return the accounts whose name begins so, and whether each is locked."""
        rows = server.run(
            f"SELECT User, {self.is_locked} FROM {self.table} WHERE User LIKE '{escaped(pattern)}%'"
        )
        return {str(user): bool(int(locked)) for user, locked in rows}

    def rows(self, server: MySqlLikeServer, pattern: str) -> set[tuple[Any, ...]]:
        """Return all that the server keeps of the accounts whose name begins so, marks included."""
        like = escaped(pattern)
        return set(
            server.run(
                f"SELECT {self.state} FROM {self.table} WHERE User LIKE '{like}%' OR User LIKE 'rotator:%'"
            )
        )

    def keeps(self, kept: str, password: Secret) -> bool:
        """Return whether this is what the server keeps of a password."""
        if self.product == "MySQL":
            return is_hash_of(kept, password)
        return kept == native_hash(password)


MARIADB: Final = Dialect(
    product="MariaDB",
    server=ScratchMariaDB,
    missing="" if has_mariadb() else f"no MariaDB server: apt-get install {PACKAGES}",
    default_role_for="FOR",
    table="mysql.global_priv",
    is_locked="coalesce(json_value(Priv, '$.account_locked'), 0) IN ('1', 'true')",
    state="User, Host, Priv",
    hashed="IDENTIFIED VIA mysql_native_password USING '*",
    by_socket="IDENTIFIED VIA unix_socket",
    replication=(
        "CHANGE MASTER TO MASTER_HOST = '127.0.0.9', MASTER_PORT = 1",
        "RESET SLAVE ALL",
    ),
    position="SHOW MASTER STATUS",
    follow=(
        (
            "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {port}, MASTER_USER = 'copy',"
            " MASTER_PASSWORD = 'copy-1', MASTER_LOG_FILE = '{file}', MASTER_LOG_POS = {at}"
        ),
        "START SLAVE",
    ),
    pause="STOP SLAVE SQL_THREAD",
    resume="START SLAVE SQL_THREAD",
)
MYSQL: Final = Dialect(
    product="MySQL",
    server=ScratchMySQL,
    missing="" if mysql_folder() else f"no MySQL server: {REMEDY}",
    default_role_for="TO",
    table="mysql.user",
    is_locked="account_locked = 'Y'",
    state="*",
    hashed="IDENTIFIED WITH 'caching_sha2_password' AS '",
    by_socket="IDENTIFIED WITH auth_socket",
    replication=(
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.9', SOURCE_PORT = 1",
        "RESET REPLICA ALL",
    ),
    position="SHOW BINARY LOG STATUS",
    follow=(
        (
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = {port}, SOURCE_USER = 'copy',"
            " SOURCE_PASSWORD = 'copy-1', GET_SOURCE_PUBLIC_KEY = 1, SOURCE_LOG_FILE = '{file}',"
            " SOURCE_LOG_POS = {at}"
        ),
        "START REPLICA",
    ),
    pause="STOP REPLICA SQL_THREAD",
    resume="START REPLICA SQL_THREAD",
    options=("--plugin-load-add=auth_socket.so",),
)
DIALECTS: Final[Sequence[Dialect]] = (MARIADB, MYSQL)


def dialect_of(server: MySqlLikeServer) -> Dialect:
    """Return the dialect that a server understands."""
    return next(one for one in DIALECTS if isinstance(server, one.server))


def escaped(pattern: str) -> str:
    """Return a name as LIKE takes it."""
    return pattern.replace("_", "\\\\_")


def plain(text: str, login: str) -> str:
    """Return a line of SHOW CREATE USER or SHOW GRANTS without its name, its passwords and its comment."""
    # A salt of MySQL's is any bytes, quotes too.
    text = re.sub(r"(?s) IDENTIFIED WITH .*?(?= (?:DEFAULT ROLE|REQUIRE) )", "", text)
    text = re.sub(r" (?:IDENTIFIED|OR) [^']*?(?:'\w+')?(?: AS | USING )'[^']*'", "", text)
    text = re.sub(r" IDENTIFIED BY PASSWORD '[^']*'", "", text)
    # MySQL names a limit of 0 or not, by how it was set.
    text = re.sub(r" (?:ATTRIBUTE '[^']*'|MAX_\w+ 0\b)", "", text)
    return text.replace(f"`{login}`", "`it`")


def is_let_in(server: MySqlLikeServer, user: str, password: str) -> bool:
    """Return whether the server accepts a login; anything but a refusal is an error of the test."""
    try:
        server.connect(user, password).close()
    except pymysql.OperationalError as error:
        if error.args[0] not in REFUSALS:
            raise
        return False
    return True
