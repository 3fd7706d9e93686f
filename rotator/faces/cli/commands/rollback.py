"""rollback: make the previous credential current again."""

from __future__ import annotations

import typer

from rotator.faces.cli.batch import drive
from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.options import ENDLESS, SHORT, BreakGlass, Name, Reason, Timeout, Wait

app = typer.Typer()


@command(app, "rollback", Panel.INTERVENE)
def rollback(
    ctx: typer.Context,
    name: Name,
    *,
    reason: Reason = "",
    break_glass: BreakGlass = False,
    wait: Wait = False,
    timeout: Timeout = SHORT,
) -> None:
    """Make the previous credential current again, while it is still valid.

    The previous credential is tested before it is published. The newer one stays valid for the grace
    period and is then revoked. A rotation that is not published yet is undone.

    Examples:
        rotator rollback app-db --reason "the report job cannot log in"
    """
    call: Invocation = ctx.obj
    if break_glass:
        call.break_glass(reason)
    drive(
        call,
        lambda app: app.names(only=[name], forgotten=True),
        lambda app, secret: app.engine.rollback(
            secret, reason=reason, patience=ENDLESS if wait else timeout
        ),
    )
