"""psycopg 3: connections and pools that follow a credential.

    pool = rotator.client.psycopg.pool(credential, "host=db.example.org dbname=shop")

The pool replaces each connection that was opened with an older version, the moment it is asked for
or, when it is idle, as soon as another version is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import psycopg

from rotator.client.event_loop import on_change_in_loop
from rotator.client.refusals import Refusal
from rotator.core.version_mark import with_mark

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg_pool import AsyncConnectionPool, ConnectionPool

    from rotator.client.credential import Credential
    from rotator.client.login import Login

_ATTRIBUTE: Final = "rotator_version"
_Connection = TypeVar("_Connection", bound=psycopg.Connection[Any])
_AsyncConnection = TypeVar("_AsyncConnection", bound=psycopg.AsyncConnection[Any])


def refusal_of(error: BaseException) -> Refusal | None:
    """Return a refusal where the server was sent a password and did not log us in.

    libpq gives no SQLSTATE for that, and its text depends on the server's language; whether a
    password was used is known in every language.
    """
    connection = getattr(error, "pgconn", None)
    is_refused = isinstance(error, psycopg.OperationalError) and bool(
        connection is not None and connection.used_password
    )
    return Refusal.LOGIN if is_refused else None


def connect(credential: Credential, conninfo: str = "", **options: Any) -> psycopg.Connection[Any]:
    """Return a connection by the current login. `conninfo` and `options` are psycopg's own."""
    return following(credential).connect(conninfo, **options)


async def connect_async(
    credential: Credential, conninfo: str = "", **options: Any
) -> psycopg.AsyncConnection[Any]:
    """As `connect`, for asyncio."""
    return await following_async(credential).connect(conninfo, **options)


def pool(credential: Credential, conninfo: str = "", **options: Any) -> ConnectionPool[Any]:
    """Return a `psycopg_pool.ConnectionPool`. `options` are its own, `kwargs` those of a connection."""
    from psycopg_pool import ConnectionPool  # noqa: PLC0415 # an extra of psycopg

    base = options.pop("connection_class", psycopg.Connection)
    check: Callable[[Any], None] | None = options.pop("check", None)
    configure: Callable[[Any], None] | None = options.pop("configure", None)

    def require_current(connection: Any) -> None:
        _require_current(credential, connection)
        if check is not None:
            check(connection)

    # A connection that was being opened while the pool was drained is younger than the drain, and
    # the pool would keep it.
    def configured(connection: Any) -> None:
        if not is_current(credential, connection):
            # The pool leaves it open where this function raises.
            connection.close()
        _require_current(credential, connection)
        if configure is not None:
            configure(connection)

    made = ConnectionPool(
        conninfo,
        connection_class=following(credential, base),
        check=require_current,
        configure=configured,
        **options,
    )
    _ = credential.on_change(lambda _login: made.drain())
    return made


def async_pool(
    credential: Credential, conninfo: str = "", **options: Any
) -> AsyncConnectionPool[Any]:
    """As `pool`, for asyncio. Make it in the event loop that it is used in."""
    from psycopg_pool import AsyncConnectionPool  # noqa: PLC0415 # as above

    base = options.pop("connection_class", psycopg.AsyncConnection)
    check = options.pop("check", None)
    configure = options.pop("configure", None)

    async def require_current(connection: Any) -> None:
        _require_current(credential, connection)
        if check is not None:
            await check(connection)

    async def configured(connection: Any) -> None:
        if not is_current(credential, connection):
            await connection.close()
        _require_current(credential, connection)
        if configure is not None:
            await configure(connection)

    made = AsyncConnectionPool(
        conninfo,
        connection_class=following_async(credential, base),
        check=require_current,
        configure=configured,
        **options,
    )
    on_change_in_loop(credential, made.drain)
    return made


def following(
    credential: Credential, base: type[_Connection] = psycopg.Connection[Any]
) -> type[_Connection]:
    """Return a subclass of `base` whose `connect` logs in by the credential."""

    class Following(base):  # pyright: ignore[reportGeneralTypeIssues, reportUntypedBaseClass] # a type that is only known here
        @classmethod
        def connect(cls, conninfo: str = "", **options: Any) -> Any:
            def attempt(login: Login) -> Any:
                return stamped(
                    super(Following, cls).connect(conninfo, **with_login(login, options)), login
                )

            return credential.connect(attempt, refusal_of=refusal_of)

    return Following  # pyright: ignore[reportReturnType] # as above


def following_async(
    credential: Credential, base: type[_AsyncConnection] = psycopg.AsyncConnection[Any]
) -> type[_AsyncConnection]:
    """Return a subclass of `base` whose `connect` logs in by the credential."""

    class Following(base):  # pyright: ignore[reportGeneralTypeIssues, reportUntypedBaseClass] # as above
        @classmethod
        async def connect(cls, conninfo: str = "", **options: Any) -> Any:
            async def attempt(login: Login) -> Any:
                connection = await super(Following, cls).connect(
                    conninfo, **with_login(login, options)
                )
                return stamped(connection, login)

            return await credential.connect_async(attempt, refusal_of=refusal_of)

    return Following  # pyright: ignore[reportReturnType] # as above


def is_current(credential: Credential, connection: Any) -> bool:
    """Whether a connection was opened with the version that is served now."""
    version = getattr(connection, _ATTRIBUTE, None)
    return version is not None and not credential.is_outdated(version)


def _require_current(credential: Credential, connection: Any) -> None:
    if not is_current(credential, connection):
        raise psycopg.OperationalError("this connection was opened with an older version.")


def with_login(login: Login, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a connection with the login, and its mark in the application's name."""
    application = with_mark(str(options.get("application_name") or ""), login.version)
    return {
        **options,
        "user": login.username,
        "password": login.password.reveal(),
        "application_name": application,
    }


def stamped(connection: Any, login: Login) -> Any:
    """Return the connection, which now remembers the version that it was opened with."""
    setattr(connection, _ATTRIBUTE, login.version)
    return connection
