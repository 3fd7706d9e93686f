"""PostgreSQL logins: a new user per rotation, two users taking turns, or one user in place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rotations.postgresql.grants import statements
from rotations.postgresql.options import SecretOptions, TargetOptions
from rotations.postgresql.server import Server
from rotations.postgresql.strategies import STRATEGIES
from rotator.api import Plugin

if TYPE_CHECKING:
    from rotator.api import Finding, FoundLogin, StepContext

__all__ = ["PLUGIN"]


def _examine(server: Server, ctx: StepContext) -> list[Finding]:
    """Look at the server with the admin's eyes, whichever logins are rotated there."""
    from rotations.postgresql import doctor  # noqa: PLC0415 # only `doctor` and `init` need it

    return doctor.findings(server, SecretOptions(), None, ctx, in_place=None)


def _logins(server: Server, ctx: StepContext) -> list[FoundLogin]:
    """List all logins of the server, with the admin's eyes."""
    from rotations.postgresql import discovery  # noqa: PLC0415 # only `discover` needs it

    return discovery.logins(server, ctx)


PLUGIN: Final = Plugin(
    name="postgresql",
    summary="PostgreSQL 12 and newer, with psycopg.",
    strategies=STRATEGIES,
    target_options=TargetOptions,
    secret_options=SecretOptions,
    connect=Server,
    engines=("postgres", "aurora-postgresql"),
    in_place="single-user",
    examine=_examine,
    grants=statements,
    logins=_logins,
)
