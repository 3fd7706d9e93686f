"""The commands of the program, with their arguments and options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import typer.main

from deploy.pages.markdown import table
from rotator.faces.cli import program

if TYPE_CHECKING:
    from collections.abc import Iterator

# Options of every command have a table of their own.
_COMMON: Final = {
    "--config",
    "--json",
    "--verbose",
    "--log-level",
    "--no-color",
    "--debug",
    "--help",
}


def commands() -> str:
    """Return a section for each command that `rotator --help` shows."""
    parts: list[str] = []
    for name, command in shown():
        parts.append(f"### `{name}`\n\n{_summary(command)}")
        rows = list(_rows(command))
        if rows:
            parts.append(table(("argument or option", "meaning"), rows))
    return "\n\n".join(parts)


def shown() -> Iterator[tuple[str, Any]]:
    """Yield the full name of each command and the command itself, hidden ones left out."""
    yield from _below("rotator", typer.main.get_command(program.build()))


def _below(path: str, group: Any) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if command.hidden:
            continue
        if hasattr(command, "commands"):
            yield from _below(f"{path} {name}", command)
        else:
            yield f"{path} {name}", command


def _summary(command: Any) -> str:
    first, _, rest = (command.help or "").partition("\n\n")
    text = rest.partition("Examples")[0].partition("\b")[0].strip()
    paragraphs = [first, *text.split("\n\n")]
    return "\n\n".join(" ".join(one.split()) for one in paragraphs if one.strip())


def _rows(command: Any) -> Iterator[tuple[str, ...]]:
    for parameter in command.params:
        if getattr(parameter, "hidden", False) or _COMMON & set(parameter.opts):
            continue
        yield _name(parameter), parameter.help or ""


def _name(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        metavar = parameter.metavar or str(parameter.name).upper()
        return f"`{metavar}{'…' if parameter.nargs == -1 else ''}`"
    names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
    value = parameter.metavar if not parameter.is_flag else None
    return f"{names} `{value}`" if value else names
