"""PostgreSQL logins: a new user per rotation, two users taking turns, or one user in place."""

from __future__ import annotations

from typing import Final

from rotations.postgresql.options import SecretOptions, TargetOptions
from rotations.postgresql.server import Server
from rotations.postgresql.strategies import STRATEGIES
from rotator.api import Plugin

__all__ = ["PLUGIN"]

PLUGIN: Final = Plugin(
    name="postgresql",
    summary="PostgreSQL 12 and newer, by psycopg.",
    strategies=STRATEGIES,
    target_options=TargetOptions,
    secret_options=SecretOptions,
    connect=Server,
    engines=("postgres", "aurora-postgresql"),
    in_place="single-user",
)
