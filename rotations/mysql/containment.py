"""Contains a leaked password: replaces it, ends earlier sessions, and tries it at each address."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from rotations.mysql import readers
from rotations.mysql.server import Server
from rotator.api import Denied, InUse, StepError, on_each_node, split_address, try_entrances

if TYPE_CHECKING:
    from rotations.mysql.accounts import Accounts
    from rotator.api import Credential, Entrance, Session, StepContext

_POLL_SECONDS: Final = 0.02
# In seconds: how long replicas may take to apply the change, and how long sessions may take to end.
_APPLY: Final = 2.0
_ENDING: Final = 10.0
# The start of a server is read to the second; a server that began later than this was restarted.
_RESTARTED: Final = 5


def moment(server: Server, login: str | None, ctx: StepContext) -> str:
    """Return when each node started and its newest connection, once it has the accounts of the login.

    A replica that lags is missing: it may accept a replaced password later than now.
    """
    nodes = {server.address: _moment_of(server, ctx)}
    ends = time.monotonic() + _APPLY

    def of_reader(reader: Server) -> tuple[int, int] | None:
        while login is not None:
            if not readers.lags(reader, server, login, ctx):
                return _moment_of(reader, ctx)
            if time.monotonic() >= ends:
                break
            ctx.clock.sleep(_POLL_SECONDS)
        return None

    for reader, then in zip(server.readers, on_each_node(server.readers, of_reader), strict=True):
        if isinstance(then, tuple):
            nodes[reader.address] = then
            continue
        why = "it has not applied the change" if then is None else then.what
        ctx.log.warning("all sessions count as earlier", node=reader.address, why=why)
    return json.dumps(nodes)


def fence(accounts: Accounts, login: str, ctx: StepContext) -> None:
    """Replace every password of each account of the login. An account that has none is left as it is."""
    failed: list[Denied] = []
    for account in accounts.look(login):
        if not any(kept for _, kept in account.ways):
            continue
        try:
            accounts.fence(account, ctx)
        except Denied as denied:
            failed.append(denied)
    if failed:
        raise failed[0]


def end_sessions(server: Server, login: str, before: str, ctx: StepContext) -> list[Session]:
    """End the earlier sessions on each node. A failure on one node does not affect the others."""
    nodes: dict[str, tuple[int, int]] = json.loads(before)
    if login == server.admin_name():
        # Connections of the pool are opened again; they need no end by the server.
        server.close()
    results = on_each_node(
        (server, *server.readers),
        lambda node: _end_on(node, login, nodes.get(node.address), ctx),
    )
    failed = [result for result in results if isinstance(result, StepError)]
    if failed:
        raise failed[0]
    return [session for result in results if isinstance(result, list) for session in result]


def entrances(
    server: Server,
    leaked: Credential,
    current: Credential | None,
    ctx: StepContext,
    *,
    may_lock: bool,
) -> list[Entrance]:
    """Try the passwords at the server, its replicas and the further addresses of the target."""
    places = {node.address: node for node in (server, *server.readers)}
    for address in server.options.addresses:
        host, port = split_address(address, server.options.port)
        at = replace(server.options, host=host, port=port, readers=(), addresses=())
        place = Server(server.name, at, server.admin_credential)
        _ = places.setdefault(place.address, place)

    def attempt(address: str, credential: Credential, within: StepContext) -> bool:
        return readers.accepts(places[address], credential, within)

    return try_entrances(list(places), attempt, leaked, current, ctx, may_lock=may_lock)


def _moment_of(server: Server, ctx: StepContext) -> tuple[int, int]:
    with server.admin("reading the newest connection", ctx) as accounts:
        # In this order: a restart in between makes all later connections count as later.
        return accounts.started(), accounts.newest_connection()


def _end_on(
    server: Server, login: str, before: tuple[int, int] | None, ctx: StepContext
) -> list[Session]:
    with server.admin(f"ending the sessions of {login!r}", ctx) as accounts:
        if not accounts.own_rights() & {"PROCESS", "ALL PRIVILEGES"}:
            raise Denied(
                f"{server.where}: the admin login {accounts.admin.user!r} lacks the right to see"
                " sessions of other logins.",
                hint=f"As root: GRANT PROCESS ON *.* TO {accounts.whoami()};",
            )
        if before is not None and accounts.started() > before[0] + _RESTARTED:
            return []
        return _ended(server, accounts, login, None if before is None else before[1], ctx)


def _ended(
    server: Server, accounts: Accounts, login: str, newest: int | None, ctx: StepContext
) -> list[Session]:
    ended: dict[int, Session] = {}
    ends = time.monotonic() + min(_ENDING, ctx.seconds_left() / 2)
    while True:
        left = {
            number: session
            for number, session in accounts.sessions(login)
            if newest is None or number <= newest
        }
        if not left:
            return list(ended.values())
        if time.monotonic() >= ends:
            raise InUse(
                f"{server.where}: {len(left)} earlier session(s) of {login!r} do not end.",
                sessions=list(left.values()),
                hint=f"End them: KILL CONNECTION {next(iter(left))}",
            )
        for number in sorted(left.keys() - ended.keys()):
            ctx.require_time()
            accounts.end(number)
        ended |= left
        ctx.clock.sleep(_POLL_SECONDS)
