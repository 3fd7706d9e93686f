"""db upgrade, db status: the journal's own database."""

from __future__ import annotations

import typer

from rotator.core.errors import JournalError
from rotator.faces.cli.command import command
from rotator.faces.cli.help_words import PlainGroup
from rotator.faces.cli.run import Run

_PANEL = "Journal"


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    db = typer.Typer(cls=PlainGroup, no_args_is_help=True, rich_markup_mode="rich")
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
    from rotator.bootstrap import journal_revision, upgrade_journal  # noqa: PLC0415

    before, after = upgrade_journal(run.config)
    place, _, _ = journal_revision(run.config)
    run.data |= {"journal": place, "before": before, "revision": after, "upgraded": before != after}
    if before == after:
        run.say(f"The journal {place} is of version {after} already.")
    else:
        run.say(f"The journal {place} was upgraded from {before or 'nothing'} to version {after}.")


def status(run: Run) -> None:
    """Say whether the journal's database has the version that this program needs."""
    from rotator.bootstrap import journal_revision  # noqa: PLC0415

    place, found, needed = journal_revision(run.config)
    run.data |= {"journal": place, "revision": found, "needed": needed}
    run.say(f"The journal {place} is of version {found}; this program needs {needed}.")
    if found != needed:
        hint = "Upgrade it: rotator db upgrade. If it is newer: a newer rotator is needed."
        _ = run.fail(JournalError("the journal cannot be used as it is.", hint=hint))
