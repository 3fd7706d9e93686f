"""revoke: end the grace period now."""

from __future__ import annotations

from typing import Annotated

import typer

from rotator.faces.cli.batch import drive
from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.options import (
    ENDLESS,
    SHORT,
    Name,
    Patience,
    Reason,
    Wait,
)

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
    wait: Wait = False,
    patience: Patience = SHORT,
) -> None:
    """End the grace period now, and say whether the old credential is proven dead.

    Sessions that are still open with the old login are waited for, or ended with --terminate;
    while they hold it the command returns 3.

    Examples:
        rotator revoke app-db --reason "the old password was leaked"
        rotator revoke app-db --terminate
    """
    call: Invocation = ctx.obj
    drive(
        call,
        lambda app: app.names(only=[name], forgotten=True),
        lambda app, secret: app.engine.revoke(
            secret,
            reason=reason,
            end_sessions=terminate,
            patience=ENDLESS if wait else patience,
        ),
    )
