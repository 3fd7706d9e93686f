"""What a login can do, without its name: asked of the server by none of the plugin's queries.

The application's part is what its own session sees; the admin's part is what pg_dumpall would write.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import psycopg

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    BoundedConnection = psycopg.Connection[tuple[Any, ...]]

Facts = dict[str, Any]
_MEMBERSHIP_OPTIONS: Final = 160_000

_SETTINGS: Final = """
SELECT name, setting FROM pg_settings
WHERE name NOT IN ('application_name', 'transaction_isolation', 'client_encoding', 'search_path')
UNION ALL SELECT 'app.x', current_setting('app.x', true)
UNION ALL SELECT 'schemas', current_schemas(false)::text
"""
# %s is who: current_user for the application itself.
_PRIVILEGES: Final = """
WITH spaces AS (SELECT oid, nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema')
SELECT 'table', c.oid::regclass::text, p, has_table_privilege({who}, c.oid, p)
FROM pg_class c JOIN spaces n ON n.oid = c.relnamespace,
    unnest('{{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,TRIGGER,SELECT WITH GRANT OPTION,UPDATE WITH GRANT OPTION}}'::text[]) p
WHERE c.relkind IN ('r', 'v')
UNION ALL
SELECT 'column', c.oid::regclass::text || '.' || attname, p, has_column_privilege({who}, c.oid, attnum, p)
FROM pg_class c JOIN spaces n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid AND attnum > 0,
    unnest('{{SELECT,UPDATE,SELECT WITH GRANT OPTION}}'::text[]) p WHERE c.relkind = 'r'
UNION ALL
SELECT 'sequence', c.oid::regclass::text, p, has_sequence_privilege({who}, c.oid, p)
FROM pg_class c JOIN spaces n ON n.oid = c.relnamespace, unnest('{{USAGE,SELECT,UPDATE}}'::text[]) p WHERE c.relkind = 'S'
UNION ALL
SELECT 'schema', nspname, p, has_schema_privilege({who}, oid, p) FROM spaces,
    unnest('{{USAGE,CREATE,USAGE WITH GRANT OPTION}}'::text[]) p
UNION ALL
SELECT 'function', f.oid::regprocedure::text, p, has_function_privilege({who}, f.oid, p)
FROM pg_proc f JOIN spaces n ON n.oid = f.pronamespace, unnest('{{EXECUTE,EXECUTE WITH GRANT OPTION}}'::text[]) p
UNION ALL
SELECT 'database', datname, p, has_database_privilege({who}, oid, p) FROM pg_database, unnest('{{CONNECT,CREATE,TEMP}}'::text[]) p
UNION ALL
SELECT 'language', lanname, 'USAGE', has_language_privilege({who}, oid, 'USAGE') FROM pg_language
UNION ALL
SELECT 'owner', c.oid::regclass::text, '', pg_has_role({who}, c.relowner, 'USAGE')
FROM pg_class c JOIN spaces n ON n.oid = c.relnamespace
"""
_ROLES: Final = """
SELECT rolname, pg_has_role(session_user, oid, 'MEMBER'), pg_has_role(current_user, oid, 'USAGE'),
    pg_has_role(current_user, oid, 'USAGE WITH ADMIN OPTION')
FROM pg_roles WHERE rolname = ANY (%s)
"""
_SELF: Final = """
SELECT 'at login', rolsuper, rolreplication, rolconnlimit, nullif(rolvaliduntil, 'infinity')
FROM pg_roles WHERE rolname = session_user
UNION ALL SELECT 'in the session', rolcreatedb, rolcreaterole, rolbypassrls::int, NULL
FROM pg_roles WHERE rolname = current_user
UNION ALL SELECT 'of its own', rolcreatedb, rolcreaterole, rolbypassrls::int, NULL
FROM pg_roles WHERE rolname = session_user
"""
_MADE: Final = """
SELECT CASE e.grantee WHEN 0 THEN 'PUBLIC' WHEN c.relowner THEN 'me' ELSE pg_get_userbyid(e.grantee) END,
    e.privilege_type, e.is_grantable
FROM pg_class c LEFT JOIN LATERAL aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) e ON true
WHERE c.oid = 's1.made_now'::regclass
UNION ALL
SELECT 'f ' || CASE e.grantee WHEN 0 THEN 'PUBLIC' WHEN f.proowner THEN 'me' ELSE pg_get_userbyid(e.grantee) END,
    e.privilege_type, e.is_grantable
FROM pg_proc f, aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) e WHERE f.proname = 'made_now_f'
"""


def as_application(
    connect: Callable[[str], BoundedConnection], databases: Iterable[str], roles: list[str]
) -> Facts:
    """Return what the session of a login sees and may do in each database."""
    facts: Facts = {}
    for database in databases:
        with connect(database) as link:
            facts |= {
                f"{database} setting {name}": value for name, value in link.execute(_SETTINGS)
            }
            facts |= _privileges(link, database)
            facts |= {f"role {row[0]}": row[1:] for row in link.execute(_ROLES, [roles])}
            if link.info.server_version >= _MEMBERSHIP_OPTIONS:
                query = "SELECT rolname, pg_has_role(session_user, oid, 'SET') FROM pg_roles WHERE rolname = ANY (%s)"
                facts |= {f"set role {name}": may for name, may in link.execute(query, [roles])}
            facts |= {f"self {row[0]}": row[1:] for row in link.execute(_SELF)}
            facts |= {f"{database} {key}": value for key, value in _tried(link).items()}
    return facts


def by_catalog(admin: BoundedConnection, login: str) -> Facts:
    """Return what only an admin sees: the hash's kind, an operator's comment."""
    (row,) = admin.execute(
        "SELECT rolpassword, shobj_description(oid, 'pg_authid') FROM pg_authid WHERE rolname = %s",
        [login],
    ).fetchall()
    password, comment = row
    kind = "md5" if password.startswith("md5") else ":".join(password.split(":")[0].split("$"))
    if comment is not None and comment.startswith("managed by rotator "):
        comment = json.loads(comment.removeprefix("managed by rotator ")).get("comment")
    settings = admin.execute(
        "SELECT coalesce(datname, '*'), unnest(setconfig) FROM pg_db_role_setting s"
        " LEFT JOIN pg_database d ON d.oid = setdatabase WHERE setrole = %s::regrole",
        [f'"{login}"'],
    ).fetchall()
    kept = sorted(
        f"{database} {text}"
        for database, text in settings
        if not text.startswith(("role=", "search_path="))
    )
    return {"hash": kind, "comment": comment, "settings": kept}


def of_bystanders(admin: BoundedConnection, database: str, names: Iterable[str]) -> Facts:
    """Return the privileges of others: what nobody may take from them, or give to them."""
    query = "".join(
        (
            "SELECT who, p.* FROM unnest(%s::text[]) who CROSS JOIN LATERAL (",
            _PRIVILEGES.format(who="who"),
            ") AS p (kind, name, privilege, may)",
        )
    )
    rows = admin.execute(query.encode(), [list(names)])
    return {f"{who}: {database} {kind} {name} {right}": may for who, kind, name, right, may in rows}


def unlike(before: Facts, after: Facts) -> list[str]:
    """Return each difference."""
    return [
        f"{key}: {before.get(key)!r} before, {after.get(key)!r} after"
        for key in sorted(set(before) | set(after))
        if before.get(key) != after.get(key)
    ]


def _privileges(link: BoundedConnection, database: str) -> Facts:
    rows = link.execute(_PRIVILEGES.format(who="current_user").encode())
    return {f"{database} {kind} {name} {right}": may for kind, name, right, may in rows}


def _tried(link: BoundedConnection) -> Facts:
    """Return how many rows it sees, and what becomes of what it makes; nothing is kept."""
    facts: Facts = {}
    tables = link.execute(
        "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
        " WHERE relkind = 'r' AND nspname !~ '^pg_' AND nspname <> 'information_schema'"
        " AND has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE')"
    ).fetchall()
    for (table,) in tables:
        facts[f"rows of {table}"] = link.execute(
            f"SELECT count(*) FROM {table}".encode()
        ).fetchone()
    for oid in (7001, 7002):
        with suppress(psycopg.errors.UndefinedObject):
            try:
                facts[f"large object {oid}"] = link.execute(
                    "SELECT length(lo_get(%s))", [oid]
                ).fetchone()
            except psycopg.errors.InsufficientPrivilege:
                facts[f"large object {oid}"] = "denied"
    try:
        with link.transaction(force_rollback=True):
            link.execute("CREATE TABLE s1.made_now (id int)")
            link.execute("CREATE FUNCTION s1.made_now_f() RETURNS int LANGUAGE sql AS 'SELECT 1'")
            facts["made"] = sorted(map(str, link.execute(_MADE).fetchall()))
    except psycopg.errors.InsufficientPrivilege:
        facts["made"] = "denied"
    return facts
