"""Users of Valkey and Redis: two passwords on one user, a new user each time, two taking turns, or in place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rotations.valkey.grants import statements
from rotations.valkey.options import SecretOptions, TargetOptions
from rotations.valkey.server import Server
from rotations.valkey.strategies import STRATEGIES
from rotator.api import Plugin

if TYPE_CHECKING:
    from rotator.api import Finding, FoundLogin, StepContext

__all__ = ["PLUGIN"]


def _examine(server: Server, ctx: StepContext) -> list[Finding]:
    """Look at the server with the admin's eyes, whichever logins are rotated there."""
    return STRATEGIES["dual-password"](server, SecretOptions()).examine(None, ctx)


def _logins(server: Server, ctx: StepContext) -> list[FoundLogin]:
    """List all logins of the server, with the admin's eyes."""
    from rotations.valkey import discovery  # noqa: PLC0415 # only `discover` needs it

    return discovery.logins(server, ctx)


PLUGIN: Final = Plugin(
    name="valkey",
    summary="Valkey, and Redis 6.0 and newer: standalone, replicated, with Sentinel or in a cluster.",
    strategies=STRATEGIES,
    target_options=TargetOptions,
    secret_options=SecretOptions,
    connect=Server,
    engines=("redis",),
    in_place="single-user",
    examine=_examine,
    grants=statements,
    logins=_logins,
)
