"""Roles as the catalog shows them, and the mark that tells which ones are ours."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from psycopg import sql

from rotator.api import Session

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rotations.postgresql.server import Connection

_MARK: Final = "managed by rotator "
# These hold a list of names; each is quoted by itself (pg_dump, variable_is_guc_list_quote).
_LISTS: Final = frozenset(
    {"local_preload_libraries", "search_path", "session_preload_libraries", "temp_tablespaces"}
)

_LOOK: Final = """
SELECT r.oid, r.rolname, r.rolcanlogin, r.rolconnlimit,
       ARRAY[r.rolsuper, r.rolcreatedb, r.rolcreaterole, r.rolreplication, r.rolbypassrls],
       shobj_description(r.oid, 'pg_authid'),
       ARRAY(SELECT g.rolname FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
             WHERE m.member = r.oid ORDER BY 1)::text[],
       (SELECT coalesce(jsonb_agg(jsonb_build_array(d.datname, s.setconfig) ORDER BY d.datname), '[]')
        FROM pg_db_role_setting s LEFT JOIN pg_database d ON d.oid = s.setdatabase
        WHERE s.setrole = r.oid)
FROM pg_roles r WHERE r.rolname = ANY(%s)
"""
_SESSIONS: Final = """
SELECT pid, usename, coalesce(host(client_addr), CASE WHEN backend_start IS NULL THEN '?' ELSE 'local' END),
       coalesce(application_name, '?'), backend_start
FROM pg_stat_activity
WHERE usename = %s AND pid <> pg_backend_pid() AND coalesce(application_name, '') <> %s
ORDER BY backend_start
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Whose a role is: the secret it serves and the rotation that created it."""

    secret: str
    rotation: str

    def text(self) -> str:
        """Return the mark as COMMENT ON ROLE holds it."""
        return _MARK + json.dumps({"secret": self.secret, "rotation": self.rotation})

    @staticmethod
    def parse(comment: str | None) -> Mark | None:
        """Read a comment; None when it is not a mark of ours."""
        if comment is None or not comment.startswith(_MARK):
            return None
        try:
            data = json.loads(comment[len(_MARK) :])
            return Mark(secret=str(data["secret"]), rotation=str(data["rotation"]))
        except (ValueError, TypeError, KeyError):
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting of a role, in every database (`database` None) or in one."""

    database: str | None
    name: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """One role. `powers`: superuser, createdb, createrole, replication, bypassrls."""

    oid: int
    name: str
    can_login: bool
    connection_limit: int
    powers: tuple[bool, ...]
    mark: Mark | None
    groups: tuple[str, ...]
    settings: tuple[Setting, ...]


def look(connection: Connection, names: Iterable[str]) -> dict[str, Role]:
    """Return those of the roles that exist, by name. One round trip."""
    found = connection.execute(_LOOK, [sorted(set(names))]).fetchall()
    return {row[1]: _role(row) for row in found}


def sessions(connection: Connection, login: str) -> list[tuple[int, Session]]:
    """Return the open sessions of a login with their process ids, ours excepted."""
    from rotations.postgresql.server import APPLICATION  # noqa: PLC0415 # which imports nothing of ours

    found = connection.execute(_SESSIONS, [login, APPLICATION]).fetchall()
    return [
        (pid, Session(login=user, client=client, application=application, since=since))
        for pid, user, client, application, since in found
    ]


def set_setting(role: str, setting: Setting) -> sql.Composed:
    """Return the statement that gives a role a setting."""
    if setting.name in _LISTS:
        values = [sql.Literal(one) for one in split_names(setting.value)] or [sql.Literal("")]
    else:
        values = [sql.Literal(setting.value)]
    place = (
        sql.SQL(" IN DATABASE {}").format(sql.Identifier(setting.database))
        if setting.database is not None
        else sql.SQL("")
    )
    # A custom setting's name has two parts, each an identifier.
    name = sql.SQL(".").join(sql.Identifier(part) for part in setting.name.split("."))
    return sql.SQL("ALTER ROLE {}{} SET {} TO {}").format(
        sql.Identifier(role), place, name, sql.SQL(", ").join(values)
    )


def split_names(value: str) -> list[str]:
    """Split `"$user", public` into its names, as PostgreSQL's SplitIdentifierString does."""
    names: list[str] = []
    position = 0
    while position < len(value):
        if value[position] in ", ":
            position += 1
        elif value[position] == '"':
            end, name = position + 1, ""
            while end < len(value):
                if value[end] == '"':
                    if value[end + 1 : end + 2] != '"':
                        break
                    end += 1
                name += value[end]
                end += 1
            names.append(name)
            position = end + 1
        else:
            end = value.find(",", position)
            end = len(value) if end < 0 else end
            names.append(value[position:end].strip())
            position = end
    return names


def _role(row: tuple[Any, ...]) -> Role:
    oid, name, can_login, limit, powers, comment, groups, settings = row
    return Role(
        oid=oid,
        name=name,
        can_login=can_login,
        connection_limit=limit,
        powers=tuple(powers),
        mark=Mark.parse(comment),
        groups=tuple(groups),
        settings=tuple(
            Setting(database=database, name=text.partition("=")[0], value=text.partition("=")[2])
            for database, texts in settings
            for text in texts or ()
        ),
    )
