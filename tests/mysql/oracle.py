"""What a server keeps of an account, read off its tables: what the plugin's own comparison is held against."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

import pymysql

if TYPE_CHECKING:
    from tests.servers.mysql_like import MySqlLikeServer

# Of a row: whose it is, when and by whom it was made, and its password.
_OF_THE_ROW: Final = frozenset(
    {"user", "host", "authentication_string", "password_last_changed", "grantor", "timestamp"}
    | {"account_locked", "password_expired", "to_user", "to_host", "admin_granted_by"}
)
_MYSQL: Final = {
    "user": "User = %s AND Host = %s",
    "db": "User = %s AND Host = %s",
    "tables_priv": "User = %s AND Host = %s",
    "columns_priv": "User = %s AND Host = %s",
    "procs_priv": "User = %s AND Host = %s",
    "proxies_priv": "User = %s AND Host = %s",
    "global_grants": "USER = %s AND HOST = %s",
    "role_edges": "TO_USER = %s AND TO_HOST = %s",
    "default_roles": "USER = %s AND HOST = %s",
}
_MARIADB: Final = {
    "global_priv": "User = %s AND Host = %s",
    "db": "User = %s AND Host = %s",
    "tables_priv": "User = %s AND Host = %s",
    "columns_priv": "User = %s AND Host = %s",
    "procs_priv": "User = %s AND Host = %s",
    "proxies_priv": "User = %s AND Host = %s",
    "roles_mapping": "User = %s AND Host = %s",
}
_ACTIONS: Final = (
    "SELECT id FROM store.orders",
    "SELECT secret FROM store.orders",
    "INSERT INTO store.orders (id) VALUES (1)",
    "UPDATE store.orders SET secret = 1 WHERE id = 1",
    "DELETE FROM store.orders WHERE id = -1",
    "CALL store.proc()",
    "CREATE TEMPORARY TABLE store.t (i int)",
    "FLUSH STATUS",
    "SET GLOBAL wait_timeout = 28800",
    "SHOW PROCESSLIST",
    "GRANT SELECT ON store.* TO bystander@'%'",
    "GRANT UPDATE (secret) ON store.orders TO bystander@'%'",
    "GRANT reader TO bystander@'%'",
    "GRANT RELOAD ON *.* TO bystander@'%'",
)


def profile(server: MySqlLikeServer, login: str, host: str = "%") -> dict[str, list[str]]:
    """Return all that the server keeps of an account, without its name and passwords."""
    tables = _MYSQL if server.product == "MySQL" else _MARIADB
    found: dict[str, list[str]] = {}
    with server.connect() as link, link.cursor(pymysql.cursors.DictCursor) as cursor:
        for table, condition in tables.items():
            cursor.execute(f"SELECT * FROM mysql.{table} WHERE {condition}", (login, host))
            found[table] = sorted(line for row in cursor.fetchall() for line in _lines(_plain(row)))
        cursor.execute("SHOW GRANTS FOR %s@%s", (login, host))
        found["grants in memory"] = sorted(
            _line(str(next(iter(row.values()))), login) for row in cursor.fetchall()
        )
    return found


def differences(has: dict[str, list[str]], wanted: dict[str, list[str]]) -> list[str]:
    """Return how two profiles differ."""
    found: list[str] = []
    for table, lines in wanted.items():
        found += [f"{table}: missing {one}" for one in lines if one not in has[table]]
        found += [f"{table}: too much {one}" for one in has[table] if one not in lines]
    return found


def deeds(server: MySqlLikeServer, login: str, password: str) -> dict[str, int]:
    """Return what an account may really do: for each action the error number, or 0."""
    found: dict[str, int] = {}
    with server.connect(login, password) as link, link.cursor() as cursor:
        for action in _ACTIONS:
            try:
                cursor.execute(action)
                found[action] = 0
            except pymysql.MySQLError as error:
                found[action] = int(error.args[0])
        try:
            cursor.execute("SELECT CURRENT_ROLE()")
            found["role"] = hash(str(cursor.fetchone()))
        except pymysql.MySQLError as error:
            found["role"] = int(error.args[0])
    server.run("DROP USER bystander@'%'", "CREATE USER bystander@'%'")
    return found


def _lines(row: dict[str, Any]) -> list[str]:
    """Return a row as one line, or, where an account has one row only, a line for each value."""
    if "Priv" in row:
        return [f"{key}={value}" for key, value in row["Priv"].items()]
    if "User_attributes" in row:
        return [f"{key}={value}" for key, value in row.items()]
    return [str(row)]


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    found = {key: value for key, value in row.items() if key.lower() not in _OF_THE_ROW}
    if "Priv" in found:
        found["Priv"] = _global_priv(json.loads(found["Priv"]))
    if "User_attributes" in found:
        found["User_attributes"] = _user_attributes(json.loads(found["User_attributes"] or "{}"))
    if "Column_name" in found or "Table_priv" in found:
        found = {key: _ordered(value) for key, value in found.items()}
    return found


def _global_priv(kept: dict[str, Any]) -> dict[str, Any]:
    """Return it without the password; what is not set is what it means."""
    defaults: dict[str, Any] = {
        "max_questions": 0,
        "max_updates": 0,
        "max_connections": 0,
        "max_user_connections": 0,
        "max_statement_time": 0.0,
        "ssl_type": 0,
        "ssl_cipher": "",
        "x509_issuer": "",
        "x509_subject": "",
        "password_lifetime": -1,
        "default_role": "",
        "access": 0,
    }
    passwords = {"authentication_string", "password_last_changed", "account_locked", "version_id"}
    found = defaults | {key: value for key, value in kept.items() if key not in passwords}
    found["plugins"] = [one.get("plugin", kept["plugin"]) for one in found.pop("auth_or", [{}])]
    return found


def _user_attributes(kept: dict[str, Any]) -> dict[str, Any]:
    kept.pop("additional_password", None)
    metadata = {key: one for key, one in kept.pop("metadata", {}).items() if key != "rotator"}
    locking = kept.pop("Password_locking", None) or {}
    if any(locking.values()):
        kept["Password_locking"] = locking
    return kept | ({"metadata": metadata} if metadata else {})


def _ordered(value: Any) -> Any:
    return sorted(value.split(",")) if isinstance(value, str) and "," in value else value


def _line(text: str, login: str) -> str:
    text = re.sub(r" IDENTIFIED (?:BY PASSWORD|VIA \w+ (?:USING|AS)) '[^']*'", "", text)
    text = re.sub(r" OR \w+ USING '[^']*'", "", text).replace(f"`{login}`", "`it`")
    # Servers keep columns in the order in which they came.
    return re.sub(r"\(([^)]*)\)", lambda one: f"({', '.join(sorted(one[1].split(', ')))})", text)
