"""web: serve the web console, and manage its local users."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.options import argument, option
from rotator.faces.cli.passwords import PROMPT, ask_password
from rotator.faces.cli.render.console import table
from rotator.faces.cli.render.help import PlainGroup
from rotator.faces.cli.services import require_packages

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

    The file `web.users` holds an argon2id hash. A running console uses it at the next sign-in. A change of
    the password does not end sessions.

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
    call.data |= {"user": name, "new": is_new}
    call.print(f"{name}: {'added' if is_new else 'password and groups replaced'}.")


@command(_web, "remove-user")
def remove(ctx: typer.Context, name: Name) -> None:
    """Remove a local user of the web console. Sessions of that user end when they expire.

    Examples:
        rotator web remove-user alice
    """
    call: Invocation = ctx.obj
    _users(_settings(call)).remove(name)
    call.data |= {"user": name}
    call.print(f"{name}: removed. To end an open session now, restart the console.")


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


def _settings(call: Invocation) -> Settings:
    from rotator.bootstrap import load_settings  # noqa: PLC0415 # imports every library

    return load_settings(call.config)
