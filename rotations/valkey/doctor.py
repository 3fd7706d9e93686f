"""What `doctor` asks of a Valkey or Redis target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rotations.valkey.errors import grant, translated
from rotations.valkey.login import all_users
from rotations.valkey.wire import ErrorReply
from rotator.api import Finding, Severity, StepError, Unavailable, is_local

if TYPE_CHECKING:
    from rotations.valkey.login import Login
    from rotations.valkey.nodes import Node
    from rotations.valkey.server import Nodes, Server
    from rotator.api import Credential, StepContext

# What is asked of each node, harmless where nothing stands behind it; ACL DRYRUN came with Redis 7.
RIGHTS: Final = (
    ("ACL", "SETUSER", "x"),
    ("ACL", "DELUSER", "x"),
    ("ACL", "LIST"),
    ("ACL", "SAVE"),
    ("CLIENT", "LIST"),
    ("CLIENT", "KILL", "ID", "0"),
    ("CONFIG", "GET", "aclfile"),
    ("COMMAND", "INFO", "get"),
)


def findings(
    login: Login,
    server: Server,
    current: Credential | None,
    probes: list[list[str]],
    ctx: StepContext,
) -> list[Finding]:
    """Look at every node with the admin's eyes. The users are saved as they are, and nothing is changed."""
    subject = f"target {server.name}"
    found: list[Finding] = []
    try:
        with server.nodes(ctx) as nodes:
            found += _reached(server, nodes, subject)
            for node in nodes.up:
                found += _node(server, node, subject)
                found += _probes(node, probes, subject)
            errors = list(login.obstacles(all_users(nodes), None, current, ctx))
            found += [_finding(Severity.ERROR, subject, one.what, one.hint) for one in errors]
            if not any(isinstance(one, Unavailable) for one in errors):
                found += _saved(nodes, subject)
            if current is not None:
                found += _login(nodes, current.username, subject)
    except StepError as error:
        found.append(_finding(Severity.ERROR, subject, error.what, error.hint))
    return found


def _saved(nodes: Nodes, subject: str) -> list[Finding]:
    """Tell by what users are kept: it has just been tried."""
    return [
        _finding(
            Severity.OK,
            subject,
            f"{node}: users survive a restart, in the {store.name}"
            + (f" ({' '.join(store.command)} succeeded)" if store.command else ""),
        )
        for node in nodes.up
        for store in (node.store(),)
    ]


def _reached(server: Server, nodes: Nodes, subject: str) -> list[Finding]:
    names = ", ".join(str(node) for node in nodes.up)
    found = [_finding(Severity.OK, subject, f"the admin login authenticated on {names}")]
    for error in nodes.down.values():
        remedy = (
            f"{error.hint} Until the node is back or removed from the configuration, rotator"
            " begins no rotation and revokes no old password."
        )
        found.append(_finding(Severity.ERROR, subject, error.what, remedy))
    named = set(server.options.named())
    unnamed = [
        node
        for node in nodes.up
        if node.is_replica and not node.is_clustered and node.place not in named
    ]
    if unnamed and not server.options.sentinels:
        said = ", ".join(str(node.place) for node in unnamed)
        message = (
            f"rotator knows the replicas {said} only from the primary: a replica that is down"
            " drops out of its list, and keeps the old password"
        )
        found.append(_finding(Severity.WARNING, subject, message, "List them in `nodes`."))
    return found


def _node(server: Server, node: Node, subject: str) -> list[Finding]:
    found: list[Finding] = []
    mode = server.options.tls(node.place.host)
    if not is_local(node.place.host) and mode != "verify-full":
        message = (
            f"sslmode is {mode} for {node.place}: another host on the network could"
            " impersonate the node"
        )
        found.append(_finding(Severity.WARNING, subject, message, "Set sslmode: verify-full."))
    if missing := _missing(node):
        grants = " ".join(missing)
        message = f"{node}: the admin {node.link.user!r} lacks: {grants}"
        remedy = f"ACL SETUSER {node.link.user} {grants}"
        return [*found, _finding(Severity.ERROR, subject, message, remedy)]
    return found


def _missing(node: Node) -> list[str]:
    """Return the grants that the admin lacks. Redis 6 cannot be asked: it has no ACL DRYRUN."""
    lacking: list[str] = []
    for command in RIGHTS:
        with translated(str(node), "reading the admin's rights"):
            try:
                said = node.link.call("ACL", "DRYRUN", node.link.user, *command)
            except ErrorReply as error:
                return [grant("ACL", "DRYRUN")] if error.code == "NOPERM" else []
        if said != "OK":
            lacking.append(grant(*command))
    return lacking


def _probes(node: Node, probes: list[list[str]], subject: str) -> list[Finding]:
    found: list[Finding] = []
    for command in probes:
        sub = command[1].lower() if len(command) > 1 else ""
        if not node.is_read_only(command[0].lower(), sub):
            message = f"{node} does not know the probe {command[0]} as a read-only command"
            remedy = "Change `probes` in the secret's options."
            found.append(_finding(Severity.ERROR, subject, message, remedy))
    return found


def _login(nodes: Nodes, login: str, subject: str) -> list[Finding]:
    """Tell of passwords to spare, and of nodes that do not agree on the rules."""
    found: list[Finding] = []
    users = [(node, user) for node in nodes.up if (user := node.users().get(login)) is not None]
    for node, user in users:
        count = len(user.hashes)
        if count > 2:  # noqa: PLR2004 # old and new, in the grace period
            message = (
                f"user {login!r} at {node} has {count} passwords: the next revoke removes all"
                " but the current one"
            )
            found.append(_finding(Severity.WARNING, subject, message))
        elif count == 2:  # noqa: PLR2004
            message = (
                f"user {login!r} at {node} has a second password: the previous one in a grace"
                " period; or one set manually, which the next revoke removes"
            )
            found.append(_finding(Severity.OK, subject, message))
    if len({user.may for _, user in users}) > 1:
        message = f"user {login!r} has different rules on different nodes"
        remedy = "Compare ACL LIST of each node: nodes do not share users."
        found.append(_finding(Severity.WARNING, subject, message, remedy))
    return found


def _finding(severity: Severity, subject: str, message: str, remedy: str = "") -> Finding:
    return Finding(severity=severity, subject=subject, message=message, remedy=remedy)
