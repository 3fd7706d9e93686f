"""status: one line for the whole installation, then trouble in words."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import typer

from rotator.faces.cli.command import Command, Panel, command
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.options import (
    NamePatterns,
    Tags,
    complete_backends,
    complete_targets,
    option,
)
from rotator.faces.cli.render import status as render
from rotator.secret_state import State

app = typer.Typer()

_WATCH: Final = "--watch"
_NUMBER: Final = re.compile(r"\d+(\.\d+)?")
# Without a number, `--watch` redraws so often.
_SECONDS: Final = "2"

Everything = Annotated[
    bool, typer.Option("--all", help="List all secrets, also those that need no action.")
]
States = Annotated[
    list[State] | None,
    option("--state", "STATE", f"Only secrets in this state: {', '.join(State)}. May be repeated."),
]
Targets = Annotated[
    list[str] | None,
    option("--target", "TARGET", "Only secrets on this target. May be repeated.", complete_targets),
]
Backends = Annotated[
    list[str] | None,
    option(
        "--backend", "BACKEND", "Only secrets in this backend. May be repeated.", complete_backends
    ),
]
Watch = Annotated[
    float | None,
    typer.Option(
        _WATCH,
        metavar="[SECONDS]",
        min=0.2,
        max=3600,
        show_default=False,
        help=f"Redraw every {_SECONDS} seconds, or every SECONDS, until Ctrl-C.",
    ),
]


class StatusCommand(Command):
    """Takes `--watch` with or without a number."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line. A word after `--watch` that is no number is a name."""
        return super().parse_args(ctx, _with_seconds(args))


@command(app, "status", Panel.INSPECT, cls=StatusCommand)
def status(
    ctx: typer.Context,
    names: NamePatterns = None,
    *,
    everything: Everything = False,
    tags: Tags = None,
    states: States = None,
    targets: Targets = None,
    backends: Backends = None,
    watch: Watch = None,
) -> None:
    """Show whether a daemon is running, and each secret that needs an operator, with cause and remedy.

    The first line counts secrets by state, unavailable hosts and open incidents. Secrets that need no
    action are only counted, unless names, --all or a filter select them: these are listed with age, due
    date and login. Reads the journal only. Test the current credentials with `rotator verify`.

    Exit codes: 0 no trouble, 3 an operator must act (leaked, refused, forgotten, orphan, parked, drift),
    or a target or backend is unavailable (waiting). With --watch 0, after Ctrl-C.

    Examples:
        rotator status
        rotator status app-db 'billing-*'
        rotator status --all
        rotator status --state parked --state refused
        rotator status --target main --watch
        rotator status --watch 10
        rotator status --tag billing --json
    """
    call: Invocation = ctx.obj
    with call.open_app() as app:
        chosen = render.Chosen(
            names=tuple(names or ()),
            everything=everything,
            tags=tuple(tags or ()),
            states=tuple(states or ()),
            targets=tuple(targets or ()),
            backends=tuple(backends or ()),
        )
        if watch is None:
            render.show(call, app, chosen)
        else:
            render.watch(call, app, chosen, watch)


def _with_seconds(args: list[str]) -> list[str]:
    """Return the command line with a number for each `--watch`."""
    end = args.index("--") if "--" in args else len(args)
    given = iter(args[:end])
    plain: list[str] = []
    for arg in given:
        if arg != _WATCH:
            plain.append(arg)
            continue
        following = next(given, None)
        is_number = following is not None and _NUMBER.fullmatch(following) is not None
        plain.append(f"{_WATCH}={following if is_number else _SECONDS}")
        if following is not None and not is_number:
            # It may be an option of its own, also a second `--watch`.
            plain += _with_seconds([following, *given])
    return plain + args[end:]
