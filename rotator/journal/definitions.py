"""What `audit verify` requires of the database itself: tables, triggers and the rights of other roles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rotator.journal import tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy import Connection, Table

    from rotator.journal.report import AuditReport

_REFUSAL: Final = "the audit journal is append-only"
_UNIQUE: Final = "one_open_rotation_a_secret"
_NAMES: Final = tuple(table.name for table in tables.AUDITED)
_SQLITE_TRIGGERS: Final = {
    f"{table}_no_{verb.lower()}": f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
    f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
    for table in tables.APPEND_ONLY
    for verb in ("UPDATE", "DELETE")
}
_POSTGRESQL_TRIGGERS: Final = {f"{table}_append_only": table for table in tables.APPEND_ONLY}
_POSTGRESQL_BODY: Final = f"BEGIN RAISE EXCEPTION '{_REFUSAL}'; END"
# BEFORE UPDATE OR DELETE OR TRUNCATE, once for each statement: the bits of pg_trigger.tgtype.
_POSTGRESQL_EVENTS: Final = 2 | 8 | 16 | 32
# What nobody but the owner may have on the tables that only grow.
_CHANGING: Final = ("UPDATE", "DELETE", "TRUNCATE", "TRIGGER", "MAINTAIN")
_TYPES: Final = {"text": "TEXT", "integer": "INTEGER"}


def check(db: Connection, report: AuditReport) -> None:
    """Report each table, index, trigger, rule and right that is not as the migrations made it."""
    if db.dialect.name == "sqlite":
        _check_sqlite(db, report)
    else:
        _check_postgresql(db, report)


def owns(db: Connection) -> bool:
    """Return whether the login of this connection may drop the triggers: it owns their tables."""
    if db.dialect.name == "sqlite":
        return True
    query = (
        "SELECT bool_or(pg_catalog.pg_has_role(c.relowner, 'USAGE')) FROM pg_catalog.pg_class c"
        " WHERE c.oid IN (pg_catalog.to_regclass('events'), pg_catalog.to_regclass('checkpoints'))"
    )
    return bool(db.exec_driver_sql(query).scalar())


def _check_sqlite(db: Connection, report: AuditReport) -> None:
    master = db.exec_driver_sql(
        "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE sql IS NOT NULL"
    ).fetchall()
    found = {name: text for kind, name, _, text in master if kind == "trigger"}
    of = {name: table for kind, name, table, _ in master if kind == "trigger"}
    for name, text in _SQLITE_TRIGGERS.items():
        if name not in found:
            report.add(f"trigger {name}", "missing: nothing prevents changes and deletions of rows")
        elif _plain(found[name]) != text:
            report.add(f"trigger {name}", "differs from rotator's definition")
    for name in found.keys() - _SQLITE_TRIGGERS.keys():
        if of[name] in _NAMES:
            report.add(f"trigger {name}", f"rotator does not define such a trigger on {of[name]}")
    for table in tables.AUDITED:
        columns = db.exec_driver_sql(f"PRAGMA table_xinfo({table.name})").fetchall()
        actual = {name: (kind, bool(required)) for _, name, kind, required, *_ in columns}
        keys = [name for _, name, _, _, _, key, _ in sorted(columns, key=_key_order) if key]
        _check_columns(report, table, actual, keys)
    unique = [_plain(text) for kind, name, _, text in master if (kind, name) == ("index", _UNIQUE)]
    if not unique or not unique[0].startswith("CREATE UNIQUE INDEX"):
        report.add(f"index {_UNIQUE}", "missing: two rotations of a secret could be open at once")


def _key_order(column: Iterable[object]) -> int:
    return int(str(list(column)[5]))


def _check_postgresql(db: Connection, report: AuditReport) -> None:
    for table in tables.AUDITED:
        columns = db.exec_driver_sql(_COLUMNS, (table.name,)).fetchall()
        actual = {name: (_TYPES.get(kind, kind), required) for name, kind, required in columns}
        keys = [name for (name,) in db.exec_driver_sql(_KEYS, (table.name,))]
        _check_columns(report, table, actual, keys)
    found = db.exec_driver_sql(_TRIGGERS, (list(_NAMES),)).fetchall()
    known = {(name, table): rest for name, table, *rest in found}
    for name, table in _POSTGRESQL_TRIGGERS.items():
        where = f"trigger {name}"
        if (name, table) not in known:
            report.add(where, "missing: nothing prevents changes and deletions of rows")
            continue
        enabled, events, conditional, body, language = known[name, table]
        if enabled not in ("O", "A"):
            report.add(where, "is disabled")
        right = (events, conditional, _plain(body), language)
        if right != (_POSTGRESQL_EVENTS, False, _POSTGRESQL_BODY, "plpgsql"):
            report.add(where, "differs from rotator's definition")
    for name, table in known:
        if _POSTGRESQL_TRIGGERS.get(name) != table:
            report.add(f"trigger {name}", f"rotator does not define such a trigger on {table}")
    for name, table in db.exec_driver_sql(_RULES, (list(_NAMES),)):
        report.add(f"rule {name}", f"rotator does not define such a rule on {table}")
    for (table,) in db.exec_driver_sql(_POLICIES, (list(_NAMES),)):
        report.add(f"table {table}", "has row-level security, which hides rows")
    for (name,) in db.exec_driver_sql(_SETTINGS):
        report.add(f"setting of {name}", "session_replication_role disables the triggers")
    if not db.exec_driver_sql(_INDEX, (_UNIQUE,)).scalar():
        report.add(f"index {_UNIQUE}", "missing: two rotations of a secret could be open at once")
    for table, role, right in db.exec_driver_sql(
        _GRANTS, (list(tables.APPEND_ONLY), list(_CHANGING))
    ):
        report.add(f"table {table}", f"role {role} has the unnecessary right {right}")


def _check_columns(
    report: AuditReport,
    table: Table,
    actual: Mapping[str, tuple[str | None, bool]],
    keys: list[str],
) -> None:
    where = f"table {table.name}"
    for column in table.columns:
        expected = (str(column.type), not column.nullable)
        if actual.get(column.name) != expected:
            report.add(f"{where}, column {column.name}", "differs from rotator's definition")
    for name in actual.keys() - {column.name for column in table.columns}:
        report.add(f"{where}, column {name}", "rotator does not define such a column")
    if keys != [column.name for column in table.primary_key]:
        report.add(where, "its primary key differs from rotator's definition")


def _plain(text: str) -> str:
    return " ".join(text.split())


_COLUMNS: Final = """
    SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull
    FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = pg_catalog.to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped
"""
_KEYS: Final = """
    SELECT a.attname
    FROM pg_catalog.pg_index i
    CROSS JOIN LATERAL pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY AS k (number, place)
    JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
    WHERE i.indrelid = pg_catalog.to_regclass(%s) AND i.indisprimary AND i.indisvalid
    ORDER BY k.place
"""
_OURS: Final = (
    "(SELECT pg_catalog.to_regclass(name) FROM pg_catalog.unnest(%s::text[]) AS ours (name))"
)
_TRIGGERS: Final = f"""
    SELECT t.tgname, c.relname, t.tgenabled::text, t.tgtype::integer, t.tgqual IS NOT NULL, p.prosrc, l.lanname
    FROM pg_catalog.pg_trigger t
    JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
    JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
    JOIN pg_catalog.pg_language l ON l.oid = p.prolang
    WHERE NOT t.tgisinternal AND t.tgrelid IN {_OURS}
"""  # noqa: S608 # made of constants
_RULES: Final = f"""
    SELECT r.rulename, c.relname
    FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_class c ON c.oid = r.ev_class
    WHERE r.ev_class IN {_OURS} AND r.rulename <> '_RETURN'
"""  # noqa: S608 # made of constants
_POLICIES: Final = f"""
    SELECT c.relname FROM pg_catalog.pg_class c
    WHERE c.oid IN {_OURS} AND (c.relrowsecurity OR c.relkind NOT IN ('r', 'p'))
"""  # noqa: S608 # made of constants
_SETTINGS: Final = """
    SELECT coalesce(r.rolname, d.datname, 'everybody')
    FROM pg_catalog.pg_db_role_setting s
    LEFT JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
    LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
    WHERE (s.setdatabase = 0 OR d.datname = pg_catalog.current_database())
      AND EXISTS (
        SELECT 1 FROM pg_catalog.unnest(s.setconfig) AS one (setting)
        WHERE one.setting LIKE 'session_replication_role=%%' AND one.setting NOT LIKE '%%=origin'
      )
"""
_INDEX: Final = """
    SELECT i.indisunique AND i.indisvalid FROM pg_catalog.pg_index i
    WHERE i.indexrelid = pg_catalog.to_regclass(%s)
"""
_GRANTS: Final = """
    SELECT DISTINCT c.relname, CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END,
        g.privilege_type
    FROM pg_catalog.pg_class c
    LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attacl IS NOT NULL
    CROSS JOIN LATERAL (
        SELECT * FROM pg_catalog.aclexplode(c.relacl)
        UNION ALL SELECT * FROM pg_catalog.aclexplode(a.attacl)
    ) g
    WHERE c.oid IN (SELECT pg_catalog.to_regclass(name) FROM pg_catalog.unnest(%s::text[]) AS ours (name))
      AND g.grantee <> c.relowner AND g.privilege_type = ANY (%s)
    ORDER BY 1, 2, 3
"""
