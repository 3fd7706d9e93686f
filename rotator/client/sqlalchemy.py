"""SQLAlchemy: an engine, synchronous or not, that follows a credential.

engine = create_engine("postgresql+psycopg://db.example.org/shop")
rotator.client.sqlalchemy.attach(engine, credential)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError

from rotator.client.event_loop import on_change_in_loop
from rotator.core.version_mark import with_mark

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

    from rotator.client.credential import Credential, Login

_KEY: Final = "rotator_version"
_IS_NEW: Final = "rotator_is_new"


def attach(engine: Engine | AsyncEngine, credential: Credential) -> None:
    """Let `engine` log in by the credential, and replace connections of older versions.

    The URL needs no user and no password. Drivers: psycopg, PyMySQL, aiomysql, asyncmy. Raises
    `ValueError` for another one. Attach an asynchronous engine in the event loop that it is used in.
    On a change, idle connections are closed at once.
    """
    found: Any = getattr(engine, "sync_engine", engine)
    target = cast("Engine", found)
    is_async = target is not engine
    dialect = target.dialect
    is_refusal, name_of_program = _of_driver(dialect.driver)

    def attempt(login: Login, arguments: Any, options: dict[str, Any]) -> Any:
        application = with_mark(str(options.get(name_of_program) or ""), login.version)
        given = {
            **options,
            "user": login.username,
            "password": login.password.reveal(),
            name_of_program: application,
        }
        return dialect.connect(*arguments, **given)

    def connect(_dialect: Any, record: Any, arguments: Any, options: dict[str, Any]) -> Any:
        def stamped(login: Login) -> Any:
            connection = attempt(login, arguments, options)
            record.info[_KEY], record.info[_IS_NEW] = login.version, True
            return connection

        if not is_async:
            return credential.connect(stamped, is_refusal=is_refusal)

        async def stamped_async(login: Login) -> Any:
            # Back into the greenlet that SQLAlchemy's adapter awaits in.
            return await _in_greenlet(stamped, login)

        from sqlalchemy.util import await_only  # noqa: PLC0415 # asynchronous engines only

        return await_only(credential.connect_async(stamped_async, is_refusal=is_refusal))

    def require_current(_connection: Any, record: Any, _proxy: Any) -> None:
        # The server has accepted a new one just now: it is used, also where the next version appeared
        # meanwhile, because SQLAlchemy gives up after two connections.
        if record.info.pop(_IS_NEW, False):
            return
        if credential.is_outdated(record.info.get(_KEY, "")):
            raise DisconnectionError("this connection was opened with an older version.")

    def close_if_outdated(connection: Any, record: Any) -> None:
        # Returned to a pool that a change has replaced, it would stay open until that is collected.
        if connection is not None and credential.is_outdated(record.info.get(_KEY, "")):
            record.invalidate()

    event.listen(target, "do_connect", connect)
    event.listen(target, "checkout", require_current)
    event.listen(target, "checkin", close_if_outdated)
    if is_async:
        on_change_in_loop(credential, cast("AsyncEngine", engine).dispose)
    else:
        _ = credential.on_change(lambda _login: target.dispose())


async def _in_greenlet(call: Callable[[Login], Any], login: Login) -> Any:
    from sqlalchemy.util import greenlet_spawn  # noqa: PLC0415 # as above

    return await greenlet_spawn(call, login)


def _of_driver(driver: str) -> tuple[Callable[[BaseException], bool], str]:
    if driver in {"psycopg", "psycopg_async"}:
        from rotator.client import psycopg  # noqa: PLC0415 # only the driver that is used

        return psycopg.is_refusal, "application_name"
    if driver in {"pymysql", "aiomysql", "asyncmy"}:
        from rotator.client import pymysql  # noqa: PLC0415 # as above

        return pymysql.is_refusal, "program_name"
    raise ValueError(
        f"the driver {driver!r} is not supported: use psycopg, pymysql, aiomysql or asyncmy."
    )
