"""rollback: make the previous credential current again."""

from __future__ import annotations

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


@command(app, "rollback", Panel.INTERVENE)
def rollback(
    ctx: typer.Context,
    name: Name,
    *,
    reason: Reason = "",
    wait: Wait = False,
    patience: Patience = SHORT,
) -> None:
    """Make the previous credential current again, while it is still valid.

    It is tried before it is published. The newer one stays valid for the grace period and is
    then revoked. A rotation that has not published yet is undone.

    Examples:
        rotator rollback app-db --reason "the report job cannot log in"
    """
    call: Invocation = ctx.obj
    drive(
        call,
        lambda app: app.names(only=[name], forgotten=True),
        lambda app, secret: app.engine.rollback(
            secret, reason=reason, patience=ENDLESS if wait else patience
        ),
    )
