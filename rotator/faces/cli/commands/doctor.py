"""doctor: check whether rotations would work."""

from __future__ import annotations

import typer

from rotator.faces.cli import exit_codes
from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.options import Names
from rotator.faces.cli.render import json_output, messages
from rotator.faces.wording import plural

app = typer.Typer()


@command(app, "doctor", Panel.PREPARE)
def doctor(ctx: typer.Context, names: Names = None) -> None:
    """Connect to the targets and backends, and report problems that would stop a rotation.

    Checks that the admin has the rights that the strategy needs, that the target rejects a wrong
    password, that the backend is writable and that the journal is intact. Each finding has a remedy.
    Nothing that an application uses is changed.

    Examples:
        rotator doctor
        rotator doctor app-db
    """
    call: Invocation = ctx.obj
    with call.open_app() as app:
        found = app.doctor(app.names(only=names or (), everything=not names))
    worst = [one.severity.value for one in found]
    call.data |= {
        "findings": json_output.of_findings(found),
        "errors": worst.count("error"),
        "warnings": worst.count("warning"),
    }
    call.print(*messages.of_findings(call.screen, found))
    if "error" in worst:
        call.add_code(exit_codes.FAILED)
    errors, warnings = worst.count("error"), worst.count("warning")
    summary = f"{plural(errors, 'error')}, {plural(warnings, 'warning')}."
    call.print("", summary if {"error", "warning"} & set(worst) else "No problems found.")
