"""get, reseal: reading and keeping what the backend serves."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from rotator.core.errors import UsageError
from rotator.core.ports import Reseals
from rotator.core.secret import MASK, Secret
from rotator.faces.cli.command import command
from rotator.faces.cli.options import Backend, Name, complete_fields
from rotator.faces.cli.run import Run

if TYPE_CHECKING:
    from rotator.core.model import Version

_PANEL = "Credentials"
_UNSHOWN = "(only whoever rotates it knows it)"


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    command(
        app,
        "get",
        panel=_PANEL,
        examples="""
        rotator get app-db
        rotator get app-db --field username
        PGPASSWORD=$(rotator get app-db --field password --reveal) psql ...
        """,
    )(get)
    command(
        app,
        "reseal",
        panel=_PANEL,
        examples="""
        rotator reseal local
        """,
    )(reseal)


def get(
    run: Run,
    name: Name,
    *,
    field: Annotated[
        str | None,
        typer.Option(
            "--field",
            metavar="FIELD",
            show_default=False,
            autocompletion=complete_fields,
            help="Print only this field's value.",
        ),
    ] = None,
    reveal: Annotated[bool, typer.Option("--reveal", help="Show values that are secret.")] = False,
) -> None:
    """Show what the backend serves now. Values stay hidden unless --reveal is given.

    With --field the bare value is printed, followed by a line break on a terminal only, as
    `vault kv get -field` does.
    """
    with run.open_app() as app:
        secret = app.secret(name)
        found = secret.backend.current(secret.path)
    if found is None:
        raise UsageError(
            f"the backend holds nothing at {secret.path!r} yet.",
            hint=f"Make a first credential: rotator rotate {name}",
        )
    values = _values(found)
    run.revealed = reveal
    if field is not None:
        _one(run, name, values, field, reveal=reveal)
        return
    shown = {key: _shown(value, key, reveal=reveal) for key, value in values.items()}
    run.data |= {
        "secret": name,
        "path": secret.path,
        "version": found.id,
        "revealed": reveal,
        "fields": shown,
    }
    if not run.as_json:
        _print(run, name, found, shown)


def reseal(
    run: Run,
    name: Backend,
) -> None:
    """Encrypt everything in a backend anew, under its newest key.

    Make a new key, name it as `key` and the one before under `old_keys`, then run this. Afterwards
    nothing needs the old key any more, but for copies of the file that you keep.
    """
    with run.open_app() as app:
        backend = app.backend(name)
        if not isinstance(backend, Reseals):
            raise UsageError(
                f"backend {name!r} has no keys of ours: it encrypts by itself, or not at all.",
                hint="Look at its own documentation for changing keys.",
                safety="Nothing was changed.",
            )
        count = backend.reseal()
    run.data |= {"backend": name, "resealed": count}
    run.say(f"{name}: {count} values were encrypted anew; nothing in it needs an old key now.")


def _values(found: Version) -> dict[str, object]:
    """Return every field of a credential. Only the login name is not secret."""
    credential = found.credential
    return {**credential.fields, "username": credential.username, "password": credential.password}


def _one(run: Run, name: str, values: dict[str, object], field: str, *, reveal: bool) -> None:
    from rotator.plugins import near  # noqa: PLC0415

    if field not in values:
        raise UsageError(
            f"{name} has no field {field!r}.",
            hint=near(field, values) or f"It has: {', '.join(sorted(values))}.",
        )
    if field != "username" and not reveal:
        # A mask on standard output would end as somebody's password.
        raise UsageError(f"the field {field!r} is secret.", hint="Add --reveal to print it.")
    shown = _shown(values[field], field, reveal=reveal)
    if shown == _UNSHOWN:
        raise UsageError(
            f"the field {field!r} of {name} is shown to nobody.",
            hint="Whoever rotates it keeps it to itself; `rotator verify` has it tried.",
        )
    run.data |= {"secret": name, "field": field, "value": shown, "revealed": reveal}
    if not run.as_json:
        run.write(shown + ("\n" if sys.stdout.isatty() else ""))


def _shown(value: object, key: str, *, reveal: bool) -> str:
    if isinstance(value, Secret):
        if not value.reveal():
            return _UNSHOWN
        return value.reveal() if reveal else MASK
    if key != "username" and not reveal:
        return MASK
    if isinstance(value, str):
        return value
    import json  # noqa: PLC0415

    return json.dumps(value)


def _print(run: Run, name: str, found: Version, shown: dict[str, str]) -> None:
    """Write straight to standard output: a screen would scrub what a person asked to see."""
    width = max(len(key) for key in shown)
    run.write(f"{name}, version {found.id}\n")
    for key, value in shown.items():
        run.write(f"  {key:<{width}}  {value}\n")
    if MASK in shown.values():
        run.note("Hidden values are shown with --reveal.")
