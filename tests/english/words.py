"""Idioms that do not belong into help, messages and documentation, and what to write instead."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rotator.faces.cli import program

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[2]

# A regular expression without upper case, and the replacement.
IDIOMS: Final = {
    r"\btold\b|\btells?\b": "report, notify, know, distinguish",
    r"\bsays?\b|\bsaid\b": "show, report, specify, contain",
    r"\bstands?\b(?!-| for\b)": "be, exist",
    r"\bas it stands\b": "unchanged",
    r"\bgets? in\b": "authenticate",
    r"\blets? \w+ in\b|\blets? in\b|\bis let in\b": "accept",
    r"\bwhoever\b|\bwhomever\b": "the application, operator or process that",
    r"\bmanieth\b": "number",
    r"\bany more\b": "no longer",
    r"\bin one go\b": "together",
    r"\bby (?:itself|themselves)\b": "automatically",
    r"\b(?:is|are) (?:not )?well\b": "has no problems",
    r"\b(?:is|are) right\b": "is valid",
    r"\bwhat is there\b|\b(?:is|are) there already\b": "exist",
    r"\ba person\b|\bpeople\b": "an operator",
    r"\btime has come\b": "is due",
    r"\b(?:do|does) not go together\b|\bgoes? together\b": "cannot be combined, must be given together",
    r"\b(?:came|comes?|become) of it\b": "result",
    r"\bproven dead\b": "revoked: a login attempt was rejected",
    r"\bgo(?:es)? on\b|\bwent on\b": "continue",
    r"\banew\b": "again",
    r"\bnot over\b|\bis over yet\b": "not completed",
    r"\blook(?:s|ed|ing) (?:at|into|after)\b": "check, read",
    r"\bmend(?:s|ing)?\b|(?<!--reason )\bmended\b": "fix, correct",
    r"\bfor want of\b": "because it lacks",
    r"\bhas (?:not )?got\b": "has",
    r"\bunder way\b": "in progress",
    r"\bbegun\b": "started",
    r"\blies in\b|\blies at\b": "be in",
    r"\bis kept in\b": "is recorded in, is stored in",
}
_PATTERNS: Final = tuple((re.compile(idiom, re.IGNORECASE), use) for idiom, use in IDIOMS.items())

# Messages of contract suites, which plugin authors read.
_APART: Final = ("rotator/testing/",)
# An identifier, a path or a format of data, not a sentence.
_SENTENCE: Final = re.compile(r"[A-Za-z]\w* [a-z]")
_CODE: Final = re.compile(r"```.*?```|`[^`]*`", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Finding:
    """An idiom in a text."""

    place: str
    idiom: str
    use: str

    def __str__(self) -> str:
        return f"{self.place}: {self.idiom!r}: write: {self.use}"


def idioms(texts: Iterator[tuple[str, str]]) -> list[Finding]:
    """Return the idioms in texts, each of which comes with its place."""
    return [
        Finding(place, match[0], use)
        for place, text in texts
        for pattern, use in _PATTERNS
        for match in pattern.finditer(_CODE.sub("``", text))
    ]


def helps() -> Iterator[tuple[str, str]]:
    """Yield the help of every command and option."""
    yield from _help_of(program.build(), "rotator")


def messages() -> Iterator[tuple[str, str]]:
    """Yield every sentence in the code that is not a docstring."""
    for package in ("rotator", "rotations"):
        for file in sorted((ROOT / package).rglob("*.py")):
            place = str(file.relative_to(ROOT))
            if not place.startswith(_APART):
                yield from _sentences(ast.parse(file.read_text()), place)


def pages() -> Iterator[tuple[str, str]]:
    """Yield each line of the documentation."""
    for file in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        place = str(file.relative_to(ROOT))
        text = _CODE.sub(lambda code: "\n" * code[0].count("\n"), file.read_text())
        for number, line in enumerate(text.splitlines(), 1):
            yield f"{place}:{number}", line


def _help_of(command: Any, name: str) -> Iterator[tuple[str, str]]:
    yield name, command.help or ""
    for option in command.params:
        yield f"{name} {option.opts[0]}", getattr(option, "help", None) or ""
    if hasattr(command, "commands"):
        for below in command.list_commands(None):
            yield from _help_of(command.get_command(None, below), f"{name} {below}")


def _sentences(tree: ast.Module, place: str) -> Iterator[tuple[str, str]]:
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        text = node.value if isinstance(node, ast.Constant) else None
        if isinstance(text, str) and id(node) not in docstrings and _SENTENCE.search(text):
            yield f"{place}:{node.lineno}", text
