"""Sandboxes on a real PostgreSQL, for the contract suite and the crash harness."""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import psycopg

from rotations.postgresql import PLUGIN
from rotations.postgresql.options import SecretOptions, TargetOptions
from rotator.api import Credential, Secret
from rotator.testing.crash import Effects, Sandbox
from tests.postgresql import plants

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rotator.testing.postgres import ScratchPostgres

STRATEGIES: Final = ("new-user", "alternating-users", "single-user")
ADMIN: Final = "admin_of_sandboxes"
_PASSWORD: Final = "an-admin-of-the-tests"
_numbers = itertools.count(1)


def effects() -> Effects:
    """Let every statement of the plugin's admin be a point at which it can die."""
    return Effects("statement", of=lambda link: link.info.user == ADMIN)


@contextmanager
def sandboxes(
    server: ScratchPostgres, strategy: str, *tapped: Effects, port: int | None = None
) -> Iterator[Callable[[], Sandbox]]:
    """Make sandboxes on one server, each with roles of its own. `port`: of a proxy before the server."""
    watcher = server.connect()
    if not watcher.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [ADMIN]).fetchall():
        watcher.execute(f"CREATE ROLE {ADMIN} SUPERUSER LOGIN PASSWORD '{_PASSWORD}'")
    admin = Credential(username=ADMIN, password=Secret(_PASSWORD))
    sessions: list[psycopg.Connection[Any]] = []
    ended: list[Callable[[], None]] = []

    def ask(query: str, name: str) -> set[tuple[Any, ...]]:
        return set(watcher.execute(query, [f"{name}\\_%"]).fetchall())

    def open_session(sandbox: Sandbox, login: str) -> None:
        password = sandbox.password_of(login)
        sessions.append(server.connect(user=login, password=password.reveal()))

    def close_sessions() -> None:
        while sessions:
            sessions.pop().close()

    def foreign(name: str) -> Credential:
        login = f"{name}_legacy"
        password = "set-by-hand-long-ago"
        watcher.execute(f"CREATE ROLE {login} LOGIN PASSWORD '{password}'")
        return Credential(username=login, password=Secret(password))

    def plant(server: ScratchPostgres) -> Callable[[], list[str]]:
        planted = plants.plant(server, "postgres", ADMIN, owner="pg_database_owner")
        ended.append(planted.remove)
        return planted.ran

    def end(name: str) -> None:
        while ended:
            ended.pop()()
        # Thousands of sandboxes on one server: each would read the roles of all that were before it.
        close_sessions()
        found = ask("SELECT quote_ident(rolname) FROM pg_roles WHERE rolname LIKE %s", name)
        for (role,) in (*found, (name,)):
            watcher.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")

    def make() -> Sandbox:
        name = f"w{next(_numbers)}"
        watcher.execute(f"CREATE ROLE {name} NOLOGIN")
        users = (f"{name}_a", f"{name}_b") if strategy == "alternating-users" else ()
        sandbox = Sandbox.of(
            PLUGIN,
            strategy,
            target_options=TargetOptions(host=server.host, port=port or server.port),
            secret_options=SecretOptions(group=name, users=users, username=f"{name}_only"),
            admin=admin,
            close=lambda: end(name),
            accepts=lambda one: logs_in(server, one),
            usable=lambda: {
                row[0]
                for row in ask(
                    "SELECT rolname FROM pg_authid WHERE rolname LIKE %s"
                    " AND rolcanlogin AND rolpassword IS NOT NULL",
                    name,
                )
            },
            state=lambda: ask(
                "SELECT rolname, rolcanlogin, rolpassword, rolvaliduntil FROM pg_authid"
                " WHERE rolname LIKE %s",
                name,
            ),
            tapped=tapped,
            secret=name,
        )
        sandbox.open_session = lambda login: open_session(sandbox, login)
        sandbox.close_sessions = close_sessions
        sandbox.foreign = lambda: foreign(name)
        sandbox.plant = lambda: plant(server)
        return sandbox

    try:
        yield make
    finally:
        close_sessions()
        watcher.close()


def logs_in(server: ScratchPostgres, credential: Credential) -> bool:
    """Return whether it is let in; anything but a refusal is an error of the test."""
    try:
        server.connect(user=credential.username, password=credential.password.reveal()).close()
    except psycopg.OperationalError as error:
        refused = ("password authentication failed", "is not permitted to log in")
        if not any(one in str(error) for one in refused):
            raise
        return False
    return True
