"""The whole command line: every group of commands, and the border that misuse stops at."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Final, NoReturn, cast

import typer

from rotator import __version__
from rotator.core.frames import forget_variables
from rotator.core.printable import printable
from rotator.faces.cli import (
    adoption,
    auditing,
    correcting,
    credentials,
    database,
    demonstrating,
    entries,
    envelope,
    exits,
    extending,
    importing,
    initializing,
    leaving,
    looking,
    notifying,
    preparing,
    rotating,
    serving,
)
from rotator.faces.cli.command import AsJson, Config, Debug, LogLevel, NoColor, Verbose
from rotator.faces.cli.help_words import PlainGroup
from rotator.faces.cli.run import Shared

if TYPE_CHECKING:
    from collections.abc import Sequence

# Click's UsageError. Since 0.27 typer carries its own copy of click, under a private name.
_Misuse: Final = cast("type[Exception]", typer.BadParameter.__mro__[1])
# `rotator help COMMAND` is `rotator COMMAND --help`.
_HELP: Final = "help"
_GROUPS: Final = (
    demonstrating,
    initializing,
    preparing,
    entries,
    extending,
    rotating,
    serving,
    looking,
    notifying,
    correcting,
    leaving,
    adoption,
    credentials,
    importing,
    auditing,
    database,
)


def build() -> typer.Typer:
    """Return the program with all its commands."""
    app = typer.Typer(
        name="rotator",
        cls=PlainGroup,
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        pretty_exceptions_show_locals=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    _ = app.callback(
        epilog="[bold]Begin here[/bold]\n"
        "  $ rotator demo\n  $ rotator init --target postgresql://ADMIN@HOST/DATABASE\n  $ rotator help rotate"
    )(_shared)
    for group in _GROUPS:
        group.register(app)
    return app


def run(arguments: Sequence[str]) -> NoReturn:
    """Run one command and leave with its exit code. No traceback, whatever happens."""
    if arguments[:1] == [_HELP]:
        arguments = [*arguments[1:], "--help"]
    try:
        code = build()(list(arguments), prog_name="rotator", standalone_mode=False)
    except _Misuse as error:
        code = _misused(error, arguments)
    except (KeyboardInterrupt, typer.Abort):
        code = exits.INTERRUPTED
    except Exception as error:  # noqa: BLE001 # the last border: told without its text, as a bug
        forget_variables(error)
        code = exits.FAILED
        for fault in envelope.faults(error):
            sys.stderr.write(f"{printable(fault.what, lines=True)}\n  {fault.hint}\n")
        if "--debug" in arguments:
            from rotator.observe import plain_traceback  # noqa: PLC0415

            sys.stderr.write(plain_traceback(error) + "\n")
    sys.exit(code if isinstance(code, int) else exits.DONE)


def _show_version(wanted: bool) -> None:  # noqa: FBT001 # typer calls it so
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
    """Rotate database credentials without an outage, and be able to prove it."""
    ctx.obj = Shared(
        config=config,
        as_json=as_json,
        verbose=verbose,
        log_level=log_level,
        no_color=no_color,
        debug=debug,
    )


def _misused(error: BaseException, arguments: Sequence[str]) -> int:
    """Tell what is wrong with the command line itself."""
    ctx = getattr(error, "ctx", None)
    path = str(getattr(ctx, "command_path", "rotator"))
    if type(error).__name__ == "NoArgsIsHelpError":
        # It has shown the help already.
        return exits.DONE if path == "rotator" else exits.MISUSE
    what = str(getattr(error, "format_message", error.__str__)()).strip()
    fault = envelope.Fault(
        kind="usage", what=what, hint=f"See: {path} --help", safety="Nothing was changed."
    )
    if "--json" in arguments:
        command = path.removeprefix("rotator").strip()
        answer = envelope.envelope(command, ok=False, data={}, errors=[fault])
        sys.stdout.write(envelope.dumped(answer, pretty=False) + "\n")
    else:
        sys.stderr.write(f"{printable(what, lines=True)}\n  {fault.hint}\n")
    return exits.MISUSE
