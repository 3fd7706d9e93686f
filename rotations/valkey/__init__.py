"""Users of Valkey and Redis: two passwords on one user, a new user each time, two taking turns, or in place."""

from __future__ import annotations

from typing import Final

from rotations.valkey.options import SecretOptions, TargetOptions
from rotations.valkey.server import Server
from rotations.valkey.strategies import STRATEGIES
from rotator.api import Plugin

__all__ = ["PLUGIN"]

PLUGIN: Final = Plugin(
    name="valkey",
    summary="Valkey, and Redis 6.0 and newer: alone, replicated, by Sentinel or in a cluster.",
    strategies=STRATEGIES,
    target_options=TargetOptions,
    secret_options=SecretOptions,
    connect=Server,
    engines=("redis",),
    in_place="single-user",
)
