"""approve, refuse: decide on a request."""

from __future__ import annotations

from typing import Annotated

import typer

from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.options import argument, option
from rotator.faces.cli.render import requests as render

app = typer.Typer()

_Id = Annotated[str, argument("ID", "Id of the request, as `rotator requests` lists it.")]
_Why = Annotated[str, option("--reason", "TEXT", "Reason, recorded in the journal.")]


@command(app, "approve", Panel.INTERVENE)
def approve(ctx: typer.Context, id_: _Id, *, reason: _Why) -> None:
    """Approve a request. An engine carries it out once no approval is missing.

    Examples:
        rotator approve 0f8b2a54-0c2b-4b7e-9d53-7a3f5f1c2d10 --reason "agreed in the change meeting"
    """
    call: Invocation = ctx.obj
    with call.open_app() as app:
        found = app.requests.approve(id_, actor=app.actor, reason=reason)
        render.show_one(call, app.requests, found)


@command(app, "refuse", Panel.INTERVENE)
def refuse(ctx: typer.Context, id_: _Id, *, reason: _Why) -> None:
    """Refuse a request, or withdraw your own.

    Examples:
        rotator refuse 0f8b2a54-0c2b-4b7e-9d53-7a3f5f1c2d10 --reason "not during the release"
    """
    call: Invocation = ctx.obj
    with call.open_app() as app:
        found = app.requests.refuse(id_, actor=app.actor, reason=reason)
        render.show_one(call, app.requests, found)
