"""init, check, doctor, plugins: everything before the first rotation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from rotator.faces.cli import envelope, exits
from rotator.faces.cli.command import command
from rotator.faces.cli.options import Names
from rotator.faces.cli.run import DEFAULT_CONFIG, Run

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import RenderableType

    from rotator.core.model import Finding
    from rotator.core.ports import PluginInfo
    from rotator.plugins import Installed

_PANEL = "Prepare"
_SIGNS: Final = {"ok": "good", "warning": "warn", "error": "bad"}


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    command(
        app,
        "init",
        panel=_PANEL,
        examples="""
        rotator init
        rotator init /etc/rotator
        """,
    )(init)
    command(
        app,
        "check",
        panel=_PANEL,
        examples="""
        rotator check
        rotator check -c /etc/rotator/rotator.yaml --json
        """,
    )(check)
    command(
        app,
        "doctor",
        panel=_PANEL,
        examples="""
        rotator doctor
        rotator doctor app-db
        """,
    )(doctor)
    command(
        app,
        "plugins",
        panel=_PANEL,
        examples="""
        rotator plugins
        rotator plugins postgresql
        """,
    )(plugins)
    command(
        app,
        "policy",
        panel=_PANEL,
        examples="""
        rotator policy vault > rotator.hcl
        rotator policy vault app-db --for consumer
        rotator policy aws --for lambda
        """,
    )(policy)


def init(
    run: Run,
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Where the files are written.")
    ] = Path(),
) -> None:
    """Write a commented rotator.yaml, the key of the embedded backend and a signing key.

    What is there already is never overwritten.
    """
    from rotator.bootstrap import initialise  # noqa: PLC0415
    from rotator.config.template import commented_example  # noqa: PLC0415

    before = set(folder.iterdir()) if folder.is_dir() else set[Path]()
    config = folder / DEFAULT_CONFIG
    initialise(config, commented_example())
    written = sorted(str(one) for one in set(folder.iterdir()) - before)
    run.data |= {"folder": str(folder.resolve()), "config": str(config), "files": written}
    run.say(*(f"written: {one}" for one in written), "")
    run.say(f"Edit {config}: name a target and a secret. Then:")
    run.say("  rotator check    is the configuration right?")
    run.say("  rotator doctor   would a rotation work?")
    run.say("  rotator plan     what would it do?")


def check(run: Run) -> None:
    """Read the configuration and say everything that is wrong with it. Nothing is connected to."""
    from rotator.config import load  # noqa: PLC0415
    from rotator.faces.cli.screen import plural  # noqa: PLC0415

    settings = load(run.config)
    counts = {
        "secrets": len(settings.secrets),
        "targets": len(settings.targets),
        "backends": len(settings.backends),
    }
    run.data |= {"file": str(settings.file), **counts}
    listed = ", ".join(plural(count, noun.removesuffix("s")) for noun, count in counts.items())
    run.say(f"{settings.file} is right: {listed}.", "Would it work? rotator doctor")


def doctor(run: Run, names: Names = None) -> None:
    """Connect, and say whether rotations would work: each finding with its remedy.

    Can the admin do what the strategy needs? Does the target refuse a wrong password? Is the
    backend writable? Is the journal sound? Nothing that an application sees is changed.
    """
    from rotator.faces.cli.screen import plural  # noqa: PLC0415

    with run.open_app() as app:
        found = app.doctor(app.names(only=names or (), everything=not names))
    worst = [one.severity.value for one in found]
    run.data |= {
        "findings": [
            {
                "severity": one.severity,
                "subject": one.subject,
                "message": one.message,
                "remedy": one.remedy,
            }
            for one in found
        ],
        "errors": worst.count("error"),
        "warnings": worst.count("warning"),
    }
    run.say(*_findings(run, found))
    if "error" in worst:
        run.ended(exits.FAILED)
    errors, warnings = worst.count("error"), worst.count("warning")
    summary = f"{plural(errors, 'error')}, {plural(warnings, 'warning')}."
    run.say("", summary if {"error", "warning"} & set(worst) else "Everything is well.")


def plugins(
    run: Run,
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", show_default=False, help="Show only this one."),
    ] = None,
) -> None:
    """List the installed plugins and backends, with their strategies and options."""
    from rotator import plugins as loader  # noqa: PLC0415

    found = {
        "rotations": loader.installed(loader.ROTATIONS),
        "backends": loader.installed(loader.BACKENDS),
    }
    if name is not None and not any(one.name == name for group in found.values() for one in group):
        # Raises, with near matches.
        _ = loader.rotation_plugin(name)
    for group, points in found.items():
        wanted = [one for one in points if name in (None, one.name)]
        load = loader.rotation_plugin if group == "rotations" else loader.backend_plugin
        described = [(one, None if one.error else load(one.name).info) for one in wanted]
        run.data[group] = [_described(one, info) for one, info in described]
        for one, info in described:
            run.say(*_shown(run, group, one, info, whole=name is not None))
    if name is None:
        run.say("Options of one: rotator plugins NAME")


def policy(
    run: Run,
    backend: Annotated[
        str, typer.Argument(metavar="BACKEND", help="The backend, as the configuration names it.")
    ],
    names: Names = None,
    *,
    of: Annotated[
        str,
        typer.Option(
            "--for",
            metavar="WHOM",
            help="rotator, or consumer: an application that reads them. AWS also: lambda and"
            " lambda-sweep, the roles of the rotation function and of its sweep; lambda-invoke, who"
            " may call that function.",
        ),
    ] = "rotator",
) -> None:
    """Print the least rights that rotator, or an application, needs in a backend.

    In the backend's own language, for exactly the paths that the configuration names. Nothing is
    connected to.
    """
    from rotator.bootstrap import policy as made  # noqa: PLC0415

    text = made(run.config, backend, names or (), of=of)
    run.data |= {"backend": backend, "for": of, "policy": text}
    if not run.as_json:
        run.write(text)


def _findings(run: Run, found: Sequence[Finding]) -> Iterable[RenderableType]:
    from rich.text import Text  # noqa: PLC0415

    from rotator.faces.cli.screen import indented  # noqa: PLC0415

    for one in found:
        sign = run.screen.sign(_SIGNS[one.severity.value])
        yield Text.assemble(sign, " ", (f"{one.subject}: ", "bold"), one.message)
        if one.remedy:
            yield indented(Text.assemble(("Next: ", "bold"), one.remedy))


def _described(one: Installed, info: PluginInfo | None) -> envelope.Data:
    data: envelope.Data = {
        "name": one.name,
        "distribution": one.distribution,
        "version": one.version,
        "error": one.error,
    }
    if info is not None:
        data |= {
            "summary": info.summary,
            "strategies": [
                {"name": way.name, "summary": way.summary, "overlaps": way.overlaps}
                for way in info.strategies
            ],
            "target_options": _options(info.target_options),
            "secret_options": _options(info.secret_options),
        }
    return data


def _options(declared: type) -> list[envelope.Data]:
    """Return what a plugin's dataclass declares."""
    from dataclasses import MISSING, fields, is_dataclass  # noqa: PLC0415

    if not is_dataclass(declared):
        return []
    return [
        {
            "name": one.name,
            "type": one.type if isinstance(one.type, str) else one.type.__name__,
            "required": one.default is MISSING and one.default_factory is MISSING,
            "default": None if one.default is MISSING else one.default,
            "help": str(one.metadata.get("help", "")),
        }
        for one in fields(declared)
    ]


def _default(value: object) -> str:
    plain = envelope.plain(value)
    return "-" if plain in (None, "", []) else str(plain)


def _shown(
    run: Run, group: str, one: Installed, info: PluginInfo | None, *, whole: bool
) -> Iterable[RenderableType]:
    from rich.text import Text  # noqa: PLC0415

    from rotator.faces.cli.screen import BAD, QUIET, indented, table  # noqa: PLC0415

    kind = "rotation plugin" if group == "rotations" else "backend"
    origin = f"  {kind}, {one.distribution} {one.version}"
    yield Text.assemble((one.name, "bold"), (origin, QUIET))
    if info is None:
        yield indented(Text(one.error or "", style=BAD))
        return
    yield indented(Text(info.summary))
    if info.strategies:
        ways = [(way.name, way.summary) for way in info.strategies]
        yield indented(table(run.screen, ("strategy", ""), ways))
    if not whole:
        return
    for title, declared in (
        ("option of a target" if group == "rotations" else "option", info.target_options),
        ("option of a secret", info.secret_options),
    ):
        rows = [
            (
                str(option["name"]),
                "required" if option["required"] else _default(option["default"]),
                str(option["help"]),
            )
            for option in _options(declared)
        ]
        if rows:
            yield ""
            yield indented(table(run.screen, (title, "default", "what it says"), rows))
