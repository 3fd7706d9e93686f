"""What makes a login what it is, as the shared catalogs show it: read in one query, kept as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rotations.postgresql.roles import Mark, Setting, settings_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rotations.postgresql.server import Connection

OPTIONS_OF_MEMBERSHIPS: Final = 160_000  # INHERIT and SET belong to each grant since PostgreSQL 16
PARAMETER_GRANTS: Final = 150_000  # GRANT SET ON PARAMETER since PostgreSQL 15
# What a role has that CREATE ROLE gives no other attribute.
DEFAULT_ATTRIBUTES: Final = frozenset({"INHERIT"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """One grant of `role` to `member`.

    `grantable`: the admin may grant `role`. `through_group`: the group has the rights of `role`.
    """

    role: str
    member: str
    admin: bool
    inherit: bool
    may_set: bool
    grantor: str
    grantable: bool
    through_group: bool

    @property
    def options(self) -> tuple[bool, bool, bool]:
        """Return ADMIN, INHERIT and SET."""
        return self.admin, self.inherit, self.may_set


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependence:
    """What pg_shdepend holds of a role: how many entries of one kind in one database.

    `kind` is the catalog's letter: o owner, a access list, i initial access list, r policy.
    """

    database: str | None
    kind: str
    catalog: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One role.

    `valid_until`: None for ever. `granted`: memberships that it granted to others, except on its
    own. `labels`: provider and label. `acted_as_by`: other roles with `SET role` to it.
    `may_act_as`: the roles in its own settings that it may set. `inherits`:
    which of the roles that were read with it it has the rights of. `password`: the kind of hash,
    such as `md5` or `scram-sha-256:4096`, None where the admin cannot see it. `databases`: where it
    may connect. `grantable`: the admin may alter it, and grant it to others.
    """

    name: str
    can_login: bool
    connection_limit: int
    attributes: frozenset[str]
    valid_until: str | None
    expired: bool
    comment: str | None
    memberships: tuple[Membership, ...]
    members: tuple[Membership, ...]
    granted: tuple[Membership, ...]
    settings: tuple[Setting, ...]
    dependences: tuple[Dependence, ...]
    labels: tuple[tuple[str, str], ...]
    subscriptions: tuple[str, ...]
    acted_as_by: tuple[str, ...]
    may_act_as: frozenset[str]
    inherits: frozenset[str]
    password: str | None
    databases: tuple[str, ...]
    grantable: bool
    is_admin: bool

    @property
    def mark(self) -> Mark | None:
        """Return the mark of ours that it carries."""
        return Mark.parse(self.comment)

    @property
    def note(self) -> str | None:
        """Return the comment that an operator gave it, also where our mark carries it."""
        return self.mark.note if self.mark is not None else self.comment

    def setting(self, name: str, database: str | None = None) -> str | None:
        """Return the value of a setting in exactly this place."""
        for one in self.settings:
            if (one.name, one.database) == (name, database):
                return one.value
        return None

    def acts_as(self, database: str) -> str:
        """Return the role that its sessions in a database act as."""
        for role in (self.setting("role", database), self.setting("role")):
            # A role that it may not set is left out at the login, with a warning.
            if role == "none" or role in self.may_act_as:
                return self.name if role == "none" else role
        return self.name


def read(
    connection: Connection, names: Iterable[str], *, group: str | None = None
) -> dict[str, Profile]:
    """Return the profiles of those roles that exist, by name, and the admin's. One round trip."""
    version = connection.info.server_version
    superuser = connection.info.parameter_status("is_superuser") == "on"
    query = _query(version, superuser=superuser)
    rows = connection.execute(
        query.encode(), {"names": sorted(set(names)), "group": group}
    ).fetchall()
    return {row[0]: _profile(row) for row in rows}


def may_act_for(role: str, version: int) -> str:
    """Return SQL: may the admin take the rights of a role (an oid), for a moment at least?"""
    own = f"(SELECT {_may_grant('x', version)} FROM pg_catalog.pg_roles x WHERE x.oid = {role})"  # noqa: S608 # ours
    return f"(pg_catalog.pg_has_role(current_user, {role}, 'USAGE') OR {own})"


def _may_grant(role: str, version: int) -> str:
    """Return SQL: may the admin grant a role, a row of pg_roles?"""
    own = f"pg_catalog.pg_has_role(current_user, {role}.oid, 'USAGE WITH ADMIN OPTION')"
    if version >= OPTIONS_OF_MEMBERSHIPS:
        return own
    creates = "(SELECT rolcreaterole FROM pg_catalog.pg_roles WHERE rolname = current_user)"
    return f"({own} OR {creates} AND NOT {role}.rolsuper)"


def _query(version: int, *, superuser: bool) -> str:
    options = (
        "m.inherit_option, m.set_option"
        if version >= OPTIONS_OF_MEMBERSHIPS
        else "u.rolinherit, true"
    )
    may_set = "SET" if version >= OPTIONS_OF_MEMBERSHIPS else "MEMBER"
    memberships = f"""
        SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(g.rolname, u.rolname, m.admin_option, {options},
            pg_catalog.pg_get_userbyid(m.grantor), {_may_grant("g", version)},
            EXISTS (SELECT FROM pg_catalog.pg_roles x WHERE x.rolname = %(group)s
                    AND pg_catalog.pg_has_role(x.oid, g.oid, 'USAGE'))) ORDER BY g.rolname, u.rolname, m.grantor)
        FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles g ON g.oid = m.roleid JOIN pg_catalog.pg_roles u ON u.oid = m.member
    """  # noqa: S608 # parts of ours
    password = (
        """(SELECT CASE WHEN rolpassword LIKE 'md5%%' THEN 'md5'
                        WHEN rolpassword LIKE 'SCRAM-SHA-256$%%'
                        THEN 'scram-sha-256:' || pg_catalog.split_part(pg_catalog.split_part(rolpassword, '$', 2), ':', 1) END
            FROM pg_catalog.pg_authid WHERE oid = r.oid)"""
        if superuser
        else "NULL"
    )
    return f"""
SELECT r.rolname, r.rolcanlogin, r.rolconnlimit,
    pg_catalog.array_remove(ARRAY[CASE WHEN r.rolsuper THEN 'SUPERUSER' END, CASE WHEN r.rolcreatedb THEN 'CREATEDB' END,
        CASE WHEN r.rolcreaterole THEN 'CREATEROLE' END, CASE WHEN r.rolreplication THEN 'REPLICATION' END,
        CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END, CASE WHEN r.rolinherit THEN 'INHERIT' END], NULL),
    CASE WHEN pg_catalog.isfinite(r.rolvaliduntil)
        THEN pg_catalog.to_char(r.rolvaliduntil AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US+00')
        WHEN r.rolvaliduntil < pg_catalog.now() THEN '-infinity' END,
    coalesce(r.rolvaliduntil <= pg_catalog.now(), false),
    pg_catalog.shobj_description(r.oid, 'pg_authid'),
    ({memberships} WHERE m.member = r.oid),
    ({memberships} WHERE m.roleid = r.oid),
    ({memberships} WHERE m.grantor = r.oid AND m.roleid <> r.oid),
    (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(d.datname, s.setconfig) ORDER BY d.datname)
     FROM pg_catalog.pg_db_role_setting s LEFT JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase WHERE s.setrole = r.oid),
    (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(d.datname, s.deptype, s.classid::pg_catalog.regclass::pg_catalog.text, s.count))
     FROM (SELECT dbid, deptype, classid, pg_catalog.count(*) FROM pg_catalog.pg_shdepend
           WHERE refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND refobjid = r.oid GROUP BY 1, 2, 3) s
     LEFT JOIN pg_catalog.pg_database d ON d.oid = s.dbid),
    (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(provider, label) ORDER BY 1) FROM pg_catalog.pg_shseclabel
     WHERE classoid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND objoid = r.oid),
    ARRAY(SELECT subname::pg_catalog.text FROM pg_catalog.pg_subscription WHERE subowner = r.oid ORDER BY 1),
    ARRAY(SELECT DISTINCT u.rolname::pg_catalog.text FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_roles u ON u.oid = s.setrole
          WHERE 'role=' || r.rolname = ANY (s.setconfig) AND u.oid <> r.oid ORDER BY 1),
    ARRAY(SELECT x.rolname::pg_catalog.text FROM pg_catalog.pg_db_role_setting s CROSS JOIN pg_catalog.unnest(s.setconfig) c JOIN pg_catalog.pg_roles x
          ON 'role=' || x.rolname = c WHERE s.setrole = r.oid AND pg_catalog.pg_has_role(r.oid, x.oid, '{may_set}')),
    ARRAY(SELECT x.rolname::pg_catalog.text FROM pg_catalog.pg_roles x WHERE x.rolname = ANY (%(names)s)
          AND x.oid <> r.oid AND pg_catalog.pg_has_role(r.oid, x.oid, 'USAGE')),
    {password},
    ARRAY(SELECT datname::pg_catalog.text FROM pg_catalog.pg_database d WHERE d.datallowconn AND NOT d.datistemplate
          AND pg_catalog.has_database_privilege(r.oid, d.oid, 'CONNECT') ORDER BY 1),
    {_may_grant("r", version)},
    r.rolname = current_user
FROM pg_catalog.pg_roles r WHERE r.rolname = ANY (%(names)s) OR r.rolname = current_user
"""  # noqa: S608 # parts of ours


def _profile(row: tuple[Any, ...]) -> Profile:
    def memberships(found: list[list[Any]] | None) -> tuple[Membership, ...]:
        return tuple(
            Membership(
                role=role,
                member=member,
                admin=admin,
                inherit=inherit,
                may_set=may_set,
                grantor=grantor,
                grantable=grantable,
                through_group=through_group,
            )
            for role, member, admin, inherit, may_set, grantor, grantable, through_group in found
            or ()
        )

    return Profile(
        name=row[0],
        can_login=row[1],
        connection_limit=row[2],
        attributes=frozenset(row[3]),
        valid_until=row[4],
        expired=row[5],
        comment=row[6],
        memberships=memberships(row[7]),
        members=memberships(row[8]),
        granted=memberships(row[9]),
        settings=settings_of(row[10]),
        dependences=tuple(
            Dependence(database=database, kind=kind, catalog=catalog, count=count)
            for database, kind, catalog, count in row[11] or ()
        ),
        labels=tuple((provider, label) for provider, label in row[12] or ()),
        subscriptions=tuple(row[13]),
        acted_as_by=tuple(row[14]),
        may_act_as=frozenset(row[15]),
        inherits=frozenset(row[16]),
        password=row[17],
        databases=tuple(row[18]),
        grantable=row[19],
        is_admin=row[20],
    )
