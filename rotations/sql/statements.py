"""Statements of an operator's own: parsed once, filled with what the dialect itself has quoted.

A placeholder is `{name}`: an identifier, or `{name:text}`: a text. Two braces are one. Nothing is split, and
nothing is filled in where it would be inside quotes or a comment.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rotator.api import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

# What a statement may hold beside the identifiers of its secret.
LOGIN: Final = "login"
PASSWORD: Final = "password"  # noqa: S105 # a placeholder's name
MARK: Final = "mark"
# These are texts by nature: `{password}` is a literal.
_TEXTS: Final = frozenset({PASSWORD, MARK})
_PLACEHOLDER: Final = re.compile(r"(?<!\{)\{(?P<name>[a-z][a-z0-9_]*)(?P<text>:text)?\}(?!\})")
# Whether it ends the quotes depends on the server and its settings.
_ESCAPED_QUOTE: Final = re.compile(r"\\['\"`]")
# A quoted text or identifier, a comment, a dollar quote: each whole, or up to the end where it has none.
_APART: Final = re.compile(
    r"""
    '(?:[^']|'')*(?P<single>'?)
    | "(?:[^"]|"")*(?P<double>"?)
    | `(?:[^`]|``)*(?P<tick>`?)
    | --[^\n]*
    | /\*.*?(?:\*/|\Z)
    | (?P<tag>\$[A-Za-z_]*\$).*?(?:(?P=tag)|\Z)
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placeholder:
    """A place that is filled when the statement is sent."""

    name: str
    is_text: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement: plain parts and places, in order. `where` is its key, for messages."""

    where: str
    parts: tuple[str | Placeholder, ...]

    @property
    def names(self) -> frozenset[str]:
        """The names of its placeholders."""
        return frozenset(one.name for one in self.parts if isinstance(one, Placeholder))

    def filled(
        self,
        values: Mapping[str, str],
        identifier: Callable[[str], str],
        text: Callable[[str], str],
    ) -> str:
        """Return the statement with each value quoted by one of the two functions."""

        def quoted(part: str | Placeholder) -> str:
            if isinstance(part, str):
                return part
            return (text if part.is_text else identifier)(values[part.name])

        return "".join(map(quoted, self.parts))


def parse(statement: str, where: str) -> Statement:
    """Return a statement in its parts. Raises `UsageError` for what could not be filled safely."""
    if not statement.strip():
        raise UsageError(f"`{where}` has an empty statement.")
    if _ESCAPED_QUOTE.search(statement):
        raise UsageError(
            f"`{where}` has a backslash before a quote.", hint="Write the quote twice."
        )
    return Statement(where=where, parts=tuple(_parts(statement, where)))


def _parts(statement: str, where: str) -> Iterator[str | Placeholder]:
    at = 0
    for apart in _APART.finditer(statement):
        yield from _plain(statement[at : apart.start()], where)
        inside = apart[0]
        if _PLACEHOLDER.search(inside):
            raise UsageError(
                f"`{where}` has a placeholder inside quotes or a comment.",
                hint="Remove the quotes: rotator quotes each value itself. `{login}` is an"
                " identifier, `{login:text}` a text.",
            )
        if inside[0] in "'\"`" and (len(inside) == 1 or inside[-1] != inside[0]):
            raise UsageError(f"`{where}` has a quote without its end.")
        yield inside
        at = apart.end()
    yield from _plain(statement[at:], where)


def _plain(text: str, where: str) -> Iterator[str | Placeholder]:
    # Two braces are one; what is left must be a placeholder.
    for piece in re.split(r"(\{\{|\}\}|\{[^{}]*\}|[{}])", text):
        if piece in ("{{", "}}"):
            yield piece[0]
        elif piece[:1] in ("{", "}"):
            found = _PLACEHOLDER.fullmatch(piece)
            if found is None:
                raise UsageError(
                    f"`{where}` has a brace that begins no placeholder.",
                    hint="Placeholders are {name} and {name:text}. Write a brace twice: {{.",
                )
            name = found["name"]
            yield Placeholder(name=name, is_text=name in _TEXTS or found["text"] is not None)
        elif piece:
            yield piece
