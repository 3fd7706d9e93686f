"""What tests of more than one part use: a real PostgreSQL for the whole run of a worker."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
import sqlalchemy as sa

from rotator.journal import migrate
from rotator.testing.postgres import ScratchPostgres
from tests.servers.clusters import Clusters

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine as Database

# How long one example takes says more about the machine's load than about the code.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")

_upgrade = migrate.upgrade
_MEMORY = Path("/dev/shm")  # noqa: S108 # each test makes a folder of its own in it
_ROOM = 6 * 2**30


def _work_in_memory() -> None:
    """Let temporary files be in memory where there is room: on a disk, tests mostly wait for its flushes.

    Every program that a test starts inherits it. A TMPDIR that is set is kept.
    """
    if "TMPDIR" in os.environ or not os.access(_MEMORY, os.W_OK | os.X_OK):
        return
    if os.statvfs(_MEMORY).f_flag & os.ST_NOEXEC or shutil.disk_usage(_MEMORY).free < _ROOM:
        return
    os.environ["TMPDIR"] = str(_MEMORY)
    tempfile.tempdir = None


_work_in_memory()


@pytest.fixture(scope="session")
def postgres(copied_clusters: None) -> Iterator[ScratchPostgres]:
    """A PostgreSQL whose log holds every statement."""
    with ScratchPostgres(settings={"log_statement": "all"}) as server:
        yield server


@pytest.fixture(autouse=True)
def no_database_stays(request: pytest.FixtureRequest) -> Iterator[None]:
    """Require that a test leaves no database behind: each rotation after it would look into that too."""
    if "postgres" not in request.fixturenames:
        yield
        return
    server = request.getfixturevalue("postgres")
    before = _databases(server)
    yield
    assert _databases(server) - before == set()


def _databases(server: ScratchPostgres) -> set[str]:
    with server.connect() as admin:
        return {row[0] for row in admin.execute("SELECT datname FROM pg_database")}


@pytest.fixture(scope="session", autouse=True)
def copied_clusters() -> Iterator[None]:
    """Make the clusters of PostgreSQL servers as copies of the first one."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        clusters = Clusters(Path(folder))

        def make(server: ScratchPostgres, programs: Path) -> None:
            clusters.make(server, programs)

        patch.setattr(ScratchPostgres, "_make", make)
        yield


@pytest.fixture(autouse=True)
def copied_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set up fresh SQLite journals from a copy of the first one's schema: 4 ms instead of 40.

    `tests/journal` tests the migrations, and does without it.
    """
    monkeypatch.setattr(migrate, "upgrade", _set_up)


def _set_up(database: Database) -> tuple[str | None, str]:
    if database.dialect.name == "sqlite":
        with database.connect() as db:
            driver: Any = db.connection.driver_connection
            driver.execute("BEGIN IMMEDIATE")
            fresh = driver.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
            for statement in _schema() if fresh else ():
                driver.execute(statement)
            driver.execute("COMMIT")
        if fresh:
            return None, migrate.HEAD
    return _upgrade(database)


@cache
def _schema() -> list[str]:
    """Return the statements that lead to what the migrations make."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "journal.db"
        database = sa.create_engine(f"sqlite:///{file}")
        _ = _upgrade(database)
        database.dispose()
        link = sqlite3.connect(file)
        statements = [
            one for one in link.iterdump() if one not in ("BEGIN TRANSACTION;", "COMMIT;")
        ]
        link.close()
    return statements
