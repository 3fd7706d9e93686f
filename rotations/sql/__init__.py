"""Any database that SQLAlchemy has a dialect for, by statements of an operator's own."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Final, cast

from rotations.sql.options import SecretOptions, TargetOptions
from rotations.sql.server import Server, Session
from rotations.sql.strategies import COUNTING, STRATEGIES
from rotator.api import (
    Finding,
    PluginInfo,
    Severity,
    StepError,
    StrategyInfo,
    UsageError,
    abilities_of_rotation,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotator.api import Credential, Rotation, StepContext

__all__ = ["PLUGIN", "SecretOptions", "TargetOptions"]


class SqlTarget:
    """One database."""

    def __init__(self, server: Server) -> None:
        """Nothing is connected yet."""
        self._server: Server = server

    def rotation(self, strategy: str, options: object) -> Rotation:
        """Return the rotation of one secret under a strategy."""
        known = STRATEGIES if self._server.options.sessions is None else COUNTING
        if strategy not in known:
            raise UsageError(
                f"plugin sql has no strategy {strategy!r}.", hint=f"Strategies: {', '.join(known)}."
            )
        return cast("Rotation", known[strategy](self._server, cast("SecretOptions", options)))

    def examine(self, ctx: StepContext) -> list[Finding]:
        """Log in as the admin."""
        subject = str(self._server)
        try:
            self._server.act(_nothing, ctx, changes=False, doing="logging in as the admin")
        except StepError as error:
            return [
                Finding(
                    severity=Severity.ERROR, subject=subject, message=error.what, remedy=error.hint
                )
            ]
        return [Finding(severity=Severity.OK, subject=subject, message="the admin logs in")]

    def close(self) -> None:
        """Do nothing: each call closes its connection."""


class _SqlPlugin:
    """Knows databases by their dialect."""

    info: PluginInfo = PluginInfo(
        name="sql",
        summary="Any database with an SQLAlchemy dialect, by statements of your own.",
        strategies=tuple(
            StrategyInfo(
                name=name,
                summary=(inspect.getdoc(kind) or "").rstrip("."),
                overlaps=kind.overlaps,
                optional_abilities=abilities_of_rotation(COUNTING[name]),
            )
            for name, kind in STRATEGIES.items()
        ),
        target_options=TargetOptions,
        secret_options=SecretOptions,
    )

    def target(self, name: str, options: object, admin: Callable[[], Credential]) -> SqlTarget:
        """Return a target; nothing is connected yet."""
        return SqlTarget(Server(name, cast("TargetOptions", options), admin))


def _nothing(session: Session) -> None:
    """Do nothing: the session exists."""
    _ = session


PLUGIN: Final = _SqlPlugin()
