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
def reseal(ctx: typer.Context, name: Backend) -> None:
    """Re-encrypt all values of a backend with its newest key.

    First create a new key, set it as `key` and list the previous one under `old_keys`. Afterwards
    only backups of the file still need the old key.

    Examples:
        rotator reseal local
    """
    call: Invocation = ctx.obj
    with call.open_app() as app:
        backend = app.backend(name)
        if not isinstance(backend, Reseals):
            raise UsageError(
                f"backend {name!r} has no keys that rotator manages.",
                hint="See the documentation of the backend for how to change its keys.",
                safety="Nothing was changed.",
            )
        count = backend.reseal()
    call.data |= {"backend": name, "resealed": count}
    call.print(
        f"{name}: {count} values were encrypted with the newest key; no value needs an old key."
    )
