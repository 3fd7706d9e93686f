"""Sandboxes on a real MariaDB or MySQL, for the contract suite and the crash harness."""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from rotations.mysql import PLUGIN
from rotations.mysql.accounts import digest_of
from rotations.mysql.options import SecretOptions, TargetOptions
from rotator.api import Credential, Secret
from rotator.testing.crash import Effects, Sandbox
from tests.mysql import plants
from tests.mysql.dialects import dialect_of, is_let_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.servers.mysql_like import MySqlLikeServer

STRATEGIES: Final = ("dual-password", "new-user", "alternating-users", "single-user")
ADMIN: Final = "admin_of_sandboxes"
_PASSWORD: Final = "an-admin-of-the-tests"
_numbers = itertools.count(1)


def effects() -> Effects:
    """Let every statement of the plugin's admin be a point at which it can die."""
    return Effects("statement", of=lambda link: link.user == ADMIN)


@contextmanager
def sandboxes(
    server: MySqlLikeServer, strategy: str, *tapped: Effects, port: int | None = None
) -> Iterator[Callable[[], Sandbox]]:
    """Make sandboxes on one server, each with accounts of its own. `port`: of a proxy before it."""
    dialect = dialect_of(server)
    server.run(
        f"DROP USER IF EXISTS {ADMIN}@'%'",
        f"CREATE USER {ADMIN}@'%' IDENTIFIED BY '{_PASSWORD}'",
        f"GRANT ALL ON *.* TO {ADMIN}@'%' WITH GRANT OPTION",
        "CREATE DATABASE IF NOT EXISTS shop",
        "CREATE TABLE IF NOT EXISTS shop.orders (id int)",
        "CREATE ROLE IF NOT EXISTS shop_reader",
        "GRANT SELECT ON shop.* TO shop_reader",
        f"GRANT shop_reader TO {ADMIN}@'%' WITH ADMIN OPTION",
    )
    admin = Credential(username=ADMIN, password=Secret(_PASSWORD))
    sessions: list[Any] = []
    ended: list[Callable[[], None]] = []

    def open_session(sandbox: Sandbox, login: str) -> None:
        password = sandbox.password_of(login)
        sessions.append(server.connect(login, password.reveal()))

    def close_sessions() -> None:
        while sessions:
            sessions.pop().close()

    def foreign(name: str) -> Credential:
        password = "set-by-hand-long-ago"
        _account(server, f"{name}_legacy", f"IDENTIFIED BY '{password}'")
        return Credential(username=f"{name}_legacy", password=Secret(password))

    def plant() -> Callable[[], list[str]]:
        planted = plants.plant(server)
        ended.append(planted.remove)
        return planted.ran

    def end(name: str) -> None:
        while ended:
            ended.pop()()
        # Thousands of sandboxes on one server: each would read the accounts of all that were before it.
        close_sessions()
        users = list(dialect.accounts(server, f"{name}_"))
        if users:
            server.run("DROP USER " + ", ".join(f"`{user}`@'%'" for user in users))
        for user in users:
            for role in dialect.accounts(server, f"rotator:{digest_of(name, user)}:"):
                server.run(f"DROP ROLE `{role}`")

    def make() -> Sandbox:
        name = f"w{next(_numbers)}"
        _account(server, f"{name}_like", "ACCOUNT LOCK")
        sandbox = Sandbox.of(
            PLUGIN,
            strategy,
            target_options=TargetOptions(host=server.host, port=port or server.port),
            secret_options=secret_options(strategy, name),
            admin=admin,
            close=lambda: end(name),
            accepts=lambda one: logs_in(server, one),
            usable=lambda: {
                user for user, locked in dialect.accounts(server, f"{name}_").items() if not locked
            },
            state=lambda: dialect.rows(server, f"{name}_"),
            tapped=tapped,
            secret=name,
        )
        sandbox.open_session = lambda login: open_session(sandbox, login)
        sandbox.close_sessions = close_sessions
        sandbox.foreign = lambda: foreign(name)
        sandbox.plant = plant
        return sandbox

    try:
        yield make
    finally:
        close_sessions()


def secret_options(strategy: str, name: str) -> SecretOptions:
    """Return what any of the strategies needs, for the accounts of one sandbox."""
    return SecretOptions(
        like=f"{name}_like",
        users=(f"{name}_a", f"{name}_b") if strategy == "alternating-users" else (),
        username=f"{name}_only",
        prefix=f"{name}_x",
        login_dbname="shop",
        probes=("SELECT count(*) FROM shop.orders",),
    )


def _account(server: MySqlLikeServer, name: str, how: str) -> None:
    """Make an account with something of everything that is to be copied."""
    server.run(
        f"CREATE USER {name}@'%' {how}"
        if how.startswith("IDENT")
        else f"CREATE USER {name}@'%' IDENTIFIED BY 'nobody-knows-it' {how}",
        f"ALTER USER {name}@'%' WITH MAX_USER_CONNECTIONS 50",
        f"GRANT INSERT ON shop.* TO {name}@'%' WITH GRANT OPTION",
        f"GRANT SELECT (id) ON shop.orders TO {name}@'%'",
        f"GRANT shop_reader TO {name}@'%'",
        dialect_of(server).default_role("shop_reader", f"{name}@'%'"),
    )


def logs_in(server: MySqlLikeServer, credential: Credential) -> bool:
    """Return whether the server accepts it; anything but a refusal is an error of the test."""
    return is_let_in(server, credential.username, credential.password.reveal())
