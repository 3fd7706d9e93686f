"""How a login ends: no new logins, no sessions, nothing owned, then no role."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from psycopg import sql

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
SELECT DISTINCT d.datname FROM pg_shdepend s LEFT JOIN pg_database d ON d.oid = s.dbid
WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = %s
"""
_MAY_ACT_AS: Final = "SELECT pg_has_role(current_user, %s::oid, 'USAGE')"


def close(
    server: Server, admin: Connection, role: Role, ctx: StepContext, *, end_sessions: bool
) -> None:
    """Let nobody in as `role` any more, and return once nobody is. Raises `InUse` when somebody is
    and ending that is not ours to force.
    """
    if role.can_login:
        # A transaction of its own, so that it holds from here on.
        ctx.require_time()
        _ = admin.execute(
            sql.SQL("ALTER ROLE {} NOLOGIN PASSWORD NULL").format(sql.Identifier(role.name))
        )
    ended = False
    while True:
        left = sessions(admin, role.name)
        if not left:
            return
        if not end_sessions:
            raise InUse(
                f"login {role.name!r} still has {len(left)} open session(s); new logins are refused already.",
                sessions=[session for _, session in left],
            )
        ctx.require_time()
        if not ended:
            with acting_as(server, admin, role.oid, role.name):
                _ = admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s",
                    [role.name],
                )
            ended = True
        ctx.clock.sleep(_POLL_SECONDS)


def drop(
    server: Server, admin: Connection, role: Role, ctx: StepContext, *, heir: str | None
) -> None:
    """Hand what the role owns to `heir`, take its grants away, and drop it."""
    places = [row[0] for row in admin.execute(_PLACES, [role.oid]).fetchall()]
    if places:
        if heir is None:
            raise Denied(
                f"role {role.name!r} owns objects or has grants, and no `group` is named to inherit them.",
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
    with server.admin_in(dbname, f"handing over what {role.name!r} owns") as admin:
        oid = admin.execute("SELECT oid FROM pg_roles WHERE rolname = %s", [heir]).fetchone()
        if oid is None:
            raise Denied(f"the role {heir!r} that is to inherit does not exist.")
        with (
            acting_as(server, admin, role.oid, role.name),
            acting_as(server, admin, oid[0], heir),
            admin.transaction(),
        ):
            _ = admin.execute(sql.SQL("REASSIGN OWNED BY {} TO {}").format(old, new))
            _ = admin.execute(sql.SQL("DROP OWNED BY {}").format(old))


@contextmanager
def acting_as(server: Server, admin: Connection, oid: int, name: str) -> Generator[None]:
    """Have the rights of a role for a moment, where the admin is not a superuser.

    From PostgreSQL 16 on, whoever creates a role may grant it, to themselves too, but has not its
    rights from the start (manual, section 21.4, createrole_self_grant).
    """
    row = admin.execute(_MAY_ACT_AS, [oid]).fetchone()
    if row is not None and row[0]:
        yield
        return
    role = sql.Identifier(name)
    inherit = sql.SQL(" WITH INHERIT TRUE, SET TRUE" if admin.info.server_version >= 160000 else "")  # noqa: PLR2004 # PostgreSQL 16
    try:
        _ = admin.execute(sql.SQL("GRANT {} TO CURRENT_USER{}").format(role, inherit))
    except Exception as error:
        if getattr(error, "sqlstate", None) != "42501":
            raise
        raise Denied(
            f"{server.where}: the admin login {admin.info.user!r} may not act for role {name!r}.",
            hint=f'Run as a superuser: GRANT "{name}" TO "{admin.info.user}" WITH ADMIN OPTION',
        ) from error
    try:
        yield
    finally:
        if not admin.closed:
            _take_back(admin, role)


def _take_back(admin: Connection, role: sql.Identifier) -> None:
    if admin.info.server_version >= 160000:  # noqa: PLR2004 # PostgreSQL 16
        # Only what we granted ourselves; the ADMIN OPTION that came with CREATE ROLE is another grant.
        _ = admin.execute(
            sql.SQL("REVOKE {} FROM CURRENT_USER GRANTED BY CURRENT_USER").format(role)
        )
    else:
        _ = admin.execute(sql.SQL("REVOKE {} FROM CURRENT_USER").format(role))
