"""The files of a configuration: the one that is named, and those that it includes.

To who checks them they are one: `Files.problem` finds the file, line and key of what is wrong, also
where a secret has it from the defaults.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rotator.config import defaults
from rotator.config.defaults import Defaults
from rotator.config.document import VERSION, IncludedDocument
from rotator.config.errors import validated
from rotator.config.positions import SourceFile, read
from rotator.config.types import NAME
from rotator.config.watch import Watched, matching

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rotator.config.model import Problem
    from rotator.config.parsing import Data, Keys
    from rotator.config.types import Names

# Sections whose entries are read one at a time; any of the files may have some of them.
SECTIONS: Final = ("backends", "targets", "policies", "secrets")
_SHARED: Final = (*SECTIONS, "partners")
_ENDINGS: Final = (".yaml", ".yml")
_MAGIC: Final = re.compile(r"[*?\[]")
# As deep as a person could follow.
_DEEPEST: Final = 8


@dataclass(slots=True, kw_only=True)
class Files:
    """The files of a configuration. `sections` holds the entries of all of them, by section."""

    main: SourceFile
    sections: dict[str, dict[str, Data]] = field(default_factory=dict[str, "dict[str, Data]"])
    watched: Watched = field(default_factory=Watched)
    _included: list[tuple[SourceFile, dict[str, Data]]] = field(
        default_factory=list["tuple[SourceFile, dict[str, Data]]"]
    )
    # Which included file an entry is in; those that are missing here are in the main one.
    _owners: dict[tuple[str, str], SourceFile] = field(
        default_factory=dict["tuple[str, str]", SourceFile]
    )
    _defaults: dict[str, Defaults] = field(default_factory=dict[str, Defaults])
    _seen: set[Path] = field(default_factory=set[Path])

    @property
    def problems(self) -> list[Problem]:
        """Everything that is wrong, in whichever file."""
        return self.main.problems

    def sorted_problems(self) -> list[Problem]:
        """Return the problems by file, line and column."""
        order = {one.file: number for number, one in enumerate(self._sources())}
        return sorted(
            self.problems,
            key=lambda one: (order.get(one.file, 0), one.line, one.column, one.key),
        )

    def defaults_of(self, secret: str) -> Defaults:
        """Return the defaults that hold for a secret."""
        return self._defaults[self._owner(("secrets", secret)).file]

    def has(self, keys: Keys) -> bool:
        """Return whether a file says something at `keys`, or the defaults of a secret do."""
        return self._owner(keys).has(keys) or self._by_default(keys) is not None

    def problem(
        self,
        keys: Keys,
        message: str,
        remedy: str = "",
        *,
        at_key: bool = False,
        hide_key: bool = False,
    ) -> None:
        """Note what is wrong, as `SourceFile.problem` does, in the file that says it."""
        owner = self._owner(keys)
        shown = tuple(one for one in keys if not str(one).startswith("<"))
        found = None if owner.has(shown) else self._by_default(shown)
        if found is None:
            owner.problem(keys, message, remedy, at_key=at_key, hide_key=hide_key)
            return
        source, within = found
        key = ".".join(map(str, within))
        top = ".".join(map(str, within[:2]))
        # What is wrong with a default is wrong for each secret: the first of them is enough.
        told = (one.key for one in self.problems if one.file == source.file)
        if not any(one in (defaults.KEY, top, key) or one.startswith(f"{top}.") for one in told):
            name = str(keys[1])
            whose = f"secret `{name}`: " if re.fullmatch(NAME, name) else ""
            source.problem(within, f"{whose}{message}", remedy, at_key=at_key, hide_key=hide_key)

    def check(self, main: dict[str, Data], names: Names) -> None:
        """Note what is wrong with the included files as such, and with the defaults of each."""
        defaults.check(self.main, main.get(defaults.KEY), names)
        for source, data in self._included:
            emptied = {one: None for one in _SHARED if isinstance(data.get(one), (dict, list))}
            rest = {key: one for key, one in data.items() if key != defaults.KEY}
            _ = validated(source, (), {**rest, **emptied}, IncludedDocument, names)
            defaults.check(source, data.get(defaults.KEY), names)

    # -- reading -------------------------------------------------------------------------------

    def take(self, source: SourceFile, data: dict[str, Data], path: Path, under: Defaults) -> None:
        """Take in a file, and those that it includes."""
        self._take(source, data, (path,), under)

    def _take(
        self, source: SourceFile, data: dict[str, Data], chain: tuple[Path, ...], under: Defaults
    ) -> None:
        self._seen.add(chain[-1].resolve())
        self._defaults[source.file] = under.over(source, data.get(defaults.KEY))
        for section in _SHARED:
            self._merge(source, section, _named(source, section, data))
        for keys, pattern in _patterns(data):
            for path in self._matching(source, keys, pattern, chain[-1].parent):
                self._include(source, keys, path, chain)

    def _include(self, source: SourceFile, keys: Keys, path: Path, chain: tuple[Path, ...]) -> None:
        resolved = path.resolve()
        if resolved in [one.resolve() for one in chain]:
            said = "this file includes itself."
            remedy = "Keep included files in their own folder, such as `secrets.d`."
            source.problem(keys, said, remedy)
            return
        if len(chain) > _DEEPEST:
            source.problem(keys, "includes are nested too deeply.", "List the files in one file.")
            return
        if resolved in self._seen:
            return
        shown = _shown(path, self.main.file, chain[0].parent)
        included = read(path, shown, self.problems)
        self.watched += Watched(files=(path,))
        data, included.data = included.data, None
        if data is None:
            self._seen.add(resolved)
            return
        if not isinstance(data, dict):
            included.problem((), "expected a mapping.", "Begin with `secrets:`, for example.")
            return
        if data.get("version", VERSION) != VERSION:
            said = "the version differs from the version of the file that includes this one."
            included.problem(("version",), said, f"Write `version: {VERSION}`, or remove it.")
            return
        self._included.append((included, data))
        self._take(included, data, (*chain, path), self._defaults[source.file])

    def _matching(self, source: SourceFile, keys: Keys, pattern: str, folder: Path) -> list[Path]:
        """Return the files that a pattern, a folder or a name means, and watch where they are."""
        try:
            return self._found(source, keys, pattern, folder)
        except (OSError, ValueError, NotImplementedError, RuntimeError):
            source.problem(keys, "invalid file name.", "Write a path or a pattern.")
            return []

    def _found(self, source: SourceFile, keys: Keys, pattern: str, folder: Path) -> list[Path]:
        magic = _MAGIC.search(pattern)
        if magic is None:
            path = folder / Path(pattern).expanduser()
            if path.is_dir():
                return self._in_folder(path, *(f"*{one}" for one in _ENDINGS))
            if path.is_file():
                return [path]
            # It may be there the next time.
            self.watched += Watched(files=(path,))
            said = "no such file or folder."
            source.problem(keys, said, f"The path is relative to the folder of {source.file}.")
            return []
        above, _, _ = pattern[: magic.start()].rpartition("/")
        fixed = folder / Path("/" if pattern.startswith("/") and not above else above).expanduser()
        if not fixed.is_dir():
            self.watched += Watched(files=(fixed,))
            said = "the folder of this pattern does not exist."
            source.problem(keys, said, f"The pattern is relative to the folder of {source.file}.")
            return []
        # Folders below folders are named one by one: nobody means to search a whole disk.
        return self._in_folder(fixed, re.sub(r"\*{2,}", "*", pattern[len(above) :].lstrip("/")))

    def _in_folder(self, folder: Path, *patterns: str) -> list[Path]:
        """Return the files of a folder that match, and look at these patterns from now on."""
        self.watched += Watched(patterns=tuple((folder, one) for one in patterns))
        return sorted(path for one in patterns for path in matching(folder, one))

    def _merge(self, source: SourceFile, section: str, entries: dict[str, Data]) -> None:
        merged = self.sections.setdefault(section, {})
        for name, entry in entries.items():
            if name in merged:
                first = self._owner((section, name))
                line = first.line_of((section, name))
                said = f"duplicate name; the first is in {first.file}, line {line}."
                source.problem((section, name), said, "Remove one of the two.", at_key=True)
                continue
            merged[name] = entry
            if source is not self.main:
                self._owners[section, name] = source

    # -- places --------------------------------------------------------------------------------

    def _sources(self) -> Iterator[SourceFile]:
        yield self.main
        yield from (source for source, _ in self._included)

    def _owner(self, keys: Keys) -> SourceFile:
        section, name = (*keys, "", "")[:2]
        return self._owners.get((str(section), str(name)), self.main)

    def _by_default(self, keys: Keys) -> tuple[SourceFile, Keys] | None:
        """Return where the defaults say what a secret does not; None where neither says it."""
        if keys[:1] != ("secrets",) or len(keys) < 3:  # noqa: PLR2004 # something below a secret's name
            return None
        return self.defaults_of(str(keys[1])).find(keys[2:])


def _named(source: SourceFile, section: str, data: dict[str, Data]) -> dict[str, Data]:
    """Return a section by names; secrets may be a list of names, each as its defaults have it."""
    below = data.get(section)
    if section != "secrets" or not isinstance(below, list):
        return below if isinstance(below, dict) else {}
    found: dict[str, Data] = {}
    for number, name in enumerate(below):
        keys = (section, number)
        if not isinstance(name, str):
            source.problem(keys, "expected a name.", "Write `[shop, billing]`, or a mapping.")
        elif name in found:
            source.problem(keys, "duplicate name.", "Remove one of the two.")
        else:
            found[name] = None
    return found


def _patterns(data: dict[str, Data]) -> list[tuple[Keys, str]]:
    """Return what a file includes; what is no text has been refused with the file."""
    given = data.get("include")
    several = given if isinstance(given, list) else [given]
    found: list[tuple[Keys, str]] = []
    for number, one in enumerate(several):
        keys: Keys = ("include", number) if isinstance(given, list) else ("include",)
        if isinstance(one, str) and one:
            found.append((keys, one))
    return found


def _shown(path: Path, main: str, base: Path) -> str:
    """Return an included file as its problems call it: beside the main one, as that is called."""
    try:
        return str(Path(main).parent / path.relative_to(base))
    except ValueError:
        return str(path)
