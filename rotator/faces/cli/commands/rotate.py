"""rotate: replace credentials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rotator.core.access import Permission
from rotator.core.errors import UsageError
from rotator.faces.cli.batch import drive
from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.commands.plan import show_plans
from rotator.faces.cli.invocation import Invocation, select
from rotator.faces.cli.leaks import Report, open_incident
from rotator.faces.cli.options import (
    ENDLESS,
    SHORT,
    BreakGlass,
    Due,
    Everything,
    Names,
    Parallel,
    Reason,
    Tags,
    Timeout,
    Wait,
)

if TYPE_CHECKING:
    from rotator.bootstrap import App

app = typer.Typer()


@command(app, "rotate", Panel.ROTATE)
def rotate(
    ctx: typer.Context,
    names: Names = None,
    *,
    everything: Everything = False,
    tags: Tags = None,
    due: Due = False,
    reason: Reason = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Same as `rotator plan`.")] = False,
    leaked: Annotated[
        bool,
        typer.Option(
            "--leaked",
            help="The current password leaked: open an incident for it. Needs --reason.",
        ),
    ] = False,
    break_glass: BreakGlass = False,
    wait: Wait = False,
    timeout: Timeout = SHORT,
    parallel: Parallel = 4,
) -> None:
    """Replace credentials: create, store, verify, publish, and revoke the old one.

    The old credential stays valid for its grace period. The command does not wait for its end: it
    returns 0, and `rotator resume`, a daemon or the next rotation revokes the old credential. An
    interrupted rotation is completed first.

    Exit codes: 0 done (or published and in grace), 1 failed and undone, 2 usage or configuration,
    3 parked or stuck, 4 not due or locked by another process.

    Examples:
        rotator rotate app-db --reason "left the team"
        rotator rotate --due
        rotator rotate --tag billing --parallel 8
        rotator rotate app-db --dry-run
        rotator rotate app-db --wait
        rotator rotate app-db --leaked --reason "pushed to a public repository"
    """
    call: Invocation = ctx.obj
    if break_glass:
        call.break_glass(reason)

    def pick(app: App) -> list[str]:
        return select(
            app, names or (), tags=tags or (), everything=everything, due=due, verb="rotate"
        )

    if leaked:
        if not reason:
            raise UsageError(
                "--leaked needs --reason.",
                hint="rotator rotate NAME --leaked --reason 'WHERE it leaked'",
                safety="Nothing was changed.",
            )
        report = Report(reason=reason, dry_run=dry_run)
        limit = ENDLESS if wait else timeout if timeout != SHORT else None

        def pick_current(app: App) -> dict[str, str | None]:
            return dict.fromkeys(pick(app))

        open_incident(call, pick_current, report, timeout=limit, parallel=parallel)
        return
    if dry_run:
        call.permission = Permission.VIEW
        with call.open_app() as app:
            show_plans(call, app, pick(app))
        return
    allowed = ENDLESS if wait else timeout
    drive(
        call,
        pick,
        lambda app, secret: app.engine.rotate(
            secret, reason=reason, patience=allowed, at_once=True
        ),
        parallel=parallel,
    )
