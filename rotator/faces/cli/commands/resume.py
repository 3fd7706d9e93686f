"""resume: continue open rotations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from rotator.core.schedule import is_due
from rotator.engine.delegated_requests import pending
from rotator.faces.cli.batch import drive
from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.options import ENDLESS, SHORT, Everything, Names, Parallel, Timeout, Wait

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
    timeout: Timeout = SHORT,
    parallel: Parallel = 4,
) -> None:
    """Continue open rotations: interrupted ones, and those whose grace period is over.

    Without a name, every secret with an open rotation is resumed. Starts no new rotation.

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
        # Rotations of secrets that are no longer configured are completed too.
        found += [name for name, one in records.items() if app.overview.is_forgotten(one)]
        now = app.clock.now()
        return [one for one in found if _is_open(app, records.get(one), now)]

    allowed = ENDLESS if wait else timeout
    drive(
        call,
        pick,
        lambda app, secret: app.engine.resume(secret, patience=allowed, at_once=True),
        parallel=parallel,
    )


def _is_open(app: App, record: SecretRecord | None, now: datetime) -> bool:
    """Return whether a rotation, or a request for a delegated one, is open."""
    if record is None or record.open_rotation is not None:
        return record is not None
    # A delegated secret is due until its request is completed, so only due ones are checked.
    return is_due(record, now) and pending(app.journal, record.name) is not None
