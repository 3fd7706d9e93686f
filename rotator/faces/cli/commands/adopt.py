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
from rotator.engine.incident import next_in_incident
from rotator.faces import answers
from rotator.faces.cli.adoption_csv import Row, read_rows
from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation, for_each, select
from rotator.faces.cli.options import Everything, Names, Reason, Tags, option
from rotator.faces.cli.passwords import PROMPT, ask_password
from rotator.faces.cli.render import json_output
from rotator.faces.wording import at, relative

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rotator.bootstrap import App
    from rotator.core.history import SecretRecord
    from rotator.engine import Health, ManagedSecret

app = typer.Typer()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """The logins and passwords of the command line."""

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
        option(
            "--from",
            "FILE",
            "CSV file with the columns name, username and password_from (a reference). A `password` column is accepted only if the file is readable by its owner alone.",
        ),
    ] = None,
    username: Annotated[
        str | None, option("--username", "LOGIN", "Login that is in use now.")
    ] = None,
    password_from: Annotated[
        str | None,
        option(
            "--password-from",
            "REFERENCE",
            "Source of its password: env:NAME, file:PATH, BACKEND:PATH#FIELD, - (standard input) or prompt.",
        ),
    ] = None,
    pair: Annotated[
        bool,
        typer.Option(
            "--pair",
            help="Also adopt the second of two alternating logins. Asks for its password if the"
            " backend does not hold it.",
        ),
    ] = False,
    second_password_from: Annotated[
        str | None,
        option(
            "--second-password-from",
            "REFERENCE",
            "Source of the second login's password, in the same form.",
        ),
    ] = None,
    take_over: Annotated[
        str | None,
        option(
            "--take-over",
            "LOGIN",
            "Adopt this second login without its password; requires --reason. The next rotation sets a new password.",
        ),
    ] = None,
    reason: Reason = "",
) -> None:
    """Take over logins that are in use. Nothing changes on the target.

    The credential in the backend must authenticate. If the backend holds none yet, give it with
    --username and --password-from: rotator tests it before storing it. Of two alternating logins,
    an existing second one is adopted too.

    If you name several secrets, they are adopted one at a time. One that fails does not stop the others. Adopted secrets
    do not change when the command runs again.

    --from takes over the secrets that the file lists, and with --all also every other one: the backend must hold
    its credential. `rotator discover TARGET --csv FILE` writes such a file.

    Examples:
        rotator adopt app-db
        rotator adopt app-db --username app --password-from prompt
        rotator adopt app-db web-db
        rotator adopt --from logins.csv
        rotator adopt --all --from logins.csv
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
    rows = _rows(names or [], from_file, given, everything=everything, tagged=bool(tags))
    secrets: list[answers.Data] = []
    call.data["secrets"] = secrets
    with call.open_app() as app:
        picked = list(rows)
        if everything or not rows:
            chosen = select(app, names or (), tags=tags or (), everything=everything, verb="adopt")
            picked = list(dict.fromkeys([*picked, *chosen]))
        if not rows and _is_for_one(given) and len(picked) != 1:
            raise _for_one_only()

        def adopt_secret(secret: ManagedSecret) -> None:
            secrets.append(_adopt(call, app, secret, rows.get(secret.name), given))

        for_each(call, app, picked, adopt_secret)
        _ = app.checkpoint()
    if len(picked) == 1 and secrets:
        call.data |= secrets[0]
        call.print(f"Preview a rotation: rotator plan {picked[0]}")
    elif len(picked) > 1:
        call.print(f"{len(secrets)} of {len(picked)} adopted.")


def _rows(
    names: list[str], from_file: Path | None, given: _Given, *, everything: bool, tagged: bool
) -> Mapping[str, Row]:
    """Return the rows of the file by name. Raises `UsageError` for options that exclude each other."""
    if (given.username is None) is not (given.password_from is None):
        raise UsageError(
            "--username and --password-from must be given together.",
            hint="Give both, or neither if the backend already holds the credential.",
            safety="Nothing was changed.",
        )
    if given.take_over is not None and not given.reason:
        raise UsageError(
            "--take-over needs --reason, which the journal records.",
            hint="Give the reason why the password of the login is not available.",
            safety="Nothing was changed.",
        )
    if from_file is None:
        if _is_for_one(given) and (everything or tagged or len(names) > 1):
            raise _for_one_only()
        return {}
    if names or tagged or _is_for_one(given):
        raise UsageError(
            "--from cannot be combined with names, --tag, logins or passwords.",
            hint="Give either --from, or names and options.",
            safety="Nothing was changed.",
        )
    return read_rows(from_file)


def _is_for_one(given: _Given) -> bool:
    return (given.username or given.second_password_from or given.take_over) is not None


def _for_one_only() -> UsageError:
    return UsageError(
        "a login or password on the command line applies to one secret only.",
        hint="Name one secret, or list several logins in a file: --from FILE.csv",
        safety="Nothing was changed.",
    )


def _adopt(
    call: Invocation, app: App, secret: ManagedSecret, row: Row | None, given: _Given
) -> answers.Data:
    """Adopt one secret and print one line."""
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
        "incident": health.incident,
        "next_due": due,
    }


def _first(
    app: App, secret: ManagedSecret, row: Row | None, given: _Given, before: SecretRecord | None
) -> Credential | None:
    """Return the credential that was given; None to adopt the one in the backend."""
    username = row.username if row else given.username
    source = row.password_from if row else given.password_from
    if username is None:
        return None
    if row is not None and before is not None and before.version is not None:
        # The list was processed before: test the credential that the backend serves now.
        current = secret.backend.current(secret.path)
        if current is not None and current.id == before.version:
            return None
    if row is not None and row.password is not None:
        return Credential(username=username, password=row.password)
    if row is not None and source is None:
        _require_stored(secret, username)
        return None
    return Credential(username=username, password=ask_password(source or PROMPT, app.resolve))


def _require_stored(secret: ManagedSecret, username: str) -> None:
    """Require that the backend holds the login of a row without a password."""
    current = secret.backend.current(secret.path)
    if current is None or current.credential.username != username:
        raise UsageError(
            f"the file has no password for login {username}, and the backend holds none.",
            hint="Fill in its password_from. If nobody knows the password, set a new one on the target, and give it"
            " to the application; or remove the line.",
            safety="Nothing was changed.",
        )


def _second(app: App, secret: ManagedSecret, row: Row | None, given: _Given) -> Second:
    source = row.second_password_from if row else given.second_password_from
    question = f"Password of the second login of {secret.name}: "
    option = "--second-password-from"
    password = ask_password(source, app.resolve, question, option=option) if source else None
    return Second(password=password, take_over=given.take_over)


def _asked(
    app: App, secret: ManagedSecret, first: Credential | None, second: Second, given: _Given
) -> Health:
    """Adopt. With --pair, ask for the second login's password if it is not known otherwise."""
    if first is not None:
        app.begin_with(secret.name, first)
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
    done = "" if new else " (unchanged)"
    head = Text.assemble(call.screen.sign("good"), " ", (f"{secret.name}: ", "bold"))
    call.print(Text.assemble(head, f"{logins} adopted as version {health.version}{done}; {when}."))
    if health.incident is not None and record is not None:
        call.print(
            Text.assemble(
                call.screen.sign("bad"), f" Its password leaked: incident {health.incident}."
            ),
            Text(next_in_incident(record)),
        )
