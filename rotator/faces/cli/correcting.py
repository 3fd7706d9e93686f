"""rollback, revoke, park, unpark: what a person decides about a rotation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rotator.faces.cli import envelope
from rotator.faces.cli.command import command
from rotator.faces.cli.driving import drive
from rotator.faces.cli.options import ENDLESS, SHORT, Name, Names, Patience, Reason, Wait
from rotator.faces.cli.run import Run, chosen, each

if TYPE_CHECKING:
    from rotator.engine import ManagedSecret

_PANEL = "Step in"

Why = Annotated[
    str,
    typer.Option(
        "--reason", metavar="TEXT", show_default=False, help="Why; it is kept in the journal."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    command(
        app,
        "rollback",
        panel=_PANEL,
        examples="""
        rotator rollback app-db --reason "the report job cannot log in"
        """,
    )(rollback)
    command(
        app,
        "revoke",
        panel=_PANEL,
        examples="""
        rotator revoke app-db --reason "the old password was leaked"
        rotator revoke app-db --terminate
        """,
    )(revoke)
    command(
        app,
        "park",
        panel=_PANEL,
        examples="""
        rotator park app-db --reason "migration until Friday"
        """,
    )(park)
    command(
        app,
        "unpark",
        panel=_PANEL,
        examples="""
        rotator unpark app-db --reason "the admin has its right back"
        """,
    )(unpark)


def rollback(
    run: Run, name: Name, *, reason: Reason = "", wait: Wait = False, patience: Patience = SHORT
) -> None:
    """Make the previous credential current again, while it is still valid.

    It is tried before it is published. The newer one stays valid for the grace period and is
    then revoked. A rotation that has not published yet is undone.
    """
    drive(
        run,
        lambda app: app.names(only=[name]),
        lambda app, secret: app.engine.rollback(
            secret, reason=reason, patience=ENDLESS if wait else patience
        ),
    )


def revoke(
    run: Run,
    name: Name,
    *,
    reason: Reason = "",
    terminate: Annotated[
        bool, typer.Option("--terminate", help="End open sessions of the old login.")
    ] = False,
    wait: Wait = False,
    patience: Patience = SHORT,
) -> None:
    """End the grace period now, and say whether the old credential is proven dead.

    Sessions that are still open with the old login are waited for, or ended with --terminate;
    while they hold it the command returns 3.
    """
    drive(
        run,
        lambda app: app.names(only=[name]),
        lambda app, secret: app.engine.revoke(
            secret,
            reason=reason,
            end_sessions=terminate,
            patience=ENDLESS if wait else patience,
        ),
    )


def park(run: Run, names: Names = None, *, reason: Why) -> None:
    """Stop automatic work on secrets until a person unparks them."""
    _set_parked(run, names or [], reason, parked=True)


def unpark(run: Run, names: Names = None, *, reason: Why) -> None:
    """Let automatic work go on; failures are counted from zero again."""
    _set_parked(run, names or [], reason, parked=False)


def _set_parked(run: Run, names: list[str], reason: str, *, parked: bool) -> None:
    secrets: list[envelope.Data] = []
    run.data["secrets"] = secrets
    verb = "park" if parked else "unpark"
    with run.open_app() as app:

        def one(secret: ManagedSecret) -> None:
            if parked:
                app.engine.park(secret, reason=reason)
            else:
                app.engine.unpark(secret, reason=reason)
            secrets.append({"secret": secret.name, "parked": parked, "reason": reason})
            word = "parked; nothing runs by itself until: rotator unpark" if parked else "unparked."
            run.say(f"{secret.name}: {word}{f' {secret.name}' if parked else ''}")

        each(run, app, chosen(app, names, verb=verb), one)
        _ = app.checkpoint()
