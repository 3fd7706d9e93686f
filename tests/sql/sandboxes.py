"""Sandboxes of the plugin `sql`, whose statements are those of the documentation, on real servers."""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pymysql

from rotations.sql import PLUGIN, SecretOptions, TargetOptions
from rotator.api import Credential, Secret
from rotator.testing.crash import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rotator.testing.postgres import ScratchPostgres
    from tests.servers.mysql_like import MySqlLikeServer

ADMIN: Final = "admin_of_sql"
_PASSWORD: Final = "an-admin-Kd94%:x"
_FOREIGN: Final = "set-by-hand-Kd94x"
_numbers = itertools.count(1)
STRATEGIES: Final = ("new-user", "alternating-users", "single-user")
POSTGRESQL: Final[dict[str, Any]] = {
    "owner": "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = {login:text}",
    "create": (
        "CREATE ROLE {login} LOGIN PASSWORD {password} IN ROLE {group}",
        "COMMENT ON ROLE {login} IS {mark}",
    ),
    "revoke": ("DROP ROLE {login}",),
    "sessions": (
        "SELECT client_addr, application_name FROM pg_stat_activity WHERE usename = {login:text}"
    ),
    "end_sessions": (
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = {login:text}",
    ),
}
# Two fixed logins: disabled, and enabled again.
TURNS: Final[dict[str, Any]] = {
    "update": ("ALTER ROLE {login} LOGIN PASSWORD {password}",),
    "revoke": ("ALTER ROLE {login} NOLOGIN PASSWORD NULL",),
}
MARIADB: Final[dict[str, Any]] = {
    "owner": (
        "SELECT m.mark FROM mysql.user u LEFT JOIN rotator_marks.logins m ON m.login = u.User"
        " WHERE u.User = {login:text}"
    ),
    # The mark first: these servers have no transaction around them.
    "create": (
        "REPLACE INTO rotator_marks.logins VALUES ({login:text}, {mark})",
        "CREATE USER {login}@'%' IDENTIFIED BY {password}",
    ),
    "revoke": (
        "DROP USER IF EXISTS {login}@'%'",
        "DELETE FROM rotator_marks.logins WHERE login = {login:text}",
    ),
    "sessions": (
        "SELECT HOST FROM information_schema.PROCESSLIST WHERE USER = {login:text}"
        " AND COMMAND <> 'Killed'"
    ),
}


def statements(given: dict[str, Any], strategy: str) -> dict[str, Any]:
    """Return the statements of one strategy."""
    if strategy == "new-user":
        return given
    turns = TURNS
    if given is MARIADB:
        turns = {
            "update": ("ALTER USER {login}@'%' IDENTIFIED BY {password} ACCOUNT UNLOCK",),
            "revoke": ("ALTER USER {login}@'%' ACCOUNT LOCK",),
        }
    return given | turns


def options(strategy: str, name: str, **more: Any) -> SecretOptions:
    """Return what any of the strategies needs."""
    return SecretOptions(
        users=(f"{name}_a", f"{name}_b") if strategy == "alternating-users" else (),
        username=f"{name}_only",
        prefix=f"{name}_x",
        longest_name=32,
        **more,
    )


@contextmanager
def on_postgresql(server: ScratchPostgres, strategy: str) -> Iterator[Callable[[], Sandbox]]:
    """Make sandboxes on one PostgreSQL, each with roles of its own."""
    watcher = server.connect()
    if not watcher.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [ADMIN]).fetchall():
        watcher.execute(f"CREATE ROLE {ADMIN} SUPERUSER LOGIN PASSWORD '{_PASSWORD}'")
        watcher.execute("CREATE ROLE sql_group NOLOGIN")
    sessions: list[psycopg.Connection[Any]] = []

    def ask(query: str, name: str) -> set[tuple[Any, ...]]:
        return set(watcher.execute(query, [f"{name}\\_%"]).fetchall())

    def accepts(credential: Credential) -> bool:
        try:
            server.connect(user=credential.username, password=credential.password.reveal()).close()
        except psycopg.OperationalError:
            return False
        return True

    def close_sessions() -> None:
        while sessions:
            sessions.pop().close()

    def end(name: str) -> None:
        close_sessions()
        for (role,) in ask("SELECT rolname FROM pg_roles WHERE rolname LIKE %s", name):
            watcher.execute(f"DROP ROLE {role}")

    def make() -> Sandbox:
        name = f"q{next(_numbers)}"

        def foreign() -> Credential:
            watcher.execute(f"CREATE ROLE {name}_legacy LOGIN PASSWORD '{_FOREIGN}'")
            return Credential(username=f"{name}_legacy", password=Secret(_FOREIGN))

        sandbox = Sandbox.of(
            PLUGIN,
            strategy,
            target_options=TargetOptions(
                url=f"postgresql+psycopg://{server.host}:{server.port}/postgres",
                **statements(POSTGRESQL, strategy),
            ),
            secret_options=options(strategy, name, identifiers={"group": "sql_group"}),
            admin=Credential(username=ADMIN, password=Secret(_PASSWORD)),
            close=lambda: end(name),
            accepts=accepts,
            usable=lambda: {
                row[0]
                for row in ask(
                    "SELECT rolname FROM pg_authid WHERE rolname LIKE %s AND rolcanlogin", name
                )
            },
            state=lambda: ask(
                "SELECT rolname, rolcanlogin, rolpassword FROM pg_authid WHERE rolname LIKE %s",
                name,
            ),
            foreign=foreign,
            secret=name,
        )
        sandbox.open_session = lambda login: sessions.append(
            server.connect(user=login, password=sandbox.password_of(login).reveal())
        )
        sandbox.close_sessions = close_sessions
        return sandbox

    try:
        yield make
    finally:
        close_sessions()
        watcher.close()


@contextmanager
def on_mariadb(server: MySqlLikeServer, strategy: str) -> Iterator[Callable[[], Sandbox]]:
    """Make sandboxes on one MariaDB or MySQL, each with accounts of its own."""
    server.run(
        f"CREATE USER IF NOT EXISTS {ADMIN}@'%' IDENTIFIED BY '{_PASSWORD}'",
        f"GRANT ALL ON *.* TO {ADMIN}@'%' WITH GRANT OPTION",
        "CREATE DATABASE IF NOT EXISTS rotator_marks",
        "CREATE TABLE IF NOT EXISTS rotator_marks.logins"
        " (login varchar(128) PRIMARY KEY, mark text NOT NULL)",
    )

    def accepts(credential: Credential) -> bool:
        try:
            server.connect(credential.username, credential.password.reveal()).close()
        except pymysql.err.OperationalError:
            return False
        return True

    def rows(name: str, columns: str) -> list[tuple[Any, ...]]:
        return server.run(
            f"SELECT {columns} FROM mysql.user WHERE User LIKE '{name}\\_%' ORDER BY User"
        )

    def end(name: str) -> None:
        for (user,) in rows(name, "User"):
            server.run(f"DROP USER `{user}`@'%'")

    def make() -> Sandbox:
        name = f"q{next(_numbers)}"

        def foreign() -> Credential:
            server.run(f"CREATE USER {name}_legacy@'%' IDENTIFIED BY '{_FOREIGN}'")
            return Credential(username=f"{name}_legacy", password=Secret(_FOREIGN))

        def locked(user: str) -> bool:
            return "ACCOUNT LOCK" in server.run(f"SHOW CREATE USER `{user}`@'%'")[0][0]

        return Sandbox.of(
            PLUGIN,
            strategy,
            target_options=TargetOptions(
                url=f"mysql+pymysql://{server.host}:{server.port}/",
                **statements(MARIADB, strategy),
            ),
            secret_options=options(strategy, name),
            admin=Credential(username=ADMIN, password=Secret(_PASSWORD)),
            close=lambda: end(name),
            accepts=accepts,
            usable=lambda: {user for (user,) in rows(name, "User") if not locked(user)},
            state=lambda: rows(name, "User, authentication_string"),
            foreign=foreign,
            secret=name,
        )

    yield make
