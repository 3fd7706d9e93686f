"""retire: end the management of a secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rotator.core.errors import RotatorError, UsageError
from rotator.engine import Retirement
from rotator.faces.cli import exit_codes
from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.options import Name, Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rotator.bootstrap import App
    from rotator.engine import ManagedSecret, Retired

app = typer.Typer()


@command(app, "retire", Panel.INTERVENE)
def retire(
    ctx: typer.Context,
    name: Name,
    *,
    drop_login: Annotated[
        bool,
        typer.Option(
            "--drop-login", help="Revoke the current login, and require that it is rejected."
        ),
    ] = False,
    remove_value: Annotated[
        bool, typer.Option("--remove-value", help="Remove the secret from its backend.")
    ] = False,
    terminate: Annotated[
        bool, typer.Option("--terminate", help="End open sessions of revoked logins.")
    ] = False,
    abandon: Annotated[
        bool,
        typer.Option(
            "--abandon",
            help="Write to the journal only, because the target or backend no longer exists. Requires --reason.",
        ),
    ] = False,
    reason: Reason = "",
) -> None:
    """Stop managing a secret, even one that is no longer configured.

    An open rotation is completed, or undone if it is not published yet. The current login stays valid
    unless --drop-login is given; the journal records which. It refuses while leases are open. Afterwards remove the entry from the
    configuration.

    Examples:
        rotator retire app-db --reason "the service is gone"
        rotator retire app-db --drop-login --remove-value --reason "the service is gone"
    """
    call: Invocation = ctx.obj
    if abandon and (drop_login or remove_value or not reason):
        raise UsageError(
            "--abandon needs --reason, and cannot be combined with --drop-login or --remove-value.",
            safety="Nothing was changed.",
        )
    asked = Retirement(
        reason=reason, drop_login=drop_login, remove_value=remove_value, end_sessions=terminate
    )
    with call.open_app() as app:
        name = app.names(only=[name], forgotten=True)[0]
        listed = name in app.settings.secrets
        secret = None if abandon else _secret(app, name, asked)
        if secret is None:
            record = app.journal.secret(name)
            lent = app.engine.let_go(name, reason=reason, abandoned=abandon)
            watched = record.incident if record else None
            login = record.login if record else None
            call.data |= _data(name, login, incident=watched, left=lent)
            call.print(f"{name}: retired; nothing was changed on its target or in its backend.")
            if lent:
                call.print(f"  These logins of leases may be valid: {', '.join(lent)}")
            _tell_of_watch(call, watched)
        else:
            _tell(call, app.engine.retire(secret, asked))
        if listed:
            call.print(f"  Next: remove the entry of {name} from {app.settings.file.name}.")
        _ = app.checkpoint()


def _secret(app: App, name: str, asked: Retirement) -> ManagedSecret | None:
    """Return the secret; None if it cannot be opened and nothing must be changed in it."""
    try:
        return app.secret(name)
    except RotatorError:
        needs_it = asked.drop_login or asked.remove_value
        if needs_it or name in app.settings.secrets or app.journal.open_rotation(name) is not None:
            raise
        return None


def _tell(call: Invocation, done: Retired) -> None:
    call.data |= _data(
        done.secret,
        done.login,
        retired=done.still_open is None,
        dropped=done.dropped,
        refused=done.refused,
        removed=done.removed,
        incident=done.incident,
    )
    if done.still_open is not None:
        result = done.still_open
        why = result.error.what if result.error is not None else result.waiting
        error = UsageError(
            f"it is not retired, because its rotation is still open: {why}",
            hint=(result.error.hint if result.error is not None else "")
            or f"Try again, or also end open sessions: rotator retire {done.secret} --terminate",
        )
        _ = call.fail(error, secret=done.secret, code=exit_codes.STUCK)
        return
    call.print(f"{done.secret}: retired.")
    if done.dropped:
        call.print(f"  Login {done.login} is revoked: a login attempt with it was rejected.")
    elif done.login is not None:
        call.print(f"  Login {done.login} is unchanged and still valid.")
    if done.removed:
        call.print("  Its value is removed from the backend.")
    _tell_of_watch(call, done.incident)


def _tell_of_watch(call: Invocation, incident: str | None) -> None:
    if incident is not None:
        call.print(f"  The watch over its leaked password ended: incident {incident} is closed.")


def _data(
    name: str,
    login: str | None,
    *,
    retired: bool = True,
    dropped: bool = False,
    refused: bool | None = None,
    removed: bool = False,
    incident: str | None = None,
    left: Sequence[str] = (),
) -> dict[str, object]:
    return {
        "secret": name,
        "retired": retired,
        "login": login,
        "dropped": dropped,
        "refused": refused,
        "removed": removed,
        "incident": incident,
        "logins_left": list(left),
    }
