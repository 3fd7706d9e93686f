"""retire, rename: how a secret leaves management, and how it goes on under another name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rotator.core.errors import RotatorError, UsageError
from rotator.engine import Retirement
from rotator.faces.cli import exits
from rotator.faces.cli.command import command
from rotator.faces.cli.options import Name, Reason, complete_names
from rotator.faces.cli.run import Run

if TYPE_CHECKING:
    from rotator.bootstrap import App
    from rotator.engine import ManagedSecret, Retired

_PANEL = "Step in"


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    command(
        app,
        "retire",
        panel=_PANEL,
        examples="""
        rotator retire app-db --reason "the service is gone"
        rotator retire app-db --drop-login --remove-value --reason "the service is gone"
        """,
    )(retire)
    command(
        app,
        "rename",
        panel=_PANEL,
        examples="""
        rotator rename app-db billing-db
        """,
    )(rename)


def retire(
    run: Run,
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
    """
    if abandon and (drop_login or remove_value or not reason):
        raise UsageError(
            "--abandon needs --reason, and goes with no other change.",
            safety="Nothing was changed.",
        )
    asked = Retirement(
        reason=reason, drop_login=drop_login, remove_value=remove_value, end_sessions=terminate
    )
    with run.open_app() as app:
        name = app.names(only=[name], forgotten=True)[0]
        listed = name in app.settings.secrets
        secret = None if abandon else _secret(app, name, asked)
        if secret is None:
            record = app.journal.secret(name)
            app.engine.let_go(name, reason=reason)
            run.data |= _data(name, record.login if record else None)
            run.say(f"{name}: retired; nothing was changed on its target or in its backend.")
        else:
            _tell(run, app.engine.retire(secret, asked))
        if listed:
            run.say(f"  Next: remove the entry of {name} from {app.settings.file.name}.")
        _ = app.checkpoint()


def rename(
    run: Run,
    old: Annotated[
        str,
        typer.Argument(
            metavar="OLD",
            show_default=False,
            autocompletion=complete_names,
            help="The name that the journal knows.",
        ),
    ],
    new: Annotated[
        str,
        typer.Argument(
            metavar="NEW",
            show_default=False,
            autocompletion=complete_names,
            help="The name that the configuration has now.",
        ),
    ],
    *,
    reason: Reason = "",
) -> None:
    """Let a secret's history go on under another name.

    Change the name of the entry first (and keep its `path`), then run this. The login, its age and
    its due date stay; marks of the former name on the target still count as the secret's own.
    """
    with run.open_app() as app:
        if old in app.settings.secrets:
            raise UsageError(
                f"{app.settings.file.name} still names {old}.",
                hint=f"Change the name of its entry to {new} first, and keep its path.",
                safety="Nothing was changed.",
            )
        _ = app.settings.secret(new)
        app.engine.rename(old, app.secret(new), reason=reason)
        run.data |= {"from": old, "to": new, "reason": reason}
        run.say(f"{old} goes on as {new}. See: rotator history {new}")
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


def _tell(run: Run, done: Retired) -> None:
    run.data |= _data(
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
        _ = run.fail(error, secret=done.secret, code=exits.STUCK)
        return
    run.say(f"{done.secret}: retired.")
    if done.dropped:
        run.say(f"  Login {done.login} is proven dead: a login with it was tried and rejected.")
    elif done.login is not None:
        run.say(f"  Login {done.login} was left as it is.")
    if done.removed:
        run.say("  Its value was removed from the backend.")


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
