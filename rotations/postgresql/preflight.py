"""What can be known before the first statement: whether a change could be proven, and undone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from rotator.api import StepError, Transient, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rotations.postgresql.connection import BoundedConnection
    from rotations.postgresql.server import Server

_SERVER: Final = """
SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('transaction_read_only') = 'on',
       pg_catalog.current_setting('synchronous_standby_names'),
       pg_catalog.current_setting('synchronous_commit') IN ('off', 'local'),
       (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_replication
        WHERE state = 'streaming' AND sync_state IN ('sync', 'quorum')),
       (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_replication WHERE sync_state IS NULL),
       pg_catalog.current_setting('credcheck.encrypted_password_allowed', true) = 'off',
       (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user),
       (SELECT rolcreaterole FROM pg_catalog.pg_roles WHERE rolname = current_user),
       current_user
"""
# Each kind of limit: how many there may be, and how many there are. Whoever is no superuser finds the
# last slots of the server reserved.
_LIMITS: Final = """
WITH client AS (SELECT usesysid, datid FROM pg_catalog.pg_stat_activity
                WHERE coalesce(backend_type, 'client backend') = 'client backend'
                  AND usesysid IS NOT NULL)
SELECT (SELECT datconnlimit FROM pg_catalog.pg_database WHERE datname = %(dbname)s),
       (SELECT pg_catalog.count(*) FROM client JOIN pg_catalog.pg_database d ON d.oid = datid WHERE datname = %(dbname)s),
       (SELECT datallowconn FROM pg_catalog.pg_database WHERE datname = %(dbname)s),
       pg_catalog.current_setting('max_connections')::int
         - pg_catalog.current_setting('superuser_reserved_connections')::int
         - coalesce(pg_catalog.current_setting('reserved_connections', true), '0')::int,
       (SELECT pg_catalog.count(*) FROM client),
       (SELECT rolconnlimit FROM pg_catalog.pg_roles WHERE rolname = %(login)s),
       (SELECT pg_catalog.count(*) FROM client JOIN pg_catalog.pg_roles r ON r.oid = usesysid WHERE rolname = %(login)s),
       coalesce((SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = %(login)s), false)
"""
# FIRST 2 (a, b), ANY 2 (a, b), 2 (a, b), a, b
_STANDBYS: Final = re.compile(r"\s*(?:first|any)?\s*(\d+)\s*\(", re.IGNORECASE)


def require_ready(
    server: Server, admin: BoundedConnection, in_place: str | None, *, dbname: str | None = None
) -> None:
    """Raise the first of what hinders a rotation now. Nothing has been sent then.

    `in_place`: the login whose password is changed while applications use it.
    """
    for error in hindrances(server, admin, in_place, dbname=dbname):
        raise error


def hindrances(
    server: Server, admin: BoundedConnection, in_place: str | None, *, dbname: str | None = None
) -> Iterator[StepError]:
    """Return everything that hinders a rotation now, each with its cause and its remedy."""
    yield from _of_server(server, admin, in_place)
    yield from _of_limits(server, admin, in_place, dbname or server.options.dbname)


def _of_server(
    server: Server, admin: BoundedConnection, in_place: str | None
) -> Iterator[StepError]:
    row = admin.execute(_SERVER).fetchone()
    if row is None:
        return
    standby, read_only, names, no_wait, confirming, hidden, no_hashes, superuser, creates, who = row
    if standby:
        yield Unavailable(
            f"{server.where} is a standby, which is read-only.",
            hint="Set the target's `host` to the primary.",
        )
    elif read_only:
        yield Unavailable(
            f"{server.where} is read-only: default_transaction_read_only is on.",
            hint="Find where it is set: SELECT source, sourcefile FROM pg_settings WHERE name ="
            " 'default_transaction_read_only'. This setting often protects a server whose disk"
            " is full.",
        )
    needed = _needed(names)
    # Hidden rows: this admin may not see which standby is synchronous, so it is found out on the way.
    if needed > confirming + hidden and not no_wait:
        yield Unavailable(
            f"{server.where} waits for {needed} synchronous standby(s) ({names}), but"
            f" {confirming} confirm(s): a change would never be confirmed.",
            hint="Restore the standby. If it stays down: ALTER SYSTEM SET synchronous_standby_names"
            " = ''; SELECT pg_reload_conf();",
        )
    if no_hashes:
        yield Unavailable(
            f"{server.where}: credcheck rejects SCRAM verifiers, and rotator sends passwords"
            " only in that form.",
            hint="ALTER SYSTEM SET credcheck.encrypted_password_allowed = on; SELECT pg_reload_conf();",
        )
    if not superuser and not creates and who != in_place:
        yield Unavailable(
            f"{server.where}: the admin login {who!r} lacks the right to create and alter roles.",
            hint=f'As a superuser: ALTER ROLE "{who}" CREATEROLE',
        )


def _of_limits(
    server: Server, admin: BoundedConnection, login: str | None, dbname: str
) -> Iterator[StepError]:
    row = admin.execute(_LIMITS, {"dbname": dbname, "login": login}).fetchone()
    if row is None:
        return
    most_in, open_in, allowed, most, used, most_as, open_as, superuser = row
    lead = f"{server.where}: the new password could not be verified, so rotator sent nothing"
    if allowed is False:
        yield Unavailable(
            f"{lead}: database {dbname!r} accepts no connections.",
            hint=f'ALTER DATABASE "{dbname}" ALLOW_CONNECTIONS true',
        )
    if superuser:
        return
    if most_in is not None and 0 <= most_in <= open_in:
        yield Transient(
            f"{lead}: the connection limit of database {dbname!r} ({most_in}) is reached.",
            hint=f'ALTER DATABASE "{dbname}" CONNECTION LIMIT -1',
        )
    if used >= most:
        yield Transient(
            f"{lead}: all {most} connections of the server are in use.",
            hint="End sessions, or raise max_connections: SELECT usename, count(*) FROM pg_stat_activity GROUP BY 1",
        )
    if most_as is not None and 0 <= most_as <= open_as:
        yield Transient(
            f"{lead}: the connection limit of login {login!r} ({most_as}) is reached.",
            hint=f'ALTER ROLE "{login}" CONNECTION LIMIT {most_as + 1}',
        )


def _needed(names: str) -> int:
    """Return how many standbys must confirm a commit."""
    if not names.strip():
        return 0
    found = _STANDBYS.match(names)
    return int(found[1]) if found else 1
