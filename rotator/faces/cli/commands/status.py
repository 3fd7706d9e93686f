"""status: the state of each secret, trouble first."""

from __future__ import annotations

from typing import Annotated

import typer

from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.options import Everything, Names, Tags, complete_targets
from rotator.faces.cli.render import status as render
from rotator.secret_state import State

app = typer.Typer()

States = Annotated[
    list[State] | None,
    typer.Option(
        "--state",
        metavar="STATE",
        show_default=False,
        help=f"Only secrets in this state: {', '.join(State)}. May be given several times.",
    ),
]
Targets = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        metavar="TARGET",
        show_default=False,
        autocompletion=complete_targets,
        help="Only secrets on this target.",
    ),
]
Watch = Annotated[
    bool, typer.Option("--watch", help="Show it again every two seconds, until Ctrl-C.")
]


@command(app, "status", Panel.INSPECT)
def status(
    ctx: typer.Context,
    names: Names = None,
    *,
    everything: Everything = False,
    tags: Tags = None,
    states: States = None,
    targets: Targets = None,
    watch: Watch = False,
) -> None:
    """Show each secret's state, age and due date, trouble first, with what to do about it.

    Also lists sessions that still use the old login, as of the last count, and which daemons and
    targets are available. It reads the journal only; `rotator verify` tries whether the current
    credential authenticates.

    Exit codes: 0 no trouble, 3 an operator must look (refused, forgotten, orphan, parked, drift), or a
    target or backend is unavailable (waiting).

    Examples:
        rotator status
        rotator status app-db
        rotator status --state parked --state refused
        rotator status --target main --watch
        rotator status --tag billing --json
    """
    call: Invocation = ctx.obj
    with call.open_app() as app:
        chosen = render.Chosen(
            names=tuple(names or ()),
            everything=everything,
            tags=tuple(tags or ()),
            states=tuple(states or ()),
            targets=tuple(targets or ()),
        )
        render.watch(call, app, chosen) if watch else render.show(call, app, chosen)
