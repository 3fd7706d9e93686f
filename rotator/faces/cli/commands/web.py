"""web: serve the web console, and manage its local users."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rotator.core.errors import UsageError
from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.options import argument, option
from rotator.faces.cli.passwords import PROMPT, ask_password
from rotator.faces.cli.render.console import table
from rotator.faces.cli.render.help import PlainGroup
from rotator.faces.cli.services import require_packages
from rotator.faces.wording import plural

if TYPE_CHECKING:
    from rotator.config import Settings
    from rotator.faces.web.users import LocalUsers

app = typer.Typer()
_web = typer.Typer(cls=PlainGroup, no_args_is_help=True, rich_markup_mode="rich")
app.add_typer(
    _web,
    name="web",
    help="Serve the web console and manage its users.",
    rich_help_panel=Panel.INSPECT,
)

Name = Annotated[str, argument("NAME", "The user's name.")]


@command(_web, "run")
def run(ctx: typer.Context) -> None:
    """Serve the web console until SIGTERM.

    It reads the journal and appends requests; it has no access to backends and targets, and shows no
    value of a secret. It listens on 127.0.0.1:9466 by default (`web.listen`). Who may see and
    request what is in the section `roles`. More: rotator docs web-console.

    Examples:
        rotator web run
        rotator web run -c /etc/rotator/rotator.yaml --log-level info
    """
    call: Invocation = ctx.obj
    with require_packages("web"):
        from rotator.faces.web.server import serve  # noqa: PLC0415 # needs an extra

    def begun(url: str, settings: Settings) -> None:
        count = len(settings.secrets)
        if call.screen.out.is_terminal:
            call.print(f"rotator web run: {url}, {count:,} secrets. Ctrl-C stops it.")

    serve(call.config, begun)


@command(_web, "add-user")
def add(
    ctx: typer.Context,
    name: Name,
    *,
    groups: Annotated[
        list[str] | None,
        option(
            "--group", "GROUP", "A group of the user, for the section `roles`. May be repeated."
        ),
    ] = None,
    password_from: Annotated[
        str,
        option("--password-from", "SOURCE", "The password: prompt, - (standard input), file:PATH."),
    ] = PROMPT,
) -> None:
    """Add a local user of the web console, or set another password.

    The file `web.users` holds an argon2id hash. A running console uses it at the next sign-in. Another
    password ends the sessions of that user.

    Examples:
        rotator web add-user alice
        rotator web add-user alice --group dba --password-from file:alice-password
    """
    from rotator.faces.web.references import plain_resolver  # noqa: PLC0415 # imports contracts

    call: Invocation = ctx.obj
    settings = _settings(call)
    users = _users(settings)
    password = ask_password(password_from, plain_resolver(settings.base))
    is_new = users.add(name, password, groups or ())
    if not is_new:
        _ = _end_sessions(settings, f"password:{name}")
    call.data |= {"user": name, "new": is_new}
    call.print(f"{name}: {'added' if is_new else 'password and groups replaced'}.")


@command(_web, "remove-user")
def remove(ctx: typer.Context, name: Name) -> None:
    """Remove a local user of the web console, and end the sessions of that user.

    Examples:
        rotator web remove-user alice
    """
    call: Invocation = ctx.obj
    settings = _settings(call)
    _users(settings).remove(name)
    count = _end_sessions(settings, f"password:{name}")
    call.data |= {"user": name, "sessions": count}
    call.print(f"{name}: removed, {plural(count, 'session')} ended.")


@command(_web, "sign-out")
def sign_out(
    ctx: typer.Context,
    name: Annotated[
        str | None, argument("NAME", "Whose sessions: NAME, or METHOD:NAME as in `roles`.")
    ] = None,
    *,
    everybody: Annotated[
        bool, typer.Option("--all", help="End the sessions of everybody.")
    ] = False,
) -> None:
    """End sessions of the web console at once, however somebody signed in.

    Users whom a proxy signs in have no session here.

    Examples:
        rotator web sign-out oidc:dana@example.org
        rotator web sign-out --all
    """
    if (name is None) is not everybody:
        raise UsageError("expected a name or --all.", safety="No session was ended.")
    call: Invocation = ctx.obj
    count = _end_sessions(_settings(call), name)
    call.data |= {"sessions": count}
    call.print(f"{plural(count, 'session')} ended.")


@command(_web, "users")
def list_(ctx: typer.Context) -> None:
    """List the local users of the web console.

    Examples:
        rotator web users
    """
    call: Invocation = ctx.obj
    found = _users(_settings(call)).names()
    call.data["users"] = [{"user": one.name, "groups": list(one.groups)} for one in found]
    if not found:
        call.print("There are no local users. Add one: rotator web add-user NAME")
        return
    rows = [(one.name, ", ".join(one.groups) or "-") for one in found]
    call.print(table(call.screen, ("user", "groups"), rows))


def _users(settings: Settings) -> LocalUsers:
    with require_packages("web"):
        from rotator.faces.web.users import LocalUsers  # noqa: PLC0415 # needs an extra
    return LocalUsers(settings.web.users)


def _end_sessions(settings: Settings, name: str | None) -> int:
    with require_packages("web"):
        from rotator.faces.web.sessions import SessionFile  # noqa: PLC0415 # imports sqlite3
    file = SessionFile(settings.web.sessions)
    try:
        return file.end_sessions(name)
    finally:
        file.close()


def _settings(call: Invocation) -> Settings:
    from rotator.bootstrap import load_settings  # noqa: PLC0415 # imports every library

    return load_settings(call.config)
