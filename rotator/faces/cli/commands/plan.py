"""plan: what a rotation would do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from rich.text import Text

from rotator.faces import answers
from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation, for_each, select
from rotator.faces.cli.options import Due, Everything, Names, Tags
from rotator.faces.cli.render import json_output
from rotator.faces.cli.render.console import indented, table

if TYPE_CHECKING:
    from rotator.bootstrap import App
    from rotator.engine import ManagedSecret, Plan

app = typer.Typer()


@command(app, "plan", Panel.ROTATE)
def plan(
    ctx: typer.Context,
    names: Names = None,
    *,
    everything: Everything = False,
    tags: Tags = None,
    due: Due = False,
) -> None:
    """Show the steps of the next rotation: logins, order and statements.

    Reads the backend and the target, and changes nothing. The output holds no secret value.

    Examples:
        rotator plan app-db
        rotator plan --due
        rotator plan --tag billing --json
    """
    call: Invocation = ctx.obj
    with call.open_app() as app:
        show_plans(
            call,
            app,
            select(app, names or (), tags=tags or (), everything=everything, due=due, verb="plan"),
        )


def show_plans(call: Invocation, app: App, names: list[str]) -> None:
    """Show the plan of each secret."""
    plans: list[answers.Data] = []
    call.data["plans"] = plans

    def show_plan(secret: ManagedSecret) -> None:
        found = app.engine.plan(secret)
        plans.append(json_output.of_plan(found))
        _show_plan(call, found)

    for_each(call, app, names, show_plan)
    if not names:
        call.print("Nothing to do: no secret is due.")
    crowded = app.crowded()
    call.data["warnings"] = [one.message for one in crowded]
    for found in crowded:
        call.warn(f"{found.message}. {found.remedy}")


def _show_plan(call: Invocation, found: Plan) -> None:
    head = (
        f"login {found.login} would be replaced"
        if found.login
        else "a first login would be created"
    )
    call.print(Text.assemble((found.secret, "bold"), f": {head}; this is a preview."))
    if found.open_rotation:
        call.print(
            indented(f"Rotation {found.open_rotation} is open and would be completed first.")
        )
    seen = ""
    rows: list[tuple[str, str]] = []
    for one in found.steps:
        rows.append(("" if one.step.value == seen else one.step.value, one.text))
        seen = one.step.value
    call.print(indented(table(call.screen, ("step", "what happens"), rows)))
