"""history: the steps of past rotations."""

from __future__ import annotations

from typing import Annotated

import typer

from rotator.faces import histories
from rotator.faces.cli import name_patterns
from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.options import Everything, NamePatterns, Since, Tags, Until, period
from rotator.faces.cli.render import history as render

app = typer.Typer()


@command(app, "history", Panel.INSPECT)
def history(
    ctx: typer.Context,
    names: NamePatterns = None,
    *,
    everything: Everything = False,
    tags: Tags = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            metavar="N",
            min=1,
            show_default="5",
            help="Maximum number of rotations to show, newest first.",
        ),
    ] = None,
    since: Since = None,
    until: Until = None,
) -> None:
    """Show each step of past rotations and each incident, with times, reasons and causes, newest last.

    Without a name, those of all secrets. History is kept for secrets that are no longer configured, too. The
    history of a renamed secret includes that of its former names.

    Examples:
        rotator history app-db
        rotator history app-db --limit 20
        rotator history 'billing-*' --since 2026-01-01 --until 2026-02-01
        rotator history --since 30d
    """
    call: Invocation = ctx.obj
    with call.open_app() as app:
        after, before = period(since, until, app.clock.now())
        plain, patterns = name_patterns.split(names or ())
        chosen = app.names(
            only=plain,
            tags=tags or (),
            everything=everything or not (names or tags),
            forgotten=True,
        )

        def recorded() -> list[str]:
            return [one.name for one in app.journal.secrets() if app.sees(one.name)]

        def known() -> list[str]:
            return [*filter(app.sees, app.settings.secrets), *recorded()]

        chosen = list(dict.fromkeys([*chosen, *name_patterns.matches(patterns, known)]))
        if not (names or tags):
            chosen += [name for name in recorded() if name not in chosen]
        found = [
            histories.read(
                app.journal,
                name,
                limit=limit,
                since=after,
                until=before,
                managed=app.settings.secrets.get(name),
            )
            for name in chosen
        ]
    call.data |= (
        histories.data(found[0])
        if names and not patterns and len(found) == 1
        else {"secrets": [histories.data(one) for one in found]}
    )
    for one in found:
        if len(found) == 1 or one.rotations or one.led or one.beside:
            render.show(call, one)
