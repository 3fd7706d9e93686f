"""The four strategies: which credential comes next, how it overlaps with the old one, how that goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rotations.valkey.login import Login, require_ours
from rotations.valkey.options import DEFAULT, check_name
from rotations.valkey.users import Mark, User, hash_of
from rotator.api import (
    MASK,
    Conflict,
    Credential,
    Denied,
    UsageError,
    candidate,
    next_of_pair,
    require_not_current,
    require_pair,
    same_login,
    successor,
)

if TYPE_CHECKING:
    from rotations.valkey.nodes import Node
    from rotations.valkey.options import SecretOptions
    from rotations.valkey.server import Nodes
    from rotations.valkey.users import Users
    from rotator.api import StepContext

_SAFE: Final = "The application is safe: nothing was changed."


class DualPassword(Login):
    """One user that accepts two passwords for a while."""

    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:
        """Return the same user with another password."""
        return _next(same_login(current, self._options.username), current, ctx)

    def create(self, new: Credential, ctx: StepContext) -> None:
        """Let the new password in beside the current one, on all nodes once all of them can."""
        with self._creating(new, ctx) as places:
            marks = [users.mark(ctx.secret, new.username) for _, users in places]
            known = [users.get(new.username) for _, users in places]
            if ctx.current is None and all(
                mark is not None or user is None for mark, user in zip(marks, known, strict=True)
            ):
                self._make(places, new, self._options.like, ctx)
                return
            found: list[tuple[Node, User]] = []
            for (node, users), mark in zip(places, marks, strict=True):
                if users.get(new.username) is not None:
                    require_ours(mark, new.username, node, ctx)
                found.append((node, self._usable(node, users, new, ctx)))
            for node, user in found:
                self._let_in(node, user, new, ctx)
                self._keep(node, ctx)

    def revoke(self, old: Credential, ctx: StepContext) -> None:
        """Let in by the current password only. Sessions stay: they are of the user, not of a password."""
        self._only_current(old, ctx)

    def withdraw(self, new: Credential, ctx: StepContext) -> None:
        """Let in by the current password only; drop the user where this rotation made it."""
        if ctx.current is not None:
            self._only_current(new, ctx)
            return
        mine = Mark.make(ctx.secret, new.username, ctx.rotation_id)
        with self._ending(new) as nodes:
            if any(node.users().mark(ctx.secret, new.username) == mine for node in nodes.up):
                self._close(nodes, new.username, ctx, end_sessions=True)
                self._drop(nodes, new.username, ctx)
            self._keep_all(nodes, ctx)

    def _let_in(self, node: Node, user: User, new: Credential, ctx: StepContext) -> None:
        if hash_of(new.password) not in user.hashes:
            node.let_in(user.name, new.password, ctx)

    def _usable(self, node: Node, users: Users, new: Credential, ctx: StepContext) -> User:
        """Return the user of a node, if a password can be set beside the one that the backend serves."""
        user = users.get(new.username)
        if user is None:
            raise Conflict(
                f"{node} has no user {new.username!r}.",
                hint="Nodes do not share users: make it there as it is on the others (ACL LIST), with the password that the backend serves.",
                safety=_SAFE,
            )
        if user.nopass:
            raise Denied(
                f"user {user.name!r} at {node} is let in by any password (nopass), and a password would lock out who has none.",
                hint=f"Once all who use it send a password: ACL SETUSER {user.name} resetpass >PASSWORD",
                safety=_SAFE,
            )
        if not user.on:
            raise Denied(
                f"user {user.name!r} at {node} is off: it lets nobody in.",
                hint=f"If it is to be used: ACL SETUSER {user.name} on",
                safety=_SAFE,
            )
        if not self._accepts(user, new, ctx):
            raise Conflict(
                f"user {user.name!r} at {node} does not accept the current password, so nothing was set beside it.",
                safety="The application is NOT safe there: what the backend serves does not log in.",
                hint="Set the password that the backend serves, or write the right one into the backend.",
            )
        return user

    def _accepts(self, user: User, new: Credential, ctx: StepContext) -> bool:
        """Return whether a user is in a state from which this rotation can go on."""
        _ = new
        return ctx.current is not None and hash_of(ctx.current.password) in user.hashes

    def _only_current(self, gone: Credential, ctx: StepContext) -> None:
        name = gone.username
        if ctx.current is None or ctx.current.username != name:
            return
        with self._ending(gone) as nodes:
            found = [(node, node.users()) for node in nodes.up]
            for node, users in found:
                if users.get(name) is not None:
                    require_ours(users.mark(ctx.secret, name), name, node, ctx)
            for node, users in found:
                user = users.get(name)
                if user is not None:
                    node.let_in_only(user, ctx.current.password, ctx)
                    self._keep(node, ctx)

    def _check(self, options: SecretOptions) -> None:
        self._require_plain(options.username)

    def _plan(self, new: Credential, current: Credential | None) -> list[str]:
        if current is None:
            return _made(new.username, self._options.like)
        return [f"ACL SETUSER {new.username} #{MASK}"]

    def _farewell(self, old: str) -> list[str]:
        return [f"ACL SETUSER {old} resetpass #{MASK}"]


class SingleUser(DualPassword):
    """One user whose password changes in place (no overlap)."""

    overlaps: bool = False

    def revoke(self, old: Credential, ctx: StepContext) -> None:
        """Nothing is left to do but where a node has missed it: the old one went when the new one was set."""
        super().revoke(old, ctx)

    def _let_in(self, node: Node, user: User, new: Credential, ctx: StepContext) -> None:
        node.let_in_only(user, new.password, ctx)

    def _accepts(self, user: User, new: Credential, ctx: StepContext) -> bool:
        return hash_of(new.password) in user.hashes or super()._accepts(user, new, ctx)

    def _plan(self, new: Credential, current: Credential | None) -> list[str]:
        planned = super()._plan(new, current)
        return self._farewell(new.username) if current else planned

    def _farewell(self, old: str) -> list[str]:
        return [f"ACL SETUSER {old} resetpass #{MASK}"]


class AlternatingUsers(Login):
    """Two fixed users that take turns."""

    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:
        """Return the other of the two."""
        return _next(next_of_pair(self._options.users, current), current, ctx)

    def create(self, new: Credential, ctx: StepContext) -> None:
        """Give the other user the current one's rules and a password, in one command for each node."""
        like = ctx.current.username if ctx.current else self._options.like
        if ctx.current is not None:
            _require_droppable(ctx.current.username)
        with self._creating(new, ctx) as places:
            self._make(places, new, like, ctx)

    def revoke(self, old: Credential, ctx: StepContext) -> None:
        """Take its password and switch it off; it waits for its next turn."""
        require_not_current(old.username, ctx)
        with self._ending(old) as nodes:
            for node in nodes.up:
                users = node.users()
                if users.get(old.username) is not None:
                    require_ours(users.mark(ctx.secret, old.username), old.username, node, ctx)
            self._close(nodes, old.username, ctx, end_sessions=ctx.end_sessions)
            self._rest(nodes, old.username, ctx)

    def withdraw(self, new: Credential, ctx: StepContext) -> None:
        """Put the other user back to waiting; drop it where this rotation made it."""
        if ctx.current is not None and ctx.current.username == new.username:
            return
        mine = Mark.make(ctx.secret, new.username, ctx.rotation_id)
        with self._ending(new) as nodes:
            marks = [node.users().mark(ctx.secret, new.username) for node in nodes.up]
            self._close(nodes, new.username, ctx, end_sessions=True)
            if mine in marks:
                self._drop(nodes, new.username, ctx)
            self._keep_all(nodes, ctx)

    def _rest(self, nodes: Nodes, name: str, ctx: StepContext) -> None:
        """Leave it there, closed."""

    def _check(self, options: SecretOptions) -> None:
        require_pair(options.users)
        if DEFAULT in options.users:
            raise UsageError(
                "the user `default` cannot take turns: who sends no name is taken for it.",
                hint="Strategy dual-password rotates it.",
            )
        for name in options.users:
            self._require_plain(name)

    def _plan(self, new: Credential, current: Credential | None) -> list[str]:
        return _made(new.username, current.username if current else self._options.like)

    def _farewell(self, old: str) -> list[str]:
        return [f"ACL SETUSER {old} off resetpass"]


class NewUser(AlternatingUsers):
    """A fresh user per rotation, with all rules of the one before."""

    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:
        """Draw a user name that is free on every node that is up."""
        with self._server.nodes() as nodes:
            taken = [node.users() for node in nodes.up]
        while True:
            name = successor(self._options.prefix or "", ctx.entropy)
            if not any(users.get(name) for users in taken):
                return _next(name, current, ctx)

    def withdraw(self, new: Credential, ctx: StepContext) -> None:
        """Drop the user that this rotation made, if it did."""
        mine = Mark.make(ctx.secret, new.username, ctx.rotation_id)
        with self._ending(new) as nodes:
            if any(node.users().mark(ctx.secret, new.username) == mine for node in nodes.up):
                require_not_current(new.username, ctx)
                self._close(nodes, new.username, ctx, end_sessions=True)
                self._drop(nodes, new.username, ctx)
            self._keep_all(nodes, ctx)

    def _rest(self, nodes: Nodes, name: str, ctx: StepContext) -> None:
        self._drop(nodes, name, ctx)

    def _check(self, options: SecretOptions) -> None:
        if options.prefix is None:
            raise UsageError("strategy new-user needs `prefix`: what user names start with.")
        check_name(options.prefix)
        self._require_plain(options.prefix)

    def _farewell(self, old: str) -> list[str]:
        return [f"ACL SETUSER {old} off resetpass", f"ACL DELUSER {old}"]


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
        f"ACL SETUSER rotator:... off, which marks {name!r} as ours",
        f"ACL SETUSER {name} reset on #{MASK}, with all rules of {like!r}",
    ]


def _require_droppable(name: str) -> None:
    if name == DEFAULT:
        raise Denied(
            "the user `default` cannot be dropped or switched off: who sends no name is taken for it.",
            hint="Strategy dual-password rotates it.",
            safety=_SAFE,
        )
