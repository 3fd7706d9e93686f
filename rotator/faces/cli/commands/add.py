"""add: write entries for secrets into the configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rotator.config import load
from rotator.core.errors import UsageError
from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.config_entries import completed, write
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.options import argument, complete_backends, complete_targets, option

if TYPE_CHECKING:
    Entry = dict[str, object]

app = typer.Typer()


@command(app, "add", Panel.PREPARE)
def add(
    ctx: typer.Context,
    names: Annotated[list[str], argument("NAME", "Names of new secrets.")],
    *,
    target: Annotated[
        str | None, option("--target", "TARGET", "Target of the secrets.", complete_targets)
    ] = None,
    backend: Annotated[
        str | None,
        option("--backend", "BACKEND", "Backend that stores the secrets.", complete_backends),
    ] = None,
    path: Annotated[str | None, option("--path", "PATH", "Path in the backend.")] = None,
    strategy: Annotated[str | None, option("--strategy", "STRATEGY", "Rotation strategy.")] = None,
    username: Annotated[
        str | None,
        option("--username", "LOGIN", "Login that is in use now. Default: the name of the secret."),
    ] = None,
    policy: Annotated[
        str | None, option("--policy", "POLICY", "Name of one of the `policies`.")
    ] = None,
    tags: Annotated[list[str] | None, option("--tag", "TAG", "Label; may be repeated.")] = None,
) -> None:
    """Write entries for secrets into the configuration, and keep its comments and formatting.

    Values from `defaults` are left out. If there is only one target or backend, it is used. The
    plugin of the target proposes the strategy. The command connects to nothing.

    Examples:
        rotator add billing
        rotator add billing shop search
        rotator add legacy --target main --strategy single-user --username legacy
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
    if (username is not None or path is not None) and len(names) > 1:
        raise UsageError(
            "--username and --path apply to one secret only.",
            hint="Add the secrets one by one.",
            safety="Nothing was changed.",
        )
    settings = load(call.config)
    entries = {name: completed(settings, name, dict(given), username) for name in names}
    write(call, call.config, {"secrets": entries})
    listed = " ".join(names)
    call.print(f"Next: rotator doctor {listed} && rotator adopt {listed}")
