"""Replaces passwords in a text by references that fit its form; everything else stays as it is."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rotator.find import registry
from rotator.find.references import edits_for
from rotator.find.references.place import Impossible, Place

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rotator.find.model import Match
    from rotator.find.references.place import Edit


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A password that was replaced, on a line of the text before. `reference` is what is there now.

    `template`: what `rotator exec --env` has to provide, such as `DB_PASSWORD={password}`; `sink`: what
    an agent has to write. Each is empty where something else does.
    """

    secret: str
    line: int
    reference: str
    template: str = ""
    sink: str = ""


@dataclass(slots=True, kw_only=True)
class Rewritten:
    """A text with its passwords replaced. `left`: lines on which one stays, and why."""

    text: str
    changes: list[Change] = field(default_factory=list[Change])
    left: list[tuple[int, str]] = field(default_factory=list["tuple[int, str]"])


def rewrite(path: str, text: str, secrets: Mapping[str, str]) -> Rewritten:
    """Replace the passwords that are the keys of `secrets`, each by a reference to its managed secret."""
    result = Rewritten(text=text)
    lines = [text.count("\n", 0, one.start) + 1 for one in _wanted(path, text, secrets)]
    # From the last to the first, so that a change moves none that follows.
    for number, line in reversed(list(enumerate(lines))):
        matches = _wanted(path, result.text, secrets)
        if number >= len(matches):
            continue
        match = matches[number]
        place = Place(
            path=path,
            text=result.text,
            match=match,
            secret=secrets[match.value.reveal()],
            form=match.form,
        )
        try:
            edits = edits_for(place)
            result.text = _applied(place, edits)
        except Impossible as error:
            # A key of the file may repeat the password.
            reason = str(error).replace(place.value, "(redacted)")
            result.left.insert(0, (line, reason))
            continue
        first = edits[0]
        change = Change(
            secret=place.secret,
            line=line,
            reference=first.reference,
            template=first.template,
            sink=first.sink,
        )
        result.changes.insert(0, change)
    return result


def _wanted(path: str, text: str, secrets: Mapping[str, str]) -> list[Match]:
    return [one for one in registry.read(path, text).matches if one.value.reveal() in secrets]


def _applied(place: Place, edits: Sequence[Edit]) -> str:
    """Return the text after the edits. Raises `Impossible` where it would no longer be valid."""
    text = place.text
    for edit in sorted(edits, key=lambda one: one.start, reverse=True):
        text = text[: edit.start] + edit.new + text[edit.end :]
    if place.form == "python":
        try:
            _ = ast.parse(text)
        except (SyntaxError, ValueError):
            raise Impossible("the file would no longer be valid: replace it by hand") from None
    return text
