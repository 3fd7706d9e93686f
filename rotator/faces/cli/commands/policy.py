"""policy: print the access policy that a backend needs."""

from __future__ import annotations

from typing import Annotated

import typer

from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.options import Backend, Names

app = typer.Typer()


@command(app, "policy", Panel.PREPARE)
def policy(
    ctx: typer.Context,
    backend: Backend,
    names: Names = None,
    *,
    of: Annotated[
        str,
        typer.Option(
            "--for",
            metavar="WHOM",
            help="rotator, or consumer: an application that reads them. AWS also: lambda and"
            " lambda-sweep, the roles of the rotation function and of its sweep; lambda-invoke, who"
            " may call that function.",
        ),
    ] = "rotator",
    also: Annotated[
        list[str] | None,
        typer.Option(
            "--also",
            metavar="PATH",
            show_default=False,
            help="A further path, of a secret that is not configured yet, such as one to import;"
            " may be repeated.",
        ),
    ] = None,
) -> None:
    """Print the least rights that rotator, or an application, needs in a backend.

    In the backend's own language, for exactly the paths that the configuration names. Nothing is
    connected to.

    Examples:
        rotator policy vault > rotator.hcl
        rotator policy vault app-db --for consumer
        rotator policy aws --for lambda
    """
    call: Invocation = ctx.obj
    from rotator.bootstrap import policy as made  # noqa: PLC0415

    text = made(call.config, backend, names or (), of=of, also=also or ())
    call.data |= {"backend": backend, "for": of, "policy": text}
    if not call.as_json:
        call.write(text)
