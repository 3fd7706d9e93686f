"""worker: execute queued jobs until SIGTERM."""

from __future__ import annotations

from typing import Annotated

import typer

from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.services import describe_start, require_packages, serve

app = typer.Typer()


@command(app, "worker", Panel.ROTATE)
def worker(
    ctx: typer.Context,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1000,
            show_default=False,
            help="Maximum number of jobs at once. Default: daemon.limits.total.",
        ),
    ] = None,
    listen: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT", help="Address of /healthz, /readyz and /metrics, or `none`."
        ),
    ] = "none",
) -> None:
    """Run jobs that daemons put into the queue (daemon.dispatch: procrastinate), until SIGTERM.

    Any number of workers may run, on any number of machines, with the daemons' configuration. If one
    stops responding, others take over its work. A worker reloads the configuration on SIGHUP or when
    the file changes.

    Examples:
        rotator worker
        rotator worker --jobs 4 --listen 127.0.0.1:9465
    """
    call: Invocation = ctx.obj
    with require_packages("queue"):
        from rotator.faces.worker import WorkerService  # noqa: PLC0415 # brings in everything
    serve(call, WorkerService(call.config, jobs=jobs, listen=listen, begun=describe_start(call)))
