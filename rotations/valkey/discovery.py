"""Lists the users of all nodes, for `rotator discover`."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final

from rotator.api import FoundLogin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rotations.valkey.nodes import Client, Node
    from rotations.valkey.server import Server
    from rotations.valkey.users import User, Users
    from rotator.api import StepContext

_ALL: Final = "+@all"
# Rules that reach beyond a user's own keys.
_STRONG: Final = (_ALL, "+@admin", "+@dangerous", "+acl", "+config", "+replicaof", "+shutdown")


def logins(server: Server, ctx: StepContext) -> list[FoundLogin]:
    """Return the users of all nodes, without the marks. Raises `Transient` while a node is down."""
    with server.nodes(ctx) as nodes:
        nodes.require_all("Its users and sessions are unknown.")
        users = [(node, node.users()) for node in nodes.up]
        clients = [
            client for node in nodes.up for client in node.all_clients() if not node.is_ours(client)
        ]
    names = sorted({user.name for _, of_node in users for user in of_node.everybody()})
    return [_login(name, users, clients, ctx) for name in names]


def _login(
    name: str,
    nodes: Sequence[tuple[Node, Users]],
    clients: Sequence[Client],
    ctx: StepContext,
) -> FoundLogin:
    """Return a user as the nodes have it together: open on one of them is open."""
    users = [user for _, of_node in nodes if (user := of_node.get(name)) is not None]
    missing = [str(node.place) for node, of_node in nodes if of_node.get(name) is None]
    own = [client for client in clients if client.user == name]
    return FoundLogin(
        login=name,
        can_login=any(user.on and (user.nopass or user.hashes) for user in users),
        has_password=not any(user.nopass for user in users),
        is_superuser=any(map(_may_do_all, users)),
        rights=tuple(
            dict.fromkeys(rule for user in users for rule in user.rules if rule.startswith(_STRONG))
        ),
        is_internal=any(client.is_machinery for client in own),
        comment=f"missing on {', '.join(missing)}" if missing else "",
        last_used=ctx.clock.now() - timedelta(seconds=min(client.idle for client in own))
        if own
        else None,
        sessions=len(own),
        is_of=partial(_bears_mark, name, [of_node for _, of_node in nodes]),
        remove=f"ACL DELUSER {name}",
    )


def _may_do_all(user: User) -> bool:
    return _ALL in user.rules and not any(rule.startswith("-") for rule in user.rules)


def _bears_mark(name: str, nodes: Sequence[Users], secret: str) -> bool:
    return any(users.mark([secret], name) is not None for users in nodes)
