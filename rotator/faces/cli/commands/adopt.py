"""adopt: take over existing logins."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from rotator.core.errors import UsageError
from rotator.core.model import Credential
from rotator.engine import Second, UnprovenSecond
from rotator.faces.cli.adoption_csv import Row, read_rows
from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation, for_each, select
from rotator.faces.cli.options import Everything, Names, Reason, Tags
from rotator.faces.cli.passwords import PROMPT, ask_password
from rotator.faces.cli.render import json_output
from rotator.faces.cli.render.console import at, relative

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rotator.bootstrap import App
    from rotator.core.history import SecretRecord
    from rotator.engine import Health, ManagedSecret

app = typer.Typer()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """What the command line says of logins and passwords."""

    username: str | None
    password_from: str | None
    second_password_from: str | None
    take_over: str | None
    pair: bool
    reason: str


@command(app, "adopt", Panel.CREDENTIALS)
def adopt(
    ctx: typer.Context,
    names: Names = None,
    *,
    everything: Everything = False,
    tags: Tags = None,
    from_file: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            show_default=False,
            help="A CSV file with the columns name, username and password_from (a reference) or, in a"
            " file that only its owner can read, password.",
        ),
    ] = None,
    username: Annotated[
        str | None,
        typer.Option(
            "--username", metavar="LOGIN", show_default=False, help="The login that is in use now."
        ),
    ] = None,
    password_from: Annotated[
        str | None,
        typer.Option(
            "--password-from",
            metavar="REFERENCE",
            show_default=False,
            help="Where its password is: env:NAME, file:PATH, BACKEND:PATH#FIELD, - (standard input)"
            " or prompt.",
        ),
    ] = None,
    pair: Annotated[
        bool,
        typer.Option(
            "--pair",
            help="Also adopt the second of two logins that take turns; asks for its password where"
            " the backend does not hold it.",
        ),
    ] = False,
    second_password_from: Annotated[
        str | None,
        typer.Option(
            "--second-password-from",
            metavar="REFERENCE",
            show_default=False,
            help="Where the password of the second login is, as --password-from.",
        ),
    ] = None,
    take_over: Annotated[
        str | None,
        typer.Option(
            "--take-over",
            metavar="LOGIN",
            show_default=False,
            help="Adopt this second login although nobody knows its password; needs --reason. The"
            " next rotation gives it a new one.",
        ),
    ] = None,
    reason: Reason = "",
) -> None:
    """Take over logins that are in use. Nothing changes on the target.

    What the backend holds must log in. Where the backend holds nothing yet, give the login with
    --username and --password-from; it is tried before it is kept. Of two logins that take turns,
    the second is adopted too where it exists already.

    Several secrets are adopted one by one, and what is adopted already stays as it is: the command
    can be run again. One that fails does not stop the others.

    Examples:
        rotator adopt app-db
        rotator adopt app-db --username app --password-from prompt
        rotator adopt app-db web-db
        rotator adopt --from logins.csv
        rotator adopt app-db --pair
    """
    call: Invocation = ctx.obj
    given = _Given(
        username=username,
        password_from=password_from,
        second_password_from=second_password_from,
        take_over=take_over,
        pair=pair,
        reason=reason,
    )
    rows = _rows(names or [], from_file, given, several=everything or bool(tags))
    secrets: list[json_output.Data] = []
    call.data["secrets"] = secrets
    with call.open_app() as app:
        picked = list(rows) or select(
            app, names or (), tags=tags or (), everything=everything, verb="adopt"
        )
        if not rows and _is_for_one(given) and len(picked) != 1:
            raise _for_one_only()

        def one(secret: ManagedSecret) -> None:
            secrets.append(_adopt(call, app, secret, rows.get(secret.name), given))

        for_each(call, app, picked, one)
        _ = app.checkpoint()
    if len(picked) == 1 and secrets:
        call.data |= secrets[0]
        call.print(f"What would a rotation do? rotator plan {picked[0]}")
    elif len(picked) > 1:
        call.print(f"{len(secrets)} of {len(picked)} adopted.")


def _rows(
    names: list[str], from_file: Path | None, given: _Given, *, several: bool
) -> Mapping[str, Row]:
    """Return the rows of a file by name; refuse options that do not go together."""
    if (given.username is None) is not (given.password_from is None):
        raise UsageError(
            "--username and --password-from go together.",
            hint="Give both, or neither when the backend holds the credential already.",
            safety="Nothing was changed.",
        )
    if given.take_over is not None and not given.reason:
        raise UsageError(
            "--take-over needs --reason: it is kept in the journal.",
            hint="Say why nobody can prove the login by its password.",
            safety="Nothing was changed.",
        )
    if from_file is None:
        if _is_for_one(given) and (several or len(names) > 1):
            raise _for_one_only()
        return {}
    if names or several or _is_for_one(given):
        raise UsageError(
            "--from names the secrets, their logins and passwords itself.",
            hint="Give --from, or names and options.",
            safety="Nothing was changed.",
        )
    return read_rows(from_file)


def _is_for_one(given: _Given) -> bool:
    return (given.username or given.second_password_from or given.take_over) is not None


def _for_one_only() -> UsageError:
    return UsageError(
        "a login or password on the command line is that of one secret.",
        hint="Name one secret, or give the logins of several in a file: --from FILE.csv",
        safety="Nothing was changed.",
    )


def _adopt(
    call: Invocation, app: App, secret: ManagedSecret, row: Row | None, given: _Given
) -> json_output.Data:
    """Adopt one secret and say so on one line."""
    before = app.journal.secret(secret.name)
    first, second = _first(app, secret, row, given, before), _second(app, secret, row, given)
    health = _asked(app, secret, first, second, given)
    record = app.journal.secret(secret.name)
    due = record.next_due if record else None
    new = before is None or before.version != health.version or health.second is not None
    _tell(call, app, secret, health, new=new)
    return {
        **json_output.of_health(health),
        "second": health.second,
        "adopted": new,
        "next_due": due,
    }


def _first(
    app: App, secret: ManagedSecret, row: Row | None, given: _Given, before: SecretRecord | None
) -> Credential | None:
    """Return the credential given, None where the backend's own is to be adopted."""
    username = row.username if row else given.username
    source = row.password_from if row else given.password_from
    if username is None:
        return None
    if row is not None and before is not None and before.version is not None:
        # The list was worked through before; what the backend serves now is tried.
        current = secret.backend.current(secret.path)
        if current is not None and current.id == before.version:
            return None
    if row is not None and row.password is not None:
        return Credential(username=username, password=row.password)
    return Credential(username=username, password=ask_password(source or PROMPT, app.resolve))


def _second(app: App, secret: ManagedSecret, row: Row | None, given: _Given) -> Second:
    source = row.second_password_from if row else given.second_password_from
    question = f"Password of the second login of {secret.name}: "
    password = ask_password(source, app.resolve, question) if source else None
    return Second(password=password, take_over=given.take_over)


def _asked(
    app: App, secret: ManagedSecret, first: Credential | None, second: Second, given: _Given
) -> Health:
    """Adopt; with --pair ask for the second login's password where nothing else proves it."""
    try:
        return app.engine.adopt(secret, first=first, second=second, reason=given.reason)
    except UnprovenSecond as error:
        if not (given.pair and sys.stdin.isatty()):
            raise
        password = ask_password(PROMPT, app.resolve, f"Password of {error.login}: ")
    second = Second(password=password)
    return app.engine.adopt(secret, first=first, second=second, reason=given.reason)


def _tell(call: Invocation, app: App, secret: ManagedSecret, health: Health, *, new: bool) -> None:
    record = app.journal.secret(secret.name)
    due, now = record.next_due if record else None, app.clock.now()
    when = f"due {at(due)} ({relative(due, now)})" if due else "rotated on demand"
    logins = f"login {health.login} is"
    if health.second:
        logins = f"logins {health.login} and {health.second} are"
    done = "" if new else " (as before)"
    head = Text.assemble(call.screen.sign("good"), " ", (f"{secret.name}: ", "bold"))
    call.print(Text.assemble(head, f"{logins} adopted as version {health.version}{done}; {when}."))
