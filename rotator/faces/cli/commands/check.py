"""check: validate the configuration."""

from __future__ import annotations

import typer

from rotator.config import load
from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation
from rotator.faces.wording import plural

app = typer.Typer()


@command(app, "check", Panel.PREPARE)
def check(ctx: typer.Context) -> None:
    """Validate the configuration and report every problem. Connects to nothing.

    Examples:
        rotator check
        rotator check -c /etc/rotator/rotator.yaml --json
    """
    call: Invocation = ctx.obj
    settings = load(call.config)
    counts = {
        "secrets": len(settings.secrets),
        "targets": len(settings.targets),
        "backends": len(settings.backends),
    }
    call.data |= {"file": str(settings.file), **counts}
    listed = ", ".join(plural(count, noun.removesuffix("s")) for noun, count in counts.items())
    call.print(f"{settings.file} is valid: {listed}.", "Check the systems it names: rotator doctor")
