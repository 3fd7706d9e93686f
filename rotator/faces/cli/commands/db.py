"""db: upgrade the journal's database, or show its version."""

from __future__ import annotations

import typer

from rotator.core.errors import JournalError
from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.render.help import PlainGroup

app = typer.Typer()
_db = typer.Typer(cls=PlainGroup, no_args_is_help=True, rich_markup_mode="rich")
app.add_typer(
    _db,
    name="db",
    help="Upgrade the journal's database, or show its version.",
    rich_help_panel=Panel.JOURNAL,
)


@command(_db, "upgrade")
def upgrade(ctx: typer.Context) -> None:
    """Upgrade the journal's database to the version that this program needs.

    A database of a newer version is rejected and not changed.

    Examples:
        rotator db upgrade
    """
    call: Invocation = ctx.obj
    from rotator.bootstrap import journal_revision, upgrade_journal  # noqa: PLC0415

    before, after = upgrade_journal(call.config)
    place, _, _ = journal_revision(call.config)
    call.data |= {
        "journal": place,
        "before": before,
        "revision": after,
        "upgraded": before != after,
    }
    if before == after:
        call.print(f"The journal {place} already has version {after}.")
    else:
        call.print(
            f"The journal {place} was upgraded from {before or 'nothing'} to version {after}."
        )


@command(_db, "status")
def status(ctx: typer.Context) -> None:
    """Show whether the journal's database has the version that this program needs.

    Examples:
        rotator db status
    """
    call: Invocation = ctx.obj
    from rotator.bootstrap import journal_revision  # noqa: PLC0415

    place, found, needed = journal_revision(call.config)
    call.data |= {"journal": place, "revision": found, "needed": needed}
    call.print(f"The journal {place} has version {found}; this program needs {needed}.")
    if found != needed:
        hint = "If it is older: rotator db upgrade. If it is newer: install a newer rotator."
        _ = call.fail(JournalError("the journal has the wrong version.", hint=hint))
