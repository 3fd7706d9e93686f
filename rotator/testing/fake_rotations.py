"""The four strategies over `FakeTarget`: small complete plugins, to test with and to learn from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from rotator.core.contracts.rotation import Entrance
from rotator.core.errors import Conflict, Denied, InUse, Refused
from rotator.core.identifiers import successor
from rotator.core.model import Check, Credential, Evidence
from rotator.core.secret import Secret
from rotator.core.strategies import candidate, next_of_pair, require_not_current, same_login

if TYPE_CHECKING:
    from rotator.core.contracts.rotation import Rotation, StepContext
    from rotator.core.session import Session
    from rotator.testing.fake_target import FakeTarget


class _Logins:
    """What all four have in common."""

    overlaps: bool = True

    def __init__(self, target: FakeTarget, base: str = "app") -> None:
        self._target: FakeTarget = target
        self._base: str = base

    def verify(self, new: Credential, ctx: StepContext) -> Evidence:
        """Log in."""
        if not self.probe(new, ctx):
            raise Refused(f"login {new.username!r} does not get in.")
        return Evidence(checks=(Check(name="logs in", ok=True),))

    def probe(self, credential: Credential, ctx: StepContext) -> bool:
        """Try to log in."""
        ctx.require_time()
        return self._target.accepts(credential.username, credential.password.reveal())

    def sessions(self, login: str, ctx: StepContext) -> list[Session]:
        """Return who is logged in."""
        ctx.require_time()
        return self._target.sessions(login)

    def close_login(self, login: Credential, ctx: StepContext) -> None:
        """End the login that is served."""
        if self._ours(login.username, ctx):
            self._close(login.username, ctx)

    def moment(self, ctx: StepContext) -> str:
        """Return the target's count of sessions and moments."""
        ctx.require_time()
        return str(self._target.moment())

    def fence(self, leaked: Credential, ctx: StepContext) -> str:
        """Replace the password by one that nobody knows."""
        if self._ours(leaked.username, ctx):
            self._target.fence(leaked.username, ctx)
        return self.moment(ctx)

    def end_sessions(self, login: str, before: str, ctx: StepContext) -> list[Session]:
        """End the earlier sessions of the login."""
        if not self._ours(login, ctx):
            return []
        count = self._target.sessions(login)
        self._target.end_sessions_before(login, int(before), ctx)
        return count[: len(count) - len(self._target.sessions(login))]

    def entrances(
        self, leaked: Credential, current: Credential | None, ctx: StepContext
    ) -> list[Entrance]:
        """Try the passwords at each address of the target."""
        ctx.require_time()
        return [self._entrance(address, leaked, current) for address in self._target.addresses]

    def _entrance(self, address: str, leaked: Credential, current: Credential | None) -> Entrance:
        if self._target.addresses[address].away:
            return Entrance(address=address, why="it is unreachable")
        accepts = self._target.accepts_at
        password = leaked.password.reveal()
        return Entrance(
            address=address,
            current=accepts(address, current.username, current.password.reveal())
            if current is not None
            else None,
            wrong=accepts(address, (current or leaked).username, "a password that nobody has"),
            leaked=accepts(address, leaked.username, password) if password else None,
            why="" if password else "the leaked password is no longer known",
        )

    def _set(self, new: Credential, ctx: StepContext) -> None:
        """Let `new` be the login's only way in, making the login where it is missing."""
        name, password = new.username, new.password.reveal()
        if self._ours(name, ctx):
            self._target.set_password(name, password, ctx)
        else:
            self._target.create_login(name, password, ctx)

    def _ours(self, name: str, ctx: StepContext) -> bool:
        """Return whether the login is there; raise when it is somebody else's."""
        ctx.require_time()
        if name not in self._target.accounts:
            return False
        if not self._target.is_ours(name, ctx):
            raise Conflict(f"login {name!r} is there already and is not ours.")
        return True

    def _drop(self, name: str, ctx: StepContext) -> None:
        if self._ours(name, ctx):
            self._target.drop(name, ctx)

    def _close(self, name: str, ctx: StepContext) -> None:
        """Let nobody in as `name` any more, and see its sessions gone."""
        require_not_current(name, ctx)
        self._target.disable(name, ctx)
        if ctx.end_sessions:
            self._target.end_sessions(name, ctx)
        if (found := self._target.sessions(name)) != []:
            raise InUse(f"login {name!r} still has sessions.", sessions=found)


class NewUser(_Logins):
    """A fresh login for each rotation; the old one is dropped."""

    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:
        """Draw a login name that is free."""
        ctx.require_time()
        name = successor(self._base, ctx.entropy)
        while name in self._target.accounts:
            name = successor(self._base, ctx.entropy)
        return candidate(name, current, ctx)

    def create(self, new: Credential, ctx: StepContext) -> None:
        """Make the login."""
        self._set(new, ctx)

    def revoke(self, old: Credential, ctx: StepContext) -> None:
        """Close the old login, then drop it."""
        if self._ours(old.username, ctx):
            self._close(old.username, ctx)
            self._drop(old.username, ctx)

    def withdraw(self, new: Credential, ctx: StepContext) -> None:
        """Drop the new login; nobody was told of it, so nobody is in."""
        self._drop(new.username, ctx)


class AlternatingUsers(_Logins):
    """Two logins taking turns; the one whose turn is over is closed but stays."""

    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:
        """Take the other login."""
        turn = next_of_pair((f"{self._base}_a", f"{self._base}_b"), current)
        return candidate(turn, current, ctx)

    def create(self, new: Credential, ctx: StepContext) -> None:
        """Open the other login."""
        self._set(new, ctx)

    def revoke(self, old: Credential, ctx: StepContext) -> None:
        """Close the old login."""
        if self._ours(old.username, ctx):
            self._close(old.username, ctx)

    def withdraw(self, new: Credential, ctx: StepContext) -> None:
        """Close the new login again."""
        if self._ours(new.username, ctx):
            self._target.disable(new.username, ctx)


class SingleUser(_Logins):
    """One login with one password, changed in place."""

    overlaps: bool = False

    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:
        """Keep the login, draw a password."""
        return candidate(same_login(current, self._base), current, ctx)

    def create(self, new: Credential, ctx: StepContext) -> None:
        """Change the password."""
        self._set(new, ctx)

    def revoke(self, old: Credential, ctx: StepContext) -> None:  # noqa: ARG002 # the contract's
        """Do nothing: the old password stopped working when the new one was set."""
        ctx.require_time()

    def withdraw(self, new: Credential, ctx: StepContext) -> None:
        """Change the password back; a fenced one stays invalid."""
        if ctx.current is None:
            self._drop(new.username, ctx)
        elif ctx.fenced:
            _ = self.fence(new, ctx)
        else:
            self._set(ctx.current, ctx)


class DualPassword(SingleUser):
    """One login with two passwords."""

    overlaps: bool = True

    def create(self, new: Credential, ctx: StepContext) -> None:
        """Add the password. Done twice, the second time would push out the current one."""
        name, password = new.username, new.password.reveal()
        if ctx.current is None or not self._ours(name, ctx):
            self._set(new, ctx)
        elif ctx.fenced:
            self._only(new, ctx)
        elif not self._target.accepts(name, password):
            self._only(ctx.current, ctx)
            self._target.set_password(name, password, ctx, retain=True)

    def revoke(self, old: Credential, ctx: StepContext) -> None:  # noqa: ARG002 # the contract's
        """Leave only the current password."""
        if ctx.current is not None and self._ours(ctx.current.username, ctx):
            self._only(ctx.current, ctx)

    def withdraw(self, new: Credential, ctx: StepContext) -> None:
        """Leave only the current password, or no login when there was none."""
        if ctx.current is None:
            self._drop(new.username, ctx)
        elif ctx.fenced:
            _ = self.fence(new, ctx)
        else:
            self.revoke(new, ctx)

    def _only(self, kept: Credential, ctx: StepContext) -> None:
        password = kept.password.reveal()
        if self._target.accounts[kept.username].passwords[:1] != [password]:
            self._target.set_password(kept.username, password, ctx)
        self._target.discard_old_password(kept.username, ctx)


class NewKey(_Logins):
    """A fresh key for each rotation, drawn by the target; the old one is dropped."""

    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:  # noqa: ARG002 # the contract's
        """Fail: nobody knows the key before the target has drawn it."""
        raise Denied("the target draws its keys.")

    def create(self, new: Credential, ctx: StepContext) -> None:  # noqa: ARG002 # the contract's
        """Fail: no key can be set."""
        raise Denied("the target draws its keys.")

    def keys(self, ctx: StepContext) -> list[str]:
        """Return the keys of the secret."""
        ctx.require_time()
        return self._target.keys(ctx)

    def draw(self, current: Credential | None, ctx: StepContext) -> Credential:  # noqa: ARG002 # the contract's
        """Let the target draw one more key."""
        ctx.require_time()
        name, value = self._target.draw_key(ctx)
        return Credential(username=name, password=Secret(value))

    def revoke(self, old: Credential, ctx: StepContext) -> None:
        """Close the old key, then drop it."""
        if self._ours(old.username, ctx):
            self._close(old.username, ctx)
            self._drop(old.username, ctx)

    def withdraw(self, new: Credential, ctx: StepContext) -> None:
        """Drop the key; nobody was told of it, so nobody is in."""
        require_not_current(new.username, ctx)
        self._drop(new.username, ctx)


_CLASSES: Final[Mapping[str, type[NewUser | AlternatingUsers | SingleUser]]] = {
    "new-user": NewUser,
    "alternating-users": AlternatingUsers,
    "single-user": SingleUser,
    "dual-password": DualPassword,
}
STRATEGIES: Final = tuple(_CLASSES)
# Where the target draws the key, nothing is proposed, so it is not one of them.
NEW_KEY: Final = "new-key"


def fake_rotation(strategy: str, target: FakeTarget, base: str = "app") -> Rotation:
    """Return the rotation of this strategy over the target; `base` starts the names of its logins."""
    return (NewKey if strategy == NEW_KEY else _CLASSES[strategy])(target, base)
