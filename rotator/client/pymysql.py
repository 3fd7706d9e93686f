"""PyMySQL: connections to MariaDB and MySQL that follow a credential."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pymysql

from rotator.client.refusals import Refusal, of_mysql
from rotator.core.version_mark import with_mark

if TYPE_CHECKING:
    from rotator.client.credential import Credential
    from rotator.client.login import Login


def refusal_of(error: BaseException) -> Refusal | None:
    """Return a refusal where the server refused the login, by the error's number.

    asyncmy and mysqlclient have classes of their own for it.
    """
    is_of_driver = type(error).__name__ == pymysql.err.OperationalError.__name__
    return of_mysql(error.args[0]) if is_of_driver and error.args else None


def connect(credential: Credential, **options: Any) -> pymysql.Connection[Any]:
    """Return a connection by the current login. `options` are those of `pymysql.connect`."""

    def attempt(login: Login) -> pymysql.Connection[Any]:
        return pymysql.connect(**with_login(login, options))

    return credential.connect(attempt, refusal_of=refusal_of)


def with_login(login: Login, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a connection with the login, and its mark as the program's name."""
    return {
        **options,
        "user": login.username,
        "password": login.password.reveal(),
        "program_name": with_mark(str(options.get("program_name") or ""), login.version),
    }
