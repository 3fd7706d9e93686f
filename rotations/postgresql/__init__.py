"""PostgreSQL logins: a new user per rotation, two users taking turns, or one user in place."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, cast

from rotations.postgresql.options import SecretOptions, TargetOptions
from rotations.postgresql.roles import look
from rotations.postgresql.server import Server
from rotations.postgresql.strategies import STRATEGIES
from rotator.api import Denied, PluginInfo, StrategyInfo, UsageError, abilities_of_rotation

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotator.api import Credential, Rotation, StepContext

__all__ = ["PLUGIN"]


class PostgresTarget:
    """One PostgreSQL cluster with its admin login."""

    def __init__(self, server: Server) -> None:
        """Nothing is connected yet."""
        self._server: Server = server

    def rotation(self, strategy: str, options: object) -> Rotation:
        """Return the rotation of one secret under a strategy."""
        chosen = cast("SecretOptions", options)
        if strategy not in STRATEGIES:
            known = ", ".join(STRATEGIES)
            raise UsageError(
                f"plugin postgresql has no strategy {strategy!r}.", hint=f"It has: {known}."
            )
        return STRATEGIES[strategy](self._server, chosen)

    def probe(self, credential: Credential, ctx: StepContext) -> bool:
        """Log in once, as whoever rotates this login wants to know whether it works."""
        _ = ctx
        connection = self._server.login(credential, None)
        if connection is None:
            return False
        connection.close()
        return True

    def set_password(self, credential: Credential, ctx: StepContext) -> None:
        """Set the password of a login that exists, whoever it belongs to: its owner asks for it."""
        name = credential.username
        with self._server.admin(f"looking at login {name!r}") as admin:
            found = look(admin, [name])
        if name not in found:
            raise Denied(
                f"there is no login {name!r} on {self._server.where}.", hint="Create it first."
            )
        single = STRATEGIES["single-user"](self._server, SecretOptions(username=name))
        single.create(credential, replace(ctx, adopted=ctx.adopted | {name}))

    def close(self) -> None:
        """Close the admin connections."""
        self._server.close()


class _PostgresPlugin:
    """Knows PostgreSQL."""

    info: PluginInfo = PluginInfo(
        name="postgresql",
        summary="PostgreSQL 12 and newer, by psycopg.",
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
        engines=("postgres", "aurora-postgresql"),
    )

    def target(self, name: str, options: object, admin: Callable[[], Credential]) -> PostgresTarget:
        """Return a target; `admin` is asked each time a connection is opened."""
        return PostgresTarget(Server(name, cast("TargetOptions", options), admin))


PLUGIN: Final = _PostgresPlugin()
