"""The database secrets engine of Vault and OpenBao: its static roles and its own login, rotated by it
when rotator says so, and proven. The engine keeps the secrets, so it is their backend.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from rotations.vault_database import roles, root
from rotations.vault_database.engine import Engine
from rotations.vault_database.options import SecretOptions, TargetOptions
from rotator.api import PluginInfo, StrategyInfo, UsageError, abilities_of_rotation

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotator.api import Credential, LinkedResources, Right, Rotation, SecretBackend

__all__ = ["PLUGIN"]

_STATIC: Final = "static-role"
_ROOT: Final = "root"
_STRATEGIES: Final = {_STATIC: (roles.SUMMARY, roles.StaticRole), _ROOT: (root.SUMMARY, root.Root)}


class EngineTarget:
    """One database secrets engine."""

    def __init__(self, engine: Engine) -> None:
        """Nothing is connected yet."""
        self._engine: Engine = engine

    def use(self, others: LinkedResources) -> None:
        """Be told where the server's login and the databases are."""
        self._engine.use(others)

    def backend(self, strategy: str, options: object) -> SecretBackend:
        """Return what the engine serves, or keeps to itself."""
        chosen = cast("SecretOptions", options)
        if strategy == _ROOT:
            return root.RootLogins(self._engine, chosen)
        return roles.StaticRoles(self._engine, chosen)

    def rotation(self, strategy: str, options: object) -> Rotation:
        """Return how one secret is tried."""
        chosen = cast("SecretOptions", options)
        if strategy == _ROOT:
            return root.Root(self._engine, chosen)
        if strategy != _STATIC:
            known = ", ".join(_STRATEGIES)
            raise UsageError(
                f"plugin vault-database has no strategy {strategy!r}.", hint=f"Strategies: {known}."
            )
        if chosen.initial is not None or chosen.recover:
            raise UsageError(
                "`initial` and `recover` apply only to strategy `root`: the engine itself"
                " generates and serves the password of a static role.",
                hint="Remove them.",
            )
        return roles.StaticRole(self._engine, chosen)

    @property
    def through(self) -> str:
        """The backend whose login is used."""
        return self._engine.through

    def rights(self, strategy: str, path: str, options: object, *, of: str) -> tuple[Right, ...]:
        """Return what one secret needs; nobody consumes a root login."""
        if of == "consumer":
            return (roles.consumers(self._engine.mount, path),) if strategy == _STATIC else ()
        if strategy != _ROOT:
            return roles.rights(self._engine.mount, path)
        recover = cast("SecretOptions", options).recover
        return root.rights(self._engine.mount, path, recover=recover)

    def close(self) -> None:
        """Do nothing: the connections are the backend's."""


class _EnginePlugin:
    """Knows the database secrets engine."""

    info: PluginInfo = PluginInfo(
        name="vault-database",
        summary="The database secrets engine of HashiCorp Vault and OpenBao.",
        strategies=tuple(
            StrategyInfo(
                name=name, summary=summary, overlaps=False, abilities=abilities_of_rotation(kind)
            )
            for name, (summary, kind) in _STRATEGIES.items()
        ),
        target_options=TargetOptions,
        secret_options=SecretOptions,
        needs_admin=False,
        keeps_secrets=True,
    )

    def target(self, name: str, options: object, admin: Callable[[], Credential]) -> EngineTarget:
        """Return a target; it has no admin of its own."""
        _ = admin
        return EngineTarget(Engine(name, cast("TargetOptions", options)))


PLUGIN: Final = _EnginePlugin()
