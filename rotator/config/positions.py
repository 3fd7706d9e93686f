"""A configuration file that remembers where everything stands, for those who have to mend it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, cast

import yaml

from rotator import trusted_files
from rotator.config.model import Problem
from rotator.config.parsing import MERGE, NotYamlError, loader, parse
from rotator.core.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from rotator.config.parsing import Data, Keys, Place

_Entries: TypeAlias = "dict[str | int, tuple[yaml.Node, yaml.Node]]"

# What looks unlike a name is not repeated as part of a key.
_SHOWN: Final = re.compile(r"[A-Za-z0-9_.@/+:-]{1,128}|<<")
_HIDDEN: Final = "?"
# 100,000 secrets with ten lines each are shorter.
_MOST_BYTES: Final = 64 * 2**20


class Positions(Protocol):
    """Where the parts of a configuration stand, in one file or in several."""

    @property
    def problems(self) -> list[Problem]:
        """What has been found wrong."""
        ...

    def problem(
        self,
        keys: Keys,
        message: str,
        remedy: str = "",
        *,
        at_key: bool = False,
        hide_key: bool = False,
    ) -> None:
        """Note what is wrong with the value at `keys`, see `SourceFile.problem`."""
        ...

    def has(self, keys: Keys) -> bool:
        """Return whether something stands at `keys`."""
        ...


@dataclass(slots=True, kw_only=True)
class SourceFile:
    """A configuration file: its `data`, and what has been found wrong with it."""

    file: str
    text: str = ""
    data: Data = None
    problems: list[Problem] = field(default_factory=list[Problem])
    # The nodes of the text, and the entries of those that were looked into by their ids. They are
    # made for the first problem: most files have none.
    _root: yaml.Node | None = None
    _entries: dict[int, _Entries] = field(default_factory=dict[int, "_Entries"], repr=False)

    def problem(
        self,
        keys: Keys,
        message: str,
        remedy: str = "",
        *,
        at_key: bool = False,
        hide_key: bool = False,
    ) -> None:
        """Note what is wrong with the value at `keys`, or (`at_key`) with the key itself.

        `hide_key` keeps the last key out of the text: it may be a value in the wrong place. The
        place of what is missing is the key above it. `<form>` in `keys` marks one form of several
        that a value may have, and stands for nothing in the file.
        """
        key_node = node = self._top()
        found: list[str | int] = []
        for key in keys:
            below = self._below(node).get(key)
            if below is not None:
                key_node, node = below
            elif not str(key).startswith("<"):
                node = key_node
            else:
                continue
            found.append(key)
        if hide_key:
            found[-1:] = [_HIDDEN]
        chosen = key_node if at_key else node
        place = (chosen.start_mark.line + 1, chosen.start_mark.column + 1) if chosen else (0, 0)
        self.problem_at(place, tuple(found), message, remedy)

    def problem_at(self, place: Place, keys: Keys, message: str, remedy: str) -> None:
        """Note what is wrong at a line and column."""
        line, column = place
        shown = (str(one) if _SHOWN.fullmatch(str(one)) else _HIDDEN for one in keys)
        key = ".".join(shown)
        self.problems.append(
            Problem(
                file=self.file, line=line, column=column, key=key, message=message, remedy=remedy
            )
        )

    def has(self, keys: Keys) -> bool:
        """Return whether the file has something at `keys`."""
        node = self._top()
        for key in keys:
            if key not in self._below(node):
                return False
            _, node = self._below(node)[key]
        return True

    def line_of(self, keys: Keys) -> int:
        """Return the line of a key, that of the file's beginning where it has no such key."""
        line, node = 1, self._top()
        for key in keys:
            below = self._below(node).get(key)
            if below is None:
                break
            line, node = below[0].start_mark.line + 1, below[1]
        return line

    def _top(self) -> yaml.Node | None:
        if self._root is None and self.text:
            reader = loader(self.text)
            try:
                self._root = reader.get_single_node()
            finally:
                reader.dispose()
        return self._root

    def _below(self, node: yaml.Node | None, above: frozenset[int] = frozenset()) -> _Entries:
        """Return the key and value nodes of a mapping or a list, with what `<<` merges into it."""
        if node is None or id(node) in above:
            return {}
        if id(node) not in self._entries:
            self._entries[id(node)] = self._read_entries(node, above | {id(node)})
        return self._entries[id(node)]

    def _read_entries(self, node: yaml.Node, above: frozenset[int]) -> _Entries:
        if isinstance(node, yaml.SequenceNode):
            items = _items(node)
            names = {
                str(one.value): (one, one) for one in items if isinstance(one, yaml.ScalarNode)
            }
            # A list of names may be written in place of a mapping.
            return {**names, **{index: (one, one) for index, one in enumerate(items)}}
        if not isinstance(node, yaml.MappingNode):
            return {}
        entries: _Entries = {}
        pairs = cast("list[tuple[yaml.Node, yaml.Node]]", node.value)
        for key, value in pairs:
            if isinstance(key, yaml.ScalarNode) and not _merges(key):
                entries.setdefault(str(key.value), (key, value))
        # What the mapping says itself goes before what is merged into it.
        for key, value in pairs:
            if _merges(key):
                for merged in _items(value) or [value]:
                    for name, below in self._below(merged, above).items():
                        entries.setdefault(name, below)
        return entries


def read(path: Path, name: str, problems: list[Problem] | None = None) -> SourceFile:
    """Read a file; `name` is what its problems call it. Whatever is wrong is in `problems`."""
    source = SourceFile(file=name, problems=[] if problems is None else problems)
    try:
        text = trusted_files.read(path, "the configuration", secret=False)
        if len(text) > _MOST_BYTES:
            said = f"the file is longer than {_MOST_BYTES // 2**20} MiB."
            source.problem_at((0, 0), (), said, "Split it: `include` adds further files.")
            return source
        source.text = text.decode("utf-8-sig")
    except UsageError as error:
        source.problem_at((0, 0), (), error.what, error.hint)
        return source
    except OSError as error:
        remedy = (
            "To write an example: `rotator init`." if isinstance(error, FileNotFoundError) else ""
        )
        source.problem_at((0, 0), (), f"cannot read the file ({error.strerror}).", remedy)
        return source
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        source.problem_at((line, 1), (), "the file is not valid UTF-8.", "Save the file as UTF-8.")
        return source
    try:
        parsed = parse(source.text)
    except NotYamlError as error:
        source.text = ""
        source.problem_at(error.place, (), error.message, error.remedy)
        return source
    source.data = parsed.data
    for flaw in parsed.flaws:
        source.problem_at(flaw.place, flaw.keys, flaw.message, flaw.remedy)
    return source


def _merges(key: yaml.Node) -> bool:
    return isinstance(key, yaml.ScalarNode) and key.value == MERGE and not key.style


def _items(node: yaml.Node) -> list[yaml.Node]:
    return cast("list[yaml.Node]", node.value) if isinstance(node, yaml.SequenceNode) else []
