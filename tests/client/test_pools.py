"""A pool keeps no connection of an older version, whenever that was opened."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest
import sqlalchemy
from psycopg_pool import ConnectionPool
from sqlalchemy import event

from rotator.client import Credential, Login
from rotator.client import psycopg as psycopg_client
from rotator.client import sqlalchemy as sqlalchemy_client
from rotator.core.secret import Secret
from rotator.testing.postgres import ScratchPostgres


class Source:
    """A backend with two versions."""

    refresh = 300.0

    def __init__(self) -> None:
        self.version = "1"

    def read(self) -> Login:
        name = {"1": "app_a", "2": "app_b"}[self.version]
        return Login(username=name, password=Secret(f"password-{name}"), version=self.version)


class Slow(psycopg.Connection[Any]):
    """A connection whose first opening ends only after the drain."""

    begun = threading.Event()
    drained = threading.Event()

    @classmethod
    def connect(cls, conninfo: str = "", **options: Any) -> Any:
        connection = super().connect(conninfo, **options)
        cls.begun.set()
        assert cls.drained.wait(20)
        return connection


@pytest.fixture
def server():
    with ScratchPostgres() as started:
        with started.connect() as admin:
            admin.execute("CREATE ROLE app_a LOGIN PASSWORD 'password-app_a'")
            admin.execute("CREATE ROLE app_b LOGIN PASSWORD 'password-app_b'")
        yield started


def _sessions_of(server: ScratchPostgres, login: str) -> int:
    with server.connect() as admin:
        query = "SELECT count(*) FROM pg_stat_activity WHERE usename = %s"
        found = admin.execute(query, (login,)).fetchone()
    assert found is not None
    return found[0]


@pytest.mark.parametrize("ours", [True, False], ids=["ours", "psycopg's own"])
def test_a_connection_that_was_being_opened_during_the_change_is_not_kept(
    server: ScratchPostgres, *, ours: bool
):
    """The pool's own `drain` keeps it: that is what the second row shows."""
    source = Source()
    Slow.begun.clear()
    Slow.drained.clear()
    place = f"host={server.host} port={server.port} dbname=postgres"
    credential = Credential(source)
    if ours:
        pool = psycopg_client.pool(
            credential, place, connection_class=Slow, min_size=1, max_size=1, open=True
        )
    else:

        def login() -> dict[str, str]:
            current = credential.current()
            return {"user": current.username, "password": current.password.reveal()}

        pool = ConnectionPool(
            place, kwargs=login, connection_class=Slow, min_size=1, max_size=1, open=True
        )
        credential.on_change(lambda _login: pool.drain())
    with pool:
        assert Slow.begun.wait(20)
        source.version = "2"
        credential.refresh()
        Slow.drained.set()
        pool.wait(20)
        with pool.connection(20) as connection:
            found = connection.execute("SELECT session_user").fetchone()
        assert found is not None
        assert found[0] == ("app_b" if ours else "app_a")
        assert _sessions_of(server, "app_a") == (0 if ours else 1)
    credential.close()


def test_a_connection_in_use_is_closed_when_it_comes_back(server: ScratchPostgres):
    source = Source()
    credential = Credential(source)
    Slow.drained.set()
    place = f"host={server.host} port={server.port} dbname=postgres"
    with psycopg_client.pool(credential, place, min_size=1, max_size=1, open=True) as pool:
        with pool.connection() as connection:
            source.version = "2"
            credential.refresh()
            # The work that is under way goes on.
            assert connection.execute("SELECT session_user").fetchone() == ("app_a",)
        pool.wait(20)
        assert _sessions_of(server, "app_a") == 0
    credential.close()


def test_an_engine_works_while_the_version_changes_at_each_connection(server: ScratchPostgres):
    """SQLAlchemy tries two connections and then gives up."""
    source = Source()
    credential = Credential(source)
    engine = sqlalchemy.create_engine(f"postgresql+psycopg://{server.host}:{server.port}/postgres")
    sqlalchemy_client.attach(engine, credential)

    def change(*_: Any) -> None:
        source.version = "1" if source.version == "2" else "2"
        credential.refresh()

    event.listen(engine, "connect", change)
    users: list[str] = []
    for _ in range(5):
        with engine.connect() as connection:
            users.append(connection.execute(sqlalchemy.text("SELECT session_user")).scalar_one())
    engine.dispose()
    credential.close()
    assert set(users) == {"app_a", "app_b"}
