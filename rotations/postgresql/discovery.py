"""Lists the logins of a server, for `rotator discover`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from psycopg import sql

from rotations.postgresql.roles import Mark
from rotator.api import FoundLogin

if TYPE_CHECKING:
    from rotations.postgresql.server import Connection, Server
    from rotator.api import StepContext

# What managed services log in with.
_INTERNAL: Final = frozenset(
    {
        "alloydbadmin",
        "azuresu",
        "cloudsqladmin",
        "cloudsqlreplica",
        "rdsadmin",
        "rdsrepladmin",
        "rdsproxyadmin",
    }
)
# A role that may act as a superuser counts as one. Without pg_read_all_stats the kind of a session is not shown.
_LOGINS: Final = """
SELECT r.rolname, r.rolcanlogin,
       r.rolsuper OR EXISTS (SELECT FROM pg_catalog.pg_roles s
                             WHERE s.rolsuper AND pg_catalog.pg_has_role(r.oid, s.oid, 'MEMBER')),
       r.rolcreaterole, r.rolcreatedb, r.rolreplication, r.rolbypassrls,
       ARRAY(SELECT g.rolname::pg_catalog.text FROM pg_catalog.pg_auth_members m
             JOIN pg_catalog.pg_roles g ON g.oid = m.roleid
             WHERE m.member = r.oid AND pg_catalog.left(g.rolname::pg_catalog.text, 3) = 'pg_' ORDER BY 1),
       CASE WHEN pg_catalog.isfinite(r.rolvaliduntil) THEN r.rolvaliduntil END,
       pg_catalog.shobj_description(r.oid, 'pg_authid'), a.sessions, a.last_used
FROM pg_catalog.pg_roles r
LEFT JOIN (SELECT usesysid, pg_catalog.count(*) AS sessions,
                  pg_catalog.max(coalesce(state_change, backend_start)) AS last_used
           FROM pg_catalog.pg_stat_activity
           WHERE pid <> pg_catalog.pg_backend_pid() AND coalesce(backend_type, 'client backend') = 'client backend'
           GROUP BY usesysid) a ON a.usesysid = r.oid
WHERE r.rolcanlogin OR pg_catalog.shobj_description(r.oid, 'pg_authid') LIKE 'managed by rotator {%'
ORDER BY 1
"""
_RIGHTS: Final = ("CREATEROLE", "CREATEDB", "REPLICATION", "BYPASSRLS")


def logins(server: Server, ctx: StepContext) -> list[FoundLogin]:
    """Return the roles that may log in, and those that bear a mark of rotator's."""
    with server.admin("listing logins", ctx) as admin:
        return [_login(admin, row) for row in admin.execute(_LOGINS).fetchall()]


def _login(admin: Connection, row: tuple[Any, ...]) -> FoundLogin:
    name, can_login, is_superuser, *flags = row[:7]
    groups, expires, comment, sessions, last_used = row[7:]
    mark = Mark.parse(comment)
    remove = sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(name))
    return FoundLogin(
        login=name,
        can_login=can_login,
        is_superuser=is_superuser,
        rights=(*(right for right, has in zip(_RIGHTS, flags, strict=True) if has), *groups),
        is_internal=name in _INTERNAL,
        comment=(mark.note or "") if mark is not None else comment or "",
        password_expires=expires,
        last_used=last_used,
        sessions=sessions or 0,
        is_marked=mark is not None,
        is_of=mark.secret.__eq__ if mark is not None else _of_nobody,
        remove=remove.as_string(admin),
    )


def _of_nobody(_secret: str) -> bool:
    return False
