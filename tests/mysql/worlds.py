"""Worlds on a real MariaDB, for the contract suite and the crash harness."""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import pymysql

from rotations.mysql import PLUGIN
from rotations.mysql.accounts import digest_of
from rotations.mysql.options import SecretOptions, TargetOptions
from rotator.api import Credential, Secret
from rotator.testing.crash import Effects, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rotator.testing.mariadb import ScratchMariaDB

STRATEGIES: Final = ("dual-password", "new-user", "alternating-users", "single-user")
ADMIN: Final = "admin_of_worlds"
_PASSWORD: Final = "an-admin-of-the-tests"
_numbers = itertools.count(1)
REFUSALS: Final = (1045, 4151, 1698)


def effects() -> Effects:
    """Let every statement of the plugin's admin be a point at which it can die."""
    return Effects("statement", of=lambda link: link.user == ADMIN)


@contextmanager
def worlds(
    server: ScratchMariaDB, strategy: str, *tapped: Effects
) -> Iterator[Callable[[], World]]:
    """Make worlds on one server, each with accounts of its own."""
    server.run(
        f"CREATE OR REPLACE USER {ADMIN}@'%' IDENTIFIED BY '{_PASSWORD}'",
        f"GRANT ALL ON *.* TO {ADMIN}@'%' WITH GRANT OPTION",
        "CREATE DATABASE IF NOT EXISTS shop",
        "CREATE TABLE IF NOT EXISTS shop.orders (id int)",
        "CREATE ROLE IF NOT EXISTS shop_reader",
        "GRANT SELECT ON shop.* TO shop_reader",
        f"GRANT shop_reader TO {ADMIN}@'%' WITH ADMIN OPTION",
    )
    admin = Credential(username=ADMIN, password=Secret(_PASSWORD))
    sessions: list[Any] = []

    def open_session(world: World, login: str) -> None:
        password = world.password_of(login)
        sessions.append(server.connect(login, password.reveal()))

    def close_sessions() -> None:
        while sessions:
            sessions.pop().close()

    def foreign(name: str) -> Credential:
        password = "set-by-hand-long-ago"
        _account(server, f"{name}_legacy", f"IDENTIFIED BY '{password}'")
        return Credential(username=f"{name}_legacy", password=Secret(password))

    def end(name: str) -> None:
        # Thousands of worlds on one server: each would read the accounts of all that were before it.
        close_sessions()
        found = server.run(f"SELECT User FROM mysql.global_priv WHERE User LIKE '{name}\\_%'")
        users = [row[0] for row in found]
        if users:
            server.run("DROP USER " + ", ".join(f"`{user}`@'%'" for user in users))
        for user in users:
            mark = f"rotator:{digest_of(name, user)}:%"
            found = server.run(f"SELECT User FROM mysql.global_priv WHERE User LIKE '{mark}'")
            for (role,) in found:
                server.run(f"DROP ROLE `{role}`")

    def make() -> World:
        name = f"w{next(_numbers)}"
        _account(server, f"{name}_like", "ACCOUNT LOCK")
        world = World.of(
            PLUGIN,
            strategy,
            target_options=TargetOptions(host=server.host, port=server.port),
            secret_options=secret_options(strategy, name),
            admin=admin,
            close=lambda: end(name),
            accepts=lambda one: logs_in(server, one),
            usable=lambda: {
                row[0]
                for row in server.run(
                    f"SELECT User FROM mysql.global_priv WHERE User LIKE '{name}\\\\_%'"
                    " AND coalesce(json_value(Priv, '$.account_locked'), 0) = 0"
                )
            },
            state=lambda: set(
                server.run(
                    "SELECT User, Host, Priv FROM mysql.global_priv"
                    f" WHERE User LIKE '{name}\\\\_%' OR User LIKE 'rotator:%'"
                )
            ),
            tapped=tapped,
            secret=name,
        )
        world.open_session = lambda login: open_session(world, login)
        world.close_sessions = close_sessions
        world.foreign = lambda: foreign(name)
        return world

    try:
        yield make
    finally:
        close_sessions()


def secret_options(strategy: str, name: str) -> SecretOptions:
    """Return what any of the strategies needs, for the accounts of one world."""
    return SecretOptions(
        like=f"{name}_like",
        users=(f"{name}_a", f"{name}_b") if strategy == "alternating-users" else (),
        username=f"{name}_only",
        prefix=f"{name}_x",
        login_dbname="shop",
        probes=("SELECT count(*) FROM shop.orders",),
    )


def _account(server: ScratchMariaDB, name: str, how: str) -> None:
    """Make an account with something of everything that is to be copied."""
    server.run(
        f"CREATE USER {name}@'%' {how}"
        if how.startswith("IDENT")
        else f"CREATE USER {name}@'%' IDENTIFIED BY 'nobody-knows-it' {how}",
        f"ALTER USER {name}@'%' WITH MAX_USER_CONNECTIONS 50",
        f"GRANT INSERT ON shop.* TO {name}@'%' WITH GRANT OPTION",
        f"GRANT SELECT (id) ON shop.orders TO {name}@'%'",
        f"GRANT shop_reader TO {name}@'%'",
        f"SET DEFAULT ROLE shop_reader FOR {name}@'%'",
    )


def logs_in(server: ScratchMariaDB, credential: Credential) -> bool:
    """Return whether it is let in; anything but a refusal is an error of the test."""
    try:
        server.connect(credential.username, credential.password.reveal()).close()
    except pymysql.OperationalError as error:
        if error.args[0] not in REFUSALS:
            raise
        return False
    return True
