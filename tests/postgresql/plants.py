"""What an application could put into a database for an admin to run: functions, operators, settings, triggers.

The database's own settings make the schemas that hold them the first to be searched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from psycopg import sql

if TYPE_CHECKING:
    from psycopg import Connection

    from rotator.testing.postgres import ScratchPostgres

# Every function of PostgreSQL's whose name a statement about logins may well hold.
_NAMES: Final = (
    "acldefault aclexplode array_remove array_to_string concat current_database "
    "current_setting format has_column_privilege has_database_privilege "
    "has_function_privilege has_parameter_privilege has_schema_privilege "
    "has_table_privilege host isfinite jsonb_build_array jsonb_build_object lower now "
    "obj_description pg_backend_pid pg_get_userbyid pg_has_role pg_identify_object "
    "pg_is_in_recovery pg_last_xact_replay_timestamp pg_sleep pg_terminate_backend "
    "quote_ident quote_literal regexp_replace replace set_config shobj_description "
    "split_part substr to_char to_jsonb to_regclass upper version "
)
# Those that fit better than PostgreSQL's own, as CVE-2018-1058 has it: name, arguments, result.
_FIT_BETTER: Final = (
    ("shobj_description", "oid, text", "text"),
    ("jsonb_build_array", "name, text[]", "jsonb"),
    ("jsonb_build_array", "text, text", "jsonb"),
    ("jsonb_build_array", "name, name, boolean, boolean, boolean, name, boolean, boolean", "jsonb"),
    ("jsonb_build_array", 'name, "char", text, bigint', "jsonb"),
    ("array_remove", "text[], text", "text[]"),
    ("quote_ident", "name", "text"),
    ("lower", "name", "text"),
    ("to_jsonb", "text", "jsonb"),
)
_OPERATORS: Final = (
    ("=", "name", "text"), ("=", "name", "name"), ("=", "text", "text"), ("=", "oid", "oid"),
    ("=", "oid", "regclass"), ("=", "regclass", "oid"), ("=", '"char"', "text"), ("=", '"char"', '"char"'),
    ("=", "integer", "integer"), ("<>", "oid", "oid"), ("<>", "oid", "integer"), ("<>", "text", "text"),
    ("<>", "integer", "integer"), ("<>", "name", "name"), ("<>", "oid", "regclass"), ("||", "text", "name"),
    ("||", "text", "text"), ("||", "text", "integer"), ("~~", "text", "text"), ("~~", "name", "text"),
    ("<=", "timestamptz", "timestamptz"), ("<", "timestamptz", "timestamptz"), ("-", "jsonb", "text"),
)  # fmt: skip
_RELATIONS: Final = ("pg_roles", "pg_stat_activity", "pg_database", "pg_settings", "pg_authid")
_SCHEMA: Final = "planted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plants:
    """What was planted in one database, for one admin to step on."""

    server: ScratchPostgres
    dbname: str
    admin: str

    def ran(self) -> list[str]:
        """Return what ran as the admin."""
        with self.server.connect(self.dbname) as own:
            own.execute("SET ROLE NONE; SET search_path TO pg_catalog")
            rows = own.execute(_RAN, [_SCHEMA]).fetchall()
            return [row[0] for row in rows]

    def remove(self) -> None:
        """Put the database back."""
        with self.server.connect(self.dbname) as own:
            own.execute("SET ROLE NONE; SET search_path TO pg_catalog")
            own.execute(f'ALTER DATABASE "{self.dbname}" RESET ALL'.encode())
            for name in _TRIGGERS:
                own.execute(f"DROP EVENT TRIGGER IF EXISTS planted_{name}".encode())
            for schema in (_SCHEMA, self.admin, "cron"):
                own.execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE'.encode())


def plant(
    server: ScratchPostgres,
    dbname: str,
    admin: str,
    *,
    owner: str,
    overloads_only: bool = False,
    login_trigger: bool = False,
) -> Plants:
    """Plant everything in one database, as `owner` as far as its rights go.

    `overloads_only`: what needs no setting of the database's to be found.
    """
    with server.connect(dbname) as own:
        own.execute("SET search_path TO pg_catalog")
        planting = _Planting(own, admin)
        for schema in (_SCHEMA, admin, "cron"):
            own.execute(f'CREATE SCHEMA "{schema}" AUTHORIZATION "{owner}"'.encode())
            own.execute(f'GRANT USAGE ON SCHEMA "{schema}" TO PUBLIC'.encode())
        own.execute(f'SET ROLE "{owner}"'.encode())
        for name, arguments, returns in _FIT_BETTER:
            planting.function(admin, name, arguments, returns)
        planting.view("cron.job", "SELECT rolname AS username FROM pg_catalog.pg_roles")
        if overloads_only:
            return Plants(server=server, dbname=dbname, admin=admin)
        for name, arguments, returns in own.execute(_SIGNATURES, [_NAMES.split()]).fetchall():
            planting.function(_SCHEMA, name, arguments, returns)
        for operator in _OPERATORS:
            planting.operator(*operator)
        for relation in _RELATIONS:
            planting.view(f"{_SCHEMA}.{relation}", f"SELECT * FROM pg_catalog.{relation}")
        own.execute("RESET ROLE")
        for name, event in _TRIGGERS.items():
            if name != "login" or login_trigger:
                planting.event_trigger(name, event)
        for setting in (
            f'search_path = "{admin}", {_SCHEMA}, pg_catalog',
            "quote_all_identifiers = on",
            "DateStyle = 'SQL, DMY'",
            "IntervalStyle = 'sql_standard'",
            f'role = "{owner}"',
        ):
            own.execute(f'ALTER DATABASE "{dbname}" SET {setting}'.encode())
    return Plants(server=server, dbname=dbname, admin=admin)


_TRIGGERS: Final = {"ddl": "ddl_command_start", "drop": "sql_drop", "login": "login"}
_RAN: Final = """
SELECT obj_description(c.oid, 'pg_class') FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND pg_sequence_last_value(CASE c.relkind WHEN 'S' THEN c.oid END) IS NOT NULL ORDER BY 1
"""
_SIGNATURES: Final = """
SELECT p.proname, string_agg(format_type(a.type, NULL), ', ' ORDER BY a.at), format_type(p.prorettype, NULL)
FROM pg_proc p LEFT JOIN LATERAL unnest(p.proargtypes::oid[]) WITH ORDINALITY a (type, at) ON true
WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname = ANY (%s) AND p.prokind = 'f'
  AND NOT p.proretset AND p.proallargtypes IS NULL
  AND NOT EXISTS (SELECT FROM pg_type t WHERE t.oid IN (p.prorettype, p.provariadic, a.type)
                  AND t.typtype = 'p' AND t.typname <> 'void')
GROUP BY p.oid, p.proname, p.prorettype HAVING count(*) >= p.pronargs
"""


class _Planting:
    def __init__(self, own: Connection[Any], admin: str) -> None:
        self._own: Connection[Any] = own
        self._admin: str = admin
        self._count: int = 0

    def function(self, schema: str, name: str, arguments: str | None, returns: str) -> None:
        """Make one that notes when it runs, and returns nothing."""
        note = self._note(f"function {name}({arguments or ''})")
        self._own.execute(
            f'CREATE FUNCTION "{schema}".{name}({arguments or ""}) RETURNS {returns} LANGUAGE plpgsql'
            f" AS $$ BEGIN {note} RETURN{'' if returns == 'void' else ' NULL'}; END $$".encode()
        )

    def operator(self, name: str, left: str, right: str) -> None:
        """Make one over a function of its own."""
        note = self._note(f"operator {left} {name} {right}")
        own = f"{_SCHEMA}.operator_{self._count}"
        result = {"||": "text", "-": "jsonb"}.get(name, "boolean")
        self._own.execute(
            f"CREATE FUNCTION {own}({left}, {right}) RETURNS {result} LANGUAGE plpgsql"
            f" AS $$ BEGIN {note} RETURN NULL; END $$;"
            f" CREATE OPERATOR {_SCHEMA}.{name} (FUNCTION = {own}, LEFTARG = {left}, RIGHTARG = {right})".encode()
        )

    def view(self, name: str, query: str) -> None:
        """Make one whose rows call a function, which runs as who reads them."""
        note = self._note(f"view {name}")
        own = f"{_SCHEMA}.of_view_{self._count}"
        self._own.execute(
            f"CREATE FUNCTION {own}() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN {note} RETURN true; END $$;"
            f" CREATE VIEW {name} AS {query} WHERE {own}(); GRANT SELECT ON {name} TO PUBLIC".encode()
        )

    def event_trigger(self, name: str, event: str) -> None:
        """Make one, as only superusers may."""
        note = self._note(f"event trigger on {event}")
        self._own.execute(
            f"CREATE FUNCTION {_SCHEMA}.{name}() RETURNS event_trigger LANGUAGE plpgsql"
            f" AS $$ BEGIN {note} END $$;"
            f" CREATE EVENT TRIGGER planted_{name} ON {event} EXECUTE FUNCTION {_SCHEMA}.{name}()".encode()
        )

    def _note(self, what: str) -> str:
        """Return the statement that notes it, in a sequence: that counts also what is rolled back."""
        self._count += 1
        name = f"{_SCHEMA}.ran_{self._count}"
        self._own.execute(
            sql.SQL(
                "CREATE SEQUENCE {0}; GRANT ALL ON SEQUENCE {0} TO PUBLIC; COMMENT ON SEQUENCE {0} IS {1}"
            ).format(sql.Identifier(*name.split(".")), sql.Literal(what))
        )
        return (
            f"IF session_user OPERATOR(pg_catalog.=) '{self._admin}'"
            f" THEN PERFORM pg_catalog.nextval('{name}'::pg_catalog.regclass); END IF;"
        )
