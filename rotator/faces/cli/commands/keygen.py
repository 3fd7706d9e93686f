"""keygen: create a key that signs requests."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Annotated

import typer

from rotator.core.errors import UsageError
from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.options import argument

app = typer.Typer()


@command(app, "keygen", Panel.PREPARE)
def keygen(
    ctx: typer.Context,
    file: Annotated[Path, argument("FILE", "New file for the private key.")],
) -> None:
    """Create a key that signs requests, and print its public half for `requests.writers`.

    Examples:
        rotator keygen console.key
    """
    from rotator.journal import chain  # noqa: PLC0415 # only here

    call: Invocation = ctx.obj
    private = chain.new_signing_key()
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise UsageError(
            f"cannot create {file} ({error.strerror}).",
            hint="Name a new file in a folder that you can write to.",
            safety="Nothing was changed.",
        ) from error
    with os.fdopen(handle, "w") as out:
        _ = out.write(private.reveal())
    lines = chain.public_key(private).strip().splitlines()
    public = base64.b64encode(base64.b64decode("".join(lines[1:-1]))).decode()
    call.data |= {"file": str(file), "public_key": public}
    call.print(f"Private key: {file}", "In the configuration of the engines:", "")
    if not call.as_json:
        call.write(f"requests:\n  writers:\n    NAME: {public}\n")
