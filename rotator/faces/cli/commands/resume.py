"""resume: continue open rotations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from rotator.core.schedule import is_due
from rotator.engine.delegated_requests import pending
from rotator.faces.cli.batch import drive
from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.options import (
    ENDLESS,
    SHORT,
    Everything,
    Names,
    Parallel,
    Patience,
    Wait,
)

if TYPE_CHECKING:
    from datetime import datetime

    from rotator.bootstrap import App
    from rotator.core.history import SecretRecord

app = typer.Typer()


@command(app, "resume", Panel.ROTATE)
def resume(
    ctx: typer.Context,
    names: Names = None,
    *,
    everything: Everything = False,
    wait: Wait = False,
    patience: Patience = SHORT,
    parallel: Parallel = 4,
) -> None:
    """Go on with rotations that are open: interrupted ones, and those whose grace period is over.

    Without a name, with every secret that has one. Nothing new is begun.

    Examples:
        rotator resume
        rotator resume app-db --wait
    """
    call: Invocation = ctx.obj

    def pick(app: App) -> list[str]:
        found = app.names(only=names or (), everything=everything or not names, forgotten=True)
        if names:
            return found
        records = {one.name: one for one in app.journal.secrets()}
        # Also what the configuration no longer names is completed.
        found += [name for name, one in records.items() if app.overview.is_forgotten(one)]
        now = app.clock.now()
        return [one for one in found if _is_open(app, records.get(one), now)]

    allowed = ENDLESS if wait else patience
    drive(
        call,
        pick,
        lambda app, secret: app.engine.resume(secret, patience=allowed, at_once=True),
        parallel=parallel,
    )


def _is_open(app: App, record: SecretRecord | None, now: datetime) -> bool:
    """Return whether something was begun, by us or by whom we asked, and is not over."""
    if record is None or record.open_rotation is not None:
        return record is not None
    # What was asked for is due until it was seen through, so that only these are looked into.
    return is_due(record, now) and pending(app.journal, record.name) is not None
