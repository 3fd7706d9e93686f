"""YAML as plain data, read event by event: a file of 100,000 secrets leaves nothing else behind.

Scalars follow the core schema of YAML 1.2, as editors do: only `true` and `false` are booleans, and
`no`, `0123`, `1:30` and `2026-01-01` are what they look like, texts or whole numbers.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Data: TypeAlias = "bool | int | float | str | list[Data] | dict[str, Data] | None"
Keys: TypeAlias = "tuple[str | int, ...]"
Place: TypeAlias = "tuple[int, int]"

MERGE: Final = "<<"
_TAG: Final = "tag:yaml.org,2002:"
_WORDS: Final[dict[str, Data]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NUMERIC: Final = frozenset("+-.0123456789")
_INT: Final = re.compile(r"[-+]?[0-9]{1,18}", re.ASCII)
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
# An excerpt in quotes may be the start of a password that stood there unquoted.
_EXCERPT: Final = re.compile(r"\s*'(?!<[a-z ]+>')[^']{2,}'|\s*\"[^\"]{2,}\"")
_DEEPEST: Final = 32
# How many values all aliases together may stand for, and for each that is written out how many more.
_ALIASED: Final = 100_000
_ALIASED_EACH: Final = 10
_LOOK: Final = "Check for a missing quote or colon, and check the indentation, here and just above."


class NotYamlError(Exception):
    """The text is no YAML that could be gone on with."""

    def __init__(self, place: Place, message: str, remedy: str = _LOOK) -> None:
        super().__init__(message)
        self.place: Place = place
        self.message: str = message
        self.remedy: str = remedy


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaw:
    """Something that a reader of YAML can go on after, but that nobody can have meant."""

    place: Place
    keys: Keys
    message: str
    remedy: str


# Nodes and the ends of collections: all but the frame of a document.
_CONTENT: Final = (yaml.NodeEvent, yaml.CollectionEndEvent)


@dataclass(slots=True, kw_only=True)
class Parsed:
    """The data of a text, and its flaws."""

    data: Data = None
    flaws: list[Flaw] = field(default_factory=list[Flaw])


def parse(text: str) -> Parsed:
    """Read a text. Raises `NotYamlError`, which repeats nothing of it."""
    parsed = Parsed()
    try:
        builder = _Builder(events(text), parsed.flaws)
        parsed.data = builder.document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = _EXCERPT.sub("", error.problem or "it cannot be read").strip()
        raise NotYamlError(_place(mark), f"invalid YAML: {said}.") from None
    except yaml.YAMLError:
        said, remedy = (
            "the file contains a character that YAML forbids.",
            "Remove control characters.",
        )
        raise NotYamlError((0, 0), said, remedy) from None
    return parsed


def loader(text: str) -> Any:
    """Return a loader of plain texts. With libyaml, which PyYAML's wheels have, it is much faster."""
    return getattr(yaml, "CBaseLoader", yaml.BaseLoader)(text)


def dumped(data: Mapping[str, Any]) -> str:
    """Return data as this file would have it."""
    return yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True)


def events(text: str) -> Iterator[Any]:
    """Yield the events of the one document in a text, from its first node on."""
    reader = loader(text)
    try:
        documents = 0
        while (event := reader.get_event()) is not None:
            if isinstance(event, _CONTENT):
                yield event
            elif isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    said = "the file contains more than one YAML document: the second begins here."
                    raise NotYamlError(_place(event.start_mark), said, "Remove the `---`.")
    finally:
        reader.dispose()


class _Builder:
    """Puts data together from events."""

    def __init__(self, events: Iterator[Any], flaws: list[Flaw]) -> None:
        self._events: Iterator[Any] = events
        self._flaws: list[Flaw] = flaws
        self._anchors: dict[str, Data] = {}
        self._open: set[str] = set()
        # By anchor, how many values it stands for; how many are written out, and how many by aliases.
        self._sizes: dict[str, int] = {}
        self._written: int = 0
        self._aliases: int = 0

    def document(self) -> Data:
        """Return the data of the whole; None for an empty one."""
        first = next(self._events, None)
        data = None if first is None else self._value(first, ())
        # Whatever follows is read too: it may be wrong.
        for _ in self._events:
            pass
        return data

    def _value(self, event: Any, keys: Keys) -> Data:
        if isinstance(event, yaml.AliasEvent):
            return self._aliased(event, keys)
        if event.anchor is not None:
            if event.anchor in self._anchors or event.anchor in self._open:
                said = "invalid YAML: two anchors have the same name."
                raise NotYamlError(_place(event.start_mark), said, "Rename one of them.")
            self._open.add(event.anchor)
        before = self._written + self._aliases
        self._written += 1
        if isinstance(event, yaml.ScalarEvent):
            data = self._scalar(event, keys)
        else:
            data = self._collection(event, keys)
        if event.anchor is not None:
            self._open.discard(event.anchor)
            self._anchors[event.anchor] = data
            self._sizes[event.anchor] = self._written + self._aliases - before
        return data

    def _aliased(self, event: Any, keys: Keys) -> Data:
        if event.anchor in self._anchors:
            self._aliases += self._sizes[event.anchor]
            if self._aliases > _ALIASED + _ALIASED_EACH * self._written:
                said = "the aliases (`*...`) expand to too many values."
                raise NotYamlError(_place(event.start_mark), said, "Write the values out.")
            return self._anchors[event.anchor]
        if event.anchor not in self._open:
            said = "invalid YAML: alias (`*...`) without its anchor (`&...`)."
            raise NotYamlError(_place(event.start_mark), said, "If it is text, put it in quotes.")
        self._flaw(event, keys, "this alias contains itself.", "Write the value out.")
        return None

    def _collection(self, event: Any, keys: Keys) -> Data:
        if len(keys) >= _DEEPEST:
            said = "too many levels of nesting."
            raise NotYamlError(_place(event.start_mark), said, "Check for repeated brackets.")
        if event.tag not in (None, f"{_TAG}map", f"{_TAG}seq"):
            self._flaw_tag(event, keys)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(keys)
        items: list[Data] = []
        while not isinstance(item := next(self._events), yaml.SequenceEndEvent):
            items.append(self._value(item, (*keys, len(items))))
        return items

    def _mapping(self, keys: Keys) -> dict[str, Data]:
        result: dict[str, Data] = {}
        merged: list[Data] = []
        lines: dict[str, int] = {}
        while not isinstance(key := next(self._events), yaml.MappingEndEvent):
            if not isinstance(key, yaml.ScalarEvent):
                self._flaw(key, keys, "expected a plain text key.", "Write `key: value`.")
                _ = self._value(key, keys), self._value(next(self._events), keys)
                continue
            name, event = sys.intern(str(key.value)), next(self._events)
            if name == MERGE and not key.style:
                merged += self._to_merge(key, self._value(event, (*keys, name)), keys)
                continue
            value = self._value(event, (*keys, name))
            if name in result:
                said = f"duplicate key; the first is in line {lines[name]}."
                remedy = "Remove one of the two."
                if not keys:
                    # As in a file that `rotator init` wrote, with something pasted below it.
                    remedy = "Move the lines below this key to the first one, then remove this key."
                self._flaw(key, (*keys, name), said, remedy)
                continue
            lines[name] = key.start_mark.line + 1
            result[name] = value
        # What the mapping says itself goes before what is merged into it.
        for one in merged:
            result = {**one, **result} if isinstance(one, dict) else result
        return result

    def _to_merge(self, key: Any, value: Data, keys: Keys) -> list[Data]:
        several: list[Data] = value if isinstance(value, list) else list[Data]((value,))
        if not all(isinstance(one, dict) for one in several):
            said = "expected a mapping to merge after `<<`."
            self._flaw(key, keys, said, "Write `<<: *name`.")
        return several

    def _scalar(self, event: Any, keys: Keys) -> Data:
        text: str = event.value
        if event.tag in (None, "!"):
            return _plain(text) if event.tag is None and event.implicit[0] else text
        data: Data = text if event.tag == f"{_TAG}str" else _plain(text)
        kinds = {"str": str, "bool": bool, "int": int, "float": (int, float), "null": type(None)}
        if not isinstance(data, kinds.get(event.tag.removeprefix(_TAG), ())):
            self._flaw_tag(event, keys)
        return data

    def _flaw_tag(self, event: Any, keys: Keys) -> None:
        self._flaw(event, keys, "YAML tags (`!...`) are not supported.", "Put the value in quotes.")

    def _flaw(self, event: Any, keys: Keys, message: str, remedy: str) -> None:
        place = _place(event.start_mark)
        self._flaws.append(Flaw(place=place, keys=keys, message=message, remedy=remedy))


def _plain(text: str) -> Data:
    """Return what a scalar without quotes and tag says."""
    if text[:1] not in _NUMERIC:
        return _WORDS.get(text, text)
    if _INT.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def _place(mark: Any) -> Place:
    return (mark.line + 1, mark.column + 1) if mark else (0, 0)
