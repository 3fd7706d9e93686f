"""rename: continue a secret's history under another name."""

from __future__ import annotations

from typing import Annotated

import typer

from rotator.core.errors import UsageError
from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.options import Reason, argument, complete_names

app = typer.Typer()


@command(app, "rename", Panel.INTERVENE)
def rename(
    ctx: typer.Context,
    old: Annotated[str, argument("OLD", "Name in the journal.", complete_names)],
    new: Annotated[
        str, argument("NEW", "New name, as it appears in the configuration.", complete_names)
    ],
    *,
    reason: Reason = "",
) -> None:
    """Continue the history of a secret under a new name.

    First change the name of its entry and keep its `path`, then run this command. The login, its age
    and its due date stay. Ownership marks with the former name stay valid on the target.

    Examples:
        rotator rename app-db billing-db
    """
    call: Invocation = ctx.obj
    with call.open_app() as app:
        if old in app.settings.secrets:
            hint = f"Change the name of its entry to {new} first, and keep its path."
            if new in app.settings.secrets:
                hint = f"{new} is {'its name already' if new == old else 'another secret'}: first change the name of the entry of {old}, and keep its path."
            raise UsageError(
                f"{app.settings.file.name} still contains {old}.",
                hint=hint,
                safety="Nothing was changed.",
            )
        _ = app.settings.secret(new)
        app.engine.rename(old, app.secret(new), reason=reason)
        call.data |= {"from": old, "to": new, "reason": reason}
        call.print(f"{old} is now {new}. See: rotator history {new}")
        _ = app.checkpoint()
