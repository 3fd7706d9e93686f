"""What `doctor` asks of a Valkey or Redis target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rotations.valkey.failures import grant
from rotations.valkey.wire import Said
from rotator.api import Finding, Severity, StepError, is_local

if TYPE_CHECKING:
    from rotations.valkey.nodes import Node
    from rotations.valkey.server import Nodes, Server
    from rotations.valkey.users import User

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


def findings(server: Server, login: str | None, probes: list[list[str]]) -> list[Finding]:
    """Look at every node with the admin's eyes. Nothing is changed."""
    subject = f"target {server.name}"
    found: list[Finding] = []
    try:
        with server.nodes() as nodes:
            found += _reached(server, nodes, subject)
            for node in nodes.up:
                found += _node(server, node, subject)
                found += _probes(node, probes, subject)
            if login is not None:
                found += _login(nodes, login, subject)
    except StepError as error:
        found.append(_finding(Severity.ERROR, subject, error.what, error.hint))
    return found


def _reached(server: Server, nodes: Nodes, subject: str) -> list[Finding]:
    names = ", ".join(str(node) for node in nodes.up)
    found = [_finding(Severity.OK, subject, f"the admin logs in to {names}")]
    for error in nodes.down.values():
        remedy = "No rotation begins, and no old password ends, until it is back or nobody names it any more."
        found.append(_finding(Severity.ERROR, subject, error.what, remedy))
    named = set(server.options.named())
    unnamed = [
        node
        for node in nodes.up
        if node.is_replica and not node.is_clustered and node.place not in named
    ]
    if unnamed and not server.options.sentinels:
        said = ", ".join(str(node.place) for node in unnamed)
        message = f"the replicas {said} are known from the primary alone: one that is down is forgotten, and keeps the old password"
        found.append(_finding(Severity.WARNING, subject, message, "Name them in `nodes`."))
    return found


def _node(server: Server, node: Node, subject: str) -> list[Finding]:
    found: list[Finding] = []
    mode = server.options.tls(node.place.host)
    if not is_local(node.place.host) and mode != "verify-full":
        message = f"sslmode is {mode} for {node.place}: whoever sits between could pose as the node"
        found.append(_finding(Severity.WARNING, subject, message, "Set sslmode: verify-full."))
    if missing := _missing(node):
        grants = " ".join(missing)
        message = f"{node}: the admin {node.link.user!r} lacks: {grants}"
        remedy = f"ACL SETUSER {node.link.user} {grants}"
        return [*found, _finding(Severity.ERROR, subject, message, remedy)]
    by = node.keeps()
    if by is not None:
        found.append(_finding(Severity.OK, subject, f"{node}: a restart keeps users, by the {by}"))
        return found
    message = f"{node} keeps no users: a restart brings the old password back to life, and the current one is refused"
    remedy = "Set `aclfile` in its configuration (users.acl) and restart it once; or persist: rewrite, where it has a configuration file."
    return [*found, _finding(Severity.ERROR, subject, message, remedy)]


def _missing(node: Node) -> list[str]:
    """Return the grants that the admin lacks. Redis 6 cannot be asked: it has no ACL DRYRUN."""
    lacking: list[str] = []
    for command in RIGHTS:
        try:
            said = node.link.call("ACL", "DRYRUN", node.link.user, *command)
        except Said as error:
            return [grant("ACL", "DRYRUN")] if error.code == "NOPERM" else []
        if said != "OK":
            lacking.append(grant(*command))
    return lacking


def _probes(node: Node, probes: list[list[str]], subject: str) -> list[Finding]:
    found: list[Finding] = []
    for command in probes:
        sub = command[1].lower() if len(command) > 1 else ""
        if not node.is_read_only(command[0].lower(), sub):
            message = f"the probe {command[0]} is not known to {node} as a command that only reads"
            remedy = "Change `probes` in the secret's options."
            found.append(_finding(Severity.ERROR, subject, message, remedy))
    return found


def _login(nodes: Nodes, login: str, subject: str) -> list[Finding]:
    found: list[Finding] = []
    known: list[tuple[Node, User]] = []
    for node in nodes.up:
        user = node.users().get(login)
        if user is None:
            message, remedy = f"{node} has no user {login!r}", "Nodes do not share users."
            found.append(_finding(Severity.ERROR, subject, message, remedy))
            continue
        known.append((node, user))
        if user.nopass or not user.on:
            state = "is let in by any password (nopass)" if user.nopass else "is off"
            found.append(_finding(Severity.ERROR, subject, f"user {login!r} at {node} {state}"))
        if len(user.hashes) > 2:  # noqa: PLR2004 # old and new, in the grace period
            message = f"user {login!r} at {node} has {len(user.hashes)} passwords: all but the current one end with the next revoke"
            found.append(_finding(Severity.WARNING, subject, message))
        if len(nodes.up) > 1 and (machinery := node.machinery(login)):
            message = f"{node}: {machinery} logs in as {login!r}, which no rotation could revoke"
            remedy = "Give replication and the Sentinels users of their own (docs/valkey.md)."
            found.append(_finding(Severity.ERROR, subject, message, remedy))
    if len({user.may for _, user in known}) > 1:
        message = f"user {login!r} has not the same rules on every node"
        remedy = "Compare ACL LIST of each: nodes do not share users."
        found.append(_finding(Severity.WARNING, subject, message, remedy))
    return found


def _finding(severity: Severity, subject: str, message: str, remedy: str = "") -> Finding:
    return Finding(severity=severity, subject=subject, message=message, remedy=remedy)
