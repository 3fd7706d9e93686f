"""The contract of plugins and their targets: what the entry points name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from rotator.core.contracts.backend import CallsServer, Right, SecretBackend
    from rotator.core.contracts.rotation import Rotation, StepContext
    from rotator.core.model import Credential, Finding
    from rotator.core.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkedLogin:
    """A login on a target that bears a mark of rotator's. `remove` is the statement that drops it.

    `is_of` returns whether the mark is that of a secret of this name: marks may hold digests only.
    """

    login: str
    can_login: bool
    is_of: Callable[[str], bool]
    remove: str = ""


@runtime_checkable
class ListsMarked(Protocol):
    """Optional: a target that lists the logins that bear marks of rotator's."""

    def marked(self, ctx: StepContext) -> list[MarkedLogin]:
        """Return every login that bears a mark, of any secret. Nothing is changed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundLogin:
    """A login that exists on a target. None: the server does not know, or does not show it to the admin.

    `host`: where it may log in from, on servers where that is part of its name. `is_superuser`: whether it
    may do everything. `rights`: its other rights that reach beyond its own data, in the server's words.
    `has_password`: whether a password is what it logs in with. `is_internal`: the server, or its replication, uses it. `comment`: the server's description of it.

    `password_set` and `password_expires` are of the password that is valid now. `last_used`: when it last
    logged in or sent a command, as far as the server remembers. `sessions`: how many are open now.

    `is_marked`: it certainly bears a mark of rotator's. `is_of` and `remove` are as in `MarkedLogin`.
    """

    login: str
    host: str = ""
    can_login: bool = True
    has_password: bool = True
    is_superuser: bool = False
    rights: tuple[str, ...] = ()
    is_internal: bool = False
    comment: str = ""
    password_set: datetime | None = None
    password_expires: datetime | None = None
    last_used: datetime | None = None
    sessions: int | None = None
    is_marked: bool = False
    is_of: Callable[[str], bool] = field(default=lambda _secret: False)
    remove: str = ""


@runtime_checkable
class ListsLogins(Protocol):
    """Optional: a target that lists all its logins, also those that rotator does not rotate."""

    def logins(self, ctx: StepContext) -> list[FoundLogin]:
        """Return every login of the target, in the order of their names. Nothing is changed.

        Raises `UsageError` where the target cannot list them.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyInfo:
    """One way in which a plugin lets two credentials overlap.

    `abilities`: the optional protocols that its rotations implement, such as `CountsSessions`;
    `abilities_of_rotation(MyRotation)` reads them off the class. `optional_abilities`: those that
    its rotations have with certain options only.
    """

    name: str
    summary: str
    overlaps: bool
    abilities: tuple[type, ...] = ()
    optional_abilities: tuple[type, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginInfo:
    """What a plugin declares about itself.

    `engines`: other names of the target, as the `engine` in a secret's JSON has them.
    `target_options` and `secret_options` are dataclasses: their fields, types, defaults and the
    `help` in a field's metadata become the configuration's schema and its documentation.
    `abilities`: the optional protocols that its backends implement, such as `KeepsValues`;
    `abilities_of_backend(MyBackend)` reads them off the class. Rotations have theirs by strategy.
    `needs_admin`: whether a target must name an admin's login; a file, for example, has none.
    `may_have_admin`: a target may name one; without it, `admin` returns an empty username.
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
    may_have_admin: bool = False
    keeps_secrets: bool = False


class Target(Protocol):
    """One target with its admin access, shared by every secret on it; safe to use from threads."""

    def rotation(self, strategy: str, options: object) -> Rotation:
        """Return the rotation for one secret. `options` is a `secret_options`; no connection yet.

        Raises `UsageError` when the options contradict each other.
        """
        ...

    def close(self) -> None:
        """Give back connections."""
        ...


@runtime_checkable
class ExaminesTarget(Protocol):
    """Optional: a target that checks whether its admin can rotate any login there."""

    def examine(self, ctx: StepContext) -> list[Finding]:
        """Check the server and the rights of the admin. Nothing is changed."""
        ...


@runtime_checkable
class TriesLogins(Protocol):
    """Optional: a target on which any login can be tried, also one that rotator does not rotate."""

    def probe(self, credential: Credential, ctx: StepContext) -> bool:
        """Try to log in once, as `Rotation.probe` does."""
        ...


@runtime_checkable
class SetsPasswords(Protocol):
    """Optional: a target on which its admin can set the password of any existing login."""

    def set_password(self, credential: Credential, ctx: StepContext) -> None:
        """Afterwards `credential` logs in. Raises `Conflict` when there is no such login."""
        ...


@runtime_checkable
class KeepsSecrets(Protocol):
    """Optional: a target that is the backend of its own secrets."""

    def backend(self, strategy: str, options: object) -> SecretBackend:
        """Return the backend of this strategy's secrets; no connection yet."""
        ...


class LinkedResources(Protocol):
    """The rest of the configuration, for a target that works through it. Looked up at its use."""

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
        """Return the value that a reference in the options names, read again at each call."""
        ...


@runtime_checkable
class UsesLinkedResources(Protocol):
    """Optional: a target that works through other targets and backends of the configuration."""

    def use(self, others: LinkedResources) -> None:
        """Receive them: once, before any other call."""
        ...


@runtime_checkable
class WorksThrough(Protocol):
    """Optional: a target that works by the login of a backend, and knows the rights which that login needs."""

    @property
    def through(self) -> str:
        """The backend's name."""
        ...

    def rights(self, strategy: str, path: str, options: object, *, of: str) -> tuple[Right, ...]:
        """Return the rights for one secret; `of`: whom the policy is for, as in `WritesPolicy`."""
        ...


class RotationPlugin(Protocol):
    """An entry point of the group `rotator.rotations`: one kind of target."""

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
    """Optional: a rotation plugin that writes the statements for an admin with the least rights."""

    def grants(
        self, options: object, *, engine: str, admin: str, login: str | None
    ) -> tuple[str, ...]:
        """Return the statements that create such an admin, with `…` for its password.

        `options` are a `target_options`. `engine`: the plugin's name, or one of its `engines`.
        `login`: the login that it rotates.
        """
        ...


class BackendPlugin(Protocol):
    """An entry point of the group `rotator.backends`: one kind of backend."""

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
