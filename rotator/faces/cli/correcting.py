"""rollback, revoke, park, unpark: what a person decides about a rotation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rotator.core.commands import unpark_command
from rotator.core.errors import UsageError
from rotator.faces.cli import envelope
from rotator.faces.cli.command import command
from rotator.faces.cli.driving import drive
from rotator.faces.cli.options import (
    ENDLESS,
    SHORT,
    Name,
    Names,
    Patience,
    Reason,
    Wait,
    complete_tags,
    complete_targets,
)
from rotator.faces.cli.run import Run, chosen, each

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rotator.bootstrap import App
    from rotator.engine import ManagedSecret

_PANEL = "Step in"
_MENDED = "mended"

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
        rotator unpark --target main --reason "the admin's password is corrected"
        rotator unpark --all
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
        lambda app: app.names(only=[name], forgotten=True),
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
        lambda app: app.names(only=[name], forgotten=True),
        lambda app, secret: app.engine.revoke(
            secret,
            reason=reason,
            end_sessions=terminate,
            patience=ENDLESS if wait else patience,
        ),
    )


def park(run: Run, names: Names = None, *, reason: Why) -> None:
    """Stop automatic work on secrets until an operator unparks them."""
    with run.open_app() as app:
        _set_parked(run, app, chosen(app, names or (), verb="park"), reason, parked=True)


def unpark(
    run: Run,
    names: Names = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Every secret that is parked.")] = False,
    tags: Annotated[
        list[str] | None,
        typer.Option(
            "--tag",
            metavar="TAG",
            show_default=False,
            autocompletion=complete_tags,
            help="Parked secrets with this tag; given several times, with all of them.",
        ),
    ] = None,
    targets: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            metavar="TARGET",
            show_default=False,
            autocompletion=complete_targets,
            help="Parked secrets of this target.",
        ),
    ] = None,
    reason: Why = _MENDED,
) -> None:
    """Let automatic work go on; failures are counted from zero again."""
    with run.open_app() as app:
        found = _parked(app, names or (), tags or (), targets or (), everything=everything)
        if not found:
            run.data["secrets"] = []
            run.say("No secret is parked.")
            return
        _set_parked(run, app, found, reason, parked=False)


def _parked(
    app: App, names: Sequence[str], tags: Sequence[str], targets: Sequence[str], *, everything: bool
) -> list[str]:
    """Return the secrets that are meant: by name, or those of a choice that are parked."""
    unchanged = "Nothing was changed."
    if not (names or tags or targets or everything):
        raise UsageError(
            "no secrets selected.",
            hint="Name them, or select parked ones with --tag TAG, --target TARGET or --all.",
            safety=unchanged,
        )
    if names and (tags or targets or everything):
        raise UsageError(
            "names and --tag, --target or --all do not go together.",
            hint="Give one or the other.",
            safety=unchanged,
        )
    settings = app.settings
    for target in targets:
        if target not in settings.targets:
            known = ", ".join(settings.targets)
            raise UsageError(
                f"there is no target {target!r}.", hint=f"There are: {known}.", safety=unchanged
            )
    found = app.names(only=names, tags=tags, everything=everything or bool(targets and not tags))
    if names:
        return found
    parked = {one.name for one in app.journal.secrets() if one.parked is not None}
    chosen_targets = set(targets) or set(settings.targets)
    return [one for one in found if one in parked and settings.secret(one).target in chosen_targets]


def _set_parked(run: Run, app: App, names: list[str], reason: str, *, parked: bool) -> None:
    secrets: list[envelope.Data] = []
    run.data["secrets"] = secrets

    def one(secret: ManagedSecret) -> None:
        if parked:
            app.engine.park(secret, reason=reason)
        else:
            app.engine.unpark(secret, reason=reason)
        secrets.append({"secret": secret.name, "parked": parked, "reason": reason})
        word = f"parked until: {unpark_command(secret.name)}" if parked else "unparked."
        run.say(f"{secret.name}: {word}")

    each(run, app, names, one)
    _ = app.checkpoint()
