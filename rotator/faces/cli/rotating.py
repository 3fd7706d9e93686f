"""plan, rotate, resume: the main job and what would happen in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rotator.core.schedule import is_due
from rotator.engine.delegated_requests import pending
from rotator.faces.cli import envelope
from rotator.faces.cli.command import command
from rotator.faces.cli.driving import drive
from rotator.faces.cli.options import (
    ENDLESS,
    SHORT,
    Due,
    Everything,
    Names,
    Parallel,
    Patience,
    Reason,
    Tags,
    Wait,
)
from rotator.faces.cli.run import Run, chosen, each

if TYPE_CHECKING:
    from datetime import datetime

    from rotator.bootstrap import App
    from rotator.core.history import SecretRecord
    from rotator.engine import ManagedSecret, Plan

_PANEL = "Rotate"


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    command(
        app,
        "plan",
        panel=_PANEL,
        examples="""
        rotator plan app-db
        rotator plan --due
        rotator plan --tag billing --json
        """,
    )(plan)
    command(
        app,
        "rotate",
        panel=_PANEL,
        examples="""
        rotator rotate app-db --reason "left the team"
        rotator rotate --due
        rotator rotate --tag billing --parallel 8
        rotator rotate app-db --dry-run
        rotator rotate app-db --wait
        """,
    )(rotate)
    command(
        app,
        "resume",
        panel=_PANEL,
        examples="""
        rotator resume
        rotator resume app-db --wait
        """,
    )(resume)


def plan(
    run: Run,
    names: Names = None,
    *,
    everything: Everything = False,
    tags: Tags = None,
    due: Due = False,
) -> None:
    """Show what a rotation would do: to whom, in which order, with which statements.

    Reads the backend and the target, and changes nothing. No secret is in it.
    """
    with run.open_app() as app:
        show_plans(
            run,
            app,
            chosen(app, names or (), tags=tags or (), everything=everything, due=due, verb="plan"),
        )


def rotate(
    run: Run,
    names: Names = None,
    *,
    everything: Everything = False,
    tags: Tags = None,
    due: Due = False,
    reason: Reason = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="The same as `rotator plan`.")] = False,
    wait: Wait = False,
    patience: Patience = SHORT,
    parallel: Parallel = 4,
) -> None:
    """Replace credentials: create, store, verify, publish, and revoke the old one.

    The old credential stays valid for its grace period: the command then returns 0, and
    `rotator resume`, a daemon or the next rotation revokes it. An interrupted rotation is
    finished first.

    Exit codes: 0 done (or published and in grace), 1 failed and undone, 2 usage or
    configuration, 3 parked or stuck, 4 not due or locked by another.
    """

    def pick(app: App) -> list[str]:
        return chosen(
            app, names or (), tags=tags or (), everything=everything, due=due, verb="rotate"
        )

    if dry_run:
        with run.open_app() as app:
            show_plans(run, app, pick(app))
        return
    allowed = ENDLESS if wait else patience
    drive(
        run,
        pick,
        lambda app, secret: app.engine.rotate(
            secret, reason=reason, patience=allowed, at_once=True
        ),
        parallel=parallel,
    )


def resume(
    run: Run,
    names: Names = None,
    *,
    everything: Everything = False,
    wait: Wait = False,
    patience: Patience = SHORT,
    parallel: Parallel = 4,
) -> None:
    """Go on with rotations that are open: interrupted ones, and those whose grace period is over.

    Without a name, with every secret that has one. Nothing new is begun.
    """

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
        run,
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


def show_plans(run: Run, app: App, names: list[str]) -> None:
    """Show the plan of each."""
    plans: list[envelope.Data] = []
    run.data["plans"] = plans

    def one(secret: ManagedSecret) -> None:
        found = app.engine.plan(secret)
        plans.append(envelope.of_plan(found))
        _show_plan(run, found)

    each(run, app, names, one)
    if not names:
        run.say("Nothing to do: no secret is due.")
    crowded = app.crowded()
    run.data["warnings"] = [one.message for one in crowded]
    for found in crowded:
        run.note(f"{found.message}. {found.remedy}")


def _show_plan(run: Run, found: Plan) -> None:
    from rich.text import Text  # noqa: PLC0415

    from rotator.faces.cli.screen import indented, table  # noqa: PLC0415

    head = (
        f"login {found.login} would be replaced" if found.login else "a first login would be made"
    )
    run.say(Text.assemble((found.secret, "bold"), f": {head}; nothing is changed now."))
    if found.open_rotation:
        run.say(indented(f"Rotation {found.open_rotation} is open, and would be finished first."))
    seen = ""
    rows: list[tuple[str, str]] = []
    for one in found.steps:
        rows.append(("" if one.step.value == seen else one.step.value, one.text))
        seen = one.step.value
    run.say(indented(table(run.screen, ("step", "what happens"), rows)))
