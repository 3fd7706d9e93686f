"""db upgrade, db status: the journal's own database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from rotator.core.errors import JournalError
from rotator.faces.cli.command import command
from rotator.faces.cli.run import Run

if TYPE_CHECKING:
    from rotator.bootstrap import App

_PANEL = "Journal"


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    db = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")
    app.add_typer(
        db, name="db", help="Set up and upgrade the journal's database.", rich_help_panel=_PANEL
    )
    command(
        db,
        "upgrade",
        title="db upgrade",
        examples="""
        rotator db upgrade
        """,
    )(upgrade)
    command(
        db,
        "status",
        title="db status",
        examples="""
        rotator db status
        """,
    )(status)


def upgrade(run: Run) -> None:
    """Bring the journal's database to the version that this program needs.

    A database of a newer version is left as it is, and refused.
    """
    from rotator.bootstrap import open_app  # noqa: PLC0415

    try:
        with run.open_app() as app:
            _tell(run, app, upgraded=False)
    except JournalError:
        # Missing or older; or it cannot be reached, which the second try says again.
        with open_app(run.config, upgrade=True) as app:
            _tell(run, app, upgraded=True)


def status(run: Run) -> None:
    """Say whether the journal's database has the version that this program needs."""
    with run.open_app() as app:
        _tell(run, app, upgraded=False)


def _tell(run: Run, app: App, *, upgraded: bool) -> None:
    from rotator.journal.migrate import HEAD  # noqa: PLC0415

    run.data |= {"journal": app.journal.place, "revision": HEAD, "upgraded": upgraded}
    word = "was upgraded to" if upgraded else "is of"
    run.say(f"The journal {app.journal.place} {word} version {HEAD}, which this program needs.")
