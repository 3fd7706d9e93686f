"""rename: continue a secret's history under another name."""

from __future__ import annotations

from typing import Annotated

import typer

from rotator.core.errors import UsageError
from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.options import Reason, complete_names

app = typer.Typer()


@command(app, "rename", Panel.INTERVENE)
def rename(
    ctx: typer.Context,
    old: Annotated[
        str,
        typer.Argument(
            metavar="OLD",
            show_default=False,
            autocompletion=complete_names,
            help="The name that the journal knows.",
        ),
    ],
    new: Annotated[
        str,
        typer.Argument(
            metavar="NEW",
            show_default=False,
            autocompletion=complete_names,
            help="The name that the configuration has now.",
        ),
    ],
    *,
    reason: Reason = "",
) -> None:
    """Let a secret's history go on under another name.

    Change the name of the entry first (and keep its `path`), then run this. The login, its age and
    its due date stay; marks of the former name on the target still count as the secret's own.

    Examples:
        rotator rename app-db billing-db
    """
    call: Invocation = ctx.obj
    with call.open_app() as app:
        if old in app.settings.secrets:
            raise UsageError(
                f"{app.settings.file.name} still names {old}.",
                hint=f"Change the name of its entry to {new} first, and keep its path.",
                safety="Nothing was changed.",
            )
        _ = app.settings.secret(new)
        app.engine.rename(old, app.secret(new), reason=reason)
        call.data |= {"from": old, "to": new, "reason": reason}
        call.print(f"{old} goes on as {new}. See: rotator history {new}")
        _ = app.checkpoint()
