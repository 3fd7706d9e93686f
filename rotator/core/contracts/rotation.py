"""The contract of a rotation: one secret on one target. Optional abilities are protocols of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from rotator.core.errors import Transient
from rotator.core.lease_chain import secret_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from rotator.core.model import Credential, Evidence, Finding, Planned, Rejection
    from rotator.core.ports import Clock, Entropy, Log
    from rotator.core.secret import Secret
    from rotator.core.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class StepContext:
    """The facts that a plugin gets for a step. New facts become new fields.

    `path` is where the secret is kept. `current` is what the backend serves right now. `deadline` is
    on the `clock.monotonic` scale: give up with `Transient` (nothing was sent) or `Unknown` (it was)
    rather than pass it. `adopted` names the logins that an operator has adopted; they carry no mark
    of ours on the target. `end_sessions`: by policy or command, open sessions of the old login are
    ended. `new_password` draws one that fits the secret's password policy. `fenced`: the password of
    `current` leaked and was replaced by `fence`: no step makes it valid again. `lasts`: the login is
    that of a lease, which ends after this time: where the target can, it rejects the login from then on.
    """

    secret: str
    rotation_id: str
    current: Credential | None
    deadline: float
    clock: Clock
    entropy: Entropy
    log: Log
    new_password: Callable[[], Secret]
    adopted: frozenset[str] = frozenset()
    end_sessions: bool = False
    path: str = ""
    former_names: frozenset[str] = frozenset()
    fenced: bool = False
    lasts: timedelta | None = None

    @property
    def login_base(self) -> str:
        """What new login names start with, where no option sets it: the name of the secret."""
        return secret_of(self.secret) or self.secret

    @property
    def names(self) -> frozenset[str]:
        """The current and former names of the secret: a mark with any of them is its own."""
        return self.former_names | {self.secret}

    def seconds_left(self) -> float:
        """Return how many seconds the step still has; never less than zero."""
        return max(0.0, self.deadline - self.clock.monotonic())

    def require_time(self) -> None:
        """Raise `Transient` when the step's time is up. Call it before each effect: after that
        time another engine may be at work.
        """
        if self.clock.monotonic() >= self.deadline:
            raise Transient("the step's time was up, so nothing more was sent.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrance:
    """One address that accepts logins of a target, and what it does with three passwords.

    `address` is `host:port`, as an operator would write it. `current`, `wrong` and `leaked`: whether it
    accepts that password; None where that was not tried or cannot be known, and `why` gives the reason
    as a clause.
    """

    address: str
    current: bool | None = None
    wrong: bool | None = None
    leaked: bool | None = None
    why: str = ""


class Rotation(Protocol):
    """One secret on one target, under one strategy. Every method but `propose` and `probe` is an
    ensure: run twice, it leaves what running it once leaves, also when the first run was cut off.

    Any method may raise `Transient` (nothing happened, try later), `Unknown` (it was sent and the
    answer is lost: the engine runs the step again), `Denied` (our admin lacks a right) and
    `Conflict` (a foreign login is in the way). No other exception leaves a plugin.
    """

    @property
    def overlaps(self) -> bool:
        """Whether old and new are valid together between create and revoke."""
        ...

    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:
        """Return the next credential. Nothing is written; `current` is None the first time.

        May read from the target, for example to draw a login name that is free.
        """
        ...

    def create(self, new: Credential, ctx: StepContext) -> None:
        """Afterwards `new` logs in. Raises `Refused` when the target rejects this candidate."""
        ...

    def verify(self, new: Credential, ctx: StepContext) -> Evidence:
        """Log in as `new`, try its work, and compare what it may do with `ctx.current`.

        Raises `Refused` when `new` does not log in or cannot do its work.
        """
        ...

    def probe(self, credential: Credential, ctx: StepContext) -> bool:
        """Try to log in once: True when the target accepts it, False when it rejects it.

        Raises `Transient` when neither is known (unreachable, too many connections).
        """
        ...

    def revoke(self, old: Credential, ctx: StepContext) -> None:
        """Afterwards `old` no longer logs in and `ctx.current` still does. Gone already is success.

        Raises `InUse` while sessions of `old` are open and `ctx.end_sessions` is false; new
        logins may already be refused by then. `old.password` may be empty when it is no longer
        known: do not rely on it.
        """
        ...

    def withdraw(self, new: Credential, ctx: StepContext) -> None:
        """Leave the target as if `create` had never run: `ctx.current` logs in and `new` does not.

        With `ctx.fenced`, the password of `ctx.current` stays invalid.

        `new.password` may be empty when it is no longer known: do not rely on it.
        """
        ...


@runtime_checkable
class CountsSessions(Protocol):
    """Optional: a rotation that lists open sessions."""

    def sessions(self, login: str, ctx: StepContext) -> list[Session]:
        """Return the open sessions of `login`, ours excepted."""
        ...


@runtime_checkable
class ClosesLogins(Protocol):
    """Optional: a rotation that can end the served login: `rotator retire --drop-login`."""

    def close_login(self, login: Credential, ctx: StepContext) -> None:
        """Afterwards `login` no longer logs in. Gone already is success.

        What it owns goes where a revoke would take it. Raises `InUse` while sessions of it are open
        and `ctx.end_sessions` is false, and `Conflict` for a login that is not ours.
        """
        ...


@runtime_checkable
class ExpiresLogins(Protocol):
    """Optional: a rotation on a target that can end a login by its own clock.

    Its `create` lets the target reject the new login after `ctx.lasts`, where that is set.
    """

    def expire(self, login: Credential, ctx: StepContext) -> None:
        """Afterwards the target rejects `login` after `ctx.lasts`, and not before. An ensure.

        Raises `Conflict` for a login that is not ours.
        """
        ...


@runtime_checkable
class DrawsKeys(Protocol):
    """Optional: a rotation on a target that draws each key itself, and shows it once: when it creates it.

    The engine then calls neither `propose` nor `create`. In the step `create` it ends the keys whose
    value nobody knows, calls `draw`, and stages what came back before anything else. Old and new must
    overlap: where a new key ends the old one, a lost answer would leave no valid key.
    """

    def keys(self, ctx: StepContext) -> list[str]:
        """Return the login names (key ids) of the secret's own keys on the target, by their mark.

        Also those whose value is lost: the engine ends them by `withdraw`. Never a key that is not ours:
        one without our mark that an operator has adopted is in `ctx.adopted`.
        """
        ...

    def draw(self, current: Credential | None, ctx: StepContext) -> Credential:
        """Create one more key, marked as the secret's, and return it: its id and its value.

        Not an ensure: each call creates another one. Raises `Denied`, before anything is sent, where
        the target accepts no further key, and `Unknown` when the answer is lost. The engine keeps the
        fields of `current` beside what is returned.
        """
        ...


@runtime_checkable
class Explains(Protocol):
    """Optional: a rotation that shows in advance what it would send."""

    def explain(self, current: Credential | None, ctx: StepContext) -> list[Planned]:
        """Return the statements of each step in order, every secret masked. Nothing is changed."""
        ...


@runtime_checkable
class Examines(Protocol):
    """Optional: a rotation that checks whether it would work."""

    def examine(self, current: Credential | None, ctx: StepContext) -> list[Finding]:
        """Examine the target: rights of the admin, ownership, TLS. Nothing is changed."""
        ...


@runtime_checkable
class TakesTurns(Protocol):
    """Optional: a rotation between two fixed logins."""

    def unmanaged(self, current: Credential, ctx: StepContext) -> str | None:
        """Return the other login, where it exists on the target and is not ours; None otherwise.

        A login is ours when it bears this secret's mark or is in `ctx.adopted`. Raises `Conflict` where the
        login belongs to another secret.
        """
        ...


@runtime_checkable
class LocksAccounts(Protocol):
    """Optional: a rotation on a target that may lock an account after failed logins."""

    def may_lock(self, login: str, ctx: StepContext) -> bool:
        """Return whether one more wrong password could lock `login`, or whether that is unknown.

        Where it could, the engine's negative control uses a login name that does not exist.
        """
        ...


@runtime_checkable
class ExplainsRejections(Protocol):
    """Optional: a rotation that explains why its target rejects a login, by error number or catalog."""

    def rejection(self, credential: Credential, ctx: StepContext) -> Rejection | None:
        """Return why the target rejected `credential` in the `probe` just before.

        None where neither the target's answer nor its catalog shows a cause. Nothing is changed,
        and no other login is tried.
        """
        ...


@runtime_checkable
class Contains(Protocol):
    """Optional: a rotation that contains a leaked password before anything else is rotated."""

    def moment(self, ctx: StepContext) -> str:
        """Return now, as each node of the target counts: by its clock, or by its last connection number.

        Only the rotation reads it; the engine keeps it in the journal. It holds no secret.
        """
        ...

    def fence(self, leaked: Credential, ctx: StepContext) -> str:
        """Afterwards no new login with `leaked.password` succeeds; return the moment of the change.

        The login gets a password that nobody knows, and keeps its rights, its attributes, what it owns
        and its open sessions. An ensure: running it twice leaves what running it once leaves. A login
        that does not exist is a success. `leaked.password` may be empty when it is no longer known.
        Raises `Conflict` for a login that is not ours.
        """
        ...

    def end_sessions(self, login: str, before: str, ctx: StepContext) -> list[Session]:
        """End the sessions of `login` that began before a moment, and wait until they are gone.

        Returns the sessions that it ended. Later ones stay, and so do the admin's and the probes' own.
        A node that the moment does not name counts all its sessions as earlier. Raises `InUse` when
        some remain.
        """
        ...

    def entrances(
        self, leaked: Credential, current: Credential | None, ctx: StepContext
    ) -> list[Entrance]:
        """Try three passwords at each address of the target: current, one that nobody has, leaked.

        The one that nobody has is tried with the login of `current`, which exists: a login that is gone
        is rejected even where no password is asked for.

        Where a failed login could lock the account, only the current one is tried. An address that
        fails is in the result with its reason; only `UsageError` and an expired step are raised.
        """
        ...
