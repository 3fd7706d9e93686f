"""get: show the credential that a backend serves."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rotator.agent.connection import known_fields, made_fields, require_template
from rotator.agent.formats import FORMATS
from rotator.core.access import Permission
from rotator.core.errors import UsageError
from rotator.core.model import AfterReveal
from rotator.core.secret import MASK
from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.credentials import (
    UNSHOWN,
    check_format,
    formatted,
    lines_of,
    shown_value,
    values_of,
)
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.options import (
    SHORT,
    Name,
    Reason,
    Template,
    complete_fields,
    complete_formats,
    option,
)
from rotator.plugins import near

if TYPE_CHECKING:
    from rotator.bootstrap import App
    from rotator.core.model import Credential, Version
    from rotator.engine import ManagedSecret

app = typer.Typer()


@command(app, "get", Panel.CREDENTIALS)
def get(
    ctx: typer.Context,
    name: Name,
    *,
    field: Annotated[
        str | None,
        option("--field", "FIELD", "Print only the value of this field.", complete_fields),
    ] = None,
    format_: Annotated[
        str | None,
        option(
            "--format", "FORMAT", f"Print all fields as: {', '.join(FORMATS)}.", complete_formats
        ),
    ] = None,
    template: Template = "",
    reveal: Annotated[
        bool, typer.Option("--reveal", help="Show secret values. The journal records it first.")
    ] = False,
    reason: Reason = "",
) -> None:
    """Show the credential that the backend serves. Secret values are hidden without --reveal.

    With --field only the value is printed. As with `vault kv get -field`, a line break follows on a
    terminal only. --reveal is recorded in the journal with --reason, before anything is shown; if it cannot be
    recorded, nothing is shown. `after_reveal` of the policy can make the secret due. With --format the text is what a file of that format contains: the same as a file
    that `rotator agent run` writes.

    Examples:
        rotator get app-db
        rotator get app-db --field username
        PGPASSWORD=$(rotator get app-db --field password --reveal) psql ...
        rotator get app-db --format pgpass --reveal --reason "debugging the nightly job"
    """
    call: Invocation = ctx.obj
    if field is not None and format_ is not None:
        raise UsageError("--field cannot be combined with --format.")
    check_format(format_, template)
    if reveal:
        call.permission = Permission.REVEAL
    with call.open_app() as app:
        secret = app.secret(name)
        found = secret.backend.current(secret.path)
        if found is None:
            raise UsageError(
                f"the backend holds nothing at {secret.path!r} yet.",
                hint=f"Create a first credential: rotator rotate {name}",
            )
        if field is not None:
            data, text = _one(app, name, found.credential, field, reveal=reveal)
        elif format_ is not None:
            data, text = _formatted(app, name, found, format_, template, reveal=reveal)
        else:
            data, text = _all(app, name, found, reveal=reveal)
        if reveal:
            # After all that may fail: what was not shown is no reveal.
            record_reveal(app, secret, reason, found.id)
    call.revealed = reveal
    call.data |= data
    if call.as_json:
        return
    # To standard output directly, since a screen would mask revealed values.
    call.write(text)
    if MASK in data.get("fields", {}).values():
        call.warn("Show hidden values with --reveal.")


def record_reveal(app: App, secret: ManagedSecret, reason: str, version: str) -> None:
    """Record that a value is about to be shown, signed where there is a key. Raises what prevents that."""
    app.engine.record_reveal(secret, reason=reason, version=version, patience=SHORT)
    if secret.policy.after_reveal is AfterReveal.NOW:
        app.requests.rotate_after_reveal(secret.name, actor=app.actor)
    _ = app.checkpoint()


def _one(
    app: App, name: str, credential: Credential, field: str, *, reveal: bool
) -> tuple[dict[str, Any], str]:
    """Return one field as data and as text."""
    values = known_fields(app.settings, name, credential) | values_of(credential)
    if field not in values:
        require_template(app.settings, name, field, credential)
        raise UsageError(
            f"{name} has no field {field!r}.",
            hint=near(field, values) or f"Its fields: {', '.join(sorted(values))}.",
        )
    if field != "username" and not reveal:
        # A script would use a mask on standard output as the password.
        raise UsageError(f"the field {field!r} is secret.", hint="Add --reveal to print it.")
    shown = shown_value(values[field], field, reveal=reveal)
    if shown == UNSHOWN:
        raise UsageError(
            f"the field {field!r} of {name} cannot be shown.",
            hint="Only the system that rotates it knows its value. Test it: rotator verify",
        )
    data = {"secret": name, "field": field, "value": shown, "revealed": reveal}
    return data, shown + ("\n" if sys.stdout.isatty() else "")


def _formatted(
    app: App, name: str, version: Version, format_: str, template: str, *, reveal: bool
) -> tuple[dict[str, Any], str]:
    """Return the credential in a format, as data and as text."""
    if not reveal:
        raise UsageError(
            f"the format {format_} contains the password.", hint="Add --reveal to print it."
        )
    text = formatted(app.settings, name, version.credential, version.id, format_, template)
    return {"secret": name, "format": format_, "text": text, "revealed": True}, text


def _all(app: App, name: str, found: Version, *, reveal: bool) -> tuple[dict[str, Any], str]:
    """Return every field as data and as text."""
    path = app.settings.secrets[name].path
    values = made_fields(app.settings, name, found.credential) | values_of(found.credential)
    shown = {key: shown_value(value, key, reveal=reveal) for key, value in values.items()}
    data = {
        "secret": name,
        "path": path,
        "version": found.id,
        "revealed": reveal,
        "fields": shown,
    }
    return data, f"{name}, version {found.id}\n{lines_of(shown)}"
