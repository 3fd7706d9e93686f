"""plugins: what is installed and what each can do; a template for a plugin of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, cast

import typer

from rotator.faces.cli import envelope
from rotator.faces.cli.command import command
from rotator.faces.cli.run import Run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import RenderableType

    from rotator.core.ports import BackendPlugin, PluginInfo, RotationPlugin
    from rotator.plugins import Installed

_NOUNS: Final = {"rotations": "rotation plugin", "backends": "backend"}


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    command(
        app,
        "plugins",
        panel="Prepare",
        examples="""
        rotator plugins
        rotator plugins postgresql
        rotator plugins --template rotator-mine
        """,
    )(plugins)


def plugins(
    run: Run,
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", show_default=False, help="Show only this one, whole."),
    ] = None,
    *,
    template: Annotated[
        Path | None,
        typer.Option(
            "--template",
            metavar="FOLDER",
            show_default=False,
            help="Write a small complete plugin there, as a package with its tests.",
        ),
    ] = None,
) -> None:
    """List the installed plugins and backends, with their strategies, options and abilities.

    As they declare themselves: no configuration is needed, and nothing is connected to.
    """
    if template is not None:
        _write_template(run, template, name)
        return
    found = _installed(name)
    for group, points in found.items():
        described = [(one, None if one.error else _plugin(group, one.name)) for one in points]
        run.data[group] = [_described(one, plugin) for one, plugin in described]
        for one, plugin in described:
            run.say(*_shown(run, group, one, plugin, whole=name is not None))
    if name is None:
        run.say("", "Options of one: rotator plugins NAME")
        run.say("One of your own: rotator plugins --template FOLDER")


def _installed(name: str | None) -> dict[str, list[Installed]]:
    """Return what is installed, or what is called `name`. Raises `UsageError` when it is of no use."""
    from rotator import plugins as loader  # noqa: PLC0415
    from rotator.core.errors import UsageError  # noqa: PLC0415

    found = {
        "rotations": loader.installed(loader.ROTATIONS),
        "backends": loader.installed(loader.BACKENDS),
    }
    if name is None:
        return found
    named = {group: [one for one in all_ if one.name == name] for group, all_ in found.items()}
    for group, points in named.items():
        if any(one.error for one in points):
            # Raises, with how to mend it.
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
    from rotator import plugins as loader  # noqa: PLC0415

    return (loader.rotation_plugin if group == "rotations" else loader.backend_plugin)(name)


def _described(one: Installed, plugin: RotationPlugin | BackendPlugin | None) -> envelope.Data:
    data: envelope.Data = {
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
                }
                for way in info.strategies
            ],
            "abilities": [ability.__name__ for ability in _abilities(plugin)],
            "target_options": _options(info.target_options),
            "secret_options": _options(info.secret_options),
        }
    return data


def _abilities(plugin: RotationPlugin | BackendPlugin) -> Sequence[type]:
    from rotator.core.ports import WritesPolicy  # noqa: PLC0415

    return (*plugin.info.abilities, *((WritesPolicy,) if isinstance(plugin, WritesPolicy) else ()))


def _options(declared: type) -> list[envelope.Data]:
    from dataclasses import asdict  # noqa: PLC0415

    from rotator.config.option_help import options_of  # noqa: PLC0415 # pydantic takes 100 ms

    return [asdict(one) for one in options_of(declared)]


def _shown(
    run: Run,
    group: str,
    one: Installed,
    plugin: RotationPlugin | BackendPlugin | None,
    *,
    whole: bool,
) -> Iterator[RenderableType]:
    from rich.text import Text  # noqa: PLC0415

    from rotator.faces.cli.screen import BAD, QUIET, indented  # noqa: PLC0415

    origin = f"  {_NOUNS[group]}, {one.distribution} {one.version}"
    yield Text.assemble((one.name, "bold"), (origin, QUIET))
    if plugin is None:
        yield indented(Text(one.error or "", style=BAD))
        return
    info = plugin.info
    yield indented(Text(info.summary))
    if whole and info.engines:
        yield indented(Text(f"Also called: {', '.join(info.engines)}"))
    if info.strategies:
        yield from _ways(run, info, whole=whole)
    if can := _words(_abilities(plugin)):
        yield indented(Text(f"It {can}."))
    if whole:
        target = "option of a target" if group == "rotations" else "option"
        yield from _option_table(run, target, info.target_options)
        yield from _option_table(run, "option of a secret", info.secret_options)


def _ways(run: Run, info: PluginInfo, *, whole: bool) -> Iterable[RenderableType]:
    from rotator.faces.cli.screen import indented, table  # noqa: PLC0415

    columns = ("strategy", "", *(("old and new overlap", "it also") if whole else ()))
    rows = [
        (
            way.name,
            way.summary,
            *(("yes" if way.overlaps else "no", _words(way.abilities) or "-") if whole else ()),
        )
        for way in info.strategies
    ]
    yield indented(table(run.screen, columns, rows))


def _option_table(run: Run, title: str, declared: type) -> Iterable[RenderableType]:
    from rotator.faces.cli.screen import indented, table  # noqa: PLC0415

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
        yield indented(table(run.screen, (title, "type", "default", "what it says"), rows))


def _default(value: object) -> str:
    if value in (None, "", [], {}):
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    return (
        ", ".join(map(str, cast("list[object]", value))) if isinstance(value, list) else str(value)
    )


def _words(abilities: Iterable[type]) -> str:
    from rotator.core.capabilities import words  # noqa: PLC0415

    return ", ".join(words(one) for one in abilities)


def _write_template(run: Run, folder: Path, name: str | None) -> None:
    from rotator.core.errors import UsageError  # noqa: PLC0415
    from rotator.testing.templates import write_template  # noqa: PLC0415

    if name is not None:
        raise UsageError(
            f"a plugin's NAME and --template do not go together: `{name}`.",
            hint="There is one template; rename what it writes.",
        )
    written = [str(one) for one in write_template(folder)]
    run.data |= {"folder": str(folder.resolve()), "files": written}
    run.say(*(f"written: {one}" for one in written), "")
    run.say("A whole plugin, for logins in a table of an SQLite file. To see it work:")
    run.say(f"  pip install -e '{folder}[test]'", f"  pytest {folder}", "  rotator plugins sqlite")
    run.say("Then rename it, and put your own target in its place: docs/plugins.md")
