"""daemon: rotate due secrets until SIGTERM."""

from __future__ import annotations

import typer

from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.services import describe_start, require_packages, serve

app = typer.Typer()


@command(app, "daemon", Panel.ROTATE)
def daemon(ctx: typer.Context) -> None:
    """Rotate what is due, second by second, until SIGTERM.

    It resumes what was interrupted, waits for grace and drain, revokes, tries current credentials,
    and signs the journal. SIGHUP, or a change of the file, reads the configuration again. How to run
    it, also twice: rotator docs daemon.

    Examples:
        rotator daemon
        rotator daemon -c /etc/rotator/rotator.yaml --log-level info
    """
    call: Invocation = ctx.obj
    with require_packages("daemon"):
        from rotator.faces.daemon import Daemon  # noqa: PLC0415 # brings in everything
    serve(call, Daemon(call.config, begun=describe_start(call)))
