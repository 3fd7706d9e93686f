"""Any database that SQLAlchemy has a dialect for, by statements of an operator's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rotations.sql.options import SecretOptions, TargetOptions
from rotations.sql.server import Server, Session
from rotations.sql.strategies import COUNTING, STRATEGIES
from rotator.api import Finding, Plugin, Severity, StepError

if TYPE_CHECKING:
    from rotator.api import StepContext

__all__ = ["PLUGIN", "SecretOptions", "TargetOptions"]


def _examine(server: Server, ctx: StepContext) -> list[Finding]:
    """Log in as the admin."""
    subject = str(server)
    try:
        server.act(_nothing, ctx, changes=False, doing="logging in as the admin")
    except StepError as error:
        finding = Finding(
            severity=Severity.ERROR, subject=subject, message=error.what, remedy=error.hint
        )
        return [finding]
    return [Finding(severity=Severity.OK, subject=subject, message="the admin logs in")]


def _nothing(session: Session) -> None:
    """Do nothing: the session exists."""
    _ = session


def _counts(server: Server) -> bool:
    return server.options.sessions is not None


PLUGIN: Final = Plugin(
    name="sql",
    summary="Any database with an SQLAlchemy dialect, by statements of your own.",
    strategies=STRATEGIES,
    optional_strategies=COUNTING,
    has_optional=_counts,
    target_options=TargetOptions,
    secret_options=SecretOptions,
    connect=Server,
    examine=_examine,
)
