"""A YAML file as plain data that remembers where everything stands.

Scalars follow the core schema of YAML 1.2, as editors do: only `true` and `false` are booleans, and
`no`, `0123`, `1:30` and `2026-01-01` are what they look like, texts or whole numbers.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias, cast

import yaml

from rotator.config.model import Problem

if TYPE_CHECKING:
    from pathlib import Path

Data: TypeAlias = "bool | int | float | str | list[Data] | dict[str, Data] | None"
Keys: TypeAlias = "tuple[str | int, ...]"
_Entries: TypeAlias = "dict[str | int, tuple[yaml.Node, yaml.Node]]"

_TAG: Final = "tag:yaml.org,2002:"
_MERGE: Final = f"{_TAG}merge"
_RESOLVERS: Final = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]{1,18}", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("merge", r"<<", ["<"]),
)
# An excerpt in quotes may be the start of a password that stood there unquoted.
_EXCERPT: Final = re.compile(r"\s*'(?!<[a-z ]+>')[^']{2,}'|\s*\"[^\"]{2,}\"")
# What looks unlike a name is not repeated as part of a key.
_SHOWN: Final = re.compile(r"[A-Za-z0-9_.@/+:-]{1,128}|<<")
_HIDDEN: Final = "?"
_DEEPEST: Final = 32
_TOO_DEEP: Final = ("it is nested too deeply for a configuration.", "Look for repeated brackets.")


_PATTERNS: Final = {name: re.compile(f"(?:{pattern})$") for name, pattern, _ in _RESOLVERS}


@dataclass(slots=True, kw_only=True)
class Source:
    """A configuration file: its `data`, and what has been found wrong with it."""

    file: str
    data: Data = None
    problems: list[Problem] = field(default_factory=list[Problem])
    root: yaml.Node | None = None
    # The entries of each node that was looked into, by the node's id.
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

        `hide_key` keeps the last key out of the text: it may be a value in the wrong place.

        The place of what is missing is the key above it. `<form>` in `keys` marks one form of
        several that a value may have, and stands for nothing in the file.
        """
        key_node, node, found = self.root, self.root, list[str | int]()
        for key in keys:
            below = self.entries(node).get(key)
            if below is not None:
                key_node, node = below
            elif not str(key).startswith("<"):
                node = key_node
            else:
                continue
            found.append(key)
        if hide_key:
            found[-1:] = [_HIDDEN]
        place = _place(key_node if at_key else node)
        self.problem_at(place, tuple(found), message, remedy)

    def problem_at(self, place: tuple[int, int], keys: Keys, message: str, remedy: str) -> None:
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
        node = self.root
        for key in keys:
            below = self.entries(node).get(key)
            if below is None:
                return False
            node = below[1]
        return True

    def entries(self, node: yaml.Node | None, above: frozenset[int] = frozenset()) -> _Entries:
        """Return the key and value nodes of a mapping or a list, with what `<<` merges into it."""
        if node is None or id(node) in above:
            return {}
        if id(node) not in self._entries:
            self._entries[id(node)] = self._read_entries(node, above | {id(node)})
        return self._entries[id(node)]

    def _read_entries(self, node: yaml.Node, above: frozenset[int]) -> _Entries:
        if isinstance(node, yaml.SequenceNode):
            return {index: (item, item) for index, item in enumerate(_items(node))}
        if not isinstance(node, yaml.MappingNode):
            return {}
        entries: _Entries = {}
        for key, value in _pairs(node):
            if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                entries.setdefault(str(key.value), (key, value))
        # What the mapping says itself goes before what is merged into it.
        for key, value in _pairs(node):
            if key.tag == _MERGE:
                for merged in _items(value) or [value]:
                    for name, below in self.entries(merged, above).items():
                        entries.setdefault(name, below)
        return entries


def read(path: Path, name: str) -> Source:
    """Read a file; `name` is what its problems call it. Whatever is wrong is in `problems`."""
    source = Source(file=name)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        remedy = "`rotator init` writes one." if isinstance(error, FileNotFoundError) else ""
        source.problem_at((0, 0), (), f"it cannot be read ({error.strerror}).", remedy)
        return source
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        source.problem_at((line, 1), (), "this is not UTF-8.", "Save the file as UTF-8.")
        return source
    _compose(source, text)
    if source.root is not None:
        source.data = _data(source, source.root, (), frozenset())
    return source


@functools.cache
def loader_class(base: type[yaml.SafeLoader]) -> type[yaml.SafeLoader]:
    """Return a loader that reads scalars by the core schema of YAML 1.2."""

    class Loader(base):
        yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 # as PyYAML declares it

    for name, _, first in _RESOLVERS:
        Loader.add_implicit_resolver(f"{_TAG}{name}", _PATTERNS[name], first)
    return Loader


def _compose(source: Source, text: str) -> None:
    # With libyaml it is ten times faster; the wheel has it, a bare source build may not.
    base = cast("type[yaml.SafeLoader]", getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    try:
        loader = loader_class(base)(text)
        try:
            source.root = loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        said = _EXCERPT.sub("", error.problem or "it cannot be read").strip()
        remedy = "Look for a missing quote or colon, and at the indentation, here and just above."
        source.problem_at(place, (), f"this is not YAML: {said}.", remedy)
    except yaml.YAMLError:
        said, remedy = "it holds a character that no YAML may hold.", "Remove control characters."
        source.problem_at((0, 0), (), said, remedy)
    except RecursionError:
        source.problem_at((0, 0), (), *_TOO_DEEP)


def _data(source: Source, node: yaml.Node, keys: Keys, above: frozenset[int]) -> Data:
    """Return the plain data of a node; `above` holds the nodes it stands in."""
    if id(node) in above:
        source.problem(keys, "this alias contains itself.", "Write the value out.")
        return None
    if len(keys) > _DEEPEST:
        source.problem_at(_place(node), (), *_TOO_DEEP)
        return None
    above |= {id(node)}
    if isinstance(node, yaml.ScalarNode):
        return _scalar(source, node, keys)
    entries = source.entries(node)
    if isinstance(node, yaml.SequenceNode):
        return [_data(source, item, (*keys, index), above) for index, (_, item) in entries.items()]
    if isinstance(node, yaml.MappingNode):
        _check_keys(source, node, entries, keys)
    return {
        str(name): _data(source, value, (*keys, name), above)
        for name, (_, value) in entries.items()
    }


def _check_keys(source: Source, node: yaml.MappingNode, entries: _Entries, keys: Keys) -> None:
    for key, value in _pairs(node):
        if not isinstance(key, yaml.ScalarNode):
            source.problem_at(_place(key), keys, "a key is a plain text.", "Write `key: value`.")
        elif key.tag == _MERGE:
            if not all(isinstance(one, yaml.MappingNode) for one in _items(value) or [value]):
                said = "`<<` merges another mapping into this one."
                source.problem_at(_place(key), keys, said, "Write `<<: *name`.")
        elif (first := entries[str(key.value)][0]) is not key:
            line, _ = _place(first)
            said = f"this key stands here a second time; the first is in line {line}."
            name = (*keys, str(key.value))
            source.problem_at(_place(key), name, said, "Remove one of the two.")


def _scalar(source: Source, node: yaml.ScalarNode, keys: Keys) -> Data:
    text, tag = str(node.value), node.tag.removeprefix(_TAG)
    pattern = _PATTERNS.get(tag)
    if pattern is not None and pattern.fullmatch(text) is None:
        tag = "written out by hand, and not true"
    match tag:
        case "str" | "merge":
            return text
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int":
            return int(text)
        case "float":
            return float(text)
        case _:
            source.problem(keys, "a YAML tag (`!...`) stands here.", "Put the value in quotes.")
            return None


def _pairs(node: yaml.MappingNode) -> list[tuple[yaml.Node, yaml.Node]]:
    return cast("list[tuple[yaml.Node, yaml.Node]]", node.value)


def _items(node: yaml.Node) -> list[yaml.Node]:
    return cast("list[yaml.Node]", node.value) if isinstance(node, yaml.SequenceNode) else []


def _place(node: yaml.Node | None) -> tuple[int, int]:
    return (node.start_mark.line + 1, node.start_mark.column + 1) if node else (0, 0)
