"""daemon: rotate due secrets until SIGTERM."""

from __future__ import annotations

import typer

from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.services import describe_start, require_packages, serve

app = typer.Typer()


@command(app, "daemon", Panel.ROTATE)
def daemon(ctx: typer.Context) -> None:
    """Rotate due secrets until SIGTERM.

    The daemon resumes interrupted rotations, waits for grace periods and open sessions, revokes old
    credentials, tests current ones and signs the journal. It reloads the configuration on SIGHUP or
    when the file changes. How to run one or more: rotator docs daemon.

    Examples:
        rotator daemon
        rotator daemon -c /etc/rotator/rotator.yaml --log-level info
    """
    call: Invocation = ctx.obj
    with require_packages("daemon"):
        from rotator.faces.daemon import Daemon  # noqa: PLC0415 # brings in everything
    serve(call, Daemon(call.config, begun=describe_start(call)))
