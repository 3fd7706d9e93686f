"""What logins hold inside databases: grants, default privileges, policies, objects. One query each."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final

from rotations.postgresql.profile import PARAMETER_GRANTS, may_act_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rotations.postgresql.server import Connection

PUBLIC: Final = "PUBLIC"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """One entry of an object's access list. `object` and `column` are quoted by the server;
    `may`: the admin may act for the owner.
    """

    database: str
    kind: str
    object: str
    column: str | None
    owner: str
    may: bool
    grantor: str
    grantee: str
    privilege: str
    grantable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultPrivilege:
    """One entry of ALTER DEFAULT PRIVILEGES. `revoked`: it takes away what PostgreSQL gives."""

    database: str
    owner: str
    may: bool
    schema: str | None
    objects: str
    grantee: str
    privilege: str
    grantable: bool
    revoked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RowPolicy:
    """A row-level security policy that names one of the logins. `table` is quoted by the server."""

    database: str
    table: str
    name: str
    owner: str
    may: bool
    roles: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedObject:
    """An object that a login owns, or its user mapping, in the server's words."""

    database: str
    login: str
    catalog: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """What some logins hold in some databases.

    `schemas`: (database, schema) for each schema that is named as one of the logins. `search_paths`:
    what applies in a database to a role without a setting of its own, where that
    database has a say.
    """

    grants: tuple[Grant, ...] = ()
    defaults: tuple[DefaultPrivilege, ...] = ()
    policies: tuple[RowPolicy, ...] = ()
    things: tuple[OwnedObject, ...] = ()
    schemas: frozenset[tuple[str, str]] = frozenset()
    search_paths: tuple[tuple[str, str], ...] = ()
    unreadable: tuple[tuple[str, str], ...] = ()

    def and_also(self, other: Holdings) -> Holdings:
        """Return both together."""
        return Holdings(
            **{
                one.name: getattr(self, one.name) | getattr(other, one.name)
                if one.name == "schemas"
                else getattr(self, one.name) + getattr(other, one.name)
                for one in fields(Holdings)
            }
        )


def read(connection: Connection, database: str, names: Iterable[str], *, shared: bool) -> Holdings:
    """Return what the logins hold in the database of a connection, and, with `shared`, in the
    cluster as a whole. One round trip.
    """
    query = _query(connection.info.server_version)
    row = connection.execute(
        query.encode(), {"names": sorted(set(names)), "shared": shared}
    ).fetchone()
    if row is None:
        return Holdings()
    grants, defaults, policies, things, schemas, search_path = row
    return Holdings(
        grants=_all(Grant, database, grants),
        defaults=_all(DefaultPrivilege, database, defaults),
        policies=tuple(
            replace(one, roles=tuple(one.roles)) for one in _all(RowPolicy, database, policies)
        ),
        things=_all(OwnedObject, database, things),
        schemas=frozenset((database, name) for name in schemas),
        search_paths=((database, search_path),) if search_path is not None else (),
    )


def _all(
    shape: type[Any], database: str, found: Sequence[dict[str, Any]] | None
) -> tuple[Any, ...]:
    return tuple(shape(**one, database=database) for one in found or ())


_ACLS: Final = (
    ("pg_proc", "proowner", "proacl", "ROUTINE"),
    ("pg_namespace", "nspowner", "nspacl", "SCHEMA"),
    ("pg_database", "datdba", "datacl", "DATABASE"),
    ("pg_type", "typowner", "typacl", "TYPE"),
    ("pg_language", "lanowner", "lanacl", "LANGUAGE"),
    ("pg_foreign_data_wrapper", "fdwowner", "fdwacl", "FOREIGN DATA WRAPPER"),
    ("pg_foreign_server", "srvowner", "srvacl", "FOREIGN SERVER"),
    ("pg_tablespace", "spcowner", "spcacl", "TABLESPACE"),
)
# What a session makes for itself ends with the session, which is over before a login is revoked.
_TEMPORARY: Final = (
    ("pg_class", "relnamespace"),
    ("pg_proc", "pronamespace"),
    ("pg_type", "typnamespace"),
)
# The bootstrap superuser owns the parameters.
_PARAMETERS: Final = ("pg_parameter_acl", "10::pg_catalog.oid", "paracl", "PARAMETER")


def _query(version: int) -> str:
    kinds = (*_ACLS, _PARAMETERS) if version >= PARAMETER_GRANTS else _ACLS
    acls = "".join(
        f"""
        UNION ALL SELECT {owner}, {acl}, '{kind}', NULL FROM pg_catalog.{catalog}
        WHERE o.classid = 'pg_catalog.{catalog}'::pg_catalog.regclass AND oid = o.objid"""  # noqa: S608 # a table above
        for catalog, owner, acl, kind in kinds
    )
    lasting = "".join(
        f"""
      AND NOT EXISTS (SELECT FROM pg_catalog.{catalog} t JOIN pg_catalog.pg_namespace n ON n.oid = t.{schema}
          WHERE s.classid = 'pg_catalog.{catalog}'::pg_catalog.regclass AND t.oid = s.objid AND n.nspname ~ '^pg_temp_')"""  # a table above
        for catalog, schema in _TEMPORARY
    )
    return f"""
WITH logins AS (SELECT oid, rolname FROM pg_catalog.pg_roles WHERE rolname = ANY (%(names)s)),
here AS MATERIALIZED (
    SELECT s.classid, s.objid, s.objsubid, s.deptype, l.rolname
    FROM pg_catalog.pg_shdepend s JOIN logins l ON s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND s.refobjid = l.oid
    WHERE (s.dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
       OR (%(shared)s AND s.dbid = 0)){lasting}),
objects AS (SELECT DISTINCT classid, objid, objsubid FROM here WHERE deptype = 'a'),
acls AS (
    SELECT x.kind, x.owner, x.acl, pg_catalog.quote_ident(x.attname) AS attname,
           (pg_identify_object(o.classid, o.objid, 0)).identity AS object
    FROM objects o CROSS JOIN LATERAL (
        SELECT c.relowner AS owner, CASE o.objsubid WHEN 0 THEN c.relacl ELSE a.attacl END AS acl,
               CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind, a.attname
        FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = o.objsubid AND a.attnum <> 0
        WHERE o.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND c.oid = o.objid
        UNION ALL SELECT lomowner, lomacl, 'LARGE OBJECT', NULL FROM pg_catalog.pg_largeobject_metadata
        WHERE o.classid = 'pg_catalog.pg_largeobject'::pg_catalog.regclass AND oid = o.objid{acls}) x),
grants AS (
    SELECT a.kind, a.object, a.attname AS "column", pg_catalog.pg_get_userbyid(a.owner) AS owner,
           {may_act_for("a.owner", version)} AS may, pg_catalog.pg_get_userbyid(e.grantor) AS grantor,
           CASE e.grantee WHEN 0 THEN '{PUBLIC}' ELSE pg_catalog.pg_get_userbyid(e.grantee) END AS grantee,
           e.privilege_type AS privilege, e.is_grantable AS grantable
    FROM acls a, pg_catalog.aclexplode(a.acl) e
    WHERE e.grantee <> a.owner AND (e.grantee IN (SELECT oid FROM logins)
        OR (e.grantor <> a.owner AND e.grantor IN (SELECT oid FROM logins)))),
defaults AS (
    SELECT DISTINCT d.oid, d.defaclrole, d.defaclnamespace, d.defaclobjtype, d.defaclacl
    FROM here h JOIN pg_catalog.pg_default_acl d ON h.classid = 'pg_catalog.pg_default_acl'::pg_catalog.regclass AND d.oid = h.objid),
entries AS (
    SELECT d.oid, e.*, false AS revoked FROM defaults d, pg_catalog.aclexplode(d.defaclacl) e
    WHERE d.defaclnamespace <> 0 OR NOT EXISTS (
        SELECT FROM pg_catalog.aclexplode(pg_catalog.acldefault(CASE d.defaclobjtype WHEN 'S' THEN 's'::pg_catalog."char" ELSE d.defaclobjtype END, d.defaclrole)) b
        WHERE b = e)
    UNION ALL
    SELECT d.oid, b.*, true FROM defaults d,
        pg_catalog.aclexplode(pg_catalog.acldefault(CASE d.defaclobjtype WHEN 'S' THEN 's'::pg_catalog."char" ELSE d.defaclobjtype END, d.defaclrole)) b
    WHERE d.defaclnamespace = 0 AND NOT EXISTS (SELECT FROM pg_catalog.aclexplode(d.defaclacl) e WHERE b = e)),
privileges AS (
    SELECT pg_catalog.pg_get_userbyid(d.defaclrole) AS owner, {may_act_for("d.defaclrole", version)} AS may,
           (SELECT nspname FROM pg_catalog.pg_namespace n WHERE n.oid = d.defaclnamespace) AS schema,
           CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'ROUTINES'
               WHEN 'T' THEN 'TYPES' WHEN 'n' THEN 'SCHEMAS' ELSE 'LARGE OBJECTS' END AS objects,
           CASE e.grantee WHEN 0 THEN '{PUBLIC}' ELSE pg_catalog.pg_get_userbyid(e.grantee) END AS grantee,
           e.privilege_type AS privilege, e.is_grantable AS grantable, e.revoked
    FROM defaults d JOIN entries e ON e.oid = d.oid
    WHERE d.defaclrole IN (SELECT oid FROM logins) OR e.grantee IN (SELECT oid FROM logins)),
policies AS (
    SELECT DISTINCT p.oid, p.polname AS name, pg_catalog.pg_get_userbyid(c.relowner) AS owner,
           {may_act_for("c.relowner", version)} AS may,
           (pg_catalog.pg_identify_object('pg_catalog.pg_class'::pg_catalog.regclass, c.oid, 0)).identity AS "table",
           ARRAY(SELECT u.rolname::pg_catalog.text FROM pg_catalog.pg_roles u WHERE u.oid = ANY (p.polroles) ORDER BY 1) AS roles
    FROM here h JOIN pg_catalog.pg_policy p ON h.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass AND p.oid = h.objid
    JOIN pg_catalog.pg_class c ON c.oid = p.polrelid),
things AS (
    SELECT rolname AS login, classid::pg_catalog.regclass::pg_catalog.text AS catalog, i.type || ' ' || i.identity AS text
    FROM here, pg_catalog.pg_identify_object(classid, objid, objsubid) i WHERE deptype = 'o' AND classid <> 'pg_catalog.pg_default_acl'::pg_catalog.regclass)
SELECT (SELECT pg_catalog.jsonb_agg(pg_catalog.to_jsonb(g)) FROM grants g),
       (SELECT pg_catalog.jsonb_agg(pg_catalog.to_jsonb(p)) FROM privileges p),
       (SELECT pg_catalog.jsonb_agg(pg_catalog.to_jsonb(p) - 'oid') FROM policies p),
       (SELECT pg_catalog.jsonb_agg(pg_catalog.to_jsonb(t) ORDER BY t.text) FROM things t),
       ARRAY(SELECT nspname::pg_catalog.text FROM pg_catalog.pg_namespace WHERE nspname = ANY (%(names)s)),
       (SELECT pg_catalog.substr(x, 13) FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.unnest(s.setconfig) x ON x LIKE 'search_path=%%'
        WHERE s.setrole = 0 AND s.setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))
        ORDER BY s.setdatabase DESC LIMIT 1)
"""  # noqa: S608 # parts of ours
