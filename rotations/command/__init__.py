"""A program in any language that creates, tries and revokes logins: the plugin for what has no plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rotations.command.options import SecretOptions, TargetOptions
from rotations.command.protocol import WHAT, Program
from rotations.command.strategies import COUNTING, STRATEGIES
from rotator.api import Finding, Plugin, Severity, Unavailable

if TYPE_CHECKING:
    from rotator.api import StepContext

__all__ = ["PLUGIN", "SecretOptions", "TargetOptions"]


def _examine(program: Program, ctx: StepContext) -> list[Finding]:
    """Check who could change the program, and whether we can run it."""
    ctx.require_time()
    subject = f"{WHAT} {program.options.program}"
    try:
        program.require_trusted()
    except Unavailable as error:
        finding = Finding(
            severity=Severity.ERROR, subject=subject, message=error.what, remedy=error.hint
        )
        return [finding]
    message = "only root and rotator's user can change it, and rotator can run it"
    return [Finding(severity=Severity.OK, subject=subject, message=message)]


def _counts(program: Program) -> bool:
    return program.options.counts_sessions


PLUGIN: Final = Plugin(
    name="command",
    summary="A program of your own, in any language, that creates and revokes logins.",
    strategies=STRATEGIES,
    optional_strategies=COUNTING,
    has_optional=_counts,
    target_options=TargetOptions,
    secret_options=SecretOptions,
    connect=Program,
    needs_admin=False,
    examine=_examine,
)
