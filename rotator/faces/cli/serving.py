"""daemon, worker: leave them running."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from rotator.core.errors import UsageError
from rotator.faces.cli.command import command
from rotator.faces.cli.run import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from rotator.faces.service import Begun, Service


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
    _serve(run, Daemon(run.config, begun=_teller(run)))


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
    _serve(run, WorkerService(run.config, jobs=jobs, listen=listen, begun=_teller(run)))


def _teller(run: Run) -> Callable[[Begun], None] | None:
    """Return what reports the start on a terminal; elsewhere the log does."""
    if run.as_json or not run.screen.out.is_terminal:
        return None

    def tell(begun: Begun) -> None:
        run.say(f"rotator {run.command}: {describe(begun, datetime.now(UTC))} Ctrl-C ends it.")

    return tell


def describe(begun: Begun, now: datetime) -> str:
    """Return what a process that has begun works with, on one line."""
    from rotator.faces.cli.screen import at, plural, relative  # noqa: PLC0415

    backends = ", ".join(begun.backends)
    noun = "backend" if len(begun.backends) == 1 else "backends"
    metrics = f"metrics at http://{begun.address}/metrics" if begun.address else "no metrics"
    following = "nothing has a due date"
    if begun.soonest is not None and (due := begun.soonest.next_due) is not None:
        following = f"next due is {begun.soonest.name}, {at(due)} ({relative(due, now)})"
    config = f"{begun.config}, {plural(begun.secrets, 'secret')}, {noun} {backends}"
    return f"{config}; {metrics}; {following}."


def _serve(run: Run, service: Service) -> None:
    code = service.run()
    run.ended(code)
    if run.screen.out.is_terminal:
        run.say(f"rotator {run.command}: ended; every step that was under way is finished.")


@contextmanager
def _packages(extra: str) -> Generator[None]:
    try:
        yield
    except ImportError as error:
        raise UsageError(
            f"this needs a package that is not there: {error.name}.",
            hint=f"pip install 'credential-rotator[{extra}]'",
        ) from error
