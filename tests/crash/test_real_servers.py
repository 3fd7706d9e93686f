"""The same harness over what people run: the PostgreSQL plugin, the embedded backend, SQLite."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest

from rotations.postgresql import PLUGIN
from rotations.postgresql.options import SecretOptions, TargetOptions
from rotator.api import Credential, Secret
from rotator.backends.local import LocalBackend
from rotator.backends.sealing import Keys, new_key
from rotator.journal.sql import SqlJournal
from rotator.testing.crash import Scenario, World, explore, explore_failures, scenarios
from rotator.testing.fake_rotations import fake_rotation
from rotator.testing.fake_target import FakeTarget
from rotator.testing.postgres import ScratchPostgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rotator.api import Rotation
    from rotator.testing.crash import Report

_ADMIN: Final = "admin"
_PASSWORD: Final = "an-admin-of-the-tests"
_numbers = itertools.count(1)


class _Statements:
    """Lets every statement of the plugin's admin be a point at which it can die."""

    def __init__(self) -> None:
        self.tap: Callable[[str, Callable[[], None]], None] = lambda _what, effect: effect()

    def execute(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def execute(connection: psycopg.Connection[Any], *args: Any, **kwargs: Any) -> Any:
            if connection.info.user != _ADMIN:
                return real(connection, *args, **kwargs)
            answers: list[Any] = []
            self.tap("statement", lambda: answers.append(real(connection, *args, **kwargs)))
            return answers[0]

        return execute


@pytest.fixture(scope="module")
def server() -> Iterator[ScratchPostgres]:
    with ScratchPostgres() as server:
        with server.connect() as connection:
            connection.execute(f"CREATE ROLE {_ADMIN} SUPERUSER LOGIN PASSWORD '{_PASSWORD}'")
        yield server


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> _Statements:
    found = _Statements()
    real = psycopg.Connection.execute
    monkeypatch.setattr(psycopg.Connection, "execute", found.execute(real))
    return found


@pytest.fixture
def make_world(
    request: pytest.FixtureRequest, server: ScratchPostgres, statements: _Statements
) -> Iterator[Callable[[], World]]:
    """Make worlds on one server, each with roles of its own."""
    strategy: str = request.param
    watcher = server.connect()
    targets: list[Any] = []

    def rotation(name: str) -> Rotation:
        while targets:
            targets.pop().close()
        options = TargetOptions(host=server.host, port=server.port)
        admin = Credential(username=_ADMIN, password=Secret(_PASSWORD))
        targets.append(PLUGIN.target("pg", options, lambda: admin))
        users = (f"{name}_a", f"{name}_b") if strategy == "alternating-users" else ()
        secret = SecretOptions(group=name, users=users, username=f"{name}_only")
        return targets[-1].rotation(strategy, secret)

    def ask(query: str, name: str) -> set[tuple[Any, ...]]:
        return set(watcher.execute(query, [f"{name}\\_%"]).fetchall())

    def make() -> World:
        name = f"w{next(_numbers)}"
        watcher.execute(f"CREATE ROLE {name} NOLOGIN")
        return World(
            rotation=lambda: rotation(name),
            accepts=lambda one: _logs_in(server, one),
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
            tapped=(statements,),
            secret=name,
        )

    yield make
    for target in targets:
        target.close()
    watcher.close()


def _logs_in(server: ScratchPostgres, credential: Credential) -> bool:
    try:
        server.connect(user=credential.username, password=credential.password.reveal()).close()
    except psycopg.OperationalError as error:
        refused = ("password authentication failed", "is not permitted to log in")
        if not any(one in str(error) for one in refused):
            raise
        return False
    return True


def _scenario(make: Callable[[], World], name: str) -> Scenario:
    return next(one for one in scenarios(make) if one.name == name)


def _expect_none(report: Report) -> None:
    assert not report.violations, str(report)
    assert report.runs > 30, str(report)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ["rotation", "rollback before publish"])
@pytest.mark.parametrize(
    "make_world", ["new-user", "alternating-users", "single-user"], indirect=True
)
def test_the_postgresql_plugin_survives_a_crash_at_every_statement(
    make_world: Callable[[], World], name: str
):
    """Killed before and after each statement it sends, it leaves no orphan and no outage."""
    report = explore(_scenario(make_world, name))
    _expect_none(report)
    # Statements were points of their own, not only the calls at the plugin's door.
    assert report.inner >= 4


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("make_world", ["new-user", "alternating-users"], indirect=True)
def test_the_postgresql_plugin_survives_a_crash_in_a_rollback(make_world: Callable[[], World]):
    """Killed while it goes back to the old login, it gets there all the same."""
    _expect_none(explore(_scenario(make_world, "rollback in the grace period")))


# -- storage -------------------------------------------------------------------------------------


@pytest.fixture
def stored_world(tmp_path: Path) -> Callable[[], World]:
    """A world with the embedded backend and a journal in SQLite, as `rotator init` sets them up."""
    key = new_key()

    def make() -> World:
        folder = tmp_path / str(next(_numbers))
        backend = LocalBackend("local", folder / "secrets.db", Keys([key]))
        target = FakeTarget(stored=lambda password: _holds(backend, password))
        return World(
            rotation=lambda: fake_rotation("new-user", target),
            backend=backend,
            usable=target.usable,
            accepts=lambda one: target.accepts(one.username, one.password.reveal()),
            state=target.state,
            violations=lambda: target.violations,
            tapped=(target,),
            make_journal=lambda clock, is_dead: SqlJournal(
                f"sqlite:///{folder / 'journal.db'}", clock=clock, actor="test", is_dead=is_dead
            ),
        )

    return make


def _holds(backend: LocalBackend, password: str) -> bool:
    path = World.__dataclass_fields__["path"].default
    found = [backend.staged(path, rotation) for rotation in backend.rotation_ids(path)]
    current = backend.current(path)
    found.append(current.credential if current else None)
    return any(one is not None and one.password.reveal() == password for one in found)


@pytest.mark.parametrize(
    "name",
    [
        "first credential",
        pytest.param("rotation", marks=pytest.mark.slow),
        pytest.param("rollback in the grace period", marks=pytest.mark.slow),
    ],
)
def test_the_embedded_backend_and_a_journal_in_sqlite_survive_crashes(
    stored_world: Callable[[], World], name: str
):
    """What a newcomer runs keeps every promise, killed at any call."""
    _expect_none(explore(_scenario(stored_world, name)))


@pytest.mark.slow
def test_the_embedded_backend_and_a_journal_in_sqlite_survive_failures(
    stored_world: Callable[[], World],
):
    """And with any call failing."""
    _expect_none(explore_failures(_scenario(stored_world, "rotation")))
