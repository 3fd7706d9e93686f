"""What the strategies share: trying a login on every node, its work, its sessions, whose it is."""

from __future__ import annotations

import shlex
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from rotations.valkey.failures import brief, translated
from rotations.valkey.users import Mark, User, Users
from rotations.valkey.wire import Said
from rotator.api import (
    Check,
    Conflict,
    Credential,
    Denied,
    Evidence,
    Finding,
    InUse,
    Planned,
    Refused,
    Session,
    Step,
    Transient,
    UsageError,
    passed,
)

if TYPE_CHECKING:
    from collections.abc import Generator

    from rotations.valkey.nodes import Node
    from rotations.valkey.options import SecretOptions
    from rotations.valkey.server import Nodes, Server
    from rotations.valkey.wire import Link
    from rotator.api import StepContext

_POLL_SECONDS: Final = 0.02
# Another node of the cluster has that key; whether the login may read it was asked before.
_ELSEWHERE: Final = frozenset({"MOVED", "ASK"})
_NEITHER: Final = "Whether the login is accepted there cannot be told."


class Login:
    """One login on all nodes. Satisfies `Rotation`, `CountsSessions`, `Explains`, `Examines`."""

    overlaps: bool = True

    def __init__(self, server: Server, options: SecretOptions) -> None:
        """`options` are checked for what this strategy needs; nothing is connected."""
        self._server: Server = server
        self._options: SecretOptions = options
        self._probes: list[list[str]] = [_parsed(one) for one in options.probes]
        self._check(options)

    def probe(self, credential: Credential, ctx: StepContext) -> bool:
        """Try it on every node: True where all accept it, False where all refuse it.

        Raises `Transient` where they do not agree: then it is neither in nor out.
        """
        _ = ctx
        with self._server.nodes(also=credential) as nodes:
            nodes.require_all(_NEITHER)
            accepting, refusing = self._try(nodes, credential)
        if accepting and refusing:
            raise Transient(
                f"login {credential.username!r} is let in by {_named(accepting)} and refused by {_named(refusing)}.",
                hint="Nodes do not share users. Has one restarted with an old ACL file, or joined? Compare with: ACL LIST",
            )
        return bool(accepting)

    def verify(self, new: Credential, ctx: StepContext) -> Evidence:
        """Log in as `new` on every node, try its work, compare its rules with the current login's."""
        old = ctx.current.username if ctx.current else None
        with self._server.nodes(also=new) as nodes:
            nodes.require_all("The new login cannot be tried there.")
            checks = [check for node in nodes.up for check in self._worked(node, new)]
            checks += _kept(nodes)
            if old is not None and old != new.username:
                checks += [_alike(node, new.username, old) for node in nodes.up]
        return passed(new.username, checks)

    def sessions(self, login: str, ctx: StepContext) -> list[Session]:
        """Return who is still logged in as `login`, on any node."""
        with self._server.nodes() as nodes:
            nodes.require_all(f"Whether {login!r} has sessions there cannot be told.")
            return _sessions(nodes, login, ctx)

    def explain(self, current: Credential | None, ctx: StepContext) -> list[Planned]:
        """Return the commands that a rotation would send to each node, in words where they depend on it."""
        new = self.propose(current, ctx)
        with self._server.nodes() as nodes:
            names = _named(nodes.up)
        planned = [Planned(step=Step.CREATE, text=one) for one in self._plan(new, current)]
        planned.append(Planned(step=Step.CREATE, text=f"{self._saving()}; all of it on: {names}"))
        planned.append(Planned(step=Step.VERIFY, text=f"AUTH {new.username!r} *** on each node"))
        planned += [
            Planned(step=Step.VERIFY, text=f"as {new.username!r}: {probe}")
            for probe in self._options.probes
        ]
        farewell = [*self._farewell(current.username), self._saving()] if current else []
        return planned + [Planned(step=Step.REVOKE, text=one) for one in farewell]

    def examine(self, current: Credential | None, ctx: StepContext) -> list[Finding]:
        """Look whether the admin can do what this strategy needs, and what would not last."""
        _ = ctx
        from rotations.valkey import examine  # noqa: PLC0415 # only `doctor` needs it

        login = current.username if current else None
        return examine.findings(self._server, login, self._probes)

    # -- what a strategy says ------------------------------------------------------------------

    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:
        """Return the next credential."""
        raise NotImplementedError

    def _check(self, options: SecretOptions) -> None:
        raise NotImplementedError

    def _plan(self, new: Credential, current: Credential | None) -> list[str]:
        raise NotImplementedError

    def _farewell(self, old: str) -> list[str]:
        raise NotImplementedError

    # -- what they have in common --------------------------------------------------------------

    @contextmanager
    def _creating(self, new: Credential, ctx: StepContext) -> Generator[list[tuple[Node, Users]]]:
        """Lend all nodes with their users: either all are there and can do without the old login, or none is touched."""
        if not new.password.reveal():
            raise Refused("a password is not empty.")
        with self._server.nodes(also=new) as nodes:
            nodes.require_all("Nothing was changed: a login is made on all nodes or on none.")
            if ctx.current is not None:
                _require_people(nodes, ctx.current.username)
            places = [(node, node.users()) for node in nodes.up]
            for node, users in places:
                node.require_readable(users)
            yield places

    @contextmanager
    def _ending(self, of: Credential) -> Generator[Nodes]:
        """Lend the nodes that are up, for a password that is to be ended; those that are down may keep it."""
        with self._server.nodes(also=of) as nodes:
            yield nodes
            nodes.require_all(
                f"What let {of.username!r} in is still alive there; the nodes that are up are done."
            )

    def _keep(self, node: Node, ctx: StepContext) -> None:
        """Save a node's users; where they are not kept, say so each time."""
        if not node.save(ctx):
            ctx.log.warning(
                "not kept",
                node=str(node),
                why="it has no ACL file: a restart brings the users back that its configuration holds",
            )

    def _make(
        self, places: list[tuple[Node, Users]], new: Credential, like: str | None, ctx: StepContext
    ) -> None:
        """Make a login like another one on all nodes, once all of them can."""
        made: list[tuple[Node, User, Mark]] = []
        for node, users in places:
            source = users.get(like) if like is not None else None
            if source is None:
                raise Denied(
                    f"{node} has no user {like!r} whose rules a new one could get.",
                    hint="Nodes do not share users: make it there too. Or name one in the secret's option `like`.",
                    safety="The application is safe: nothing was changed.",
                )
            mark = users.mark(ctx.secret, new.username)
            if users.get(new.username) is not None:
                require_ours(mark, new.username, node, ctx)
            mark = mark or Mark.make(ctx.secret, new.username, ctx.rotation_id)
            made.append((node, source, mark))
        for node, source, mark in made:
            node.make(new.username, source, new.password, mark, ctx)
            self._keep(node, ctx)

    def _close(self, nodes: Nodes, name: str, ctx: StepContext, *, end_sessions: bool) -> None:
        """Let nobody in as `name` any more, and return once nobody is. Raises `InUse`."""
        ours = [(node, user) for node, user, _ in _ours(nodes, name, ctx) if user is not None]
        for node, user in ours:
            if user.on or user.nopass or user.hashes:
                node.close(name, ctx)
            self._keep(node, ctx)
        while left := [(node, one) for node, _ in ours for one in node.clients(name)]:
            if not end_sessions:
                raise InUse(
                    f"login {name!r} still has {len(left)} open session(s); new logins are refused already.",
                    sessions=_sessions(nodes, name, ctx),
                )
            for node, client in left:
                node.end(client, ctx)
            ctx.clock.sleep(_POLL_SECONDS)

    def _drop(self, nodes: Nodes, name: str, ctx: StepContext) -> None:
        """Remove a login that is closed, and its mark."""
        for node, _, mark in _ours(nodes, name, ctx):
            node.drop(name, mark, ctx)
        self._keep_all(nodes, ctx)

    def _keep_all(self, nodes: Nodes, ctx: StepContext) -> None:
        """Save also where nothing is left to do: an earlier try may have died before it saved."""
        for node in nodes.up:
            self._keep(node, ctx)

    def _require_plain(self, name: str | None) -> None:
        """Refuse a name that a node would write into its configuration and not read again."""
        if name and self._server.options.persist == "rewrite" and ('"' in name or "'" in name):
            raise UsageError(
                f"user name {name!r} holds a quote: what CONFIG REWRITE would write of it is not read again, and the server would not start.",
                hint="Use an ACL file and persist: auto, or another name.",
            )

    def _saving(self) -> str:
        return {
            "auto": "ACL SAVE, where there is an ACL file",
            "rewrite": "ACL SAVE, or CONFIG REWRITE where there is no ACL file",
            "none": "(nothing is saved: persist: none)",
        }[self._server.options.persist]

    def _try(self, nodes: Nodes, credential: Credential) -> tuple[list[Node], list[Node]]:
        accepting: list[Node] = []
        refusing: list[Node] = []
        for node in nodes.up:
            link = self._server.log_in(node.place, credential)
            (refusing if link is None else accepting).append(node)
            if link is not None:
                link.close()
        return accepting, refusing

    def _worked(self, node: Node, new: Credential) -> list[Check]:
        """Log in to one node, choose the database and run the user's own commands."""
        link = self._server.log_in(node.place, new)
        if link is None:
            raise Refused(f"{node} refuses the new login {new.username!r}.")
        checks = [Check(name="login", ok=True, detail=f"{new.username!r} logs in to {node}")]
        try:
            if self._options.database is not None:
                command = ["SELECT", str(self._options.database)]
                checks.append(_tried(link, f"database {self._options.database}", command))
            for number, command in enumerate(self._probes, start=1):
                _require_read_only(node, command)
                checks.append(_tried(link, f"probe {number} at {node.place}", command))
        finally:
            link.close()
        return checks


def require_ours(mark: Mark | None, name: str, node: Node, ctx: StepContext) -> None:
    """P9: what rotator did not create or adopt is not touched."""
    if mark is None and name not in ctx.adopted:
        raise Conflict(
            f"user {name!r} exists at {node} and was not made by rotator, so it was left alone.",
            hint="Choose another name, or drop that user yourself if nobody needs it.",
        )


def _ours(nodes: Nodes, name: str, ctx: StepContext) -> list[tuple[Node, User | None, Mark | None]]:
    """Return the nodes that have a user of ours, or at least its mark."""
    found: list[tuple[Node, User | None, Mark | None]] = []
    for node in nodes.up:
        users = node.users()
        user, mark = users.get(name), users.mark(ctx.secret, name)
        if mark is not None or (user is not None and name in ctx.adopted):
            found.append((node, user, mark))
    return found


def _require_people(nodes: Nodes, login: str) -> None:
    """Refuse a login by which the nodes talk among themselves: revoked, they would not any more."""
    if len(nodes.up) == 1 and not nodes.up[0].is_clustered:
        return
    for node in nodes.up:
        if found := node.machinery(login):
            raise Denied(
                f"{node}: {found} logs in as {login!r}; revoking the old password would cut it off.",
                safety="The application is safe: nothing was changed.",
                hint="Give it a user of its own, once, on each node: ACL SETUSER replication on >... +psync +replconf +ping, then CONFIG SET masteruser and masterauth; for Sentinels `sentinel auth-user` and `auth-pass` (docs/valkey.md).",
            )


def _require_read_only(node: Node, command: list[str]) -> None:
    name, sub = command[0].lower(), command[1].lower() if len(command) > 1 else ""
    if not node.is_read_only(name, sub):
        raise Denied(
            f"the probe {shlex.join(command)!r} is not known to {node} as a command that only reads.",
            hint="Change `probes` in the secret's options: GET, EXISTS, TTL and such.",
        )


def _tried(link: Link, name: str, command: list[str]) -> Check:
    try:
        with translated(str(link.place), name):
            try:
                _ = link.call(*command)
            except Said as error:
                if error.code not in _ELSEWHERE:
                    return Check(name=name, ok=False, detail=brief(error))
    except Transient as error:
        return Check(name=name, ok=False, detail=error.what)
    return Check(name=name, ok=True, detail="works")


def _alike(node: Node, new: str, old: str) -> Check:
    users = node.users()
    one, other = users.get(new), users.get(old)
    name = f"rules at {node.place}"
    if one is None or other is None:
        return Check(
            name=name, ok=False, detail=f"there is no user {new if one is None else old!r}"
        )
    missing = sorted(" ".join(rule) for rule in other.may - one.may)
    same = one.may == other.may
    detail = "the same" if same else f"without {' '.join(missing)}" if missing else "others"
    return Check(name=name, ok=same, detail=detail)


def _kept(nodes: Nodes) -> list[Check]:
    """Tell what a restart does. Not kept is no failure: the doctor and the log say so too."""
    found: list[Check] = []
    for node in nodes.up:
        by = node.keeps()
        detail = (
            f"kept by the {by}"
            if by
            else "NOT kept: without an ACL file a restart brings the old password back, and ends the new one"
        )
        found.append(Check(name=f"restart of {node.place}", ok=True, detail=detail))
    return found


def _sessions(nodes: Nodes, login: str, ctx: StepContext) -> list[Session]:
    among = len(nodes.up)
    return [
        node.session(client, ctx, among=among)
        for node in nodes.up
        for client in node.clients(login)
    ]


def _named(nodes: list[Node]) -> str:
    return ", ".join(str(node) for node in nodes)


def _parsed(probe: str) -> list[str]:
    try:
        words = shlex.split(probe)
    except ValueError as error:
        raise UsageError(f"the probe {probe!r} has a quote that is not closed.") from error
    if not words:
        raise UsageError("a probe is a command, such as GET health.")
    return words
