"""verify: log in with the credentials that the backends serve."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from rotator.core.delegated import DelegatedRotation
from rotator.faces import answers
from rotator.faces.cli import exit_codes
from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation, for_each
from rotator.faces.cli.options import Everything, Names, Tags
from rotator.faces.cli.render import json_output
from rotator.faces.cli.render.console import line

if TYPE_CHECKING:
    from rotator.engine import Health, ManagedSecret

app = typer.Typer()


@command(app, "verify", Panel.INSPECT)
def verify(
    ctx: typer.Context, names: Names = None, *, everything: Everything = False, tags: Tags = None
) -> None:
    """Log in with the credential that the backend serves, and record the result.

    Examples:
        rotator verify
        rotator verify app-db
    """
    call: Invocation = ctx.obj
    found: list[answers.Data] = []
    call.data["secrets"] = found
    with call.open_app() as app:

        def check(secret: ManagedSecret) -> None:
            health = app.engine.check(secret)
            found.append(json_output.of_health(health))
            if not health.accepted:
                served = app.journal.secret(secret.name)
                error = _refused(secret, health, served.login if served is not None else None)
                _ = call.fail(error, secret=secret.name, code=exit_codes.FAILED)
                return
            call.add_code(exit_codes.DONE)
            stray = (
                ""
                if health.known
                else f" The journal does not contain this version: rotator adopt {secret.name}"
            )
            if health.stale:
                stray += f" Different: {', '.join(health.stale)}."
            sign = call.screen.sign("good" if health.known and not health.stale else "warn")
            call.print(line(sign, secret.name, f"login `{health.login}` authenticated.{stray}"))

        wanted = app.names(
            only=names or (), tags=tags or (), everything=everything or not (names or tags)
        )
        for_each(call, app, wanted, check)
        _ = app.checkpoint()


def _refused(secret: ManagedSecret, health: Health, served: str | None) -> exit_codes.NotAccepted:
    """Return what a check has seen; `served`: the login that the journal recorded last."""
    if health.login is None and served is not None:
        return exit_codes.NotAccepted(
            f"the backend holds nothing at {secret.path!r}, where it served login {served!r}.",
            safety="The application is NOT safe: it finds no credential.",
            hint=f"Restore the newest copy of the backend. What else differs: rotator doctor {secret.name}",
        )
    if health.login is None:
        return exit_codes.NotAccepted(
            f"the backend holds nothing at {secret.path!r}.",
            hint=f"Create a first credential: rotator rotate {secret.name}",
        )
    look = (
        f"Request a new one: rotator rotate {secret.name}"
        if isinstance(secret.rotation, DelegatedRotation)
        else f"See what happened: rotator history {secret.name}"
    )
    return exit_codes.NotAccepted(
        f"the target rejects login {health.login!r} with the password from the backend{health.rejection.because}.",
        safety="The application is NOT safe: new connections fail.",
        hint=health.rejection.hint or look,
    )
