"""A real server, its logins managed by the real engine, and the adapters of an application beside it."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

import pymysql  # noqa: TC002 # loaded: its modules stand in for those of mysqlclient
import redis
import sqlalchemy
import valkey
from sqlalchemy.ext.asyncio import create_async_engine

from rotator import logs
from rotator.bootstrap import App, initialise, open_app
from rotator.client import Credential, Daemon
from rotator.client import psycopg as psycopg_client
from rotator.client import pymysql as pymysql_client
from rotator.client import redis as redis_client
from rotator.client import sqlalchemy as sqlalchemy_client
from rotator.client.sources import LocalSource
from rotator.faces.consumer_leases import ConsumerLeases
from rotator.faces.consumer_reports import ConsumerReports, ReportingConsumers, _digest
from rotator.faces.http_server import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from tests.load.chaos_targets import ChaosTarget

_CONFIG: Final = """\
version: 1
journal: {{url: "sqlite:///journal.db", signing_key: "local:rotator/audit#private_key"}}
backends:
  local: {{type: local, path: secrets.db, key: "file:rotator.key"}}
targets:
  shop: {target}
policies:
  default: {{grace: 0s, drain: {{wait: 20s, poll: 20ms}}, retry: {{attempts: 3, backoff: 50ms, backoff_cap: 1s}}}}
secrets:
{secrets}"""


# No application of these tests has another one.
TOKENS: Final = {name: f"token-of-{name}-in-the-tests" for name in ("web", "job", "other")}
_NEW_USER: Final = "strategy: new-user,"


class Shop:
    """A server with managed logins."""

    def __init__(self, target: ChaosTarget, app: App, folder: Path) -> None:
        """Made by `opened`."""
        self.target: Any = target
        self.app: App = app
        self.folder: Path = folder
        self._made: list[Credential] = []
        self._closing: ExitStack = ExitStack()

    def leased(self, consumer: str = "web", **options: Any) -> Credential:
        """Return a credential whose logins are leases of the secret with the strategy `new-user`."""
        made = Credential.leased(self.lent, self.daemon(consumer), **options)
        self._made.append(made)
        return made

    @property
    def lent(self) -> str:
        """The secret whose logins are lent."""
        return self.target.names["new-user"]

    def daemon(self, consumer: str = "web") -> Daemon:
        """Return a connection to the daemon's interface, as a consumer. `other` may take no lease."""
        return Daemon(self._interface, token=TOKENS[consumer])

    @cached_property
    def _interface(self) -> str:
        consumers = ReportingConsumers(
            by_token={_digest(token): name for name, token in TOKENS.items()},
            secrets={"web": frozenset({self.lent}), "job": frozenset({self.lent})},
        )
        reports = ConsumerReports(
            consumers=lambda: consumers,
            registry=lambda: self.app.consumers,
            on_news=lambda _names: None,
            leases=ConsumerLeases(lambda: self.app),
        )
        server = Server("127.0.0.1:0", reports.answer, accepts=("GET", "POST"))
        server.start()
        self._closing.callback(server.close)
        return f"http://{server.address}"

    def end_lease(self, id_: str) -> None:
        """End a lease, as the daemon does when its time is over."""
        self.app.engine.leases.end(self.app.secret(self.lent), id_, patience=timedelta(seconds=30))

    def credential(self, strategy: str, **options: Any) -> Credential:
        """Return a client's view of the strategy's secret, which is read often."""
        source = LocalSource(
            self.target.names[strategy],
            file=self.folder / "secrets.db",
            key_file=self.folder / "rotator.key",
        )
        made = Credential(source, refresh=0.2, **options)
        self._made.append(made)
        return made

    def rotate(self, strategy: str) -> None:
        """Rotate and revoke."""
        secret = self.app.secret(self.target.names[strategy])
        result = self.app.engine.rotate(secret)
        deadline = time.monotonic() + 60
        while result is not None and result.outcome is None:
            assert result.error is None, result.error
            assert time.monotonic() < deadline, result.waiting
            result = self.app.engine.resume(secret, patience=timedelta(seconds=5))

    def close(self) -> None:
        for one in self._made:
            one.close()
        self._closing.close()


@contextmanager
def opened(
    target: ChaosTarget, folder: Path, terms: str = "{ttl: 1h, max: 2h, limit: 1000}"
) -> Generator[Shop]:
    """Start the server, adopt nothing: each secret begins with a first rotation.

    `terms`: how the secret with the strategy `new-user` lends its logins.
    """
    logs.set_up(level="off")
    with ExitStack() as stack:
        stack.enter_context(target)
        (folder / "admin-password").touch(mode=0o600)
        (folder / "admin-password").write_text(target.password)
        config = folder / "rotator.yaml"
        text = _CONFIG.format(target=target.target, secrets=target.secrets.format(backend="local"))
        initialise(config, text.replace(_NEW_USER, f"{_NEW_USER} leases: {terms},"))
        app = stack.enter_context(open_app(config, face="client"))
        shop = Shop(target, app, folder)
        for strategy in target.names:
            shop.rotate(strategy)
        yield shop
        shop.close()


# -- applications --------------------------------------------------------------------------------------


class Application(Protocol):
    """Works with a database through one adapter."""

    def __init__(self, credential: Credential, server: Any) -> None: ...

    def work(self) -> str:
        """Do one piece of work; return the login that it was done with."""
        ...

    def close(self) -> None: ...


class Psycopg:
    """A connection for each piece of work."""

    servers: ClassVar = {"postgresql"}

    def __init__(self, credential: Credential, server: Any) -> None:
        self._connect: Callable[[], Any] = lambda: psycopg_client.connect(
            credential, host=server.host, port=server.port, dbname="shop"
        )

    def work(self) -> str:
        with self._connect() as connection:
            return connection.execute(
                "SELECT session_user FROM orders RIGHT JOIN (SELECT 1) o ON true"
            ).fetchone()[0]

    def close(self) -> None:
        pass


class PsycopgPool:
    """psycopg_pool."""

    servers: ClassVar = {"postgresql"}

    def __init__(self, credential: Credential, server: Any) -> None:
        self.pool = psycopg_client.pool(
            credential,
            f"host={server.host} port={server.port} dbname=shop",
            min_size=2,
            max_size=4,
            timeout=10,
            open=True,
        )

    def work(self) -> str:
        with self.pool.connection() as connection:
            return connection.execute("SELECT session_user").fetchone()[0]

    def close(self) -> None:
        self.pool.close()


class PsycopgAsyncPool:
    """psycopg_pool over asyncio, with a loop of its own."""

    servers: ClassVar = {"postgresql"}

    def __init__(self, credential: Credential, server: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

        async def opened() -> Any:
            pool = psycopg_client.async_pool(
                credential,
                f"host={server.host} port={server.port} dbname=shop",
                min_size=1,
                max_size=4,
                timeout=10,
                open=False,
            )
            await pool.open()
            return pool

        self._pool = self._run(opened())

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def work(self) -> str:
        async def one() -> str:
            async with self._pool.connection() as connection:
                cursor = await connection.execute("SELECT session_user")
                return (await cursor.fetchone())[0]

        return self._run(one())

    def close(self) -> None:
        self._run(self._pool.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


class SqlAlchemy:
    """An engine with its pool."""

    servers: ClassVar = {"postgresql", "mysql"}
    _url: ClassVar = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}
    _who: ClassVar = {"postgresql": "SELECT session_user", "mysql": "SELECT USER()"}

    def __init__(self, credential: Credential, server: Any) -> None:
        kind = "mysql" if hasattr(server, "root_password") else "postgresql"
        self._query = sqlalchemy.text(self._who[kind])
        url = f"{self._url[kind]}://{server.host}:{server.port}/shop"
        self.engine = sqlalchemy.create_engine(url, pool_size=3)
        sqlalchemy_client.attach(self.engine, credential)

    def work(self) -> str:
        with self.engine.connect() as connection:
            return connection.execute(self._query).scalar_one().partition("@")[0]

    def close(self) -> None:
        self.engine.dispose()


class SqlAlchemyAsync:
    """An asynchronous engine with its pool, and a loop of its own."""

    servers: ClassVar = {"postgresql"}
    driver: ClassVar = "postgresql+psycopg"
    query: ClassVar = "SELECT session_user"

    def __init__(self, credential: Credential, server: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        url = f"{self.driver}://{server.host}:{server.port}/shop"
        self._engine = create_async_engine(url, pool_size=3)

        async def attached() -> None:
            sqlalchemy_client.attach(self._engine, credential)

        self._run(attached())

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def work(self) -> str:
        async def one() -> str:
            async with self._engine.connect() as connection:
                result = await connection.execute(sqlalchemy.text(self.query))
                return result.scalar_one().partition("@")[0]

        return self._run(one())

    def close(self) -> None:
        self._run(self._engine.dispose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


class SqlAlchemyAioMySql(SqlAlchemyAsync):
    """The same over aiomysql."""

    servers: ClassVar = {"mysql"}
    driver: ClassVar = "mysql+aiomysql"
    query: ClassVar = "SELECT USER()"


class SqlAlchemyAsyncMy(SqlAlchemyAioMySql):
    """The same over asyncmy."""

    driver: ClassVar = "mysql+asyncmy"


class Django:
    """Django's engine, as a worker uses it: one connection, looked at before and after each request."""

    servers: ClassVar = {"postgresql"}
    engine: ClassVar = "rotator.client.django.postgresql"
    query: ClassVar = "SELECT session_user"
    options: ClassVar[dict[str, Any]] = {}

    def __init__(self, credential: Credential, server: Any) -> None:
        _set_django_up()
        from django.db.utils import ConnectionHandler

        default = {
            "ENGINE": self.engine,
            "NAME": "shop",
            "HOST": server.host,
            "PORT": server.port,
            "OPTIONS": {"credential": credential} | self.options,
            "CONN_MAX_AGE": 0 if self.options else 600,
        }
        self._wrapper: Any = ConnectionHandler({"default": default})["default"]
        # The worker and the test take turns.
        self._wrapper.inc_thread_sharing()
        self._turn = threading.Lock()

    def work(self) -> str:
        with self._turn:
            self._wrapper.close_if_unusable_or_obsolete()
            try:
                with self._wrapper.cursor() as cursor:
                    cursor.execute(self.query)
                    return cursor.fetchone()[0].partition("@")[0]
            finally:
                self._wrapper.close_if_unusable_or_obsolete()

    def close(self) -> None:
        self._wrapper.close()
        if self.options:
            self._wrapper.close_pool()


class DjangoPool(Django):
    """Django's engine with Django's pool."""

    options: ClassVar[dict[str, Any]] = {"pool": {"min_size": 1, "max_size": 2}}


class DjangoMySql(Django):
    """Django's engine over PyMySQL in the place of mysqlclient."""

    servers: ClassVar = {"mysql"}
    engine: ClassVar = "rotator.client.django.mysql"
    query: ClassVar = "SELECT USER()"


def _set_django_up() -> None:
    import django
    from django.conf import settings

    # With its modules: a second copy of `err` would have classes of its own, in the package too.
    for name, module in list(sys.modules.items()):
        if name == "pymysql" or name.startswith("pymysql."):
            sys.modules.setdefault(name.replace("pymysql", "MySQLdb", 1), module)
    if not settings.configured:
        settings.configure(USE_TZ=True)
        django.setup()


class PyMySql:
    """A connection for each piece of work."""

    servers: ClassVar = {"mysql"}

    def __init__(self, credential: Credential, server: Any) -> None:
        self._connect: Callable[[], pymysql.Connection[Any]] = lambda: pymysql_client.connect(
            credential,
            host=server.host,
            port=server.port,
            database="shop",
            # Else PyMySQL reads the system's authorities for each connection.
            ssl_disabled=True,
        )

    def work(self) -> str:
        with self._connect() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT USER()")
            return cursor.fetchone()[0].partition("@")[0]

    def close(self) -> None:
        pass


class Redis:
    """redis-py's pool."""

    servers: ClassVar = {"valkey"}
    library: ClassVar[Any] = redis

    def __init__(self, credential: Credential, server: Any) -> None:
        self._client = redis_client.client(
            credential, library=self.library, host=server.host, port=server.port
        )
        self._turn = threading.Lock()

    def work(self) -> str:
        pool = self._client.connection_pool
        with self._turn:
            self._client.get("cache:one")
            # The one that was just given back.
            return pool._available_connections[-1].username

    def close(self) -> None:
        self._client.close()
        self._client.connection_pool.disconnect()


class Valkey(Redis):
    """valkey-py's pool."""

    library: ClassVar[Any] = valkey


APPLICATIONS: Final = (
    Psycopg,
    PsycopgPool,
    PsycopgAsyncPool,
    SqlAlchemy,
    SqlAlchemyAsync,
    SqlAlchemyAioMySql,
    SqlAlchemyAsyncMy,
    Django,
    DjangoPool,
    DjangoMySql,
    PyMySql,
    Redis,
    Valkey,
)
