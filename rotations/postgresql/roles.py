"""Roles as the catalog shows them, and the mark that tells which ones are ours."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from psycopg import sql

from rotator.api import MarkedLogin, Session

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rotations.postgresql.server import Connection

_MARK: Final = "managed by rotator "
# These hold a list of names; each is quoted by itself (pg_dump, variable_is_guc_list_quote).
_LISTS: Final = frozenset(
    {"local_preload_libraries", "search_path", "session_preload_libraries", "temp_tablespaces"}
)

_LOOK: Final = """
SELECT r.oid, r.rolname, r.rolcanlogin, pg_catalog.shobj_description(r.oid, 'pg_authid')
FROM pg_catalog.pg_roles r WHERE r.rolname = ANY(%s)
"""
_MARKED: Final = """
SELECT r.rolname, r.rolcanlogin, d.description FROM pg_catalog.pg_roles r
JOIN pg_catalog.pg_shdescription d ON d.objoid = r.oid AND d.classoid = 'pg_catalog.pg_authid'::pg_catalog.regclass
WHERE d.description LIKE %s ORDER BY 1
"""
_SESSIONS: Final = """
SELECT pid, usename, coalesce(pg_catalog.host(client_addr), CASE WHEN backend_start IS NULL THEN '?' ELSE 'local' END),
       coalesce(application_name, '?'), backend_start
FROM pg_catalog.pg_stat_activity
WHERE usename = %s AND pid <> pg_catalog.pg_backend_pid() AND coalesce(application_name, '') <> %s
  -- Without pg_read_all_stats the admin does not see what kind of process it is.
  AND (backend_type IN ('client backend', 'walsender')
       OR backend_type IS NULL AND pid NOT IN (SELECT pid FROM pg_catalog.pg_stat_subscription WHERE pid IS NOT NULL))
ORDER BY backend_start
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Whose a role is: the secret it serves and the rotation that created it.

    `note` is the comment that an operator gave the login before it.
    """

    secret: str
    rotation: str
    note: str | None = field(default=None, compare=False)

    def text(self) -> str:
        """Return the mark as COMMENT ON ROLE holds it."""
        data = {"secret": self.secret, "rotation": self.rotation}
        return _MARK + json.dumps(data | ({"comment": self.note} if self.note else {}))

    @staticmethod
    def parse(comment: str | None) -> Mark | None:
        """Read a comment; None when it is not a mark of ours."""
        if comment is None or not comment.startswith(_MARK):
            return None
        try:
            data = json.loads(comment[len(_MARK) :])
            note = data.get("comment")
            return Mark(
                secret=str(data["secret"]),
                rotation=str(data["rotation"]),
                note=note if isinstance(note, str) else None,
            )
        except (ValueError, TypeError, KeyError):
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting of a role, in every database (`database` None) or in one."""

    database: str | None
    name: str
    value: str

    @property
    def key(self) -> tuple[str | None, str, object]:
        """Return what two settings that mean the same have in common, however they are quoted."""
        value = tuple(split_names(self.value)) if self.name in _LISTS else self.value
        return self.database, self.name, value


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """One role: what a step must know of it before it touches it."""

    oid: int
    name: str
    can_login: bool
    mark: Mark | None


def look(connection: Connection, names: Iterable[str]) -> dict[str, Role]:
    """Return those of the roles that exist, by name. One round trip."""
    found = connection.execute(_LOOK, [sorted(set(names))]).fetchall()
    return {
        name: Role(oid=oid, name=name, can_login=can_login, mark=Mark.parse(comment))
        for oid, name, can_login, comment in found
    }


def marked(connection: Connection) -> list[MarkedLogin]:
    """Return every role that bears a mark, of whichever secret."""
    found: list[MarkedLogin] = []
    for name, can_login, comment in connection.execute(_MARKED, [f"{_MARK}%"]).fetchall():
        mark = Mark.parse(comment)
        if mark is not None:
            remove = sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(name))
            found.append(
                MarkedLogin(
                    login=name,
                    can_login=can_login,
                    is_of=mark.secret.__eq__,
                    remove=remove.as_string(connection),
                )
            )
    return found


def sessions(connection: Connection, login: str) -> list[tuple[int, Session]]:
    """Return the open sessions of a login with their process ids, ours excepted."""
    from rotations.postgresql.server import APPLICATION  # noqa: PLC0415 # which imports nothing of ours

    found = connection.execute(_SESSIONS, [login, APPLICATION]).fetchall()
    return [
        (pid, Session(login=user, client=client, application=application, since=since))
        for pid, user, client, application, since in found
    ]


def reset_setting(role: str, setting: Setting) -> sql.Composed:
    """Return the statement that takes a setting from a role."""
    place, name = _place_and_name(setting)
    return sql.SQL("ALTER ROLE {}{} RESET {}").format(sql.Identifier(role), place, name)


def set_setting(role: str, setting: Setting) -> sql.Composed:
    """Return the statement that gives a role a setting."""
    if setting.name in _LISTS:
        values = [sql.Literal(one) for one in split_names(setting.value)] or [sql.Literal("")]
    else:
        values = [sql.Literal(setting.value)]
    place, name = _place_and_name(setting)
    return sql.SQL("ALTER ROLE {}{} SET {} TO {}").format(
        sql.Identifier(role), place, name, sql.SQL(", ").join(values)
    )


def join_names(names: Iterable[str]) -> str:
    """Return names as the value of a setting that lists them."""
    return ", ".join(sql.Identifier(one).as_string(None) for one in names)


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


def settings_of(
    found: Iterable[tuple[str | None, Iterable[str] | None]] | None,
) -> tuple[Setting, ...]:
    """Return the settings that pg_db_role_setting holds, from pairs of a database and its texts."""
    return tuple(
        Setting(database=database, name=text.partition("=")[0], value=text.partition("=")[2])
        for database, texts in found or ()
        for text in texts or ()
    )


def _place_and_name(setting: Setting) -> tuple[sql.Composable, sql.Composable]:
    place = (
        sql.SQL(" IN DATABASE {}").format(sql.Identifier(setting.database))
        if setting.database is not None
        else sql.SQL("")
    )
    # A custom setting's name has two parts, each an identifier.
    return place, sql.SQL(".").join(sql.Identifier(part) for part in setting.name.split("."))
