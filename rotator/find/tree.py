"""Trees of YAML, JSON and the like, with the place of each scalar, and what they name."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from rotator.find import command_line
from rotator.find.command_line import Word
from rotator.find.fields import Group

if TYPE_CHECKING:
    from collections.abc import Callable

_NAME_KEYS: Final = ("name", "key", "parametername", "parameterkey", "id")
_VALUE_KEYS: Final = ("value", "parametervalue", "default", "content")
_ITEM: Final = re.compile(r"(?:export\s+)?[A-Za-z_][\w.\-]{0,120}=.+", re.DOTALL)
# A Kubernetes Secret keeps these values in base64.
_ENCODED: Final = "Secret"


@dataclass(slots=True)
class Scalar:
    """A value with its place. `is_text`: quoted, or a plain text; `reference`: it bears a tag such as `!Ref`."""

    value: str
    start: int
    end: int
    is_reference: bool = False


@dataclass(slots=True)
class Mapping:
    """Pairs in the order of the file; a name may appear twice."""

    items: list[tuple[Scalar, Node]] = field(default_factory=list["tuple[Scalar, Node]"])

    def text(self, *names: str) -> Scalar | None:
        """Return the first scalar of these names, without regard to case."""
        for name in names:
            for key, node in self.items:
                if key.value.lower() == name and isinstance(node, Scalar):
                    return node
        return None


@dataclass(slots=True)
class Sequence:
    """A list of nodes."""

    items: list[Node] = field(default_factory=list["Node"])


Node: TypeAlias = Scalar | Mapping | Sequence
# Receives a name and a text that is a file of its own: a script, or a file in a ConfigMap.
Nested: TypeAlias = "Callable[[str, Scalar], None]"


def scalar_at(roots: list[Node], start: int, end: int) -> tuple[Scalar | None, list[str]]:
    """Return the scalar that contains a place of the text, and the keys that lead to it."""
    stack: list[tuple[Node, list[str]]] = [(one, [""]) for one in roots]
    while stack:
        node, keys = stack.pop()
        if isinstance(node, Scalar):
            if node.start <= start and end <= node.end:
                return node, keys
        elif isinstance(node, Mapping):
            stack += [(value, [*keys, key.value]) for key, value in node.items]
        else:
            stack += [(one, keys) for one in node.items]
    return None, [""]


def groups(root: Node, nested: Nested) -> list[Group]:
    """Return the named values of a tree by the mapping that they are in."""
    found: list[Group] = []
    stack: list[tuple[Node, str, Group | None]] = [(root, "", None)]
    while stack:
        node, name, parent = stack.pop()
        group = Group(parent=parent, label=name)
        if isinstance(node, Mapping):
            found.append(group)
            _of_mapping(node, group, stack, nested)
        elif isinstance(node, Sequence):
            found.append(group)
            _of_sequence(node, name, group, stack, nested)
        elif parent is None:
            nested("", node)
    return found


def _of_mapping(
    node: Mapping, group: Group, stack: list[tuple[Node, str, Group | None]], nested: Nested
) -> None:
    kind = node.text("kind")
    encoded = kind is not None and kind.value == _ENCODED
    for key, value in node.items:
        name = key.value
        if isinstance(value, Scalar):
            if not value.is_reference:
                _add(group, name, value, nested)
        elif isinstance(value, Mapping) and encoded and name == "data":
            stack.append((_decoded(value), name, group))
        else:
            stack.append((value, name, group))


def _of_sequence(
    node: Sequence,
    name: str,
    group: Group,
    stack: list[tuple[Node, str, Group | None]],
    nested: Nested,
) -> None:
    words: list[Word] = []
    for item in node.items:
        if isinstance(item, Mapping):
            key, value = item.text(*_NAME_KEYS), item.text(*_VALUE_KEYS)
            if key is not None and value is not None and not value.is_reference:
                _add(group, key.value, value, nested)
            stack.append((item, name, group))
        elif isinstance(item, Sequence):
            stack.append((item, name, group))
        elif not item.is_reference:
            words.append(Word(item.value, item.start, item.end))
            if _ITEM.fullmatch(item.value) and " " not in item.value.partition("=")[0]:
                key_text, _, rest = item.value.partition("=")
                part = words[-1].part(len(key_text) + 1)
                group.add(key_text, rest.strip("\"'"), part.start, part.end)
            else:
                # The line of a script, or a word of a command.
                nested(name if " " in item.value or "\n" in item.value else "", item)
    if words:
        command = Group(parent=group.parent, label="")
        command_line.read(words, command)
        known = {(one.start, one.end) for one in group.fields}
        group.fields += [
            one for one in command.fields if one.role or (one.start, one.end) not in known
        ]


def _add(group: Group, name: str, value: Scalar, nested: Nested) -> None:
    group.add(name, value.value, value.start, value.end)
    if "\n" in value.value.strip() or " " in value.value:
        nested(name, value)


def _decoded(node: Mapping) -> Mapping:
    """Return the values of a Kubernetes Secret, decoded; their places are those of the base64 text."""
    decoded = Mapping()
    for key, value in node.items:
        if isinstance(value, Scalar):
            try:
                text = b64decode(value.value, validate=True).decode().rstrip("\n")
            except (binascii.Error, ValueError):
                continue
            decoded.items.append((key, Scalar(text, value.start, value.end)))
    return decoded
