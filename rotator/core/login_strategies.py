"""The usual strategies without a target: which login comes next, and which one a step may end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Final, Generic, Literal, TypeVar

from rotator.core.entrances import password_of_nobody
from rotator.core.errors import Denied, UsageError
from rotator.core.identifiers import POSTGRESQL_NAME_BYTES, successor
from rotator.core.strategies import (
    candidate,
    next_of_pair,
    require_not_current,
    require_pair,
    same_login,
)

if TYPE_CHECKING:
    from rotator.core.contracts.rotation import StepContext
    from rotator.core.model import Credential

EndStep = Literal["revoke", "withdraw"]
# A suffix of twelve characters makes each login name new.
_SHORTEST_NAME: Final = 16
_DRAWN: Final = "the target draws its keys itself, so none can be proposed or set."


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginNames:
    """One login that is rotated, by a fixed name. Which options matter depends on the strategy.

    A subclass adds its own options; a `__post_init__` of its own calls that of its base by name, as
    `super()` does not work in a dataclass with slots.
    """

    username: str | None = field(
        default=None,
        metadata={
            "help": "single-user: the login; required until the first credential is published."
        },
    )
    users: tuple[str, ...] = field(
        default=(), metadata={"help": "alternating-users: the two logins that alternate."}
    )

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if "" in (self.username, *self.users):
            raise UsageError("a login name must not be empty.")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginOptions(LoginNames):
    """One login that is rotated, also by a fresh name each time."""

    prefix: str | None = field(
        default=None,
        metadata={"help": "new-user: prefix of the login names. Default: the secret's name."},
    )
    longest_name: int = field(
        default=POSTGRESQL_NAME_BYTES,
        metadata={"help": "new-user: the most bytes that the target accepts in a login name."},
    )

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        LoginNames.__post_init__(self)
        if self.longest_name < _SHORTEST_NAME:
            raise UsageError(f"longest_name must be {_SHORTEST_NAME} or more.")
        if self.prefix == "":
            raise UsageError("a login name must not be empty.")


Options = TypeVar("Options", bound=LoginNames)
FreshOptions = TypeVar("FreshOptions", bound=LoginOptions)
AnyOptions = TypeVar("AnyOptions")


class LoginStrategy(ABC, Generic[AnyOptions]):
    """What strategies have in common. A plugin's own base adds `create`, `verify`, `probe` and `_end`.

    Each of its strategies is then one of the classes below together with that base:
    `class NewUser(NewLogin[MyOptions], MyBase)`.
    """

    overlaps: bool = True
    name: ClassVar[str]

    def __init__(self, options: AnyOptions) -> None:
        self._options: AnyOptions = options
        self._check()

    @abstractmethod
    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:
        """Return the next credential."""

    def revoke(self, old: Credential, ctx: StepContext) -> None:
        """End the old login; never the one that consumers use."""
        require_not_current(old.username, ctx)
        self._end(old, "revoke", ctx)

    def withdraw(self, new: Credential, ctx: StepContext) -> None:
        """End the new login; never the one that consumers use."""
        require_not_current(new.username, ctx)
        self._end(new, "withdraw", ctx)

    @abstractmethod
    def _end(self, login: Credential, step: EndStep, ctx: StepContext) -> None:
        """Afterwards the target rejects `login`. Gone already is success."""

    def _check(self) -> None:
        """Raise `UsageError` for options that do not fit the strategy."""


class NewLogin(LoginStrategy[FreshOptions]):
    """A fresh login per rotation."""

    name = "new-user"

    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:
        """Draw a login name."""
        base = self._options.prefix or ctx.login_base
        name = successor(base, ctx.entropy, limit=self._options.longest_name)
        return candidate(name, current, ctx)


class NewKey(LoginStrategy[AnyOptions]):
    """A fresh key per rotation, which the target draws. A plugin's own base adds `keys` and `draw`."""

    name = "new-key"

    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:  # noqa: ARG002 # the contract's
        """Raise `Denied`: nobody knows the key before the target has drawn it."""
        raise Denied(_DRAWN)

    def create(self, new: Credential, ctx: StepContext) -> None:  # noqa: ARG002 # the contract's
        """Raise `Denied`: no key can be set."""
        raise Denied(_DRAWN)


class AlternatingLogins(LoginStrategy[Options]):
    """Two fixed logins that take turns."""

    name = "alternating-users"

    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:
        """Return the other of the two."""
        return candidate(next_of_pair(self._options.users, current), current, ctx)

    def _check(self) -> None:
        require_pair(self._options.users)


class SingleLogin(LoginStrategy[Options]):
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


class PasswordInPlace(SingleLogin[Options]):
    """A single login whose password the admin can set at any time: `withdraw` sets the served one."""

    @property
    def _can_end(self) -> bool:
        """Whether a first rotation that failed can end the login."""
        return True

    @abstractmethod
    def _set(self, login: Credential, ctx: StepContext) -> None:
        """Afterwards `login` is accepted. Raises `Conflict` for a login that is not ours."""

    @abstractmethod
    def _exists(self, name: str, ctx: StepContext) -> bool:
        """Return whether there is such a login. Raises `Conflict` for one that is not ours."""

    def withdraw(self, new: Credential, ctx: StepContext) -> None:
        """Set the served password again; without one, end the login or give it a password of nobody."""
        ctx.require_time()
        served = ctx.current
        if served is not None and served.username == new.username and not ctx.fenced:
            self._set(replace(new, password=served.password), ctx)
        elif served is None and self._can_end:
            self._end(new, "withdraw", ctx)
        elif self._exists(new.username, ctx):
            self._set(replace(new, password=password_of_nobody(ctx)), ctx)
