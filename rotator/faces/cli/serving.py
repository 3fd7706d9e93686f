"""daemon, worker: leave them running."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from rotator.core.errors import UsageError
from rotator.faces.cli.command import command
from rotator.faces.cli.run import Run

if TYPE_CHECKING:
    from collections.abc import Generator


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    command(
        app,
        "daemon",
        panel="Rotate",
        examples="""
        rotator daemon
        rotator daemon -c /etc/rotator/rotator.yaml --log-level info
        """,
    )(daemon)
    command(
        app,
        "worker",
        panel="Rotate",
        examples="""
        rotator worker
        rotator worker --jobs 4 --listen 127.0.0.1:9465
        """,
    )(worker)


def daemon(run: Run) -> None:
    """Rotate what is due, second by second, until SIGTERM.

    It resumes what was interrupted, waits for grace and drain, revokes, tries current credentials,
    and signs the journal. SIGHUP, or a change of the file, reads the configuration again. How to run
    it, also twice: docs/operations.md.
    """
    with _packages("daemon"):
        from rotator.faces.daemon import Daemon  # noqa: PLC0415 # brings in everything
    code = Daemon(run.config).run()
    run.ended(code)


def worker(
    run: Run,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1, max=1000, show_default=False, help="How many at once (else daemon.limits.total)."
        ),
    ] = None,
    listen: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT", help="Where /healthz, /readyz and /metrics are served; or `none`."
        ),
    ] = "none",
) -> None:
    """Do what daemons put into the queue (daemon.dispatch: procrastinate), until SIGTERM.

    Any number of workers may run, on any number of machines, with the daemons' configuration. When
    one falls silent, others take over what it had begun. SIGHUP, or a change of the file, reads the
    configuration again.
    """
    with _packages("queue"):
        from rotator.faces.worker import WorkerService  # noqa: PLC0415 # brings in everything
    code = WorkerService(run.config, jobs=jobs, listen=listen).run()
    run.ended(code)


@contextmanager
def _packages(extra: str) -> Generator[None]:
    try:
        yield
    except ImportError as error:
        raise UsageError(
            f"this needs a package that is not there: {error.name}.",
            hint=f"pip install 'credential-rotator[{extra}]'",
        ) from error
