"""Logins of MariaDB and MySQL: two passwords on one login, a new login each time, two taking turns, or in place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rotations.mysql.grants import statements
from rotations.mysql.options import SecretOptions, TargetOptions
from rotations.mysql.server import Server
from rotations.mysql.strategies import STRATEGIES
from rotator.api import Plugin

if TYPE_CHECKING:
    from rotator.api import Finding, FoundLogin, StepContext

__all__ = ["PLUGIN"]


def _examine(server: Server, _ctx: StepContext) -> list[Finding]:
    """Look at the server with the admin's eyes, whichever logins are rotated there."""
    from rotations.mysql import doctor  # noqa: PLC0415 # only `doctor` and `init` need it

    return doctor.findings(server, None, lambda _: (), drops=False)


def _logins(server: Server, ctx: StepContext) -> list[FoundLogin]:
    """List all logins of the server, with the admin's eyes."""
    from rotations.mysql import discovery  # noqa: PLC0415 # only `discover` needs it

    return discovery.logins(server, ctx)


PLUGIN: Final = Plugin(
    name="mysql",
    summary="MariaDB 10.4 and newer, MySQL 8.0.14 and newer, with PyMySQL.",
    strategies=STRATEGIES,
    target_options=TargetOptions,
    secret_options=SecretOptions,
    connect=Server,
    engines=("mariadb", "aurora-mysql"),
    in_place="single-user",
    examine=_examine,
    grants=statements,
    logins=_logins,
)
