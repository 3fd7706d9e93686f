"""status: the state of each secret, trouble first."""

from __future__ import annotations

from typing import Annotated

import typer

from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.options import Everything, Names, Tags, complete_targets, option
from rotator.faces.cli.render import status as render
from rotator.secret_state import State

app = typer.Typer()

States = Annotated[
    list[State] | None,
    option("--state", "STATE", f"Only secrets in this state: {', '.join(State)}. May be repeated."),
]
Targets = Annotated[
    list[str] | None, option("--target", "TARGET", "Only secrets on this target.", complete_targets)
]
Watch = Annotated[bool, typer.Option("--watch", help="Refresh every two seconds, until Ctrl-C.")]


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
    """Show each secret's state, age and due date, trouble first, with the next command.

    Also lists sessions that still use the old login, as of the last check, and which daemons, targets
    and backends are available. Reads the journal only. Test the current credentials with
    `rotator verify`.

    Exit codes: 0 no trouble, 3 an operator must act (refused, forgotten, orphan, parked, drift), or a
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
