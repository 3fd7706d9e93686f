"""Contains a leaked password: replaces it, ends earlier sessions, and tries it at each address."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from psycopg import errors, sql

from rotations.postgresql import failure_causes, login_check, passwords, profile
from rotations.postgresql.connection import BoundedConnection
from rotations.postgresql.drop_role import acting_as
from rotations.postgresql.roles import look
from rotations.postgresql.server import Limits, Server
from rotator.api import (
    Denied,
    InUse,
    Session,
    StepError,
    Transient,
    on_each_node,
    own_login,
    password_of_nobody,
    split_address,
    try_entrances,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotations.postgresql.options import SecretOptions
    from rotations.postgresql.roles import Role
    from rotator.api import Credential, Entrance, Secret, StepContext

_POLL_SECONDS: Final = 0.02
# In seconds: how long replicas may take to replay the change, and how long sessions may take to end.
_REPLAY: Final = 2.0
_ENDING: Final = 10.0
_NOW: Final = "SELECT pg_catalog.clock_timestamp()::pg_catalog.text"
_WRITTEN: Final = "SELECT pg_catalog.clock_timestamp()::pg_catalog.text, pg_catalog.pg_current_wal_lsn()::pg_catalog.text"
_REPLAYED: Final = """
SELECT pg_catalog.pg_is_in_recovery() AND pg_catalog.pg_last_wal_replay_lsn() >= %s::pg_catalog.pg_lsn,
       pg_catalog.pg_sleep(%s)
"""
_MAY_END: Final = """
SELECT pg_catalog.pg_is_in_recovery(),
       pg_catalog.pg_has_role(current_user, 'pg_signal_backend', 'USAGE')
         AND pg_catalog.pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')
"""
# An application name is the client's choice, so none is exempt.
_EARLIER: Final = """
SELECT pid, usename, coalesce(pg_catalog.host(client_addr), 'local'), coalesce(application_name, '?'), backend_start
FROM pg_catalog.pg_stat_activity
WHERE usename = %(login)s AND pid <> pg_catalog.pg_backend_pid()
  AND (backend_type IN ('client backend', 'walsender')
       OR backend_type IS NULL AND pid NOT IN (SELECT pid FROM pg_catalog.pg_stat_subscription WHERE pid IS NOT NULL))
  AND (%(before)s::pg_catalog.timestamptz IS NULL OR backend_start IS NULL
       OR backend_start < %(before)s::pg_catalog.timestamptz)
ORDER BY backend_start
"""
_END: Final = """
SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity
WHERE pid = ANY(%s) AND usename = %s
"""
# The extension credcheck locks a login after so many wrong passwords; 0: never.
_LOCKS: Final = (
    "SELECT coalesce(pg_catalog.current_setting('credcheck.max_auth_failure', true), '0') <> '0'"
)
# PgBouncer's SQLSTATE for every rejection, and its texts for a rejected password; it translates none.
_OF_POOLER: Final = "08P01"
_POOLER_REJECTS: Final = ("authentication failed", "auth failed", "no such user")
RIGHTS: Final = ("pg_read_all_stats", "pg_signal_backend")


def moment(server: Server, ctx: StepContext) -> str:
    """Return the current time by the clock of each node that has all changes up to now.

    A replica that lags is missing: it may accept a replaced password later than now.
    """
    with server.admin("reading the server's clock", ctx) as admin:
        row = admin.execute(_WRITTEN).fetchone()
    now, written = row if row is not None else ("", "")
    nodes = {address_of(server): now}
    ends = time.monotonic() + _REPLAY

    def clock(reader: Server) -> str | None:
        with reader.admin("reading the replica's clock", ctx) as admin:
            return _now_once_replayed(admin, written, ends)

    for reader, then in zip(server.readers, on_each_node(server.readers, clock), strict=True):
        address = address_of(reader)
        if isinstance(then, str):
            nodes[address] = then
            continue
        why = "it has not replayed the change" if then is None else then.what
        ctx.log.warning("all sessions count as earlier", node=address, why=why)
    return json.dumps(nodes)


def fence(
    server: Server,
    options: SecretOptions,
    leaked: Credential,
    ctx: StepContext,
    require_ours: Callable[[Role, StepContext], None],
) -> str:
    """Replace the password of a role, and nothing else of it; return the moment of the change."""
    name = leaked.username
    with server.step(f"fencing login {name!r}", ctx) as admin:
        role = look(admin, [name]).get(name)
        if role is not None:
            require_ours(role, ctx)
            if name == admin.info.user:
                raise own_login(server.where, server.name, name)
            kind = passwords.wanted(options, profile.read(admin, [name]).get(name))
            unknown = replace(leaked, password=password_of_nobody(ctx))
            _set(server, admin, name, passwords.verifier(admin, unknown, kind), ctx)
    return moment(server, ctx)


def end_sessions(server: Server, login: str, before: str, ctx: StepContext) -> list[Session]:
    """End the earlier sessions on each node. A failure on one node does not affect the others."""
    nodes: dict[str, str] = json.loads(before)
    results = on_each_node(
        (server, *server.readers),
        lambda node: _end_on(node, login, nodes.get(address_of(node)), ctx),
    )
    failed = [result for result in results if isinstance(result, StepError)]
    if failed:
        raise failed[0]
    return [session for result in results if isinstance(result, list) for session in result]


def entrances(
    server: Server,
    options: SecretOptions,
    leaked: Credential,
    current: Credential | None,
    ctx: StepContext,
) -> list[Entrance]:
    """Try the passwords at the server, its replicas and the further addresses of the target."""
    places = {address_of(node): node for node in (server, *server.readers)}
    for address in server.options.addresses:
        host, port = split_address(address, server.options.port)
        at = replace(server.options, host=host, port=port, readers=(), addresses=())
        place = Server(server.name, at, server.admin_credential)
        _ = places.setdefault(address_of(place), place)

    def attempt(address: str, credential: Credential, within: StepContext) -> bool:
        return _accepts(places[address], options, credential, within)

    may_lock = _may_lock(server, ctx)
    return try_entrances(list(places), attempt, leaked, current, ctx, may_lock=may_lock)


def address_of(server: Server) -> str:
    """Return where a server listens, as an operator writes it."""
    host = server.options.host
    return f"[{host}]:{server.options.port}" if ":" in host else f"{host}:{server.options.port}"


def _set(
    server: Server, admin: BoundedConnection, login: str, verifier: Secret, ctx: StepContext
) -> None:
    name = sql.Identifier(login)
    statement = sql.SQL("ALTER ROLE {} WITH PASSWORD {}").format(
        name, sql.Literal(verifier.reveal())
    )
    # The primary must reject the leaked password now, so this waits for no standby.
    here = sql.SQL("SET LOCAL synchronous_commit TO local")
    ctx.require_time()
    try:
        _ = admin.execute(sql.SQL("; ").join([here, statement]))
    except errors.InsufficientPrivilege as error:
        who = sql.Identifier(admin.info.user).as_string(None)
        raise Denied(
            f"{server.where}: the admin login {admin.info.user!r} lacks the right to replace the"
            f" password of {login!r}.",
            hint=f"Run as a superuser: GRANT {name.as_string(None)} TO {who} WITH ADMIN OPTION",
        ) from error


def _now_once_replayed(admin: BoundedConnection, written: str, ends: float) -> str | None:
    """Return the time once a replica has replayed what was written; None where it lags until `ends`."""
    pause = 0.0
    while True:
        row = admin.execute(_REPLAYED, [written, pause]).fetchone()
        if row is not None and row[0]:
            now = admin.execute(_NOW).fetchone()
            return str(now[0]) if now is not None else None
        if time.monotonic() >= ends:
            return None
        pause = _POLL_SECONDS


def _end_on(server: Server, login: str, before: str | None, ctx: StepContext) -> list[Session]:
    with server.admin(f"ending the sessions of {login!r}", ctx) as admin, ExitStack() as rights:
        if not look(admin, [login]):
            return []
        row = admin.execute(_MAY_END).fetchone()
        standby, able = row if row is not None else (False, False)
        if not able:
            if standby:
                raise _may_not_end(server, admin)
            rights.enter_context(acting_as(server, admin, login))
        return _ended(server, admin, login, before, ctx)


def _ended(
    server: Server, admin: BoundedConnection, login: str, before: str | None, ctx: StepContext
) -> list[Session]:
    ended: dict[int, Session] = {}
    ends = time.monotonic() + min(_ENDING, ctx.seconds_left() / 2)
    while True:
        rows = admin.execute(_EARLIER, {"login": login, "before": before}).fetchall()
        if not rows:
            return list(ended.values())
        left = {
            pid: Session(login=user, client=client, application=application, since=since)
            for pid, user, client, application, since in rows
        }
        if time.monotonic() >= ends:
            raise InUse(
                f"{server.where}: {len(left)} earlier session(s) of {login!r} do not end.",
                sessions=list(left.values()),
                hint=f"End them: SELECT pg_terminate_backend({next(iter(left))}). If that has no"
                " effect, the process is suspended on the server's host.",
            )
        if fresh := sorted(left.keys() - ended.keys()):
            ctx.require_time()
            try:
                _ = admin.execute(_END, [fresh, login])
            except errors.InsufficientPrivilege as error:
                raise _may_not_end(server, admin) from error
            ended |= left
        _ = admin.execute("SELECT pg_catalog.pg_sleep(%s)", [_POLL_SECONDS])


def _may_not_end(server: Server, admin: BoundedConnection) -> Denied:
    who = sql.Identifier(admin.info.user).as_string(None)
    return Denied(
        f"{server.where}: the admin login {admin.info.user!r} lacks the rights to see and end"
        " sessions of other logins.",
        hint=f"Run as a superuser: GRANT {', '.join(RIGHTS)} TO {who}",
    )


def _accepts(
    server: Server, options: SecretOptions, credential: Credential, ctx: StepContext
) -> bool:
    outcome = login_check.try_login(server, credential, options, ctx, pooler=True)
    if isinstance(outcome, BoundedConnection):
        outcome.close()
        return True
    if outcome.state == _OF_POOLER and any(text in outcome.text for text in _POOLER_REJECTS):
        return False
    cause = failure_causes.of_failure(
        server, outcome, credential.username, Limits.of(ctx), dbname=options.login_dbname
    )
    if cause.cause in failure_causes.REJECTED:
        return False
    if login_check.is_full(outcome, cause):
        return True
    kind = Transient if cause.cause in failure_causes.PASSING else Denied
    raise kind(f"it {cause.text}" if cause.text.startswith("is ") else cause.text)


def _may_lock(server: Server, ctx: StepContext) -> bool:
    """Return whether a failed login could lock an account, or whether that is unknown."""
    try:
        with server.admin("reading whether failed logins lock", ctx) as admin:
            row = admin.execute(_LOCKS).fetchone()
    except StepError:
        return True
    return row is None or bool(row[0])
