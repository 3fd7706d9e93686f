"""history: the steps of past rotations."""

from __future__ import annotations

from typing import Annotated

import typer

from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.options import Everything, Names, Since, Tags, since_when
from rotator.faces.cli.render import history as render

app = typer.Typer()


@command(app, "history", Panel.INSPECT)
def history(
    ctx: typer.Context,
    names: Names = None,
    *,
    everything: Everything = False,
    tags: Tags = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            metavar="N",
            min=1,
            show_default="5",
            help="Maximum number of rotations to show, newest first.",
        ),
    ] = None,
    since: Since = None,
) -> None:
    """Show each step of past rotations, with times, reasons and causes.

    Without a name, those of all secrets. History is kept for secrets that are no longer configured, too. The
    history of a renamed secret includes that of its former names.

    Examples:
        rotator history app-db
        rotator history app-db --limit 20
        rotator history --since 30d
    """
    call: Invocation = ctx.obj
    with call.open_app() as app:
        after = since_when(since, app.clock.now())
        chosen = app.names(
            only=names or (),
            tags=tags or (),
            everything=everything or not (names or tags),
            forgotten=True,
        )
        if not (names or tags):
            chosen += [one.name for one in app.journal.secrets() if one.name not in chosen]
        found = [render.read(app, name, limit=limit, since=after) for name in chosen]
    call.data |= (
        render.data(found[0])
        if names and len(found) == 1
        else {"secrets": [render.data(one) for one in found]}
    )
    for one in found:
        if len(found) == 1 or one.rotations or one.led or one.beside:
            render.show(call, one)
