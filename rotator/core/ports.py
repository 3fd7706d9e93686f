"""What the engine needs from the outside: protocols only. `rotator.bootstrap` names who fills them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from rotator.core.errors import Transient

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime, timedelta
    from pathlib import Path

    from rotator.core.history import RotationRecord, SecretRecord
    from rotator.core.model import (
        Credential,
        Event,
        Evidence,
        Finding,
        Lease,
        NewEvent,
        Planned,
        Rejection,
        Version,
    )
    from rotator.core.secret import Secret
    from rotator.core.session import Session


class Clock(Protocol):
    """Time. Nothing else reads a clock or sleeps."""

    def now(self) -> datetime:
        """Return the time of day, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start; never goes back."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class Entropy(Protocol):
    """Chance. Nothing else draws random numbers."""

    def below(self, limit: int) -> int:
        """Return a whole number from 0 to `limit - 1`, each as likely as the other."""
        ...

    def token(self, size: int) -> bytes:
        """Return `size` random bytes."""
        ...


class Log(Protocol):
    """A structured log: an event name and keyword facts. Never a secret among them."""

    def debug(self, event: str, **facts: object) -> object:
        """Log what only a developer wants to read."""
        ...

    def info(self, event: str, **facts: object) -> object:
        """Log that something happened as it should."""
        ...

    def warning(self, event: str, **facts: object) -> object:
        """Log what a person should look at in the morning."""
        ...

    def error(self, event: str, **facts: object) -> object:
        """Log what a person should look at now."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StepContext:
    """What a plugin is told about the step it is asked to do. New facts become new fields.

    `path` is where the secret is kept. `current` is what the backend serves right now. `deadline` is on the `clock.monotonic` scale:
    give up with `Transient` (nothing was sent) or `Unknown` (it was) rather than pass it.
    `adopted` names the logins that a person handed over to us; they carry no mark of ours on the
    target. `end_sessions`: the policy, or a person, says that open sessions of the old login are
    to be ended. `new_password` draws one that fits the secret's password policy.
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

    @property
    def names(self) -> frozenset[str]:
        """The names whose marks on the target are this secret's own: today's and former ones."""
        return self.former_names | {self.secret}

    def seconds_left(self) -> float:
        """Return how many seconds the step still has; never less than zero."""
        return max(0.0, self.deadline - self.clock.monotonic())

    def require_time(self) -> None:
        """Raise `Transient` when the step's time is up. To be called before each effect: once it
        is up, another engine may be at work.
        """
        if self.clock.monotonic() >= self.deadline:
            raise Transient("the step's time was up, so nothing more was sent.")


class Rotation(Protocol):
    """One secret on one target, under one strategy. Every method but `propose` and `probe` is an
    ensure: run twice, it leaves what running it once leaves, also when the first run was cut off.

    Any method may raise `Transient` (nothing happened, try later), `Unknown` (it was sent and the
    answer is lost: the engine runs the step again), `Denied` (our admin lacks a right) and
    `Conflict` (somebody else's login is in the way). No other exception leaves a plugin.
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
        """Try to log in once: True when the target accepts it, False when it refuses it.

        Raises `Transient` when neither can be told (unreachable, too many connections).
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

        `new.password` may be empty when it is no longer known: do not rely on it.
        """
        ...


@runtime_checkable
class CountsSessions(Protocol):
    """A rotation that can tell who is still logged in."""

    def sessions(self, login: str, ctx: StepContext) -> list[Session]:
        """Return the open sessions of `login`, ours excepted."""
        ...


@runtime_checkable
class ClosesLogins(Protocol):
    """A rotation that can end the login that is served: `rotator retire --drop-login`."""

    def close_login(self, login: Credential, ctx: StepContext) -> None:
        """Afterwards `login` no longer logs in. Gone already is success.

        What it owns goes where a revoke would take it. Raises `InUse` while sessions of it are open
        and `ctx.end_sessions` is false, and `Conflict` for a login that is not ours.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkedLogin:
    """A login on a target that may bear a mark of rotator's. `remove` is the statement that drops it.

    `is_of` tells whether it bears the mark of a secret of this name: marks may hold digests only.
    """

    login: str
    can_login: bool
    is_of: Callable[[str], bool]
    remove: str = ""


@runtime_checkable
class ListsMarked(Protocol):
    """A target that can list the logins that bear marks of rotator's."""

    def marked(self, ctx: StepContext) -> list[MarkedLogin]:
        """Return every login that bears a mark, of whichever secret. Nothing is changed."""
        ...


@runtime_checkable
class Explains(Protocol):
    """A rotation that can tell beforehand what it would send."""

    def explain(self, current: Credential | None, ctx: StepContext) -> list[Planned]:
        """Return the statements of each step in order, every secret masked. Nothing is changed."""
        ...


@runtime_checkable
class Examines(Protocol):
    """A rotation that can tell whether it would work."""

    def examine(self, current: Credential | None, ctx: StepContext) -> list[Finding]:
        """Look at the target: rights of the admin, ownership, TLS. Nothing is changed."""
        ...


@runtime_checkable
class TakesTurns(Protocol):
    """A rotation between two fixed logins."""

    def unmanaged(self, current: Credential, ctx: StepContext) -> str | None:
        """Return the other login, where it exists on the target and is not ours; None otherwise.

        Ours is what carries this secret's mark or is in `ctx.adopted`. Raises `Conflict` where the
        login belongs to another secret.
        """
        ...


@runtime_checkable
class LocksAccounts(Protocol):
    """A rotation on a target that may lock an account after failed logins."""

    def may_lock(self, login: str, ctx: StepContext) -> bool:
        """Return whether one more wrong password could lock `login`, or whether that is unknown.

        Where it could, the engine's negative control uses a login name that does not exist.
        """
        ...


@runtime_checkable
class ExplainsRejections(Protocol):
    """A rotation that knows why its target rejects a login, by error number or catalog."""

    def rejection(self, credential: Credential, ctx: StepContext) -> Rejection | None:
        """Return why `credential`, which `probe` has just seen rejected, does not log in.

        None where neither the target's answer nor its catalog shows a cause. Nothing is changed,
        and no other login is tried.
        """
        ...


class SecretBackend(Protocol):
    """Where secrets are kept. Every method that writes is an ensure, keyed by the rotation id.

    Errors: `Transient` (nothing was written), `Unknown` (it may have been), `Denied` (our access
    lacks a right), `Conflict` (somebody else wrote). No other exception leaves a backend.
    """

    def current(self, path: str) -> Version | None:
        """Return the published version, None when there is none. What consumers read."""
        ...

    def read(self, path: str, version: str) -> Version | None:
        """Return that very version, None when the backend no longer holds its value."""
        ...

    def staged(self, path: str, rotation_id: str) -> Credential | None:
        """Return what this rotation has staged, None when there is nothing (any more)."""
        ...

    def stage(self, path: str, rotation_id: str, new: Credential) -> Credential:
        """Keep `new` durably, unseen by consumers. First write wins: returns what is stored."""
        ...

    def publish(self, path: str, rotation_id: str, *, expect: str | None) -> str:
        """Make the staged value current, only if the current version is still `expect`.

        `expect` None: only if there is no current version. Returns the new version's id; if this
        rotation has already been published and is current, its id, whatever `expect` says. The
        staged value is gone afterwards. Raises `Conflict` when the current version is another.
        Once the write has gone out, only `Unknown` may be raised.
        """
        ...

    def discard(self, path: str, rotation_id: str) -> None:
        """Forget what this rotation has staged. Nothing there is success; published is untouched."""
        ...

    def restore(self, path: str, *, expect: str, to: str) -> str:
        """Make the value of version `to` current again, only if the current version is `expect`.

        Returns the id of the version that is then current. If the current version already is
        `to`, or a copy of it that an earlier call made, returns that. Raises `Conflict` when
        somebody else has written since.
        """
        ...


@runtime_checkable
class KeepsValues(Protocol):
    """A backend that can also keep single values: signing keys, checkpoint anchors."""

    def get_value(self, path: str, field: str) -> Secret | None:
        """Return one field of what is kept at `path`; None when it is not there."""
        ...

    def put_value(self, path: str, field: str, value: Secret) -> None:
        """Keep one field at `path`, replacing what was there."""
        ...


@runtime_checkable
class KeepsPrevious(Protocol):
    """A backend that can return what was current before."""

    def previous(self, path: str) -> Version | None:
        """Return the version that was current before the current one; None where it is not kept."""
        ...


@runtime_checkable
class RemovesSecrets(Protocol):
    """A backend that can remove a secret with all its versions."""

    def remove(self, path: str, *, expect: str | None) -> None:
        """Remove everything at `path`, only if the current version is `expect`. Gone is success.

        Raises `Conflict` when the current version is another.
        """
        ...


@runtime_checkable
class RotatesOnRequest(Protocol):
    """A backend that may rotate secrets by itself. Where it does, nobody else stages anything."""

    def rotates_itself(self, path: str) -> bool:
        """Return whether this secret is the backend's own to rotate."""
        ...

    def request_rotation(self, path: str, rotation_id: str, *, expect: str | None) -> str:
        """Ask for a rotation; return the id of the version that it will make current.

        An ensure: asked again under the same id, or while another one is under way, it returns
        that one's version. `expect` is the version that was current when this request was first
        made: where it no longer is, the rotation has happened, and the current one's id is
        returned. Raises `Denied` where nobody would do it.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerResponse:
    """What a server answered: its HTTP status, its data, and what it said where it refused.

    `said` may hold anything, passwords too: tell kinds of failures by it, and repeat nothing of it.
    """

    status: int
    data: Mapping[str, object] = field(default_factory=dict[str, object], repr=False)
    said: str = field(default="", repr=False)


@runtime_checkable
class CallsServer(Protocol):
    """A backend that lends its login for requests to other parts of the same server."""

    @property
    def where(self) -> str:
        """The server's name in a message, such as `Vault at https://vault:8200`."""
        ...

    def call(
        self, method: str, path: str, body: Mapping[str, object] | None = None, *, capability: str
    ) -> ServerResponse:
        """Send one request, and return the answer: done (200, 204) or refused (400, 404, 500).

        `path` is what a policy names, and `capability` what it must allow there. Raises `Transient`
        (nothing was sent), `Unknown` (a write was sent and the answer is lost) and `Denied`, with
        the line that the policy lacks.
        """
        ...


@runtime_checkable
class Reseals(Protocol):
    """A backend that encrypts what it keeps, under keys that can be changed."""

    def reseal(self) -> int:
        """Encrypt everything anew under the newest key; return how many values that were."""
        ...


@runtime_checkable
class TellsRotations(Protocol):
    """A backend that can tell which rotations it has seen: a check on the journal from outside."""

    def rotation_ids(self, path: str) -> set[str]:
        """Return the ids of the rotations that wrote what is held at `path`."""
        ...


@runtime_checkable
class DetectsRestores(Protocol):
    """A backend that only rotator can write to.

    Where it serves what the journal knows to be superseded, an older copy of it was put back.
    """

    def served(self, path: str) -> str | None:
        """Return the id of the current version, without opening its value."""
        ...


@runtime_checkable
class ExaminesBackend(Protocol):
    """A backend that can tell whether it would work for these paths."""

    def examine(self, paths: Mapping[str, timedelta | None]) -> list[Finding]:
        """Look at access, retention and limits. Nothing that a consumer reads is changed.

        `paths`: each with the time between two rotations, None where there is no schedule.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """One thing that a policy must allow: on which path of the server, what, and what for."""

    path: str
    capabilities: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Which paths of a backend somebody needs: rotated secrets, single values that are written,
    credentials that are only read, of which `admins` are those that targets are managed with, and
    (`called`) other parts of the same server.
    """

    rotated: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    called: tuple[Right, ...] = ()
    admins: tuple[str, ...] = ()


@runtime_checkable
class WritesPolicy(Protocol):
    """A backend's plugin that can say, in the backend's own language, which rights are needed."""

    @property
    def policies(self) -> tuple[str, ...]:
        """For whom it can say so: `rotator` first, `consumer`, and whoever else there is."""
        ...

    def policy(self, options: object, access: Access, *, of: str) -> str:
        """Return the least policy of one of `policies`, for a backend with these options.

        Raises `UsageError` when the options do not say enough for it.
        """
        ...


class Journal(Protocol):
    """The audit database: what has happened. Raises `JournalError` when it cannot be used."""

    def acquire(self, secret: str, holder: str, ttl: timedelta) -> Lease:
        """Take the right to work on `secret`, under a fence higher than any before.

        A lease that has expired, or whose holder is known to be dead, is taken over. Raises
        `Busy` while another holder has it.
        """
        ...

    def release(self, lease: Lease) -> None:
        """Give the lease back. Not holding it any more is success."""
        ...

    def append(self, lease: Lease, events: Sequence[NewEvent], ttl: timedelta) -> list[Event]:
        """Write the events in one transaction, durably, and renew the lease by `ttl`.

        Raises `LeaseLost` when the fence is stale: then nothing is written.
        """
        ...

    def secret(self, secret: str) -> SecretRecord | None:
        """Return what the events of this secret add up to; None when it has none."""
        ...

    def secrets(self) -> list[SecretRecord]:
        """Return every secret that the journal knows, by name."""
        ...

    def open_rotation(self, secret: str) -> RotationRecord | None:
        """Return the rotation of this secret that has not ended, if there is one."""
        ...

    def rotation(self, rotation_id: str) -> RotationRecord | None:
        """Return one rotation."""
        ...

    def rotations(self, secret: str, limit: int = 50) -> list[RotationRecord]:
        """Return the newest rotations of a secret, newest first."""
        ...

    def history(self, rotation_id: str) -> list[Event]:
        """Return the events of one rotation in their order."""
        ...

    def events(self, secret: str, limit: int | None = None) -> list[Event]:
        """Return the newest `limit` events of a secret (all of them for None), oldest first."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyInfo:
    """One way in which a plugin lets two credentials overlap.

    `abilities`: the optional protocols that its rotations implement, such as `CountsSessions`;
    `abilities_of_rotation(MyRotation)` reads them off the class.
    """

    name: str
    summary: str
    overlaps: bool
    abilities: tuple[type, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginInfo:
    """What a plugin declares about itself.

    `engines`: other names of the target, as the `engine` in a secret's JSON has them.
    `target_options` and `secret_options` are dataclasses: their fields, types, defaults and the
    `help` in a field's metadata become the configuration's schema and its documentation.
    `abilities`: the optional protocols that its backends implement, such as `KeepsValues`;
    `abilities_of_backend(MyBackend)` reads them off the class. Rotations have theirs by strategy.
    `needs_admin`: whether a target must name an admin's login; a file, for example, has none.
    `keeps_secrets`: its targets are the backends of their secrets (`KeepsSecrets`), which then name none.
    """

    name: str
    summary: str
    strategies: tuple[StrategyInfo, ...] = ()
    target_options: type = field(default=object)
    secret_options: type = field(default=object)
    engines: tuple[str, ...] = ()
    abilities: tuple[type, ...] = ()
    needs_admin: bool = True
    keeps_secrets: bool = False


class Target(Protocol):
    """One target with its admin access, shared by every secret on it; safe to use from threads."""

    def rotation(self, strategy: str, options: object) -> Rotation:
        """Return the rotation for one secret. `options` is a `secret_options`; no connection yet.

        Raises `UsageError` when the options make no sense together.
        """
        ...

    def close(self) -> None:
        """Give back connections."""
        ...


@runtime_checkable
class ExaminesTarget(Protocol):
    """A target that can tell whether its admin could rotate logins there, whichever they are."""

    def examine(self, ctx: StepContext) -> list[Finding]:
        """Look at the server and at the rights of the admin. Nothing is changed."""
        ...


@runtime_checkable
class TriesLogins(Protocol):
    """A target on which any login can be tried, whoever rotates it."""

    def probe(self, credential: Credential, ctx: StepContext) -> bool:
        """Try to log in once, as `Rotation.probe` does."""
        ...


@runtime_checkable
class SetsPasswords(Protocol):
    """A target on which its admin can set the password of any login that exists."""

    def set_password(self, credential: Credential, ctx: StepContext) -> None:
        """Afterwards `credential` logs in. Raises `Conflict` when there is no such login."""
        ...


@runtime_checkable
class Repairs(Protocol):
    """How a credential is tried whose keeper may need help before it can rotate again."""

    def repair(self, current: Credential, ctx: StepContext) -> None:
        """Bring its keeper back, where that is allowed: called once what is served is refused."""
        ...


@runtime_checkable
class KeepsSecrets(Protocol):
    """A target that is the backend of its own secrets: they are served from where they are made."""

    def backend(self, strategy: str, options: object) -> SecretBackend:
        """Return what keeps the secrets of this strategy; no connection yet."""
        ...


class LinkedResources(Protocol):
    """What else is configured, for a target that works through it. Looked up when it is needed."""

    def server(self, backend: str) -> CallsServer:
        """Return a backend that lends its login. Raises `UsageError` when it cannot."""
        ...

    def logins(self, target: str) -> TriesLogins:
        """Return a target to try logins on. Raises `UsageError` when it cannot."""
        ...

    def passwords(self, target: str) -> SetsPasswords:
        """Return a target to set a password on. Raises `UsageError` when it cannot."""
        ...

    def admins(self, target: str) -> frozenset[str]:
        """Return the admin logins of this target, and of others on the same server."""
        ...

    def resolve(self, reference: str) -> Secret:
        """Return the value that a reference in the options names, looked up anew."""
        ...


@runtime_checkable
class UsesLinkedResources(Protocol):
    """A target that works through other targets and backends of the configuration."""

    def use(self, others: LinkedResources) -> None:
        """Be told where they are: once, before anything else is asked of it."""
        ...


@runtime_checkable
class WorksThrough(Protocol):
    """A target that works by the login of a backend, and can say what that login must be allowed."""

    @property
    def through(self) -> str:
        """The backend's name."""
        ...

    def rights(self, strategy: str, path: str, options: object, *, of: str) -> tuple[Right, ...]:
        """Return what one secret needs; `of`: whom the policy is for, as in `WritesPolicy`."""
        ...


class RotationPlugin(Protocol):
    """What the entry point group `rotator.rotations` names: knows one kind of target."""

    @property
    def info(self) -> PluginInfo:
        """What it is and which options it takes."""
        ...

    def target(self, name: str, options: object, admin: Callable[[], Credential]) -> Target:
        """Return a target. `options` is a `target_options`; `admin` resolves the admin credential
        afresh each time it is called. No connection yet.
        """
        ...


@runtime_checkable
class WritesGrants(Protocol):
    """A rotation plugin that can write down which rights an admin needs at least."""

    def grants(
        self, options: object, *, engine: str, admin: str, login: str | None
    ) -> tuple[str, ...]:
        """Return the statements that create such an admin, with `…` for its password.

        `options` are a `target_options`. `engine`: the plugin's name, or one of its `engines`.
        `login`: which login it is to rotate.
        """
        ...


class BackendPlugin(Protocol):
    """What the entry point group `rotator.backends` names: opens one kind of backend."""

    @property
    def info(self) -> PluginInfo:
        """What it is; `target_options` are the backend's options."""
        ...

    def open(
        self, name: str, options: object, resolve: Callable[[str], Secret], base: Path
    ) -> SecretBackend:
        """Open the backend. `resolve` turns a reference (`env:…`, `file:…`) into its value;
        relative paths start at `base`, the folder of the configuration.
        """
        ...
