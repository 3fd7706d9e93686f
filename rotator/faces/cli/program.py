"""The program: finds commands by name, and reports misuse of the command line."""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn, cast

import typer
import typer.main

from rotator import __version__
from rotator.core.printable import printable
from rotator.core.traceback_frames import forget_variables
from rotator.faces.cli import commands, exit_codes
from rotator.faces.cli.command import Panel
from rotator.faces.cli.invocation import SharedOptions
from rotator.faces.cli.options import AsJson, Config, Debug, LogLevel, NoColor, Verbose
from rotator.faces.cli.render import json_output
from rotator.faces.cli.render.help import PlainGroup

if TYPE_CHECKING:
    from collections.abc import Sequence

# Click's UsageError. Since 0.27 typer carries its own copy of click, under a private name.
_Misuse: Final = cast("type[Exception]", typer.BadParameter.__mro__[1])
# `rotator help COMMAND` is `rotator COMMAND --help`.
_HELP: Final = "help"
# Names that operators know from other tools.
ALIASES: Final = {"ls": "status", "list": "status"}


class Program(PlainGroup):
    """The commands in `commands/`: each module is imported when one of its commands is called."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command by its name or an alias; None when there is none."""
        name = ALIASES.get(cmd_name, cmd_name)
        modules = _modules()
        if name not in self.commands and name in modules:
            self._load(modules[name])
        elif name not in self.commands:
            # A module may hold two commands; a misspelt name needs all of them for suggestions.
            _ = self.list_commands(ctx)
        return self.commands.get(name)

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands in the order of their panels."""
        _ = ctx
        for module in _modules().values():
            self._load(module)
        panels = list(Panel)
        return sorted(
            self.commands,
            key=lambda name: (panels.index(cast("Any", self.commands[name]).rich_help_panel), name),
        )

    def _load(self, module: str) -> None:
        app = import_module(f"{commands.__name__}.{module}").app
        for name, command in typer.main.get_group(app).commands.items():
            _ = self.commands.setdefault(name, command)


@cache
def build() -> Any:
    """Return the program as a click group. Commands that it has loaded stay loaded."""
    app = typer.Typer(
        name="rotator",
        cls=Program,
        no_args_is_help=True,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    _ = app.callback(
        epilog="[bold]Start here[/bold]\n"
        "  $ rotator demo\n  $ rotator init --target postgresql://ADMIN@HOST/DATABASE\n  $ rotator help rotate"
    )(_shared)
    return typer.main.get_command(app)


def run(arguments: Sequence[str]) -> NoReturn:
    """Run one command and exit with its code. No error shows a traceback."""
    if arguments[:1] == [_HELP]:
        arguments = [*arguments[1:], "--help"]
    try:
        code = build()(list(arguments), prog_name="rotator", standalone_mode=False)
    except _Misuse as error:
        code = _report_misuse(error, arguments)
    except (KeyboardInterrupt, typer.Abort):
        code = exit_codes.INTERRUPTED
    except Exception as error:  # noqa: BLE001 # the last border: reported without its text, as a bug
        forget_variables(error)
        code = exit_codes.FAILED
        for fault in json_output.faults(error):
            sys.stderr.write(f"{printable(fault.what, lines=True)}\n  {fault.hint}\n")
        if "--debug" in arguments:
            from rotator.logs import plain_traceback  # noqa: PLC0415

            sys.stderr.write(plain_traceback(error) + "\n")
    sys.exit(code if isinstance(code, int) else exit_codes.DONE)


def _modules() -> dict[str, str]:
    """Return the modules of commands by the name of their command: `import` is in `import_`."""
    names = [module.name for module in iter_modules(commands.__path__)]
    return {name.rstrip("_"): name for name in names}


def _show_version(wanted: bool) -> None:  # noqa: FBT001 # typer passes it by position
    if wanted:
        sys.stdout.write(f"rotator {__version__}\n")
        raise typer.Exit


def _shared(
    ctx: typer.Context,
    *,
    config: Config = None,
    as_json: AsJson = False,
    verbose: Verbose = 0,
    log_level: LogLevel = None,
    no_color: NoColor = False,
    debug: Debug = False,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", "-V", is_eager=True, callback=_show_version, help="Show the version."
        ),
    ] = False,
) -> None:
    """Rotate database credentials without an outage, with a journal that proves it."""
    ctx.obj = SharedOptions(
        config=config,
        as_json=as_json,
        verbose=verbose,
        log_level=log_level,
        no_color=no_color,
        debug=debug,
    )


def _report_misuse(error: BaseException, arguments: Sequence[str]) -> int:
    """Report an invalid command line and return the exit code."""
    ctx = getattr(error, "ctx", None)
    path = str(getattr(ctx, "command_path", "rotator"))
    if type(error).__name__ == "NoArgsIsHelpError":
        # It has shown the help already.
        return exit_codes.DONE if path == "rotator" else exit_codes.MISUSE
    what = str(getattr(error, "format_message", error.__str__)()).strip()
    fault = json_output.Fault(
        kind="usage", what=what, hint=f"See: {path} --help", safety="Nothing was changed."
    )
    if "--json" in arguments:
        command = path.removeprefix("rotator").strip()
        answer = json_output.envelope(command, ok=False, data={}, errors=[fault])
        sys.stdout.write(json_output.dumps(answer, pretty=False) + "\n")
    else:
        sys.stderr.write(f"{printable(what, lines=True)}\n  {fault.hint}\n")
    return exit_codes.MISUSE
