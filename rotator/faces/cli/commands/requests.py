"""requests: what was requested, and what waits for an approval."""

from __future__ import annotations

from typing import Annotated

import typer

from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.options import Names
from rotator.faces.cli.render import requests as render

app = typer.Typer()


@command(app, "requests", Panel.INSPECT)
def requests(
    ctx: typer.Context,
    names: Names = None,
    *,
    everything: Annotated[
        bool, typer.Option("--all", help="Also requests that have ended, the newest 50.")
    ] = False,
) -> None:
    """List the requests that wait for an approval or for an engine.

    Examples:
        rotator requests
        rotator requests app-db --all
    """
    call: Invocation = ctx.obj
    with call.open_app() as app:
        chosen = set(app.names(only=names or (), forgotten=True))
        found = app.requests.recent() if everything else app.requests.open()
        found = [one for one in found if (one.secret in chosen if chosen else app.sees(one.secret))]
        render.show(call, app.requests, found)
