"""Users of Valkey and Redis: two passwords on one user, a new user each time, two taking turns, or in place."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, cast

from rotations.valkey.options import SecretOptions, TargetOptions
from rotations.valkey.server import Server
from rotations.valkey.strategies import STRATEGIES
from rotator.api import PluginInfo, StrategyInfo, UsageError, abilities_of_rotation

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotator.api import Credential, Rotation, StepContext

__all__ = ["PLUGIN"]


class ValkeyTarget:
    """Some nodes with one admin login."""

    def __init__(self, server: Server) -> None:
        """Nothing is connected yet."""
        self._server: Server = server

    def rotation(self, strategy: str, options: object) -> Rotation:
        """Return the rotation of one secret under a strategy."""
        chosen = cast("SecretOptions", options)
        if strategy not in STRATEGIES:
            known = ", ".join(STRATEGIES)
            raise UsageError(
                f"plugin valkey has no strategy {strategy!r}.", hint=f"It has: {known}."
            )
        return STRATEGIES[strategy](self._server, chosen)

    def probe(self, credential: Credential, ctx: StepContext) -> bool:
        """Log in once on each node, as whoever rotates this login wants to know whether it works."""
        return self._single(credential.username).probe(credential, ctx)

    def set_password(self, credential: Credential, ctx: StepContext) -> None:
        """Set the password of a user that exists, whoever it belongs to: its owner asks for it."""
        name = credential.username
        self._single(name).create(credential, replace(ctx, adopted=ctx.adopted | {name}))

    def close(self) -> None:
        """Close the admin's connections."""
        self._server.close()

    def _single(self, name: str) -> Rotation:
        return STRATEGIES["single-user"](self._server, SecretOptions(username=name))


class _ValkeyPlugin:
    """Knows Valkey and Redis."""

    info: PluginInfo = PluginInfo(
        name="valkey",
        summary="Valkey, and Redis 6.0 and newer: alone, replicated, by Sentinel or in a cluster.",
        strategies=tuple(
            StrategyInfo(
                name=name,
                summary=one.summary,
                overlaps=one.overlapping,
                abilities=abilities_of_rotation(one),
            )
            for name, one in STRATEGIES.items()
        ),
        target_options=TargetOptions,
        secret_options=SecretOptions,
        engines=("redis",),
    )

    def target(self, name: str, options: object, admin: Callable[[], Credential]) -> ValkeyTarget:
        """Return a target; `admin` is asked each time a connection is opened."""
        return ValkeyTarget(Server(name, cast("TargetOptions", options), admin))


PLUGIN: Final = _ValkeyPlugin()
