"""Logins of MariaDB and MySQL: two passwords on one login, a new login each time, two taking turns, or in place."""

from __future__ import annotations

from typing import Final

from rotations.mysql.options import SecretOptions, TargetOptions
from rotations.mysql.server import Server
from rotations.mysql.strategies import STRATEGIES
from rotator.api import Plugin

__all__ = ["PLUGIN"]

PLUGIN: Final = Plugin(
    name="mysql",
    summary="MariaDB 10.4 and newer, MySQL 8.0.14 and newer, by PyMySQL.",
    strategies=STRATEGIES,
    target_options=TargetOptions,
    secret_options=SecretOptions,
    connect=Server,
    engines=("mariadb", "aurora-mysql"),
    in_place="single-user",
)
