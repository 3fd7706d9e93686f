"""park, unpark: stop and restart automatic work on secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rotator.core.commands import unpark_command
from rotator.core.errors import UsageError
from rotator.faces import answers
from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation, for_each, select
from rotator.faces.cli.options import BreakGlass, Names, complete_tags, complete_targets, option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rotator.bootstrap import App
    from rotator.engine import ManagedSecret

app = typer.Typer()

_MENDED = "mended"


Why = Annotated[str, option("--reason", "TEXT", "Reason, recorded in the journal.")]


@command(app, "park", Panel.INTERVENE)
def park(
    ctx: typer.Context, names: Names = None, *, reason: Why, break_glass: BreakGlass = False
) -> None:
    """Stop automatic work on secrets until an operator unparks them.

    Examples:
        rotator park app-db --reason "migration until Friday"
    """
    call: Invocation = ctx.obj
    if break_glass:
        call.break_glass(reason)
    with call.open_app() as app:
        _set_parked(call, app, select(app, names or (), verb="park"), reason, parked=True)


@command(app, "unpark", Panel.INTERVENE)
def unpark(
    ctx: typer.Context,
    names: Names = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="All parked secrets.")] = False,
    tags: Annotated[
        list[str] | None,
        option(
            "--tag",
            "TAG",
            "Only parked secrets with this tag. If repeated, only secrets that have all of the tags.",
            complete_tags,
        ),
    ] = None,
    targets: Annotated[
        list[str] | None,
        option("--target", "TARGET", "Only parked secrets of this target.", complete_targets),
    ] = None,
    reason: Why = _MENDED,
    break_glass: BreakGlass = False,
) -> None:
    """Restart automatic work on parked secrets, and reset their failure counts.

    Examples:
        rotator unpark app-db --reason "the admin has its right back"
        rotator unpark --target main --reason "the admin's password is corrected"
        rotator unpark --all
    """
    call: Invocation = ctx.obj
    if break_glass:
        call.break_glass(reason)
    with call.open_app() as app:
        found = _parked(app, names or (), tags or (), targets or (), everything=everything)
        if not found:
            call.data["secrets"] = []
            call.print("No secret is parked.")
            return
        _set_parked(call, app, found, reason, parked=False)


def _parked(
    app: App, names: Sequence[str], tags: Sequence[str], targets: Sequence[str], *, everything: bool
) -> list[str]:
    """Return the named secrets, or the parked ones of a selection."""
    unchanged = "Nothing was changed."
    if not (names or tags or targets or everything):
        raise UsageError(
            "no secrets selected.",
            hint="Name them, or select parked ones with --tag TAG, --target TARGET or --all.",
            safety=unchanged,
        )
    if names and (tags or targets or everything):
        raise UsageError(
            "names cannot be combined with --tag, --target or --all.",
            hint="Give one or the other.",
            safety=unchanged,
        )
    settings = app.settings
    for target in targets:
        if target not in settings.targets:
            known = ", ".join(settings.targets)
            raise UsageError(
                f"there is no target {target!r}.", hint=f"Targets: {known}.", safety=unchanged
            )
    found = app.names(only=names, tags=tags, everything=everything or bool(targets and not tags))
    if names:
        return found
    parked = {one.name for one in app.journal.secrets() if one.parked is not None}
    chosen_targets = set(targets) or set(settings.targets)
    return [one for one in found if one in parked and settings.secret(one).target in chosen_targets]


def _set_parked(call: Invocation, app: App, names: list[str], reason: str, *, parked: bool) -> None:
    secrets: list[answers.Data] = []
    call.data["secrets"] = secrets

    def set_parked(secret: ManagedSecret) -> None:
        if parked:
            app.engine.park(secret, reason=reason)
        else:
            app.engine.unpark(secret, reason=reason)
        secrets.append({"secret": secret.name, "parked": parked, "reason": reason})
        word = f"parked until: {unpark_command(secret.name)}" if parked else "unparked."
        call.print(f"{secret.name}: {word}")

    for_each(call, app, names, set_parked)
    _ = app.checkpoint()
