"""What decides when a configuration is to be read again: its files, and what its patterns match."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """The files of a configuration, and the folders and patterns by which it includes files."""

    files: tuple[Path, ...] = ()
    patterns: tuple[tuple[Path, str], ...] = ()

    def mark(self) -> object:
        """Return what changes when one of them does, also where a link leads to another file."""
        return (
            tuple(_mark(path) for path in self.files),
            tuple(tuple(matching(folder, pattern)) for folder, pattern in self.patterns),
        )

    def __add__(self, other: Watched) -> Watched:
        return Watched(
            files=tuple(dict.fromkeys((*self.files, *other.files))),
            patterns=tuple(dict.fromkeys((*self.patterns, *other.patterns))),
        )


def matching(folder: Path, pattern: str) -> list[Path]:
    """Return the files in a folder that match a pattern, sorted; hidden ones never do."""
    try:
        found = sorted(one for one in folder.glob(pattern) if not one.name.startswith("."))
        return [one for one in found if one.is_file()]
    except OSError:
        return []


def _mark(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
