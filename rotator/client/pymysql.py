"""PyMySQL: connections to MariaDB and MySQL that follow a credential."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pymysql

from rotator.client.refusals import MYSQL
from rotator.core.version_mark import with_mark

if TYPE_CHECKING:
    from rotator.client.credential import Credential, Login


def is_refusal(error: BaseException) -> bool:
    """Whether the server refused the login, by the error's number."""
    return bool(
        isinstance(error, pymysql.err.OperationalError) and error.args and error.args[0] in MYSQL
    )


def connect(credential: Credential, **options: Any) -> pymysql.Connection[Any]:
    """Return a connection by the current login. `options` are those of `pymysql.connect`."""

    def attempt(login: Login) -> pymysql.Connection[Any]:
        return pymysql.connect(**with_login(login, options))

    return credential.connect(attempt, is_refusal=is_refusal)


def with_login(login: Login, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a connection with the login, and its mark as the program's name."""
    return {
        **options,
        "user": login.username,
        "password": login.password.reveal(),
        "program_name": with_mark(str(options.get("program_name") or ""), login.version),
    }
