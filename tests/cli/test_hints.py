"""Every command in a message can be pasted as printed."""

from __future__ import annotations

import ast
import re
import shlex
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rotator.faces.cli import program

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path(__file__).parents[2]
_PACKAGES = ("rotator", "rotations")
_COMMANDS = "rotator/faces/cli/commands/"
_APART = ("rotator/demo/", "rotator/testing/")
# What stands for a name, a file or a value in a text.
_FILLED = "x"
_COMMAND = re.compile(r"\brotator ((?:[a-z]+)(?:[ ][^\s`]+)*)")


def _program() -> Any:
    built = program.build()
    assert built.list_commands(None)
    return built


# What `rotator deploy` writes.
_KINDS = ("systemd", "kubernetes", "compose", "lambda")


@cache
def _texts() -> list[tuple[str, str]]:
    """Return what `_read_texts` yields: three tests ask."""
    return [*_read_texts()]


def _read_texts() -> Iterator[tuple[str, str]]:
    """Yield every text of the code, with what is filled in at run time as a word, and its place."""
    for package in _PACKAGES:
        for file in sorted((_ROOT / package).rglob("*.py")):
            place = str(file.relative_to(_ROOT))
            if place.startswith(_APART):
                continue
            tree = ast.parse(file.read_text())
            inside = {
                id(part)
                for node in ast.walk(tree)
                if isinstance(node, ast.JoinedStr)
                for part in node.values
            }
            # The docstring of a command is its help; any other is for readers of the code.
            docs = (
                set()
                if place.startswith(_COMMANDS)
                else {
                    id(node.body[0].value)
                    for node in ast.walk(tree)
                    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
                    and node.body
                    and isinstance(node.body[0], ast.Expr)
                }
            )
            for node in ast.walk(tree):
                where = f"{place}:{getattr(node, 'lineno', 0)}"
                if isinstance(node, ast.JoinedStr):
                    yield where, "".join(map(_part, node.values))
                elif isinstance(node, ast.Constant) and id(node) not in inside | docs:
                    yield where, str(node.value)


def _part(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else _FILLED


def _commands() -> Iterator[tuple[str, list[str]]]:
    known = _program()
    for where, text in _texts():
        for line in text.splitlines():
            if line.startswith(" ") and line.strip().startswith("rotator "):
                # An example of a command's help: the whole line is the command.
                yield where, shlex.split(line.strip(), comments=True)[1:]
                continue
            for found in _COMMAND.finditer(line):
                arguments = _arguments(known, found[1].split(" "))
                if arguments:
                    yield where, arguments


def _arguments(known: Any, words: list[str]) -> list[str]:
    """Return the words of a text that belong to its command; nothing where it is only prose."""
    first = re.sub(r"[^a-z-]+$", "", words[0])
    if first not in known.commands or words[1:2] == ["--help"]:
        return []
    taken, group = [first], getattr(known.commands[first], "commands", None)
    if first != words[0]:
        return taken
    for number, word in enumerate(words[1:]):
        bare = re.sub(r"[.,;:)'\"]+$", "", word)
        sub = number == 0 and group is not None and bare in group
        value = taken[-1].startswith("--")
        if not (
            sub
            or value
            or bare.startswith("--")
            or bare in (_FILLED, "app-db", *(_KINDS if first == "deploy" else ()))
            or bare.isupper()
        ):
            break
        taken.append(bare)
        if bare != word:
            break
    return taken


@cache
def _all() -> list[tuple[str, tuple[str, ...]]]:
    """Return every command of a text, with its place. Not at import: each worker collects this file."""
    return sorted({(where, tuple(words)) for where, words in _commands()})


def test_the_search_finds_commands_in_hints():
    """The other tests rely on it."""
    assert len(_all()) > 50


def test_the_program_accepts_each_printed_command():
    """With every required argument and option."""
    command = _program()
    wrong = [
        f"{where}: {' '.join(words)}: {why}"
        for where, words in _all()
        if (why := _why(command, words))
    ]
    assert wrong == []


def _why(command: Any, words: tuple[str, ...]) -> str:
    """Return why the program does not take these words; empty when it does."""
    part, name, rest = command, "rotator", list(words)
    context = None
    try:
        while True:
            context = part.make_context(name, rest, parent=context)
            if not hasattr(part, "commands"):
                return ""
            left = [*context._protected_args, *context.args]  # click's own way on
            name, part, rest = part.resolve_command(context, left)
    except Exception as error:  # noqa: BLE001 # typer's copy of click has a private name
        return str(error) or type(error).__name__


def test_no_hint_starts_with_then():
    """'Next: Then: ...' lacks its first half."""
    assert [where for where, text in _texts() if text.lstrip().startswith("Then: ")] == []
