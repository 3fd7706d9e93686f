"""revoke: end the grace period now."""

from __future__ import annotations

from typing import Annotated

import typer

from rotator.faces.cli.batch import drive
from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.options import ENDLESS, SHORT, BreakGlass, Name, Reason, Timeout, Wait

app = typer.Typer()


@command(app, "revoke", Panel.INTERVENE)
def revoke(
    ctx: typer.Context,
    name: Name,
    *,
    reason: Reason = "",
    terminate: Annotated[
        bool, typer.Option("--terminate", help="End open sessions of the old login.")
    ] = False,
    break_glass: BreakGlass = False,
    wait: Wait = False,
    timeout: Timeout = SHORT,
) -> None:
    """End the grace period now, revoke the old credential, and prove that it is rejected.

    The command waits for open sessions of the old login, or ends them with --terminate. It returns 3
    while such sessions remain.

    Examples:
        rotator revoke app-db --reason "the old password was leaked"
        rotator revoke app-db --terminate
    """
    call: Invocation = ctx.obj
    if break_glass:
        call.break_glass(reason)
    drive(
        call,
        lambda app: app.names(only=[name], forgotten=True),
        lambda app, secret: app.engine.revoke(
            secret, reason=reason, end_sessions=terminate, patience=ENDLESS if wait else timeout
        ),
    )
