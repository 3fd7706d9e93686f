"""SQLAlchemy: an engine, synchronous or not, that follows a credential.

engine = create_engine("postgresql+psycopg://db.example.org/shop")
rotator.client.sqlalchemy.attach(engine, credential)
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError

from rotator.client.event_loop import on_change_in_loop
from rotator.client.log import warn

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

    from rotator.client.credential import Credential
    from rotator.client.login import Login
    from rotator.client.refusals import Refusal

_T = TypeVar("_T")
_KEY: Final = "rotator_version"
_IS_NEW: Final = "rotator_is_new"


def attach(engine: Engine | AsyncEngine, credential: Credential) -> None:
    """Let `engine` log in by the credential, and replace connections of older versions.

    The URL needs no user and no password. Drivers: psycopg, PyMySQL, aiomysql, asyncmy. Raises
    `ValueError` for another one. Attach an asynchronous engine in the event loop that it is used in.
    On a change, idle connections are replaced at once.
    """
    target = cast("Engine", getattr(engine, "sync_engine", engine))
    is_async = target is not engine
    dialect = target.dialect
    refusal_of, with_login = _of_driver(dialect.driver)

    def connect(_dialect: Any, record: Any, arguments: Any, options: dict[str, Any]) -> Any:
        def stamped(login: Login) -> Any:
            connection = dialect.connect(*arguments, **with_login(login, options))
            record.info[_KEY], record.info[_IS_NEW] = login.version, True
            return connection

        if not is_async:
            return credential.connect(stamped, refusal_of=refusal_of)

        async def stamped_async(login: Login) -> Any:
            # Back into the greenlet that SQLAlchemy's adapter awaits in.
            return await _in_greenlet(stamped, login)

        from sqlalchemy.util import await_only  # noqa: PLC0415 # asynchronous engines only

        return await_only(credential.connect_async(stamped_async, refusal_of=refusal_of))

    def require_current(_connection: Any, record: Any, _proxy: Any) -> None:
        # The server has accepted a new one just now: it is used, also where the next version appeared
        # meanwhile, because SQLAlchemy gives up after two connections.
        if record.info.pop(_IS_NEW, False):
            return
        if credential.is_outdated(record.info.get(_KEY, "")):
            raise DisconnectionError("this connection was opened with an older version.")

    def close_if_outdated(connection: Any, record: Any) -> None:
        # It would stay open until it is asked for, and hold a revoke up.
        if connection is not None and credential.is_outdated(record.info.get(_KEY, "")):
            record.invalidate()

    event.listen(target, "do_connect", connect)
    event.listen(target, "checkout", require_current)
    event.listen(target, "checkin", close_if_outdated)
    if is_async:
        on_change_in_loop(credential, lambda: _in_greenlet(_renew_idle, target))
    else:

        def renew(_login: Login) -> None:
            # The thread that read the new version may hold a connection of this pool.
            threading.Thread(target=_renew_idle, args=(target,), daemon=True).start()

        _ = credential.on_change(renew)


def _renew_idle(engine: Engine) -> None:
    """Take out each idle connection, which replaces it, and give it back.

    `Engine.dispose` would do for engines at rest only: a connection that is opened while the pool is
    replaced returns to the old pool, where it stays open and holds a revoke up.
    """
    pool: Any = engine.pool
    if not hasattr(pool, "checkedin"):
        return
    held: list[Any] = []
    try:
        count = pool.checkedin()
        while len(held) < count and pool.checkedin():
            held.append(pool.connect())
    except Exception as error:  # noqa: BLE001 # the application meets it where it connects
        warn("an idle connection could not be replaced: %s", type(error).__name__)
    finally:
        for connection in held:
            connection.close()


async def _in_greenlet(call: Callable[[_T], Any], argument: _T) -> Any:
    from sqlalchemy.util import greenlet_spawn  # noqa: PLC0415 # as above

    return await greenlet_spawn(call, argument)


def _of_driver(driver: str) -> tuple[Callable[[BaseException], Refusal | None], Callable[..., Any]]:
    if driver in {"psycopg", "psycopg_async"}:
        from rotator.client import psycopg  # noqa: PLC0415 # only the driver that is used

        return psycopg.refusal_of, psycopg.with_login
    if driver in {"pymysql", "aiomysql", "asyncmy"}:
        from rotator.client import pymysql  # noqa: PLC0415 # as above

        return pymysql.refusal_of, pymysql.with_login
    raise ValueError(
        f"the driver {driver!r} is not supported: use psycopg, pymysql, aiomysql or asyncmy."
    )
