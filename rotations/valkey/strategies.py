"""The four strategies: which credential comes next, how it overlaps with the old one, how that goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rotations.valkey.containment import ContainedLogin
from rotations.valkey.login import (
    SAFE,
    NodeChange,
    closed_or_open,
    foreign,
    require_ours,
    without_source,
)
from rotations.valkey.options import DEFAULT, check_name
from rotations.valkey.users import Mark, hash_of
from rotator.api import (
    MASK,
    Conflict,
    Credential,
    Denied,
    Refused,
    StepError,
    UsageError,
    candidate,
    next_of_pair,
    passed,
    password_of_nobody,
    require_not_current,
    require_pair,
    same_login,
    successor,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rotations.valkey.nodes import Node
    from rotations.valkey.options import SecretOptions
    from rotations.valkey.server import Nodes
    from rotations.valkey.users import User, Users
    from rotator.api import StepContext


class DualPassword(ContainedLogin):
    """One user that accepts two passwords for a while."""

    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:
        """Return the same user with another password."""
        return _next(same_login(current, self._options.username), current, ctx)

    def create(self, new: Credential, ctx: StepContext) -> None:
        """Let the new password in beside the current one, on all nodes once all of them can."""
        with self._creating(new, ctx) as places:
            if ctx.current is None:
                self._make(places, new, self._options.like, ctx)
                return
            users = [(node, users.get(new.username)) for node, users in places]
            self._apply(
                [self._change(node, user, new, ctx) for node, user in users if user is not None],
                ctx,
            )

    def revoke(self, old: Credential, ctx: StepContext) -> None:
        """Let in by the current password only. Sessions stay: they are of the user, not of a password."""
        self._only_current(old, ctx, must_save=True)

    def withdraw(self, new: Credential, ctx: StepContext) -> None:
        """Take the new password back; drop the user where this rotation made it."""
        if ctx.current is not None:
            self._only_current(new, ctx, must_save=False)
            return
        mine = Mark.make(ctx.secret, new.username, ctx.rotation_id)
        with self._ending(new, ctx) as nodes:
            if any(node.users().mark(ctx.names, new.username) == mine for node in nodes.up):
                self._close(nodes, new.username, ctx, end_sessions=True, must_save=False)
                self._drop(nodes, new.username, ctx, must_save=False)
            self._keep_all(nodes, ctx, must=False)

    def _change(self, node: Node, user: User, new: Credential, ctx: StepContext) -> NodeChange:
        wanted = hash_of(new.password)

        def do() -> None:
            if ctx.fenced:
                node.let_in_only(user, new.password, ctx)
            elif wanted not in user.hashes:
                node.let_in(user.name, new.password, ctx)

        return NodeChange(node=node, do=do, undo=lambda: self._take_back(node, new, ctx))

    def _take_back(self, node: Node, new: Credential, ctx: StepContext) -> None:
        """End the new password alone, where it is known; others may have been set by hand.

        A leaked password stays invalid: where the new one was set, one that nobody knows replaces it.
        """
        current = ctx.current
        if current is None or (new.password == current.password and not ctx.fenced):
            return
        user = node.users().get(new.username)
        if user is None:
            return
        if ctx.fenced:
            ended = {hash_of(new.password), hash_of(current.password)}
            if user.nopass or not new.password.reveal() or ended & user.hashes:
                node.let_in_only(user, password_of_nobody(ctx), ctx)
            return
        if hash_of(current.password) not in user.hashes or not new.password.reveal():
            node.let_in_only(user, current.password, ctx)
        elif hash_of(new.password) in user.hashes:
            node.shut_out(user.name, new.password, ctx)

    def _in_the_way(
        self,
        node: Node,
        users: Users,
        new: Credential | None,
        current: Credential | None,
        ctx: StepContext,
    ) -> Iterable[StepError]:
        """Yield why no password can be set beside the one that the backend serves."""
        name = new.username if new else current.username if current else self._options.username
        if name is None:
            return
        user, mark = users.get(name), users.mark(ctx.names, name)
        if user is not None and mark is None and (current is None or name not in ctx.adopted):
            yield foreign(name, node, ctx, self._options.users)
        elif current is None:
            like = self._options.like
            if like is None or users.get(like) is None:
                yield without_source(node, like)
        elif user is None:
            yield Conflict(
                f"{node} has no user {name!r}.",
                hint="Nodes do not share users: create it there as on the others (ACL LIST), with"
                " the password that the backend serves.",
                safety=SAFE,
            )
        elif (problem := closed_or_open(node, user)) is not None:
            yield problem
        elif not ctx.fenced:
            yield from self._passwords_in_the_way(node, user, new, current)

    def _passwords_in_the_way(
        self, node: Node, user: User, new: Credential | None, current: Credential
    ) -> Iterable[StepError]:
        """Yield why this user's passwords are not those from which a rotation can go on."""
        _ = new
        if hash_of(current.password) not in user.hashes:
            yield _not_served(node, user)

    def _only_current(self, gone: Credential, ctx: StepContext, *, must_save: bool) -> None:
        name = gone.username
        if ctx.current is None or ctx.current.username != name:
            return
        with self._ending(gone, ctx) as nodes:
            found = [(node, node.users()) for node in nodes.up]
            for node, users in found:
                if users.get(name) is not None:
                    require_ours(users.mark(ctx.names, name), name, node, ctx)
            for node, users in found:
                user = users.get(name)
                if user is None:
                    continue
                if must_save:
                    node.let_in_only(user, ctx.current.password, ctx)
                else:
                    self._take_back(node, gone, ctx)
                self._keep(node, ctx, must=must_save)

    def _check(self, options: SecretOptions) -> None:
        self._require_plain(options.username)

    def _plan(self, new: Credential, current: Credential | None) -> list[str]:
        if current is None:
            return _made(new.username, self._options.like)
        return [f"ACL SETUSER {new.username} #{MASK}"]

    def _farewell(self, old: Credential, nodes: Nodes) -> list[str]:
        served = hash_of(old.password)
        users = [node.users().get(old.username) for node in nodes.up]
        more = max((len(one.hashes - {served}) for one in users if one is not None), default=0)
        by_hand = f" (removes {more} more password(s) of this user, set manually)" if more else ""
        return [f"ACL SETUSER {old.username} resetpass #{MASK}{by_hand}"]


class SingleUser(DualPassword):
    """One user whose password changes in place (no overlap)."""

    overlaps: bool = False

    def revoke(self, old: Credential, ctx: StepContext) -> None:
        """Nothing is left to do but where a node has missed it: the old one went when the new one was set."""
        super().revoke(old, ctx)

    def _change(self, node: Node, user: User, new: Credential, ctx: StepContext) -> NodeChange:
        """Change it while a connection is open on which the new password can be tried at once."""
        for one in (ctx.current, new):
            if one is not None and hash_of(one.password) in user.hashes:
                self._make_ready(node, one, ctx)
                break

        def prove() -> None:
            if not self._server.make_ready(node.place, new, ctx):
                raise Refused(f"{node} rejects the new password of {new.username!r}.")

        return NodeChange(
            node=node,
            do=lambda: node.let_in_only(user, new.password, ctx),
            undo=lambda: self._take_back(node, new, ctx),
            prove=prove,
        )

    def _make_ready(self, node: Node, credential: Credential, ctx: StepContext) -> None:
        """Log in by what is valid now, and do the login's work: what fails then would fail afterwards."""
        link = self._server.log_in(node.place, credential, ctx)
        if link is None:
            raise _not_served(node, None, credential.username)
        try:
            _ = passed(credential.username, list(self._work(node, link)))
        except BaseException:
            link.close()
            raise
        self._server.keep_ready(link)

    def _passwords_in_the_way(
        self, node: Node, user: User, new: Credential | None, current: Credential
    ) -> Iterable[StepError]:
        if new is not None and new.password == current.password:
            # Whoever owns the login asks for this password, whatever it has now.
            return
        ours = {hash_of(one.password) for one in (new, current) if one is not None}
        if not ours & user.hashes:
            yield _not_served(node, user)
        elif more := len(user.hashes - ours):
            yield Denied(
                f"user {user.name!r} at {node} has {more} more password(s), set manually: this"
                " strategy would remove them at once.",
                hint="Use strategy dual-password, which removes them after the grace period. Or"
                f" remove each one that is unused (ACL GETUSER {user.name} lists them): ACL"
                f" SETUSER {user.name} !HASH",
                safety=SAFE,
            )

    def _plan(self, new: Credential, current: Credential | None) -> list[str]:
        planned = super()._plan(new, current)
        return [f"ACL SETUSER {new.username} resetpass #{MASK}"] if current else planned


class AlternatingUsers(ContainedLogin):
    """Two fixed users that take turns."""

    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:
        """Return the other of the two."""
        return _next(next_of_pair(self._options.users, current), current, ctx)

    def unmanaged(self, current: Credential, ctx: StepContext) -> str | None:
        """Return the other user, where it exists on some node and is not ours."""
        other = next_of_pair(self._options.users, current)
        if other in ctx.adopted:
            return None
        with self._server.nodes(ctx) as nodes:
            looked = [node.users() for node in nodes.up]
        ours = all(
            users.get(other) is None or users.mark(ctx.names, other) is not None for users in looked
        )
        return None if ours else other

    def create(self, new: Credential, ctx: StepContext) -> None:
        """Give the other user the current one's rules and a password, in one command for each node."""
        like = ctx.current.username if ctx.current else self._options.like
        with self._creating(new, ctx) as places:
            if ctx.current is not None:
                # A writer of the backend could name any user there, and get its rules.
                for node, users in places:
                    name = ctx.current.username
                    require_ours(users.mark(ctx.names, name), name, node, ctx, self._options.users)
            self._make(places, new, like, ctx)

    def revoke(self, old: Credential, ctx: StepContext) -> None:
        """Take its password and switch it off; it waits for its next turn."""
        require_not_current(old.username, ctx)
        with self._ending(old, ctx) as nodes:
            for node in nodes.up:
                users = node.users()
                if users.get(old.username) is not None:
                    require_ours(users.mark(ctx.names, old.username), old.username, node, ctx)
            self._close(nodes, old.username, ctx, end_sessions=ctx.end_sessions, must_save=True)
            self._rest(nodes, old.username, ctx)

    def withdraw(self, new: Credential, ctx: StepContext) -> None:
        """Put the other user back to waiting; drop it where this rotation made it."""
        if ctx.current is not None and ctx.current.username == new.username:
            return
        mine = Mark.make(ctx.secret, new.username, ctx.rotation_id)
        with self._ending(new, ctx) as nodes:
            marks = [node.users().mark(ctx.names, new.username) for node in nodes.up]
            self._close(nodes, new.username, ctx, end_sessions=True, must_save=False)
            if mine in marks:
                self._drop(nodes, new.username, ctx, must_save=False)
            self._keep_all(nodes, ctx, must=False)

    def _in_the_way(
        self,
        node: Node,
        users: Users,
        new: Credential | None,
        current: Credential | None,
        ctx: StepContext,
    ) -> Iterable[StepError]:
        """Yield why the other user cannot be made like the current one."""
        name = new.username if new else self._next_name(current)
        if (
            name is not None
            and users.get(name) is not None
            and users.mark(ctx.names, name) is None
            and name not in ctx.adopted
        ):
            yield foreign(name, node, ctx, self._options.users)
        like = current.username if current else self._options.like
        source = users.get(like) if like is not None else None
        if source is None:
            yield without_source(node, like)
        elif current is not None:
            if source.name == DEFAULT:
                yield Denied(
                    "the user `default` cannot be dropped or disabled: clients that send no"
                    " user name use it.",
                    hint="To rotate it, use strategy dual-password.",
                    safety=SAFE,
                )
            elif (problem := closed_or_open(node, source)) is not None:
                yield problem

    def _next_name(self, current: Credential | None) -> str | None:
        return next_of_pair(self._options.users, current)

    def _rest(self, nodes: Nodes, name: str, ctx: StepContext) -> None:
        """Leave it there, closed."""

    def _check(self, options: SecretOptions) -> None:
        require_pair(options.users)
        if DEFAULT in options.users:
            raise UsageError(
                "the user `default` cannot alternate: clients that send no user name use it.",
                hint="To rotate it, use strategy dual-password.",
            )
        for name in options.users:
            self._require_plain(name)

    def _plan(self, new: Credential, current: Credential | None) -> list[str]:
        return _made(new.username, current.username if current else self._options.like)

    def _farewell(self, old: Credential, nodes: Nodes) -> list[str]:
        _ = nodes
        return [f"ACL SETUSER {old.username} off resetpass"]


class NewUser(AlternatingUsers):
    """A fresh user per rotation, with all rules of the one before."""

    unmanaged = None  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride] # it has no second login

    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:
        """Draw a user name that is free on every node that is up."""
        with self._server.nodes(ctx) as nodes:
            taken = [node.users() for node in nodes.up]
        while True:
            name = successor(self._options.prefix or "", ctx.entropy)
            if not any(users.get(name) for users in taken):
                return _next(name, current, ctx)

    def withdraw(self, new: Credential, ctx: StepContext) -> None:
        """Drop the user that this rotation made, if it did."""
        mine = Mark.make(ctx.secret, new.username, ctx.rotation_id)
        with self._ending(new, ctx) as nodes:
            if any(node.users().mark(ctx.names, new.username) == mine for node in nodes.up):
                require_not_current(new.username, ctx)
                self._close(nodes, new.username, ctx, end_sessions=True, must_save=False)
                self._drop(nodes, new.username, ctx, must_save=False)
            self._keep_all(nodes, ctx, must=False)

    def _next_name(self, current: Credential | None) -> str | None:
        _ = current
        return None

    def _rest(self, nodes: Nodes, name: str, ctx: StepContext) -> None:
        self._drop(nodes, name, ctx, must_save=True)

    def _check(self, options: SecretOptions) -> None:
        if options.prefix is None:
            raise UsageError("strategy new-user requires `prefix`: the prefix of the user names.")
        check_name(options.prefix)
        self._require_plain(options.prefix)

    def _farewell(self, old: Credential, nodes: Nodes) -> list[str]:
        return [*super()._farewell(old, nodes), f"ACL DELUSER {old.username}"]


STRATEGIES: Final[dict[str, type[DualPassword | AlternatingUsers]]] = {
    "dual-password": DualPassword,
    "new-user": NewUser,
    "alternating-users": AlternatingUsers,
    "single-user": SingleUser,
}


def _next(name: str, current: Credential | None, ctx: StepContext) -> Credential:
    check_name(name)
    return candidate(name, current, ctx)


def _made(name: str, like: str | None) -> list[str]:
    return [
        f"ACL SETUSER rotator:... off, which marks {name!r} as rotator's own",
        f"ACL SETUSER {name} reset on #{MASK}, with all rules of {like!r}",
    ]


def _not_served(node: Node, user: User | None, name: str = "") -> StepError:
    return Conflict(
        f"user {user.name if user else name!r} at {node} does not accept the current password,"
        " so rotator added no second one.",
        safety="The application is NOT safe there: the server rejects the credential that the backend"
        " serves.",
        hint="Set the password that the backend serves, or store the valid one in the backend.",
    )
