"""Registers commands: adds the shared options and the examples, and turns errors into answers."""

from __future__ import annotations

import functools
import inspect
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import typer

from rotator.core.frames import forget_variables
from rotator.faces.cli import exits
from rotator.faces.cli.help_words import PlainCommand
from rotator.faces.cli.run import CONFIG_VARIABLE, DEFAULT_CONFIG, Run, Shared, show_traceback
from rotator.faces.cli.screen import Screen
from rotator.system import forbid_dumps

if TYPE_CHECKING:
    from collections.abc import Callable

_PANEL: Final = "For every command"
# Commands that run until they are ended: their log is all that they write.
_SERVING: Final = ("daemon", "worker")
LOG_VARIABLE: Final = "ROTATOR_LOG_LEVEL"
_LEVELS: Final = ("debug", "info", "warning", "error", "off")
_INFO, _DEBUG = 1, 2

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        show_default=False,
        rich_help_panel=_PANEL,
        help=f"The configuration (else ${CONFIG_VARIABLE}, else ./{DEFAULT_CONFIG}).",
    ),
]
AsJson = Annotated[
    bool,
    typer.Option("--json", rich_help_panel=_PANEL, help="Answer with one JSON object."),
]
Verbose = Annotated[
    int,
    typer.Option(
        "--verbose",
        "-v",
        count=True,
        show_default=False,
        rich_help_panel=_PANEL,
        help="Log what is done to standard error; -vv: everything.",
    ),
]
LogLevel = Annotated[
    str | None,
    typer.Option(
        "--log-level",
        metavar="LEVEL",
        show_default=False,
        rich_help_panel=_PANEL,
        help=f"One of: {', '.join(_LEVELS)} (else ${LOG_VARIABLE}, else off; daemon, worker: info).",
    ),
]
NoColor = Annotated[
    bool,
    typer.Option(
        "--no-color",
        rich_help_panel=_PANEL,
        help="No colours (as with NO_COLOR in the environment).",
    ),
]
Debug = Annotated[
    bool,
    typer.Option(
        "--debug", rich_help_panel=_PANEL, help="Show where an error came from, without values."
    ),
]
_SHARED: Final = {
    "config": (Config, None),
    "as_json": (AsJson, False),
    "verbose": (Verbose, 0),
    "log_level": (LogLevel, None),
    "no_color": (NoColor, False),
    "debug": (Debug, False),
}

_Function = TypeVar("_Function", bound="Callable[..., None]")


def command(
    app: typer.Typer,
    name: str,
    *,
    panel: str | None = None,
    examples: str,
    title: str = "",
    hidden: bool = False,
) -> Callable[[_Function], _Function]:
    """Register `function(run, ...)` as a command. `title`: its full name, such as `audit verify`.

    `examples` are lines of shell. The function collects its answer in `run`; whatever it raises
    becomes an error of the answer.
    """

    def register(function: _Function) -> _Function:
        @functools.wraps(function)
        def call(ctx: typer.Context, **given: object) -> None:
            own = Shared(**{key: given.pop(key) for key in _SHARED})  # pyright: ignore[reportArgumentType] # typer has checked them
            shared = own.over(ctx.obj if isinstance(ctx.obj, Shared) else Shared())
            raise typer.Exit(_carry_out(function, title or name, shared, given))

        signature = inspect.signature(function, eval_str=True)
        own = [one for key, one in signature.parameters.items() if key != "run"]
        parameters = [
            inspect.Parameter(
                "ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context
            ),
            *(one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own),
            *(
                inspect.Parameter(
                    key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
                )
                for key, (annotation, default) in _SHARED.items()
            ),
        ]
        call.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportAttributeAccessIssue] # what inspect looks for
        call.__annotations__ = {one.name: one.annotation for one in parameters}
        del call.__wrapped__  # pyright: ignore[reportAttributeAccessIssue] # its names cannot be resolved here
        app.command(
            name,
            cls=PlainCommand,
            rich_help_panel=panel,
            help=_help(function),
            epilog=_epilog(examples),
            hidden=hidden,
        )(call)
        return function

    return register


def set_up_logs(shared: Shared, command: str) -> None:
    """Start logging: what serves logs by default, any other command only where it is asked to."""
    from rotator import observe  # noqa: PLC0415 # structlog takes 30 ms

    level = shared.log_level or {0: None, _INFO: "info"}.get(shared.verbose, "debug")
    level = level or os.environ.get(LOG_VARIABLE) or ("info" if command in _SERVING else "off")
    if level not in _LEVELS:
        from rotator.core.errors import UsageError  # noqa: PLC0415

        raise UsageError(f"there is no log level {level!r}.", hint=f"One of: {', '.join(_LEVELS)}.")
    # Beside the lines that a command writes for people, JSON is for nobody.
    human = None if command in _SERVING or shared.as_json else True
    observe.set_up(level=level, human=human)


def _carry_out(
    function: Callable[..., None], name: str, shared: Shared, given: dict[str, object]
) -> int:
    run = Run(command=name, shared=shared, screen=Screen(color=False if shared.no_color else None))
    try:
        forbid_dumps()
        set_up_logs(shared, name)
        function(run, **given)
    except (KeyboardInterrupt, typer.Abort, EOFError):
        run.fail(_interrupted(), code=exits.INTERRUPTED)
    except Exception as error:  # noqa: BLE001 # the outermost border: told, with the way to report it
        forget_variables(error)
        run.fail(error)
        if shared.debug:
            show_traceback(run, error)
    code = run.finish()
    if run.abandoned:
        os._exit(code)
    return code


def _interrupted() -> exits.Interrupted:
    return exits.Interrupted(
        "interrupted.", hint="If a rotation was under way, finish it with: rotator resume"
    )


def _epilog(examples: str) -> str:
    lines = [line.strip() for line in examples.strip().splitlines() if line.strip()]
    return "\n".join(["[bold]Examples[/bold]", *(f"  $ {line}" for line in lines)])


def _help(function: Callable[..., None]) -> str:
    """Return the docstring, each paragraph on one line: the terminal's width breaks it."""
    paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    return "\n\n".join(" ".join(one.split()) for one in paragraphs)
