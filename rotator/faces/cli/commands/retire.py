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
            "--drop-login", help="End the login that is served, and require that it is rejected."
        ),
    ] = False,
    remove_value: Annotated[
        bool, typer.Option("--remove-value", help="Remove the secret from its backend.")
    ] = False,
    terminate: Annotated[
        bool, typer.Option("--terminate", help="End open sessions of the logins that go.")
    ] = False,
    abandon: Annotated[
        bool,
        typer.Option(
            "--abandon",
            help="Only write to the journal: its target or backend is gone. Needs --reason.",
        ),
    ] = False,
    reason: Reason = "",
) -> None:
    """End the management of a secret, also of one that the configuration no longer names.

    A rotation that is open is completed, or undone before its publish. The login that is served
    stays valid unless --drop-login ends it; the journal records which of the two. Then remove the
    entry from the configuration.

    Examples:
        rotator retire app-db --reason "the service is gone"
        rotator retire app-db --drop-login --remove-value --reason "the service is gone"
    """
    call: Invocation = ctx.obj
    if abandon and (drop_login or remove_value or not reason):
        raise UsageError(
            "--abandon needs --reason, and goes with no other change.",
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
            app.engine.let_go(name, reason=reason)
            call.data |= _data(name, record.login if record else None)
            call.print(f"{name}: retired; nothing was changed on its target or in its backend.")
        else:
            _tell(call, app.engine.retire(secret, asked))
        if listed:
            call.print(f"  Next: remove the entry of {name} from {app.settings.file.name}.")
        _ = app.checkpoint()


def _secret(app: App, name: str, asked: Retirement) -> ManagedSecret | None:
    """Return the secret; None when it cannot be worked on and nothing needs that it can."""
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
    )
    if done.still_open is not None:
        result = done.still_open
        why = result.error.what if result.error is not None else result.waiting
        error = UsageError(
            f"it is not retired, its rotation is still open: {why}",
            hint=(result.error.hint if result.error is not None else "")
            or f"Try again, or end open sessions too: rotator retire {done.secret} --terminate",
        )
        _ = call.fail(error, secret=done.secret, code=exit_codes.STUCK)
        return
    call.print(f"{done.secret}: retired.")
    if done.dropped:
        call.print(f"  Login {done.login} is proven dead: a login with it was tried and rejected.")
    elif done.login is not None:
        call.print(f"  Login {done.login} was left as it is.")
    if done.removed:
        call.print("  Its value was removed from the backend.")


def _data(
    name: str,
    login: str | None,
    *,
    retired: bool = True,
    dropped: bool = False,
    refused: bool | None = None,
    removed: bool = False,
) -> dict[str, object]:
    return {
        "secret": name,
        "retired": retired,
        "login": login,
        "dropped": dropped,
        "refused": refused,
        "removed": removed,
    }
