"""Trees: YAML, JSON, notebooks and XML."""

from __future__ import annotations

import html
import json
import re
from bisect import bisect_right
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Final

import yaml

from rotator.find import connection
from rotator.find.fields import Field, Group
from rotator.find.model import Match
from rotator.find.reading import NestedReader, Reading, connections, moved, of_groups
from rotator.find.tree import Mapping, Scalar, Sequence, groups

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rotator.find.tree import Node

_LITERAL_TAGS: Final = ("!unsafe", "!", "!str")
_TEMPLATE: Final = re.compile(r"\{\{[^\n]{0,500}?\}\}")
_TEMPLATE_LINE: Final = re.compile(r"^[ \t]*\{[{%][^\n]*[%}]\}[ \t]*$", re.MULTILINE)
_BROKEN_LINE: Final = re.compile(
    r"^[ \t\-]{0,200}['\"]?(?P<name>[A-Za-z_][\w.\-]{0,120})['\"]?[ \t]{0,20}:[ \t]{1,20}(?:'(?P<single>[^'\n]*+)'|\"(?P<double>[^\"\n]*+)\"|(?P<bare>[^\n#]*+))",
    re.MULTILINE,
)
_COMMENT: Final = re.compile(r"^[ \t]{0,200}#[^\n]*", re.MULTILINE)
_SCRIPTS: Final = frozenset(
    {"run", "script", "command", "args", "before_script", "after_script", "entrypoint", "cmd"}
    | {"exec", "shell", "test", "user_data", "userdata", "commands", "scripts", "bash", "sh"}
    | {"inlinescript", "code", ""}
)
_JSON: Final = re.compile(
    r"""(?P<string>"(?:[^"\\\n]|\\.)*+"?)|(?P<comment>//[^\n]*+|/\*(?:[^*]|\*(?!/))*+(?:\*/)?)|(?P<sign>[{}\[\],:])|(?P<bare>[^\s"{}\[\],:/]++)|(?P<other>[^\s])"""
)
_TAG: Final = re.compile(
    r"<(?:!--(?P<comment>(?:[^-]|-(?!->))*+)(?:-->)?|!\[CDATA\[(?P<cdata>(?:[^\]]|\](?!\]>))*+)(?:\]\]>)?|(?P<close>/)?(?P<name>[A-Za-z_][\w:.\-]*+)(?P<attributes>(?:[^<>\"']|\"[^\"]*+\"|'[^']*+')*+)>)"
)
_ATTRIBUTE: Final = re.compile(
    r"(?<![\w:.\-])(?P<name>[A-Za-z_][\w:.\-]*+)\s{0,20}=\s{0,20}(?:\"(?P<double>[^\"]*+)\"|'(?P<single>[^']*+)')"
)
_XML_NAMES: Final = ("name", "key", "id", "property")
_DEEPEST: Final = 500
# A <name> is close to its <value>.
_NEAR: Final = 16
_XML_VALUES: Final = ("value", "val")


def yaml_file(text: str, nested: NestedReader) -> Reading:
    """Read YAML of any kind: Compose, Kubernetes, Helm, CI files. Templates in it are references."""
    reading = Reading()
    roots = parse_yaml(text)
    if roots is None:
        return _broken_yaml(text)
    for root in roots:
        found = _of_tree(text, root, nested)
        reading.matches += found.matches
    for comment in _COMMENT.finditer(text) if connection.may_hold(text) else ():
        reading.matches += connections(text, comment.start(), comment.end())
    return reading


def json_file(text: str, nested: NestedReader) -> Reading:
    """Read JSON; comments and a comma at the end are accepted."""
    root, is_broken = parse_json(text)
    reading = _of_tree(text, root, nested)
    reading.is_broken = is_broken
    return reading


def notebook(text: str, nested: NestedReader) -> Reading:
    """Read a Jupyter notebook: the code of its cells, and the text of their outputs."""
    root, is_broken = parse_json(text)
    reading = Reading(is_broken=is_broken)
    for named, lines, is_code in cells(root):
        if is_code:
            reading.matches += _of_cell(text, lines, nested)
        else:
            for line in lines:
                reading.matches += moved(text, _field(line), connection.urls(line.value))
        outputs = named.get("outputs")
        for output in outputs.items if isinstance(outputs, Sequence) else ():
            for line in _scalars(output):
                reading.matches += moved(text, _field(line), connection.scan(line.value))
    return reading


def cells(root: Node) -> Iterator[tuple[dict[str, Node], list[Scalar], bool]]:
    """Yield the cells of a notebook: their values, the lines of their source, and whether they are code."""
    listed = next((node for key, node in _pairs(root) if key.value == "cells"), None)
    for cell in listed.items if isinstance(listed, Sequence) else ():
        named = {key.value: node for key, node in _pairs(cell)}
        kind = named.get("cell_type")
        is_code = isinstance(kind, Scalar) and kind.value == "code"
        yield named, _lines(named.get("source")), is_code


def xml_file(text: str, nested: NestedReader) -> Reading:
    """Read XML: elements, attributes, `name` and `value` pairs, keys of property lists."""
    root = Group()
    found_groups, extra = [root], list[Match]()
    stack: list[tuple[str, Group]] = [("", root)]
    names: list[str] = [""]
    open_end, previous_key = 0, ""
    for tag in _TAG.finditer(text):
        if tag["comment"] is not None:
            extra += connections(text, *tag.span("comment"))
            continue
        if tag["cdata"] is not None:
            extra += moved(
                text, Field("", tag["cdata"], *tag.span("cdata")), nested("text.txt", tag["cdata"])
            )
            continue
        name = tag["name"]
        if tag["close"] is None:
            attributes = Group(parent=stack[-1][1], label=name)
            found_groups.append(attributes)
            key = _attributes(tag, attributes, stack[-1][1])
            if not tag["attributes"].rstrip().endswith("/"):
                stack.append((name, attributes))
                names.append(key or name)
                open_end = tag.end()
            continue
        if len(stack) > 1 and stack[-1][0] == name:
            raw = text[open_end : tag.start()]
            if "<" not in raw and raw.strip():
                value, start = html.unescape(raw.strip()), open_end + len(raw) - len(raw.lstrip())
                called = (
                    previous_key if name in ("string", "integer") and previous_key else names[-1]
                )
                parent = stack[-2][1]
                parent.add(called, value, start, start + len(raw.strip()))
                previous_key = value if name == "key" else ""
                if name in ("value", "param-value") and len(stack) > 2:  # noqa: PLR2004 # <name>, <value>
                    first = next(
                        (
                            one
                            for one in islice(reversed(parent.fields), _NEAR)
                            if one.name.lower() in ("name", "param-name", "key")
                        ),
                        None,
                    )
                    if first is not None:
                        stack[-3][1].add(first.value, value, start, start + len(raw.strip()))
            _ = stack.pop(), names.pop()
            open_end = tag.end()
    reading = of_groups(text, found_groups, is_broken=len(stack) > 1)
    reading.matches += extra
    return reading


def parse_json(text: str) -> tuple[Node, bool]:
    """Return the tree of a JSON text, and whether it is broken; what was read until there is returned."""
    root: list[Node] = []
    stack: list[Mapping | Sequence] = []
    keys: list[Scalar | None] = []
    key: Scalar | None = None
    is_broken = False
    expects_value = True
    for token in _JSON.finditer(text):
        kind, raw = token.lastgroup, token[0]
        if kind == "comment" or raw == ",":
            continue
        if raw == ":" and kind == "sign":
            expects_value = True
            continue
        if kind == "sign" and raw in "}]":
            if not stack:
                is_broken = True
                continue
            _ = stack.pop()
            key = keys.pop()
            expects_value = True
            continue
        if kind == "other":
            is_broken = True
            continue
        node: Node
        if kind == "sign":
            node = Mapping() if raw == "{" else Sequence()
        elif kind == "string":
            node = Scalar(_json_text(raw), token.start(), token.end())
        else:
            node = Scalar(raw, token.start(), token.end(), is_reference=not raw.isdecimal())
        top = stack[-1] if stack else None
        if isinstance(top, Mapping):
            if key is None and isinstance(node, Scalar):
                key, expects_value = node, False
                continue
            if key is None or not expects_value:
                is_broken = True
                key = node if isinstance(node, Scalar) else key
                if isinstance(node, Scalar) or key is None:
                    continue
            top.items.append((key, node))
            key = None
        elif isinstance(top, Sequence):
            top.items.append(node)
        else:
            root.append(node)
        if isinstance(node, (Mapping, Sequence)):
            stack.append(node)
            keys.append(None)
            key = None
    is_broken = is_broken or bool(stack)
    return (root[0] if len(root) == 1 else Sequence(root)), is_broken


def _json_text(raw: str) -> str:
    try:
        value = json.loads(raw, strict=False)
    except ValueError:
        return raw.strip('"')
    return value if isinstance(value, str) else raw


def _of_tree(text: str, root: Node, nested: NestedReader) -> Reading:
    extra: list[Match] = []

    def read_nested(name: str, scalar: Scalar) -> None:
        file = name if "." in name.strip(".") or name.startswith(".") else ""
        if not file:
            # `mysql_user: name=LOGIN password=VALUE` is a task of Ansible.
            is_script = name.lower() in _SCRIPTS or name.endswith("_user")
            file = "script.sh" if is_script else "text.txt"
        extra.extend(moved(text, _field(scalar), nested(file, scalar.value)))

    reading = of_groups(text, groups(root, read_nested))
    reading.matches += extra
    return reading


def parse_yaml(text: str, *, masks: bool = True) -> list[Node] | None:
    """Return the documents of a YAML text; None for one that is broken.

    `masks`: templates are references, also where they are no YAML.
    """
    masked = text
    if masks and ("{{" in text or "{%" in text):
        masked = _TEMPLATE_LINE.sub(lambda found: "#" * len(found[0]), masked)
        masked = _TEMPLATE.sub(_mask, masked)
    try:
        return _yaml_roots(text, masked)
    except (yaml.YAMLError, RecursionError, ValueError, IndexError):
        return None


def _yaml_roots(text: str, masked: str) -> list[Node]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    roots: list[Node] = []
    stack: list[Mapping | Sequence] = []
    keys: list[Scalar | None] = []
    for event in yaml.parse(masked, Loader=loader):
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            start, end = event.start_mark.index, event.end_mark.index
            tag = event.tag
            is_reference = (
                tag is not None and not tag.startswith("tag:yaml.org") and tag not in _LITERAL_TAGS
            )
            value = event.value
            if masked is not text and "${_" in value:
                value = text[start:end].strip().strip("\"'")
            node = Scalar(value, start, end, is_reference=is_reference)
        elif isinstance(event, yaml.AliasEvent):
            node = Scalar("", event.start_mark.index, event.end_mark.index, is_reference=True)
        elif isinstance(event, yaml.MappingStartEvent):
            node = Mapping()
        elif isinstance(event, yaml.SequenceStartEvent):
            node = Sequence()
        elif isinstance(event, yaml.CollectionEndEvent):
            _ = stack.pop(), keys.pop()
            continue
        else:
            continue
        top = stack[-1] if stack else None
        if isinstance(top, Mapping):
            key = keys[-1]
            if key is None:
                # A key that is no scalar is named by nothing.
                keys[-1] = node if isinstance(node, Scalar) else Scalar("", 0, 0)
                if isinstance(node, Scalar):
                    continue
            else:
                top.items.append((key, node))
                keys[-1] = None
        elif isinstance(top, Sequence):
            top.items.append(node)
        else:
            roots.append(node)
        if not isinstance(node, Scalar):
            if len(stack) > _DEEPEST:
                # The parser's time grows with the square of the depth.
                raise ValueError("nested too deeply")
            stack.append(node)
            keys.append(None)
    return roots


def _mask(found: re.Match[str]) -> str:
    """Return a plain scalar of the same length in place of a template."""
    return "${" + "_" * (len(found[0]) - 3) + "}"


def _broken_yaml(text: str) -> Reading:
    group = Group()
    for found in _BROKEN_LINE.finditer(text):
        part = next(one for one in ("single", "double", "bare") if found[one] is not None)
        value = found[part].strip()
        group.add(found["name"], value, found.start(part), found.start(part) + len(value))
    reading = of_groups(text, [group], is_broken=True)
    reading.matches += connections(text, 0, len(text))
    return reading


def _attributes(tag: re.Match[str], group: Group, parent: Group) -> str:
    """Add the attributes of an element to its group; return the name that it gives its content."""
    base = tag.start("attributes")
    named: dict[str, Field] = {}
    for found in _ATTRIBUTE.finditer(tag["attributes"]):
        part = "double" if found["double"] is not None else "single"
        start, end = base + found.start(part), base + found.end(part)
        name = found["name"].rpartition(":")[2]
        group.add(name, html.unescape(found[part]), start, end)
        named[name.lower()] = group.fields[-1]
    key = next((named[one].value for one in _XML_NAMES if one in named), "")
    value = next((named[one] for one in _XML_VALUES if one in named), None)
    if key and value is not None:
        parent.add(key, value.value, value.start, value.end)
    return key


def cell_text(lines: list[Scalar]) -> str:
    """Return the Python text of a cell. Commands of the notebook are comments in it."""
    return "".join(
        line.value.replace(line.value.lstrip()[0], "#", 1) if _is_magic(line.value) else line.value
        for line in lines
    )


def _is_magic(line: str) -> bool:
    return line.lstrip()[:1] in ("!", "%")


def _of_cell(text: str, lines: list[Scalar], nested: NestedReader) -> list[Match]:
    starts, size = list[int](), 0
    found: list[Match] = []
    for line in lines:
        starts.append(size)
        size += len(line.value)
        if _is_magic(line.value):
            command = line.value.lstrip().lstrip("!%")
            found += moved(text, _field(line), _shifted_shell(line.value, command, nested))
    for match in nested("cell.py", cell_text(lines)):
        at = bisect_right(starts, match.start) - 1
        line = lines[at]
        inner = match.start - starts[at]
        placed = _replaced(match, inner, inner + match.end - match.start)
        found += moved(text, _field(line), [placed])
    return found


def _shifted_shell(line: str, command: str, nested: NestedReader) -> list[Match]:
    offset = line.find(command)
    return [
        _replaced(one, one.start + offset, one.end + offset) for one in nested("magic.sh", command)
    ]


def _replaced(match: Match, start: int, end: int) -> Match:
    return replace(match, start=start, end=end)


def _field(scalar: Scalar) -> Field:
    return Field("", scalar.value, scalar.start, scalar.end)


def _pairs(node: Node | None) -> list[tuple[Scalar, Node]]:
    return node.items if isinstance(node, Mapping) else []


def _lines(node: Node | None) -> list[Scalar]:
    if isinstance(node, Scalar):
        return [node]
    return (
        [one for one in node.items if isinstance(one, Scalar)] if isinstance(node, Sequence) else []
    )


def _scalars(node: Node) -> list[Scalar]:
    found: list[Scalar] = []
    stack: list[Node] = [node]
    while stack:
        one = stack.pop()
        if isinstance(one, Scalar):
            found.append(one)
        elif isinstance(one, Mapping):
            stack += [value for _, value in one.items]
        else:
            stack += one.items
    return found
