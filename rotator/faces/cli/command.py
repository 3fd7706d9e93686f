"""Declares commands: their help, the options that all of them take, and how errors are reported."""

from __future__ import annotations

import gc
import inspect
import os
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, TypeVar

import typer

from rotator.core.errors import UsageError
from rotator.core.traceback_frames import forget_variables
from rotator.faces.cli import SERVICE_THRESHOLD, exit_codes
from rotator.faces.cli.invocation import Invocation, SharedOptions
from rotator.faces.cli.options import LOG_LEVELS, LOG_VARIABLE
from rotator.faces.cli.render.console import Screen
from rotator.faces.cli.render.help import PlainCommand
from rotator.system import forbid_dumps

if TYPE_CHECKING:
    from collections.abc import Callable

# Commands that run until they are stopped. They log by default.
_SERVICES: Final = ("daemon", "worker", "agent run", "web run")
# A command that runs another one logs what keeps that from starting.
_DEFAULT_LEVELS: Final = {**dict.fromkeys(_SERVICES, "info"), "exec": "warning"}
_VERBOSITY: Final = {0: None, 1: "info"}

# Former names of options, which are still accepted.
_RENAMED: Final = {"--patience": "--timeout"}

_Function = TypeVar("_Function", bound="Callable[..., None]")


class Panel(StrEnum):
    """The groups of commands in `rotator --help`, in this order."""

    PREPARE = "Prepare"
    ROTATE = "Rotate"
    INSPECT = "Inspect"
    INTERVENE = "Intervene"
    CREDENTIALS = "Credentials"
    JOURNAL = "Journal"


class Command(PlainCommand):
    """A command that also takes the program's own options, and reports every error in its answer.

    Its function receives an `Invocation` as `ctx.obj`.
    """

    def get_params(self, ctx: Any) -> Any:
        """Return its arguments and options, with those that the program shares."""
        shared = SharedOptions.names()
        program = ctx.find_root().command
        return [
            *super().get_params(ctx),
            *(one for one in program.params if one.name in shared and program is not self),
        ]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line; former names of options are accepted."""
        return super().parse_args(ctx, [_renamed(argument) for argument in args])

    def invoke(self, ctx: Any) -> Any:
        """Run the command and exit with its code."""
        own = SharedOptions(**{name: ctx.params.pop(name) for name in SharedOptions.names()})
        shared = own.over(ctx.obj) if isinstance(ctx.obj, SharedOptions) else own
        screen = Screen(color=False if shared.no_color else None)
        call = Invocation(command=_full_name(ctx), shared=shared, screen=screen)
        ctx.obj = call
        raise typer.Exit(carry_out(call, lambda: super(Command, self).invoke(ctx)))


def command(
    app: typer.Typer, name: str, panel: Panel | None = None, *, cls: type[Command] = Command
) -> Callable[[_Function], _Function]:
    """Add a function to `app` as a command. Its docstring is the help, and ends with `Examples:`."""

    def register(function: _Function) -> _Function:
        text, _, examples = inspect.cleandoc(function.__doc__ or "").partition("\n\nExamples:\n")
        return app.command(
            name,
            cls=cls,
            rich_help_panel=panel,
            help=_paragraphs(text),
            epilog=_epilog(examples),
        )(function)

    return register


def carry_out(call: Invocation, work: Callable[[], object]) -> int:
    """Do the work of a command, print its answer and return its exit code."""
    try:
        forbid_dumps()
        set_up_logs(call.shared, call.command)
        if call.command in _SERVICES:
            gc.set_threshold(SERVICE_THRESHOLD)
        work()
    except (KeyboardInterrupt, typer.Abort, EOFError):
        error = exit_codes.Interrupted(
            "interrupted.", hint="If a rotation was in progress, complete it with: rotator resume"
        )
        call.fail(error, code=exit_codes.INTERRUPTED)
    except Exception as error:  # noqa: BLE001 # the last border: reported with the way to report a bug
        forget_variables(error)
        call.fail(error)
    code = call.finish()
    if call.abandoned:
        os._exit(code)
    return code


def set_up_logs(shared: SharedOptions, command: str) -> None:
    """Start logging. Services log by default, other commands only on request."""
    from rotator import logs  # noqa: PLC0415 # structlog takes 30 ms

    level = shared.log_level or _VERBOSITY.get(shared.verbose, "debug")
    level = level or os.environ.get(LOG_VARIABLE) or _DEFAULT_LEVELS.get(command, "off")
    if level not in LOG_LEVELS:
        raise UsageError(
            f"there is no log level {level!r}.", hint=f"One of: {', '.join(LOG_LEVELS)}."
        )
    # Beside the lines that a command prints for an operator, a JSON log has no reader.
    human = None if command in _SERVICES or shared.as_json else True
    logs.set_up(level=level, human=human)


def _full_name(ctx: Any) -> str:
    """Return the name of a command with that of its group, such as `audit verify`."""
    names: list[str] = []
    while ctx.parent is not None:
        names.insert(0, ctx.command.name)
        ctx = ctx.parent
    return " ".join(names)


def _renamed(argument: str) -> str:
    name, equals, value = argument.partition("=")
    return f"{_RENAMED.get(name, name)}{equals}{value}"


def _epilog(examples: str) -> str:
    return "\n".join(
        ["[bold]Examples[/bold]", *(f"  $ {line.strip()}" for line in examples.splitlines())]
    )


def _paragraphs(text: str) -> str:
    """Return a text with each paragraph on one line, since the terminal's width breaks it."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
