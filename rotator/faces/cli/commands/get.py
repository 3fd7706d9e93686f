"""get: show the credential that a backend serves."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from rotator.agent.formats import FORMATS, FormatOptions, render
from rotator.client import Login
from rotator.core.access import Permission
from rotator.core.errors import UsageError
from rotator.core.model import AfterReveal
from rotator.core.secret import MASK, Secret
from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.options import (
    SHORT,
    Name,
    Reason,
    complete_fields,
    complete_formats,
    option,
)
from rotator.plugins import near

if TYPE_CHECKING:
    from rotator.bootstrap import App
    from rotator.core.model import Version
    from rotator.engine import ManagedSecret

app = typer.Typer()

_UNSHOWN: Final = "(known only to the system that rotates it)"


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
    template: Annotated[
        str,
        option("--template", "TEXT", "Text with {field} or {field:url}, for --format template."),
    ] = "",
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
            data, text = _one(name, _values(found), field, reveal=reveal)
        elif format_ is not None:
            data, text = _formatted(name, found, format_, template, reveal=reveal)
        else:
            data, text = _all(name, secret.path, found, reveal=reveal)
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


def _values(found: Version) -> dict[str, object]:
    """Return every field of a credential. All but the login name are secret."""
    credential = found.credential
    return {**credential.fields, "username": credential.username, "password": credential.password}


def _one(
    name: str, values: dict[str, object], field: str, *, reveal: bool
) -> tuple[dict[str, Any], str]:
    """Return one field as data and as text."""
    if field not in values:
        raise UsageError(
            f"{name} has no field {field!r}.",
            hint=near(field, values) or f"Its fields: {', '.join(sorted(values))}.",
        )
    if field != "username" and not reveal:
        # A script would use a mask on standard output as the password.
        raise UsageError(f"the field {field!r} is secret.", hint="Add --reveal to print it.")
    shown = _shown(values[field], field, reveal=reveal)
    if shown == _UNSHOWN:
        raise UsageError(
            f"the field {field!r} of {name} cannot be shown.",
            hint="Only the system that rotates it knows its value. Test it: rotator verify",
        )
    data = {"secret": name, "field": field, "value": shown, "revealed": reveal}
    return data, shown + ("\n" if sys.stdout.isatty() else "")


def _formatted(
    name: str, version: Version, format_: str, template: str, *, reveal: bool
) -> tuple[dict[str, Any], str]:
    """Return the credential in a format, as data and as text."""
    if format_ not in FORMATS:
        raise UsageError(
            f"there is no format {format_!r}.",
            hint=near(format_, FORMATS) or f"One of: {', '.join(FORMATS)}.",
        )
    if not reveal:
        raise UsageError(
            f"the format {format_} contains the password.", hint="Add --reveal to print it."
        )
    credential = version.credential
    if not credential.password.reveal():
        raise UsageError(
            f"the password of {name} cannot be shown.",
            hint="Only the system that rotates it knows its value. Test it: rotator verify",
        )
    login = Login(
        username=credential.username,
        password=credential.password,
        version=version.id,
        fields=credential.fields,
    )
    text = render(login, format_, FormatOptions(template=template)).reveal()
    return {"secret": name, "format": format_, "text": text, "revealed": True}, text


def _shown(value: object, key: str, *, reveal: bool) -> str:
    if isinstance(value, Secret):
        if not value.reveal():
            return _UNSHOWN
        return value.reveal() if reveal else MASK
    if key != "username" and not reveal:
        return MASK
    if isinstance(value, str):
        return value
    return json.dumps(value)


def _all(name: str, path: str, found: Version, *, reveal: bool) -> tuple[dict[str, Any], str]:
    """Return every field as data and as text."""
    shown = {key: _shown(value, key, reveal=reveal) for key, value in _values(found).items()}
    width = max(len(key) for key in shown)
    lines = [f"  {key:<{width}}  {value}\n" for key, value in shown.items()]
    data = {
        "secret": name,
        "path": path,
        "version": found.id,
        "revealed": reveal,
        "fields": shown,
    }
    return data, "".join([f"{name}, version {found.id}\n", *lines])
