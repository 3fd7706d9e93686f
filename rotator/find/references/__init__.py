"""References in the place of passwords: for each form of a file what its reader understands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rotator.find.references import nowhere, programs, texts, trees

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


def edits_for(place: Place) -> list[Edit]:
    """Return what replaces a password. Raises `Impossible` where the file cannot refer to a value."""
    return _EDITS.get(place.form, nowhere.refused)(place)
