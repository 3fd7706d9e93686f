"""exec: run a command with the credentials that it needs."""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from rotator.core.errors import UsageError
from rotator.faces.cli.command import Command, Panel, command
from rotator.faces.cli.commands import agent
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.options import Names, duration, option
from rotator.plugins import near

if TYPE_CHECKING:
    from rotator.agent.sources import Consumer
    from rotator.agent.supervisor import OnChange

app = typer.Typer()

_COMMAND: Final = "rotator.exec.command"
_CHANGE: Final = "restart, ignore or signal:NAME"


class ExecCommand(Command):
    """Leaves what follows `--` to the command that it names."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse what precedes `--`."""
        end = args.index("--") if "--" in args else len(args)
        ctx.meta[_COMMAND] = args[end + 1 :]
        return super().parse_args(ctx, args[:end])


@command(app, "exec", Panel.CREDENTIALS, cls=ExecCommand)
def exec_(
    ctx: typer.Context,
    names: Names = None,
    *,
    env: Annotated[
        list[str] | None,
        option(
            "--env",
            "NAME=TEMPLATE",
            "Variable, such as PGUSER={username} or URL=mysql://{shop.username}:{shop.password:url}@db. Default: PGUSER and PGPASSWORD.",
        ),
    ] = None,
    file: Annotated[
        list[str] | None,
        option(
            "--file",
            "FORMAT",
            "Write a file per secret into a private folder, $ROTATOR_SECRETS_DIR, in place of the variables.",
        ),
    ] = None,
    on_change: Annotated[
        str,
        typer.Option("--on-change", metavar="ACTION", help=f"{_CHANGE[0].upper()}{_CHANGE[1:]}."),
    ] = "restart",
    check: Annotated[
        str,
        option(
            "--check",
            "COMMAND",
            "Run before each start: only a value that it accepts (exit code 0) is used.",
        ),
    ] = "",
    splay: Annotated[
        timedelta,
        typer.Option(
            parser=duration,
            metavar="DURATION",
            show_default="5s",
            help="Maximum random delay of a restart.",
        ),
    ] = timedelta(seconds=5),
    kill_after: Annotated[
        timedelta,
        typer.Option(
            parser=duration,
            metavar="DURATION",
            show_default="30s",
            help="Time from SIGTERM to SIGKILL in a restart.",
        ),
    ] = timedelta(seconds=30),
) -> None:
    """Run a command with the current values of secrets, and restart it when one changes.

    The command starts once every value is there. Signals are passed on, and the exit code is that of
    the command. If the backend becomes unreachable, the command continues. Secrets come from agent.yaml,
    or from rotator.yaml where there is none. More: rotator docs deliver-credentials.

    Examples:
        rotator exec shop -- psql -h db.example.org shop
        rotator exec shop --env 'DB_URL=postgresql://{username}:{password:url}@db/shop' -- ./server
        rotator exec shop --file json --on-change signal:HUP -- ./server
    """
    import shlex  # noqa: PLC0415 # only here

    from rotator.agent.formats import FORMATS, check_template  # noqa: PLC0415 # as below
    from rotator.agent.supervisor import ExecOptions, Supervisor  # noqa: PLC0415 # imports the backends

    call: Invocation = ctx.obj
    argv: list[str] = ctx.meta[_COMMAND]
    if not names or not argv:
        raise UsageError(
            "expected secrets, `--` and a command.", hint="Example: rotator exec shop -- psql"
        )
    variables: dict[str, str] = {}
    for text in env or []:
        name, equals, template = text.partition("=")
        if not equals:
            raise UsageError("expected --env NAME=TEMPLATE.", hint="Example: PGUSER={username}")
        check_template(template)
        variables[name] = template
    for name in file or []:
        if name not in FORMATS or name == "template":
            raise UsageError(f"--file: there is no format {name!r}.", hint=near(name, FORMATS))
    options = ExecOptions(
        variables=variables,
        formats=tuple(file or ()),
        on_change=_action(on_change),
        check=tuple(shlex.split(check)),
        splay=splay.total_seconds(),
        kill_after=kill_after.total_seconds(),
    )
    code = Supervisor(_consumer(call, names), argv, options).run()
    sys.stdout.flush()
    # The code of the command may be any: those of rotator's own commands have an order.
    sys.exit(code)


def _action(text: str) -> OnChange:
    from rotator.agent.settings import signal_of  # noqa: PLC0415 # only here

    if text == "restart" or text == "ignore":  # noqa: PLR1714 # the type checker narrows this form
        return text
    kind, _, name = text.partition(":")
    if kind != "signal":
        raise UsageError(f"--on-change {text!r} is unknown.", hint=f"Use {_CHANGE}.")
    return signal_of(name)


def _consumer(call: Invocation, names: list[str]) -> Consumer:
    """Open the secrets by agent.yaml, or by rotator.yaml where there is none."""
    from rotator.agent import sources  # noqa: PLC0415 # imports the backends
    from rotator.config.agent_file import is_agent_file  # noqa: PLC0415 # imports pydantic

    path = agent.agent_file(call)
    is_given = call.shared.config is not None
    if is_given and not is_agent_file(path):
        return sources.open_settings(path, names)
    if not is_given and not os.environ.get(agent.VARIABLE) and not path.exists():
        default: Path = call.config
        if default.exists():
            return sources.open_settings(default, names)
    return sources.open_agent(path, names)
