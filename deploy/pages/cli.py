"""The commands of the program, with their arguments and options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

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
    """Yield the full name of each command and the command itself, in the order of the help."""
    yield from _below("rotator", program.build())


def _below(path: str, group: Any) -> Iterator[tuple[str, Any]]:
    for name in group.list_commands(None):
        command = group.get_command(None, name)
        if command.hidden:
            continue
        if hasattr(command, "list_commands"):
            yield from _below(f"{path} {name}", command)
        else:
            yield f"{path} {name}", command


def _summary(command: Any) -> str:
    text = (command.help or "").partition("Examples:")[0].replace("\b", "").replace("\f", "")
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n") if part.strip())


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
