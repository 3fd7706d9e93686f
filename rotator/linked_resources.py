"""Lets a target work through other targets and backends of the same configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from rotator.core.contracts.backend import CallsServer
from rotator.core.contracts.plugin import SetsPasswords, TriesLogins
from rotator.core.errors import UsageError
from rotator.engine.error_origin import tag_errors

if TYPE_CHECKING:
    from rotator.config import Settings
    from rotator.core.contracts.backend import SecretBackend
    from rotator.core.contracts.plugin import Target
    from rotator.core.secret import Secret


class _App(Protocol):
    """What is asked of the application."""

    settings: Settings

    def backend(self, name: str) -> SecretBackend:
        """Return a backend."""
        ...

    def target(self, name: str) -> Target:
        """Return a target."""
        ...

    def admins(self, target: str) -> frozenset[str]:
        """Return the admin logins of a server."""
        ...

    def resolve(self, reference: str) -> Secret:
        """Return what a reference names."""
        ...


class TargetLinks:
    """What one target may use of the rest of the configuration: `rotator.api.LinkedResources`."""

    def __init__(self, app: _App, name: str) -> None:
        self._app: _App = app
        self._name: str = name

    def server(self, backend: str) -> CallsServer:
        """Return a backend that lends its login."""
        found = self._app.backend(backend)
        if not isinstance(found, CallsServer):
            kind = self._app.settings.backends[backend].type
            raise UsageError(
                f"target {self._name!r} works through backend {backend!r}, which is of type `{kind}` and has no server to lend.",
                hint="Name a backend of type `vault`.",
            )
        return found

    def logins(self, target: str) -> TriesLogins:
        """Return a target to try logins on; its errors say that they are of it."""
        found = self._app.target(target) if target in self._app.settings.targets else None
        if not isinstance(found, TriesLogins):
            raise UsageError(
                f"no login can be tried on target {target!r}.",
                hint="Name a target of a plugin whose target has `probe()`, such as postgresql.",
            )
        return tag_errors(found, f"target {target}")

    def passwords(self, target: str) -> SetsPasswords:
        """Return a target to set a password on; its errors say that they are of it."""
        found = self._app.target(target) if target in self._app.settings.targets else None
        if not isinstance(found, SetsPasswords):
            raise UsageError(
                f"no password can be set on target {target!r} for another login.",
                hint="Name a target of a plugin whose target has `set_password()`, such as postgresql.",
            )
        return tag_errors(found, f"target {target}")

    def admins(self, target: str) -> frozenset[str]:
        """Return the admin logins of this target, and of others on the same server."""
        return self._app.admins(target)

    def resolve(self, reference: str) -> Secret:
        """Return the value that a reference names."""
        return self._app.resolve(reference)
