"""Does the new login equal the old one? Looked at before anything is published."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from rotations.postgresql.errors import brief, translated
from rotations.postgresql.options import KINDS as PRIVILEGES
from rotations.postgresql.passwords import alike
from rotations.postgresql.profile_transfer import KINDS
from rotator.api import Check

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rotations.postgresql.options import Privilege
    from rotations.postgresql.profile_transfer import LoginPair
    from rotations.postgresql.server import Connection


def compare(
    connection: Connection, case: LoginPair, kind_of_hash: str, rights: Check
) -> list[Check]:
    """Compare both logins, lack and excess, kind by kind. `connection` is one of the next login.

    `rights`: the proof that it can do no more than before.
    """
    checks = [Check(name="login", ok=True, detail=f"{case.name!r} logs in")]
    row = connection.execute("SELECT current_user, pg_catalog.current_database()").fetchone()
    acting, database = row or (None, "")
    if case.group_name is not None or case.source is not None:
        expected = _acts_as(case, database)
        detail = f"{acting!r}" if acting == expected else f"{acting!r}, expected {expected!r}"
        checks.append(Check(name="acts as", ok=acting == expected, detail=detail))
    checks.append(rights)
    if case.source is None or case.new is None:
        return checks
    for kind in KINDS:
        unlike = [one.what for one in kind.changes(case)]
        unlike += [cause for cause, _ in kind.obstacles(case)]
        checks.append(
            Check(name=kind.name, ok=not unlike, detail="; ".join(unlike) or "as the old login's")
        )
    hashed = case.new.password
    checks.append(
        Check(
            name="password hash",
            ok=alike(case.version, hashed, kind_of_hash),
            detail=hashed or "not visible to the admin",
        )
    )
    return checks


def try_work(
    connection: Connection, where: str, privileges: Sequence[Privilege], probes: Sequence[str]
) -> list[Check]:
    """Ask for the privileges that the options name, and run the user's own queries."""
    with translated(where, "checking the new login's privileges"):
        return [
            *(_privilege(connection, one) for one in privileges),
            *(_probe(connection, number, probe) for number, probe in enumerate(probes, start=1)),
        ]


def _acts_as(case: LoginPair, database: str) -> str:
    # Of the same login, or the first one, whatever its settings say.
    if case.source is None and case.new is not None:
        return case.new.acts_as(database)
    return case.acts_as(database)


def _privilege(connection: Connection, one: Privilege) -> Check:
    query = sql.SQL("SELECT {}(%s, %s)").format(sql.Identifier("pg_catalog", PRIVILEGES[one.kind]))
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
