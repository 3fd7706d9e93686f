"""The four strategies: rotator draws login and password, the program does the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from rotations.command.protocol import text
from rotator.api import (
    Check,
    Credential,
    Evidence,
    Refused,
    Secret,
    UsageError,
    candidate,
    next_of_pair,
    passed,
    require_not_current,
    require_pair,
    same_login,
    successor,
)

if TYPE_CHECKING:
    from typing import Any

    from rotations.command.options import SecretOptions
    from rotations.command.protocol import Program
    from rotator.api import Session, StepContext


class _Login:
    """What all strategies have in common."""

    overlaps: bool = True
    name: ClassVar[str]

    def __init__(self, program: Program, options: SecretOptions) -> None:
        self._program: Program = program
        self._options: SecretOptions = options
        self._check(options)

    def create(self, new: Credential, ctx: StepContext) -> None:
        """Have the program make `new` valid."""
        _ = self._ask("create", new, ctx)

    def verify(self, new: Credential, ctx: StepContext) -> Evidence:
        """Have the program log in, and return its checks."""
        answer = self._ask("verify", new, ctx)
        if not self._accepted(answer):
            raise Refused(_rejected(new, answer))
        checks = self._program.checks(answer)
        return passed(new.username, (Check(name="logs in", ok=True), *checks))

    def probe(self, credential: Credential, ctx: StepContext) -> bool:
        """Have the program log in once."""
        try:
            return self._accepted(self._ask("verify", credential, ctx))
        except Refused:
            return False

    def revoke(self, old: Credential, ctx: StepContext) -> None:
        """Have the program make `old` invalid."""
        require_not_current(old.username, ctx)
        _ = self._ask("revoke", old, ctx)

    def withdraw(self, new: Credential, ctx: StepContext) -> None:
        """Have the program take `new` back."""
        require_not_current(new.username, ctx)
        _ = self._ask("withdraw", new, ctx)

    def _ask(self, action: str, login: Credential, ctx: StepContext) -> dict[str, Any]:
        return self._program.ask(action, login, ctx, strategy=self.name, options=self._options)

    def _accepted(self, answer: dict[str, Any]) -> bool:
        accepted = answer.get("accepted")
        if isinstance(accepted, bool):
            return accepted
        raise self._program.fault("verify", "answered without `accepted`: true or false")

    def _check(self, options: SecretOptions) -> None:
        """Raise `UsageError` for options that do not fit the strategy."""


class NewUser(_Login):
    """A fresh login per rotation."""

    name = "new-user"

    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:
        """Draw a login name."""
        base = self._options.prefix or ctx.secret
        name = successor(base, ctx.entropy, limit=self._options.longest_name)
        return candidate(name, current, ctx)


class AlternatingUsers(_Login):
    """Two fixed logins that take turns."""

    name = "alternating-users"

    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:
        """Return the other of the two."""
        return candidate(next_of_pair(self._options.users, current), current, ctx)

    def _check(self, options: SecretOptions) -> None:
        require_pair(options.users)


class SingleUser(_Login):
    """One login whose password changes in place (no overlap)."""

    overlaps: bool = False
    name = "single-user"

    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:
        """Return the same login with another password."""
        return candidate(same_login(current, self._options.username), current, ctx)

    def revoke(self, old: Credential, ctx: StepContext) -> None:
        """Do nothing for the same login: its old password became invalid when the new one was set."""
        ctx.require_time()
        if ctx.current is None or ctx.current.username != old.username:
            super().revoke(old, ctx)

    def withdraw(self, new: Credential, ctx: StepContext) -> None:
        """Have the program set the served password again."""
        _ = self._ask("withdraw", new, ctx)


class DualPassword(SingleUser):
    """One login that accepts two passwords for a while."""

    overlaps: bool = True
    name = "dual-password"

    def revoke(self, old: Credential, ctx: StepContext) -> None:
        """Have the program leave the current password only."""
        _ = self._ask("revoke", old, ctx)


class _Counts:
    """Counts sessions, where the target's option promises that the program does."""

    _program: Program
    _options: SecretOptions
    name: ClassVar[str]

    def sessions(self, login: str, ctx: StepContext) -> list[Session]:
        """Have the program list the open sessions of a login."""
        credential = Credential(username=login, password=Secret(""))
        answer = self._program.ask(
            "sessions", credential, ctx, strategy=self.name, options=self._options
        )
        return self._program.sessions("sessions", login, answer)


class _CountingNewUser(_Counts, NewUser):
    __doc__ = NewUser.__doc__


class _CountingAlternatingUsers(_Counts, AlternatingUsers):
    __doc__ = AlternatingUsers.__doc__


class _CountingSingleUser(_Counts, SingleUser):
    __doc__ = SingleUser.__doc__


class _CountingDualPassword(_Counts, DualPassword):
    __doc__ = DualPassword.__doc__


STRATEGIES: Final[dict[str, type[_Login]]] = {
    one.name: one for one in (NewUser, AlternatingUsers, DualPassword, SingleUser)
}
COUNTING: Final[dict[str, type[_Login]]] = {
    one.name: one
    for one in (
        _CountingNewUser,
        _CountingAlternatingUsers,
        _CountingDualPassword,
        _CountingSingleUser,
    )
}


def unknown_strategy(name: str) -> UsageError:
    """Return the error for a strategy that does not exist."""
    return UsageError(
        f"plugin command has no strategy {name!r}.", hint=f"Strategies: {', '.join(STRATEGIES)}."
    )


def _rejected(new: Credential, answer: dict[str, Any]) -> str:
    reason = text(answer.get("reason"))
    return f"login {new.username!r} was rejected{f': {reason}' if reason else ''}."
