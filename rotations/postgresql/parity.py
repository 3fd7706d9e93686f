"""Can the new login do what the old one could? Looked at before anything is published."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import psycopg
from psycopg import sql

from rotations.postgresql.failures import brief, translated
from rotations.postgresql.options import KINDS
from rotations.postgresql.roles import look
from rotator.api import Check

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rotations.postgresql.options import Privilege
    from rotations.postgresql.roles import Role
    from rotations.postgresql.server import Connection

_POWERS: Final = ("SUPERUSER", "CREATEDB", "CREATEROLE", "REPLICATION", "BYPASSRLS")
# What the old login holds by itself rather than through a role that the new one is a member of.
_HELD: Final = """
SELECT count(*) FILTER (WHERE deptype = 'o'), count(*) FILTER (WHERE deptype = 'a')
FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid = %s
"""


def compare(
    admin: Connection, connection: Connection, *, new: str, old: str | None, group: str | None
) -> list[Check]:
    """Compare the catalog's view of both logins. `connection` is one of `new`."""
    checks = [Check(name="login", ok=True, detail=f"{new!r} logs in")]
    row = connection.execute("SELECT session_user, current_user").fetchone()
    acting = row[1] if row else None
    if group is not None:
        # For a single user the group is only an heir: it acts as itself.
        expected = {group} if old is not None or acting == group else {group, new}
        checks.append(
            Check(name="acts as", ok=acting in expected, detail=f"{acting!r}, group {group!r}")
        )
    roles = look(admin, [name for name in (new, old) if name])
    if old is None or old not in roles or new not in roles:
        return checks
    return checks + _alike(admin, roles[new], roles[old], group)


def try_work(
    connection: Connection, where: str, privileges: Sequence[Privilege], probes: Sequence[str]
) -> list[Check]:
    """Ask for the privileges that the options name, and run the user's own queries."""
    with translated(where, "checking the new login's privileges"):
        return [
            *(_privilege(connection, one) for one in privileges),
            *(_probe(connection, number, probe) for number, probe in enumerate(probes, start=1)),
        ]


def _alike(admin: Connection, new: Role, old: Role, group: str | None) -> list[Check]:
    missing = [
        name
        for name, has, had in zip(_POWERS, new.powers, old.powers, strict=True)
        if had and not has
    ]
    # Where the old login is the group itself, its groups and settings reach the new one through it.
    is_group = old.name == group or old.name in new.groups
    # Of a pair one may be a member of the other, which needs no membership in itself.
    groups = [] if is_group else sorted(set(old.groups) - set(new.groups) - {new.name})
    settings = (
        []
        if is_group
        else [one.name for one in old.settings if one.name != "role" and one not in new.settings]
    )
    checks = [
        Check(name="attributes", ok=not missing, detail=", ".join(missing) or "none is missing"),
        Check(name="memberships", ok=not groups, detail=", ".join(groups) or "none is missing"),
        Check(name="settings", ok=not settings, detail=", ".join(settings) or "none is missing"),
        Check(
            name="connection limit",
            ok=is_group or new.connection_limit == old.connection_limit,
            detail=str(new.connection_limit),
        ),
    ]
    if not is_group:
        row = admin.execute(_HELD, [old.oid]).fetchone() or (0, 0)
        # What a login of ours came to own is handed to the group at its revoke.
        owned = 0 if old.mark is not None and group is not None else row[0]
        checks.append(
            Check(
                name="held by the old login itself",
                ok=not (owned or row[1]),
                detail=f"{owned} object(s) owned, {row[1]} grant(s)"
                + (
                    ""
                    if not (owned or row[1])
                    else f": make {old.name!r} the group, or move them to one"
                ),
            )
        )
    return checks


def _privilege(connection: Connection, one: Privilege) -> Check:
    query = sql.SQL("SELECT {}(%s, %s)").format(sql.Identifier(KINDS[one.kind]))
    try:
        row = connection.execute(query, [one.name, one.right]).fetchone()
    except psycopg.Error as error:
        if error.sqlstate is None:
            raise
        return Check(name=str(one), ok=False, detail=brief(error))
    return Check(
        name=str(one), ok=bool(row and row[0]), detail="granted" if row and row[0] else "missing"
    )


def _probe(connection: Connection, number: int, probe: str) -> Check:
    name = f"probe {number}"
    try:
        with connection.transaction(force_rollback=True):
            _ = connection.execute("SET TRANSACTION READ ONLY")
            # The user's own query, from the configuration, as it stands.
            _ = connection.execute(probe.encode())
    except psycopg.Error as error:
        if error.sqlstate is None:
            raise
        return Check(name=name, ok=False, detail=brief(error))
    return Check(name=name, ok=True, detail="ran")
