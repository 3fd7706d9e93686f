"""What an application could put on a MariaDB or MySQL for an admin to run, and settings that change what SQL means."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pymysql

if TYPE_CHECKING:
    from tests.servers.mysql_like import MySqlLikeServer

_DATABASE: Final = "planted"
# The server's own functions that statements about accounts may well call.
_FUNCTIONS: Final = (
    *("coalesce", "concat", "connection_id", "count", "current_role", "current_user", "database"),
    *("get_lock", "is_used_lock", "json_extract", "json_value", "lower", "now", "password"),
    *("release_lock", "session_user", "sha2", "substring", "user", "version"),
)
_TABLES: Final = (
    "columns_priv",
    "global_priv",
    "processlist",
    "proxies_priv",
    "role_edges",
    "user",
)
_SETTINGS: Final = {
    "sql_mode": "ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT,IGNORE_SPACE",
    "sql_quote_show_create": "0",
    "init_connect": "SET SESSION sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plants:
    """What was planted, and the settings that were there before."""

    server: MySqlLikeServer
    before: dict[str, str]

    def ran(self) -> list[str]:
        """Return what ran, as whom."""
        return [
            f"{what} as {who}" for what, who in self.server.run(f"SELECT * FROM {_DATABASE}.ran")
        ]

    def remove(self) -> None:
        """Put the server back."""
        for name, value in self.before.items():
            self.server.run(f"SET GLOBAL {name} = {_literal(value)}")
        self.server.run(f"DROP DATABASE IF EXISTS {_DATABASE}")


def plant(server: MySqlLikeServer) -> Plants:
    """Plant functions with the server's names, views with the catalog's, and hostile settings."""
    names = ", ".join(f"@@global.{name}" for name in _SETTINGS)
    (values,) = server.run(f"SELECT {names}")
    server.run(
        f"CREATE DATABASE {_DATABASE}",
        f"CREATE TABLE {_DATABASE}.ran (what varchar(80), who varchar(200))",
    )
    for name in _FUNCTIONS:
        for arguments in ("", "a text", "a text, b text"):
            # Some are no names that a function can have; and each may be there once.
            with suppress(pymysql.MySQLError):
                server.run(
                    f"CREATE FUNCTION {_DATABASE}.{name} ({arguments}) RETURNS text SQL SECURITY INVOKER"
                    f" DETERMINISTIC MODIFIES SQL DATA BEGIN INSERT INTO {_DATABASE}.ran VALUES ('{name}', CURRENT_USER());"
                    " RETURN NULL; END"
                )
    server.run(
        f"CREATE FUNCTION {_DATABASE}.note (a varchar(80)) RETURNS int SQL SECURITY INVOKER DETERMINISTIC MODIFIES SQL DATA"
        f" BEGIN INSERT INTO {_DATABASE}.ran VALUES (a, CURRENT_USER()); RETURN 1; END",
        *(
            f"CREATE SQL SECURITY INVOKER VIEW {_DATABASE}.{name} AS SELECT {_DATABASE}.note('{name}') AS User"
            for name in _TABLES
        ),
    )
    for name, value in _SETTINGS.items():
        server.run(f"SET GLOBAL {name} = {_literal(value)}")
    return Plants(server=server, before=dict(zip(_SETTINGS, map(str, values), strict=True)))


def _literal(value: str) -> str:
    return value if value.isdigit() else "'" + value.replace("'", "''") + "'"
