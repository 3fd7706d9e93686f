"""plugins: list installed plugins, or write a template for a new one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, cast

import typer
from rich.text import Text

from rotator import plugins as loader
from rotator.core.capabilities import words
from rotator.core.contracts.backend import WritesPolicy
from rotator.core.errors import UsageError
from rotator.faces import answers
from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.options import argument, option
from rotator.faces.cli.render.console import BAD, QUIET, indented, table
from rotator.testing.templates import COMMAND_FILES, FILES, PROGRAM, write_template

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import RenderableType

    from rotator.core.contracts.plugin import (
        BackendPlugin,
        PluginInfo,
        RotationPlugin,
        StrategyInfo,
    )
    from rotator.plugins import Installed

app = typer.Typer()

_NOUNS: Final = {"rotations": "rotation plugin", "backends": "backend"}


@command(app, "plugins", Panel.PREPARE)
def plugins(
    ctx: typer.Context,
    name: Annotated[
        str | None, argument("NAME", "Show all details of this plugin or backend.")
    ] = None,
    *,
    template: Annotated[
        Path | None,
        option(
            "--template",
            "FOLDER",
            "Write a small complete plugin into this folder, as a package with tests.",
        ),
    ] = None,
    program: Annotated[
        bool,
        typer.Option(
            "--command",
            help="With --template: write a program for the plugin `command` instead.",
        ),
    ] = False,
) -> None:
    """List the installed plugins and backends, with their strategies, options and abilities.

    Needs no configuration and connects to nothing.

    Examples:
        rotator plugins
        rotator plugins postgresql
        rotator plugins --template rotator-mine
        rotator plugins --template my-program --command
    """
    call: Invocation = ctx.obj
    if template is not None:
        _write_template(call, template, name, program=program)
        return
    if program:
        raise UsageError("--command requires --template FOLDER.", hint="Add: --template my-program")
    found = _installed(name)
    for group, points in found.items():
        described = [(one, None if one.error else _plugin(group, one.name)) for one in points]
        call.data[group] = [_described(one, plugin) for one, plugin in described]
        for one, plugin in described:
            call.print(*_shown(call, group, one, plugin, whole=name is not None))
    if name is None:
        call.print("", "Details of one: rotator plugins NAME")
        call.print("Write your own: rotator plugins --template FOLDER")


def _installed(name: str | None) -> dict[str, list[Installed]]:
    """Return all plugins and backends, or those named `name`. Raises `UsageError` if they cannot be used."""
    found = {
        "rotations": loader.installed(loader.ROTATIONS),
        "backends": loader.installed(loader.BACKENDS),
    }
    if name is None:
        return found
    named = {group: [one for one in all_ if one.name == name] for group, all_ in found.items()}
    for group, points in named.items():
        if any(one.error for one in points):
            # Raises an error with the remedy.
            _ = _plugin(group, name)
    if not any(named.values()):
        known = {group: [one.name for one in all_] for group, all_ in found.items()}
        raise UsageError(
            f"there is no plugin `{name}`.",
            hint=f"{loader.near(name, [*known['rotations'], *known['backends']])}"
            f" Rotation plugins: {', '.join(known['rotations']) or 'none'}."
            f" Backends: {', '.join(known['backends']) or 'none'}.".strip(),
        )
    return named


def _plugin(group: str, name: str) -> RotationPlugin | BackendPlugin:
    return (loader.rotation_plugin if group == "rotations" else loader.backend_plugin)(name)


def _described(one: Installed, plugin: RotationPlugin | BackendPlugin | None) -> answers.Data:
    data: answers.Data = {
        "name": one.name,
        "distribution": one.distribution,
        "version": one.version,
        "error": one.error,
    }
    if plugin is not None:
        info = plugin.info
        data |= {
            "summary": info.summary,
            "engines": info.engines,
            "strategies": [
                {
                    "name": way.name,
                    "summary": way.summary,
                    "overlaps": way.overlaps,
                    "abilities": [ability.__name__ for ability in way.abilities],
                    "optional_abilities": [one.__name__ for one in way.optional_abilities],
                }
                for way in info.strategies
            ],
            "abilities": [ability.__name__ for ability in _abilities(plugin)],
            "target_options": _options(info.target_options),
            "secret_options": _options(info.secret_options),
        }
    return data


def _abilities(plugin: RotationPlugin | BackendPlugin) -> Sequence[type]:
    return (*plugin.info.abilities, *((WritesPolicy,) if isinstance(plugin, WritesPolicy) else ()))


def _options(declared: type) -> list[answers.Data]:
    from rotator.config.option_help import options_of  # noqa: PLC0415 # pydantic takes 100 ms

    return [asdict(one) for one in options_of(declared)]


def _shown(
    call: Invocation,
    group: str,
    one: Installed,
    plugin: RotationPlugin | BackendPlugin | None,
    *,
    whole: bool,
) -> Iterator[RenderableType]:
    origin = f"  {_NOUNS[group]}, {one.distribution} {one.version}".rstrip()
    yield Text.assemble((one.name, "bold"), (origin, QUIET))
    if plugin is None:
        yield indented(Text(one.error or "", style=BAD))
        return
    info = plugin.info
    yield indented(Text(info.summary))
    if whole and info.engines:
        yield indented(Text(f"Also for: {', '.join(info.engines)}"))
    if info.strategies:
        yield from _ways(call, info, whole=whole)
    if can := _words(_abilities(plugin)):
        yield indented(Text(f"It {can}."))
    if whole:
        target = "option of a target" if group == "rotations" else "option"
        yield from _option_table(call, target, info.target_options)
        yield from _option_table(call, "option of a secret", info.secret_options)


def _ways(call: Invocation, info: PluginInfo, *, whole: bool) -> Iterable[RenderableType]:
    columns = ("strategy", "", *(("old and new overlap", "it also") if whole else ()))
    rows = [
        (
            way.name,
            way.summary,
            *(("yes" if way.overlaps else "no", _able(way) or "-") if whole else ()),
        )
        for way in info.strategies
    ]
    yield indented(table(call.screen, columns, rows))


def _option_table(call: Invocation, title: str, declared: type) -> Iterable[RenderableType]:
    rows = [
        (
            str(option["name"]),
            str(option["type"]),
            "required" if option["required"] else _default(option["default"]),
            str(option["help"]),
        )
        for option in _options(declared)
    ]
    if rows:
        yield ""
        yield indented(table(call.screen, (title, "type", "default", "description"), rows))


def _default(value: object) -> str:
    if value in (None, "", [], {}):
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    return (
        ", ".join(map(str, cast("list[object]", value))) if isinstance(value, list) else str(value)
    )


def _able(way: StrategyInfo) -> str:
    """Return what a strategy can do beyond the contract, and what only with an option."""
    optional = _words(way.optional_abilities)
    return ", ".join(filter(None, (_words(way.abilities), optional and f"by option {optional}")))


def _words(abilities: Iterable[type]) -> str:
    return ", ".join(words(one) for one in abilities)


def _write_template(call: Invocation, folder: Path, name: str | None, *, program: bool) -> None:
    if name is not None:
        raise UsageError(
            f"NAME and --template cannot be combined: `{name}`.",
            hint="Remove NAME, and rename the files that rotator writes.",
        )
    written = write_template(folder, COMMAND_FILES if program else FILES)
    names = [str(one) for one in written]
    call.data |= {"folder": str(folder.resolve()), "files": names}
    call.print(*(f"written: {one}" for one in names), "")
    if program:
        call.print("This is a complete program for logins in a table of an SQLite file. Try it:")
        call.print(f"  pytest {folder}")
        call.print("Then edit it. A target that uses it:")
        path = (folder / PROGRAM).resolve()
        call.print(
            f"  mine: {{plugin: command, program: {path}, settings: {{path: /srv/logins.db}}}}"
        )
        call.print("The protocol: rotator docs command")
        return
    call.print("This is a complete plugin for logins in a table of an SQLite file. Try it:")
    call.print(
        f"  pip install -e '{folder}[test]'", f"  pytest {folder}", "  rotator plugins sqlite"
    )
    call.print("Then rename it and replace the target by your own: rotator docs first-plugin")
