"""The four strategies: rotator draws login and password, the program does the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from rotations.command.options import SecretOptions
from rotations.command.protocol import text
from rotator.api import (
    AlternatingLogins,
    Check,
    Credential,
    Evidence,
    LoginStrategy,
    NewLogin,
    Refused,
    Secret,
    SingleLogin,
    passed,
)

if TYPE_CHECKING:
    from typing import Any

    from rotations.command.protocol import Program
    from rotator.api import EndStep, Session, StepContext


class _Login(LoginStrategy[SecretOptions]):
    """What all strategies have in common."""

    def __init__(self, program: Program, options: SecretOptions) -> None:
        super().__init__(options)
        self._program: Program = program

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

    def _end(self, login: Credential, step: EndStep, ctx: StepContext) -> None:
        _ = self._ask(step, login, ctx)

    def _ask(self, action: str, login: Credential, ctx: StepContext) -> dict[str, Any]:
        return self._program.ask(action, login, ctx, strategy=self.name, options=self._options)

    def _accepted(self, answer: dict[str, Any]) -> bool:
        accepted = answer.get("accepted")
        if isinstance(accepted, bool):
            return accepted
        raise self._program.fault("verify", "answered without `accepted`: true or false")


class NewUser(NewLogin[SecretOptions], _Login):
    """A fresh login per rotation."""


class AlternatingUsers(AlternatingLogins[SecretOptions], _Login):
    """Two fixed logins that take turns."""


class SingleUser(SingleLogin[SecretOptions], _Login):
    """One login whose password changes in place (no overlap)."""

    def withdraw(self, new: Credential, ctx: StepContext) -> None:
        """Have the program set the served password again."""
        self._end(new, "withdraw", ctx)


class DualPassword(SingleUser):
    """One login that accepts two passwords for a while."""

    overlaps: bool = True
    name = "dual-password"

    def revoke(self, old: Credential, ctx: StepContext) -> None:
        """Have the program leave the current password only."""
        self._end(old, "revoke", ctx)


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


STRATEGIES: Final[dict[str, type[_Login]]] = {
    one.name: one for one in (NewUser, AlternatingUsers, DualPassword, SingleUser)
}
COUNTING: Final[dict[str, type]] = {
    name: type(f"Counting{one.__name__}", (_Counts, one), {}) for name, one in STRATEGIES.items()
}


def _rejected(new: Credential, answer: dict[str, Any]) -> str:
    reason = text(answer.get("reason"))
    return f"login {new.username!r} was rejected{f': {reason}' if reason else ''}."
