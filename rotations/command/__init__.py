"""A program in any language that creates, tries and revokes logins: the plugin for what has no plugin."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Final, cast

from rotations.command.options import SecretOptions, TargetOptions
from rotations.command.protocol import WHAT, Program
from rotations.command.strategies import COUNTING, STRATEGIES, unknown_strategy
from rotator.api import (
    Finding,
    PluginInfo,
    Severity,
    StrategyInfo,
    Unavailable,
    abilities_of_rotation,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotator.api import Credential, Rotation, StepContext

__all__ = ["PLUGIN", "SecretOptions", "TargetOptions"]


class ProgramTarget:
    """What one program gives access to."""

    def __init__(self, program: Program) -> None:
        """Nothing is started yet."""
        self._program: Program = program

    def rotation(self, strategy: str, options: object) -> Rotation:
        """Return the rotation of one secret under a strategy."""
        known = COUNTING if self._program.options.counts_sessions else STRATEGIES
        if strategy not in known:
            raise unknown_strategy(strategy)
        return cast("Rotation", known[strategy](self._program, cast("SecretOptions", options)))

    def examine(self, ctx: StepContext) -> list[Finding]:
        """Check who could change the program, and whether we can run it."""
        ctx.require_time()
        subject = f"{WHAT} {self._program.options.program}"
        try:
            self._program.require_trusted()
        except Unavailable as error:
            return [
                Finding(
                    severity=Severity.ERROR, subject=subject, message=error.what, remedy=error.hint
                )
            ]
        message = "only root and rotator's user can change it, and rotator can run it"
        return [Finding(severity=Severity.OK, subject=subject, message=message)]

    def close(self) -> None:
        """Do nothing: no process is left of any call."""


class _CommandPlugin:
    """Knows programs that speak the protocol."""

    info: PluginInfo = PluginInfo(
        name="command",
        summary="A program of your own, in any language, that creates and revokes logins.",
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
        needs_admin=False,
        may_have_admin=True,
    )

    def target(self, name: str, options: object, admin: Callable[[], Credential]) -> ProgramTarget:
        """Return a target; the program is started for each action, not before."""
        return ProgramTarget(Program(name, cast("TargetOptions", options), admin))


PLUGIN: Final = _CommandPlugin()
