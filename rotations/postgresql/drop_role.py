"""How a login ends: no new logins, no sessions, nothing owned, then no role."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from psycopg import sql

from rotations.postgresql.profile import OPTIONS_OF_MEMBERSHIPS
from rotations.postgresql.roles import sessions
from rotator.api import Denied, InUse

if TYPE_CHECKING:
    from collections.abc import Generator

    from rotations.postgresql.roles import Role
    from rotations.postgresql.server import Connection, Server
    from rotator.api import StepContext

_POLL_SECONDS: Final = 0.02

# Where the role owns something or is named in an ACL; NULL for shared objects such as a database.
_PLACES: Final = """
SELECT DISTINCT d.datname FROM pg_catalog.pg_shdepend s LEFT JOIN pg_catalog.pg_database d ON d.oid = s.dbid
WHERE s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND s.refobjid = %s
"""
_MAY_ACT_AS: Final = "SELECT pg_catalog.pg_has_role(current_user, %s::pg_catalog.name, 'USAGE')"
_WORKERS: Final = """
SELECT 'subscription ' || subname FROM pg_catalog.pg_subscription WHERE subowner = %(oid)s
UNION ALL
SELECT backend_type || ' ' || pid FROM pg_catalog.pg_stat_activity WHERE usesysid = %(oid)s
    AND backend_type NOT IN ('client backend', 'walsender', 'parallel worker')
"""
# Tables of extensions whose background workers run as a role, and the column that names it.
_JOBS: Final = (
    ("cron.job", "username", "pg_cron job"),
    ("timescaledb_information.jobs", "owner", "timescaledb job"),
)
# Anybody may name a view of their own like that, and a view runs its functions as who reads it: so only
# what belongs to superusers, as what their extensions make does, is read.
_TRUSTED: Final = """
SELECT FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_roles t ON t.oid = c.relowner
JOIN pg_catalog.pg_roles s ON s.oid = n.nspowner
WHERE n.nspname = %s AND c.relname = %s AND t.rolsuper AND s.rolsuper
"""


def close(
    server: Server,
    admin: Connection,
    role: Role,
    ctx: StepContext,
    *,
    end_sessions: bool,
    stays: bool,
) -> None:
    """Let nobody log in as `role` any more, and return once nobody is logged in. Raises `InUse`
    when somebody is and ending that is not ours to force.

    `stays`: the role is not dropped. What the server itself runs as it then goes on: such a role
    loses its password only, since the server starts no worker as a role without LOGIN.
    """
    if role.can_login:
        keeps = stays and bool(workers(server, admin, role))
        # A transaction of its own, so that it holds from here on.
        ctx.require_time()
        _ = admin.execute(
            sql.SQL("ALTER ROLE {} {}PASSWORD NULL").format(
                sql.Identifier(role.name), sql.SQL("" if keeps else "NOLOGIN ")
            )
        )
    ended = False
    while True:
        left = sessions(admin, role.name)
        if not left:
            return
        if not end_sessions:
            raise InUse(
                f"login {role.name!r} still has {len(left)} open session(s); it already"
                " rejects new logins.",
                sessions=[session for _, session in left],
            )
        ctx.require_time()
        if not ended:
            with acting_as(server, admin, role.name):
                _ = admin.execute(
                    "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.unnest(%s::int[]) pid",
                    [[pid for pid, _ in left]],
                )
            ended = True
        ctx.clock.sleep(_POLL_SECONDS)


def workers(server: Server, admin: Connection, role: Role) -> list[str]:
    """Return what the server itself runs as a role: subscriptions, workers, jobs of extensions."""
    found = [row[0] for row in admin.execute(_WORKERS, {"oid": role.oid}).fetchall()]
    if found:
        return found
    here = server.options.dbname
    rows = admin.execute(_PLACES, [role.oid]).fetchall()
    home = admin.execute(
        "SELECT datname FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_setting('cron.database_name', true)"
    ).fetchall()
    for dbname in sorted({row[0] or here for row in (*rows, *home)} | {here}):
        with server.admin_in(dbname, f"checking jobs of {role.name!r}") as link:
            for table, column, kind in _JOBS:
                if not link.execute(_TRUSTED, table.split(".")).fetchall():
                    continue
                query = sql.SQL("SELECT FROM {} WHERE {}::pg_catalog.text = %s LIMIT 1").format(
                    sql.Identifier(*table.split(".")), sql.Identifier(column)
                )
                if link.execute(query, [role.name]).fetchall():
                    return [kind]
    return []


def drop(
    server: Server, admin: Connection, role: Role, ctx: StepContext, *, heir: str | None
) -> None:
    """Hand what the role owns to `heir`, take its grants away, and drop it."""
    places = [row[0] for row in admin.execute(_PLACES, [role.oid]).fetchall()]
    if places:
        if heir is None:
            raise Denied(
                f"role {role.name!r} owns objects or has grants, and no `group` is set to"
                " inherit them.",
                hint="Set `group` in the secret's options.",
            )
        names = sorted({place or server.options.dbname for place in places})
        for dbname in names:
            ctx.require_time()
            _hand_over(server, role, heir, dbname)
    ctx.require_time()
    _ = admin.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role.name)))


def _hand_over(server: Server, role: Role, heir: str, dbname: str) -> None:
    old, new = sql.Identifier(role.name), sql.Identifier(heir)
    with server.admin_in(dbname, f"reassigning what {role.name!r} owns") as admin:
        if not admin.execute(
            "SELECT FROM pg_catalog.pg_roles WHERE rolname = %s", [heir]
        ).fetchall():
            raise Denied(f"role {heir!r}, which should inherit the objects, does not exist.")
        with (
            acting_as(server, admin, role.name),
            acting_as(server, admin, heir),
            admin.transaction(),
        ):
            _ = admin.execute(sql.SQL("REASSIGN OWNED BY {} TO {}").format(old, new))
            _ = admin.execute(sql.SQL("DROP OWNED BY {}").format(old))


@contextmanager
def acting_as(server: Server, admin: Connection, name: str) -> Generator[None]:
    """Have the rights of a role for a moment, where the admin is not a superuser.

    From PostgreSQL 16 on, whoever creates a role may grant it, to themselves too, but has not its
    rights from the start (manual, section 21.4, createrole_self_grant).
    """
    row = admin.execute(_MAY_ACT_AS, [name]).fetchone()
    if row is not None and row[0]:
        yield
        return
    role = sql.Identifier(name)
    since = admin.info.server_version >= OPTIONS_OF_MEMBERSHIPS
    inherit = sql.SQL(" WITH INHERIT TRUE, SET TRUE" if since else "")
    try:
        _ = admin.execute(sql.SQL("GRANT {} TO CURRENT_USER{}").format(role, inherit))
    except Exception as error:
        if getattr(error, "sqlstate", None) != "42501":
            raise
        raise Denied(
            f"{server.where}: the admin login {admin.info.user!r} lacks the right to act for"
            f" role {name!r}.",
            hint=f'Run as a superuser: GRANT "{name}" TO "{admin.info.user}" WITH ADMIN OPTION',
        ) from error
    try:
        yield
    finally:
        if not admin.closed:
            _take_back(admin, role)


def _take_back(admin: Connection, role: sql.Identifier) -> None:
    if admin.info.server_version >= OPTIONS_OF_MEMBERSHIPS:
        # Only what we granted ourselves; the ADMIN OPTION that came with CREATE ROLE is another grant.
        _ = admin.execute(
            sql.SQL("REVOKE {} FROM CURRENT_USER GRANTED BY CURRENT_USER").format(role)
        )
    else:
        _ = admin.execute(sql.SQL("REVOKE {} FROM CURRENT_USER").format(role))
