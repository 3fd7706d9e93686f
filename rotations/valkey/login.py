"""What the strategies share: trying a login on every node, its work, its sessions, whose it is."""

from __future__ import annotations

import shlex
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from rotations.valkey.errors import brief, translated
from rotations.valkey.users import Mark, User, Users, hash_of
from rotations.valkey.wire import ErrorReply
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
    Rejection,
    Session,
    Step,
    StepError,
    Transient,
    Unavailable,
    UsageError,
    counted_rights,
    not_ours,
    passed,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from rotations.valkey.nodes import Node
    from rotations.valkey.options import SecretOptions
    from rotations.valkey.server import Nodes, Server
    from rotations.valkey.wire import WireConnection
    from rotator.api import StepContext

_POLL_SECONDS: Final = 0.02
# Another node of the cluster has that key; whether the login may read it was asked before.
_ELSEWHERE: Final = frozenset({"MOVED", "ASK"})
_NEITHER: Final = "Whether that node accepts the login is unknown."
SAFE: Final = "The application is safe: nothing was changed."


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeChange:
    """What is to be done on one node, how it is proven at once, and how it is taken back."""

    node: Node
    do: Callable[[], None]
    undo: Callable[[], None]
    prove: Callable[[], None] | None = None


class Login:
    """One login on all nodes. Satisfies `Rotation`, `CountsSessions`, `Explains`, `Examines`, `ExplainsRejections`."""

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
        with self._server.nodes(ctx, also=credential) as nodes:
            nodes.require_all(_NEITHER)
            accepting, refusing = self._try(nodes, credential, ctx)
        if accepting and refusing:
            raise Transient(
                f"login {credential.username!r} is accepted by {named(accepting)} and rejected"
                f" by {named(refusing)}.",
                hint="Nodes do not share users. Check whether one restarted with an old ACL file,"
                " or joined recently. Compare with: ACL LIST",
            )
        return bool(accepting)

    def rejection(self, credential: Credential, ctx: StepContext) -> Rejection | None:
        """Return why it is rejected, as the users of the nodes show it."""
        with self._server.nodes(ctx, also=credential) as nodes:
            causes = [_rejection(node, node.users(), credential) for node in nodes.up]
        return next((one for one in causes if one is not None), None)

    def verify(self, new: Credential, ctx: StepContext) -> Evidence:
        """Log in as `new` on every node, try its work, compare its rules with the current login's."""
        old = ctx.current.username if ctx.current else None
        with self._server.nodes(ctx, also=new) as nodes:
            nodes.require_all("rotator cannot verify the new login there.")
            checks = [check for node in nodes.up for check in self._worked(node, new, ctx)]
            checks += _kept(nodes)
            # The first login of a secret has the rules of the one that operators name.
            bound = old if old is not None else self._options.like
            if bound is not None and bound != new.username:
                checks += [_alike(node, new.username, bound) for node in nodes.up]
        return passed(new.username, checks)

    def sessions(self, login: str, ctx: StepContext) -> list[Session]:
        """Return who is still logged in as `login`, on any node."""
        with self._server.nodes(ctx) as nodes:
            nodes.require_all(f"Whether {login!r} has sessions there is unknown.")
            return _sessions(nodes, login, ctx)

    def explain(self, current: Credential | None, ctx: StepContext) -> list[Planned]:
        """Return the commands that a rotation would send to each node, in words where they depend on it.

        Raises what `create` would raise before its first command.
        """
        new = self.propose(current, ctx)
        with self._server.nodes(ctx) as nodes:
            nodes.require_all(
                "Nothing would be changed: rotator creates a login on all nodes or on none."
            )
            for error in self.obstacles(all_users(nodes), new, current, ctx):
                raise error
            names = named(nodes.up)
            farewell = self._farewell(current, nodes) if current else []
        planned = [Planned(step=Step.CREATE, text=one) for one in self._plan(new, current)]
        planned.append(Planned(step=Step.CREATE, text=f"{self._saving()}; all of it on: {names}"))
        planned.append(Planned(step=Step.VERIFY, text=f"AUTH {new.username!r} *** on each node"))
        planned += [
            Planned(step=Step.VERIFY, text=f"as {new.username!r}: {probe}")
            for probe in self._options.probes
        ]
        farewell = [*farewell, self._saving()] if current else []
        return planned + [Planned(step=Step.REVOKE, text=one) for one in farewell]

    def examine(self, current: Credential | None, ctx: StepContext) -> list[Finding]:
        """Look whether a rotation could begin, and what would not last. It saves the users as they are."""
        from rotations.valkey import doctor  # noqa: PLC0415 # only `doctor` needs it

        return doctor.findings(self, self._server, current, self._probes, ctx)

    def obstacles(
        self,
        places: list[tuple[Node, Users]],
        new: Credential | None,
        current: Credential | None,
        ctx: StepContext,
    ) -> Iterator[StepError]:
        """Yield what keeps a rotation from beginning, on any node: for `create`, the plan and the doctor.

        The last look at each node saves its users as they are, which nothing else can prove.
        """
        many = len(places) > 1 or places[0][0].is_clustered
        for node, users in places:
            if current is not None and many and (found := node.machinery(current.username)):
                yield cut_off(node, found, current.username)
            yield from self._in_the_way(node, users, new, current, ctx)
            try:
                _ = node.save(ctx, users)
            except StepError as error:
                error.safety = SAFE
                yield error

    # -- what a strategy says ------------------------------------------------------------------

    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:
        """Return the next credential."""
        raise NotImplementedError

    def _check(self, options: SecretOptions) -> None:
        raise NotImplementedError

    def _plan(self, new: Credential, current: Credential | None) -> list[str]:
        raise NotImplementedError

    def _farewell(self, old: Credential, nodes: Nodes) -> list[str]:
        raise NotImplementedError

    def _in_the_way(
        self,
        node: Node,
        users: Users,
        new: Credential | None,
        current: Credential | None,
        ctx: StepContext,
    ) -> Iterable[StepError]:
        raise NotImplementedError

    # -- what they have in common --------------------------------------------------------------

    @contextmanager
    def _creating(self, new: Credential, ctx: StepContext) -> Generator[list[tuple[Node, Users]]]:
        """Lend all nodes with their users: either all are there and nothing is in the way, or none is touched."""
        if not new.password.reveal():
            raise Refused("a password must not be empty.")
        with self._server.nodes(ctx, also=new) as nodes:
            nodes.require_all(
                "Nothing was changed: rotator creates a login on all nodes or on none."
            )
            places = all_users(nodes)
            for error in self.obstacles(places, new, ctx.current, ctx):
                raise error
            yield places

    @contextmanager
    def _ending(self, of: Credential, ctx: StepContext) -> Generator[Nodes]:
        """Lend the nodes that are up, for a password that is to be ended; those that are down may keep it."""
        self._server.close_ready(of.username)
        with self._server.nodes(ctx, also=of) as nodes:
            yield nodes
            nodes.require_all(
                f"The credential of {of.username!r} is still valid there; the nodes that are"
                " up are done."
            )

    def _apply(self, changes: list[NodeChange], ctx: StepContext) -> None:
        """Make a change on each node and save it; where one fails, take back all that was done."""
        begun: list[NodeChange] = []
        try:
            for change in changes:
                begun.append(change)
                change.do()
                _ = change.node.save(ctx)
                if change.prove is not None:
                    change.prove()
        except StepError as error:
            left = [one.node for one in begun if not _taken_back(one, ctx)]
            if left and isinstance(error, Unavailable):
                raise Transient(
                    f"{error.what} These nodes could not be restored yet: {named(left)}.",
                    hint=error.hint,
                ) from error
            raise

    def _keep(self, node: Node, ctx: StepContext, *, must: bool) -> None:
        """Save a node's users. Where it need not be, as nothing better can be done, say what that means."""
        try:
            _ = node.save(ctx)
        except Unavailable as error:
            if must:
                raise Unavailable(
                    f"{error.what} The node rejects the old login, but a restart of the node"
                    " would restore it.",
                    hint=error.hint,
                ) from error
            ctx.log.warning(
                "not saved",
                node=str(node),
                why=f"{error.what} The withdrawn login is gone from its memory; a restart before"
                " the next save restores what it saved last.",
                remedy=error.hint,
            )

    def _make(
        self, places: list[tuple[Node, Users]], new: Credential, like: str | None, ctx: StepContext
    ) -> None:
        """Make a login like another one on all nodes, once all of them can."""
        changes: list[NodeChange] = []
        for node, users in places:
            source = users.get(like) if like is not None else None
            if source is None:
                raise without_source(node, like)
            mark = users.mark(ctx.names, new.username)
            mark = mark or Mark.make(ctx.secret, new.username, ctx.rotation_id)
            changes.append(
                NodeChange(
                    node=node,
                    do=partial(node.make, new.username, source, new.password, mark, ctx),
                    undo=partial(_unmake, node, new.username, ctx),
                )
            )
        self._apply(changes, ctx)

    def _close(
        self, nodes: Nodes, name: str, ctx: StepContext, *, end_sessions: bool, must_save: bool
    ) -> None:
        """Let nobody in as `name` any more, and return once nobody is. Raises `InUse`."""
        ours = [(node, user) for node, user, _ in _ours(nodes, name, ctx) if user is not None]
        for node, user in ours:
            if user.on or user.nopass or user.hashes:
                node.close(name, ctx)
            self._keep(node, ctx, must=must_save)
        while left := [(node, one) for node, _ in ours for one in node.clients(name)]:
            if not end_sessions:
                raise InUse(
                    f"login {name!r} still has {len(left)} open session(s); it already rejects"
                    " new logins.",
                    sessions=_sessions(nodes, name, ctx),
                )
            for node, client in left:
                node.end(client, ctx)
            ctx.clock.sleep(_POLL_SECONDS)

    def _drop(self, nodes: Nodes, name: str, ctx: StepContext, *, must_save: bool) -> None:
        """Remove a login that is closed, and its mark."""
        for node, _, mark in _ours(nodes, name, ctx):
            node.drop(name, mark, ctx)
        self._keep_all(nodes, ctx, must=must_save)

    def _keep_all(self, nodes: Nodes, ctx: StepContext, *, must: bool) -> None:
        """Save also where nothing is left to do: an earlier try may have died before it saved."""
        for node in nodes.up:
            self._keep(node, ctx, must=must)

    def _require_plain(self, name: str | None) -> None:
        """Refuse a name that a node would write into its configuration and not read again."""
        if name and self._server.options.persist == "rewrite" and ('"' in name or "'" in name):
            raise UsageError(
                f"user name {name!r} contains a quote: the server cannot read back what CONFIG"
                " REWRITE writes for it, and would not start.",
                hint="Use an ACL file and persist: auto, or choose another name.",
            )

    def _saving(self) -> str:
        return {
            "auto": "ACL SAVE, if there is an ACL file",
            "rewrite": "ACL SAVE, or CONFIG REWRITE if there is no ACL file",
            "none": "(nothing is saved: persist: none)",
        }[self._server.options.persist]

    def _try(
        self, nodes: Nodes, credential: Credential, ctx: StepContext
    ) -> tuple[list[Node], list[Node]]:
        accepting: list[Node] = []
        refusing: list[Node] = []
        for node in nodes.up:
            link = self._server.log_in(node.place, credential, ctx)
            (refusing if link is None else accepting).append(node)
            if link is not None:
                link.close()
        return accepting, refusing

    def _worked(self, node: Node, new: Credential, ctx: StepContext) -> list[Check]:
        """Log in to one node, choose the database and run the user's own commands."""
        link = self._server.log_in(node.place, new, ctx)
        if link is None:
            raise Refused(f"{node} rejects the new login {new.username!r}.")
        checks = [Check(name="login", ok=True, detail=f"{new.username!r} logs in to {node}")]
        try:
            checks += self._work(node, link)
        finally:
            link.close()
        return checks

    def _work(self, node: Node, link: WireConnection) -> Iterator[Check]:
        """Choose the database and run the user's own commands."""
        if self._options.database is not None:
            command = ["SELECT", str(self._options.database)]
            yield _tried(link, f"database {self._options.database}", command)
        for number, command in enumerate(self._probes, start=1):
            _require_read_only(node, command)
            yield _tried(link, f"probe {number} at {node.place}", command)


def require_ours(
    mark: Mark | None, name: str, node: Node, ctx: StepContext, pair: Sequence[str] = ()
) -> None:
    """P9: what rotator did not create or adopt is not touched."""
    if mark is None and name not in ctx.adopted:
        raise foreign(name, node, ctx, pair)


def foreign(name: str, node: Node, ctx: StepContext, pair: Sequence[str] = ()) -> Conflict:
    """Return the error for a user that somebody else made."""
    return not_ours(f"user {name!r} at {node}", name, ctx, pair=pair)


def all_users(nodes: Nodes) -> list[tuple[Node, Users]]:
    """Return the users of each node as they are now."""
    return [(node, node.users()) for node in nodes.up]


def _ours(nodes: Nodes, name: str, ctx: StepContext) -> list[tuple[Node, User | None, Mark | None]]:
    """Return the nodes that have a user of ours, or at least its mark."""
    found: list[tuple[Node, User | None, Mark | None]] = []
    for node in nodes.up:
        users = node.users()
        user, mark = users.get(name), users.mark(ctx.names, name)
        if mark is not None or (user is not None and name in ctx.adopted):
            found.append((node, user, mark))
    return found


def _rejection(node: Node, users: Users, credential: Credential) -> Rejection | None:
    name = credential.username
    user = users.get(name)
    if user is None:
        return Rejection(
            cause="missing",
            text=f"{node} has no user {name!r}",
            hint="Nodes do not share users: create the user on that node exactly as on the others (see ACL LIST).",
        )
    if not user.on:
        return Rejection(
            cause="off",
            text=f"user {name!r} at {node} is off",
            hint=f"To enable it: ACL SETUSER {name} on, then ACL SAVE",
        )
    if user.nopass or hash_of(credential.password) in user.hashes:
        return None
    return Rejection(
        cause="password",
        text=f"user {name!r} at {node} has another password",
        hint=f"Set the password that the backend serves: ACL SETUSER {name} >PASSWORD, then ACL"
        " SAVE; or store the valid one in the backend.",
    )


def closed_or_open(node: Node, user: User) -> StepError | None:
    """Return why a user's login must not be made anew: somebody has closed it, or opened it to all."""
    if user.nopass:
        return Denied(
            f"user {user.name!r} at {node} accepts any password (nopass), and a password would"
            " lock out clients that send none.",
            hint=f"Once all its clients send a password: ACL SETUSER {user.name} resetpass >PASSWORD",
            safety=SAFE,
        )
    if not user.on:
        return Denied(
            f"user {user.name!r} at {node} is off: it rejects every login.",
            hint=f"To enable it: ACL SETUSER {user.name} on",
            safety=SAFE,
        )
    return None


def without_source(node: Node, like: str | None) -> StepError:
    """Return the error for a node that lacks the user whose rules a new one gets."""
    return Denied(
        f"{node} has no user {like!r}, whose rules the new user should receive.",
        hint="Nodes do not share users: create it there too. Or set the secret's option `like` to"
        " another user.",
        safety=SAFE,
    )


def _taken_back(change: NodeChange, ctx: StepContext) -> bool:
    """Return whether a change could be taken back, in memory at least."""
    try:
        change.undo()
    except StepError:
        return False
    try:
        _ = change.node.save(ctx)
    except StepError as error:
        ctx.log.warning("not saved", node=str(change.node), why=error.what, remedy=error.hint)
    return True


def _unmake(node: Node, name: str, ctx: StepContext) -> None:
    """Drop a user that this rotation made; close one that waits for its turn."""
    users = node.users()
    mark = users.mark(ctx.names, name)
    if mark is not None and mark == Mark.make(ctx.secret, name, ctx.rotation_id):
        node.drop(name, mark, ctx)
    elif users.get(name) is not None:
        node.close(name, ctx)


def cut_off(node: Node, machinery: str, login: str) -> StepError:
    """Return the error for a login by which the nodes talk among themselves."""
    return Denied(
        f"{node}: {machinery} logs in as {login!r}; revoking the old password would disconnect"
        " it, so no rotation could revoke it.",
        safety=SAFE,
        hint="Create a separate user for it, once, on each node: ACL SETUSER replication on >..."
        " +psync +replconf +ping, then CONFIG SET masteruser and masterauth; for Sentinels"
        " `sentinel auth-user` and `auth-pass` (`rotator docs valkey`).",
    )


def _require_read_only(node: Node, command: list[str]) -> None:
    name, sub = command[0].lower(), command[1].lower() if len(command) > 1 else ""
    if not node.is_read_only(name, sub):
        raise Denied(
            f"{node} does not know the probe {shlex.join(command)!r} as a read-only command.",
            hint="Change `probes` in the secret's options, for example to GET, EXISTS or TTL.",
        )


def _tried(link: WireConnection, name: str, command: list[str]) -> Check:
    try:
        with translated(str(link.place), name):
            try:
                _ = link.call(*command)
            except ErrorReply as error:
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
            name=name, ok=False, detail=f"user {new if one is None else old!r} does not exist"
        )
    lacks = sorted(" ".join(rule) for rule in other.may - one.may)
    gains = sorted(" ".join(rule) for rule in one.may - other.may)
    said = [
        f"{word} {' '.join(rules)}"
        for word, rules in (("lacks", lacks), ("has in excess", gains))
        if rules
    ]
    counted = counted_rights(("rule", *rule) for rule in one.may)
    return Check(name=name, ok=not said, detail="; ".join(said) or f"the same: {counted}")


def _kept(nodes: Nodes) -> list[Check]:
    """Say by what each node keeps its users; `create` has proven that it can."""
    found: list[Check] = []
    for node in nodes.up:
        try:
            detail = f"saved in the {node.store().name}"
        except Unavailable as error:
            detail = f"NOT saved: {error.what}"
        found.append(Check(name=f"restart of {node.place}", ok=True, detail=detail))
    return found


def _sessions(nodes: Nodes, login: str, ctx: StepContext) -> list[Session]:
    among = len(nodes.up)
    return [
        node.session(client, ctx, among=among)
        for node in nodes.up
        for client in node.clients(login)
    ]


def named(nodes: Iterable[Node]) -> str:
    """Return the nodes, for a message."""
    return ", ".join(str(node) for node in nodes)


def _parsed(probe: str) -> list[str]:
    try:
        words = shlex.split(probe)
    except ValueError as error:
        raise UsageError(f"the probe {probe!r} has an unclosed quote.") from error
    if not words:
        raise UsageError("a probe must be a command, such as GET health.")
    return words
