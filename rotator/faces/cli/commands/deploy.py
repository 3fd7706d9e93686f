"""deploy: write the files to run rotator as a service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rotator import bundled
from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation

app = typer.Typer()


def _complete_kinds(incomplete: str) -> list[str]:
    return [kind for kind in bundled.DEPLOYMENTS if kind.startswith(incomplete)]


@command(app, "deploy", Panel.PREPARE)
def deploy(
    ctx: typer.Context,
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            show_default=False,
            autocompletion=_complete_kinds,
            help="systemd, kubernetes, compose or lambda.",
        ),
    ],
    *,
    out: Annotated[
        Path,
        typer.Option(
            "--out", metavar="DIR", show_default=False, help="Write the files below this folder."
        ),
    ],
) -> None:
    """Write the files needed to run rotator as a service. No existing file is overwritten.

    Units, manifests, alert rules and dashboards to adapt; `rotator docs daemon` and `rotator docs
    aws-lambda` explain them.

    Examples:
        rotator deploy systemd --out .
        rotator deploy kubernetes --out manifests
    """
    call: Invocation = ctx.obj
    files = bundled.write_deployment(kind, out)
    call.data |= {"folder": str(out), "files": [str(file) for file in files]}
    call.print(*(f"Wrote {file}" for file in files))
    page = "aws-lambda" if kind == "lambda" else "daemon"
    call.print(f"Next: rotator docs {page}")
