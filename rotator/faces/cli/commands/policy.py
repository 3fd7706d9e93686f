"""policy: print the access policy that a backend needs."""

from __future__ import annotations

from typing import Annotated

import typer

from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.options import Backend, Names, option

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
            help="rotator, or consumer (an application that reads secrets). access-check: what"
            " `rotator access check` reads. For AWS also: lambda and"
            " lambda-sweep (the roles of the rotation function and of its sweep), and lambda-invoke"
            " (the permission to call that function).",
        ),
    ] = "rotator",
    also: Annotated[
        list[str] | None,
        option(
            "--also",
            "PATH",
            "Path of a secret that is not configured yet, to be included as well; may be repeated.",
        ),
    ] = None,
    following: Annotated[
        bool,
        typer.Option(
            "--next",
            help="With --for consumer: also read the next version, for secrets with `prepare`.",
        ),
    ] = False,
) -> None:
    """Print the minimum access policy of rotator, or of an application, for a backend.

    The policy is in the language of the backend and covers exactly the configured paths. Connects to
    nothing.

    Examples:
        rotator policy vault > rotator.hcl
        rotator policy vault app-db --for consumer --next
        rotator policy aws --for lambda
    """
    call: Invocation = ctx.obj
    from rotator.bootstrap import policy as made  # noqa: PLC0415

    text = made(call.config, backend, names or (), of=of, also=also or (), following=following)
    call.data |= {"backend": backend, "for": of, "policy": text}
    if not call.as_json:
        call.write(text)
