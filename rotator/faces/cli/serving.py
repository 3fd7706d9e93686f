"""daemon: leave it running."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rotator.core.errors import UsageError
from rotator.faces.cli.command import command
from rotator.faces.cli.run import Run

if TYPE_CHECKING:
    import typer


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


def daemon(run: Run) -> None:
    """Rotate what is due, second by second, until SIGTERM.

    It resumes what was interrupted, waits for grace and drain, revokes, tries current credentials,
    and signs the journal. SIGHUP, or a change of the file, reads the configuration again. How to run
    it, also twice: docs/operations.md.
    """
    try:
        from rotator.faces.daemon import Daemon  # noqa: PLC0415 # brings in everything
    except ImportError as error:
        raise UsageError(
            f"the daemon needs a package that is not there: {error.name}.",
            hint="pip install 'credential-rotator[daemon]'",
        ) from error
    code = Daemon(run.config).run()
    run.ended(code)
