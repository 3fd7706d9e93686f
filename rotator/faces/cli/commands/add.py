"""add: write entries for secrets into the configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rotator.config import load
from rotator.core.errors import UsageError
from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.config_entries import completed, write
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.options import complete_backends, complete_targets

if TYPE_CHECKING:
    Entry = dict[str, object]

app = typer.Typer()


@command(app, "add", Panel.PREPARE)
def add(
    ctx: typer.Context,
    names: Annotated[
        list[str], typer.Argument(metavar="NAME", show_default=False, help="Names of new secrets.")
    ],
    *,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            metavar="TARGET",
            show_default=False,
            autocompletion=complete_targets,
            help="Its target.",
        ),
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option(
            "--backend",
            metavar="BACKEND",
            show_default=False,
            autocompletion=complete_backends,
            help="What keeps it.",
        ),
    ] = None,
    path: Annotated[
        str | None,
        typer.Option("--path", metavar="PATH", show_default=False, help="Where that keeps it."),
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            "--strategy", metavar="STRATEGY", show_default=False, help="How it is rotated."
        ),
    ] = None,
    login: Annotated[
        str | None,
        typer.Option(
            "--login",
            metavar="LOGIN",
            show_default=False,
            help="The login that is in use now. Default: the secret's name.",
        ),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option("--policy", metavar="POLICY", show_default=False, help="One of `policies`."),
    ] = None,
    tags: Annotated[
        list[str] | None,
        typer.Option("--tag", metavar="TAG", show_default=False, help="A label; may be repeated."),
    ] = None,
) -> None:
    """Write entries for secrets into the configuration; its comments and formatting stay.

    What `defaults` say is left out. A target or backend that is the only one is taken, and the
    strategy is proposed by the target's plugin. Nothing is connected to.

    Examples:
        rotator add billing
        rotator add billing shop search
        rotator add legacy --target main --strategy single-user --login legacy
    """
    call: Invocation = ctx.obj
    given: Entry = {
        key: value
        for key, value in {
            "target": target,
            "backend": backend,
            "path": path,
            "strategy": strategy,
            "policy": policy,
            "tags": tags or None,
        }.items()
        if value is not None
    }
    if (login is not None or path is not None) and len(names) > 1:
        raise UsageError(
            "--login and --path are of one secret.",
            hint="Add the secrets one by one.",
            safety="Nothing was changed.",
        )
    settings = load(call.config)
    entries = {name: completed(settings, name, dict(given), login) for name in names}
    write(call, call.config, {"secrets": entries})
    listed = " ".join(names)
    call.print(f"Next: rotator doctor {listed} && rotator adopt {listed}")
