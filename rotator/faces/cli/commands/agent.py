"""agent: keep files of this host up to date, and serve applications on a socket."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from rotator.core.errors import UsageError
from rotator.faces.cli import exit_codes
from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.options import duration, option
from rotator.faces.cli.render.help import PlainGroup
from rotator.faces.signals import Signals
from rotator.system import tell_systemd

if TYPE_CHECKING:
    from rotator.agent.agent import Agent

app = typer.Typer()
_agent = typer.Typer(cls=PlainGroup, no_args_is_help=True, rich_markup_mode="rich")
app.add_typer(
    _agent,
    name="agent",
    help="Keep files of an application host up to date.",
    rich_help_panel=Panel.CREDENTIALS,
)

VARIABLE: Final = "ROTATOR_AGENT_CONFIG"
DEFAULT: Final = "agent.yaml"


def agent_file(call: Invocation) -> Path:
    """Return the agent's configuration: the option, else the environment, else the default."""
    return call.shared.config or Path(os.environ.get(VARIABLE) or DEFAULT)


@command(_agent, "run")
def run(
    ctx: typer.Context,
    *,
    once: Annotated[
        bool,
        typer.Option(
            "--once", help="Write every file once, then exit: for cron and init containers."
        ),
    ] = False,
    timeout: Annotated[
        timedelta,
        typer.Option(
            parser=duration,
            metavar="DURATION",
            show_default="60s",
            help="With --once: maximum total wait.",
        ),
    ] = timedelta(seconds=60),
) -> None:
    """Write the files of agent.yaml, keep them up to date and serve its socket, until SIGTERM.

    It needs neither the journal nor an admin credential: it reads secrets as an application does. Its
    configuration is --config, $ROTATOR_AGENT_CONFIG or ./agent.yaml. More: rotator docs deliver-credentials.

    Examples:
        rotator agent run
        rotator agent run --once -c /etc/rotator/agent.yaml
    """
    from rotator.agent.agent import Agent  # noqa: PLC0415 # imports the backends
    from rotator.agent.sources import open_agent  # noqa: PLC0415 # as above

    call: Invocation = ctx.obj
    agent = Agent(open_agent(agent_file(call)))
    if once:
        _run_once(call, agent, timeout.total_seconds())
    else:
        _serve(agent)


@command(_agent, "init")
def init(
    ctx: typer.Context,
    *,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema instead, for editors.")
    ] = False,
    output: Annotated[
        Path | None, option("--output", "FILE", f"File to create. Default: ./{DEFAULT}.")
    ] = None,
) -> None:
    """Write a commented agent.yaml.

    Examples:
        rotator agent init
        rotator agent init --output /etc/rotator/agent.yaml
        rotator agent init --schema
    """
    from rotator.agent.template import TEXT  # noqa: PLC0415 # only here

    call: Invocation = ctx.obj
    if schema:
        from rotator.agent.settings import AgentOptions  # noqa: PLC0415 # only here
        from rotator.config.agent_file import schema_text  # noqa: PLC0415 # imports pydantic

        text = schema_text(AgentOptions)
        call.data["schema"] = text
        if not call.as_json:
            call.write(text)
        return
    file = output or agent_file(call)
    try:
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:  # noqa: PTH123 # with a mode
            opened.write(TEXT)
    except FileExistsError:
        raise UsageError(f"{file} exists already.", hint="Choose another --output.") from None
    call.data["file"] = str(file)
    call.print(f"Wrote {file}. Edit it, then: rotator agent run --once -c {file}")


def _run_once(call: Invocation, agent: Agent, timeout: float) -> None:
    from rotator.agent.errors import SinkError  # noqa: PLC0415 # as above

    try:
        errors = agent.run_once(timeout)
    finally:
        agent.stop()
    secrets = agent.consumer.credentials
    call.data["secrets"] = {
        name: credential.health().version for name, credential in secrets.items()
    }
    for name, text in errors.items():
        call.fail(SinkError(text), secret=name, code=exit_codes.FAILED)
    if not errors:
        call.print(f"Wrote the files of {len(secrets)} secrets.")


def _serve(agent: Agent) -> None:
    from rotator.agent.socket_server import SocketServer  # noqa: PLC0415 # as above

    with ExitStack() as closing:
        signals = closing.enter_context(Signals())
        _ = closing.callback(agent.stop)
        if (options := agent.consumer.options.socket) is not None:
            server = SocketServer(agent, options)
            _ = closing.callback(server.server_close)
            server.start()
            _ = closing.callback(server.shutdown)
        agent.start()
        threading.Thread(target=_announce, args=(agent,), daemon=True).start()
        signals.wait()
        tell_systemd("STOPPING=1")


def _announce(agent: Agent) -> None:
    # Services that start after the agent find their files.
    if agent.wait_until_ready():
        tell_systemd("READY=1")
