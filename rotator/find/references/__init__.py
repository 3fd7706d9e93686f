"""References in the place of passwords: for each form of a file what its reader understands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rotator.find.model import Dialect
from rotator.find.references import nowhere, programs, texts, trees
from rotator.find.references.place import ESCAPED, MARKED, Impossible

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rotator.find.references.place import Edit, Place

_EDITS: Final[Mapping[str, Callable[[Place], list[Edit]]]] = {
    "dotenv": texts.dotenv,
    "ini": texts.unit,
    "properties": texts.properties,
    "shell": texts.shell,
    "xml": texts.maven,
    "yaml": trees.yaml_file,
    "notebook": trees.notebook,
    "python": programs.python,
    "terraform": programs.terraform,
    **dict.fromkeys(programs.LANGUAGES, programs.expression),
}
# These replace the quotation marks around a password too.
_SPLIT: Final = frozenset({"python", "notebook", *programs.LANGUAGES})


def edits_for(place: Place) -> list[Edit]:
    """Return what replaces a password. Raises `Impossible` where the file cannot refer to a value."""
    edits = _EDITS.get(place.form)
    if edits is None:
        nowhere.refused(place)
    found = edits(place)
    if place.match.dialect is Dialect.UNKNOWN:
        raise Impossible(ESCAPED.format(name=f"{place.base}_PASSWORD"))
    if place.span_in_marks != place.span and place.form not in _SPLIT:
        template = place.provides(place.variable)
        raise Impossible(MARKED.format(name=place.variable, template=template))
    return found
