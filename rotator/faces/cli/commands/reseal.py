"""reseal: encrypt a backend under its newest key."""

from __future__ import annotations

import typer

from rotator.core.contracts.backend import Reseals
from rotator.core.errors import UsageError
from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.options import Backend

app = typer.Typer()


@command(app, "reseal", Panel.CREDENTIALS)
def reseal(
    ctx: typer.Context,
    name: Backend,
) -> None:
    """Encrypt everything in a backend anew, under its newest key.

    Make a new key, name it as `key` and the one before under `old_keys`, then run this. Afterwards
    nothing needs the old key any more, but for copies of the file that you keep.

    Examples:
        rotator reseal local
    """
    call: Invocation = ctx.obj
    with call.open_app() as app:
        backend = app.backend(name)
        if not isinstance(backend, Reseals):
            raise UsageError(
                f"backend {name!r} has no keys of ours: it encrypts by itself, or not at all.",
                hint="Look at its own documentation for changing keys.",
                safety="Nothing was changed.",
            )
        count = backend.reseal()
    call.data |= {"backend": name, "resealed": count}
    call.print(f"{name}: {count} values were encrypted anew; nothing in it needs an old key now.")
