"""Tells a plugin's options to a person: what may stand there, what holds where nothing does."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from rotator.config.options import holds_references
from rotator.core import durations

_PLAIN: Final[dict[Any, str]] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    Path: "path",
    timedelta: "duration",
    type(None): "nothing",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option: `type` in words, `default` as the configuration would have it, None for none."""

    name: str
    type: str
    required: bool
    default: object
    help: str


def options_of(declared: type, *, inside: str = "") -> list[Option]:
    """Return the options that a plugin's dataclass declares, in their order.

    Those of a dataclass in it follow with its name before theirs: `auth.method`.
    """
    if not dataclasses.is_dataclass(declared):
        return []
    hints, found = _hints(declared), list[Option]()
    for one in (one for one in dataclasses.fields(declared) if one.init):
        hint, name = hints.get(one.name, one.type), f"{inside}{one.name}"
        nested = _nested(hint)
        if nested is not None:
            found += options_of(nested, inside=f"{name}.")
            continue
        required = one.default is one.default_factory is dataclasses.MISSING
        found.append(
            Option(
                name=name,
                type=_told(hint, references=holds_references(one)),
                required=required,
                default=_plain(_default(one)),
                help=str(one.metadata.get("help", "")),
            )
        )
    return found


def _hints(declared: type) -> dict[str, Any]:
    try:
        return get_type_hints(declared)
    except (NameError, TypeError):
        # A name that only a type checker sees: the configuration refuses it; a list shows the rest.
        return {}


def _nested(hint: Any) -> type | None:
    """Return the dataclass whose fields stand there, if that is what does."""
    parts = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return next(
        (one for one in parts if isinstance(one, type) and dataclasses.is_dataclass(one)), None
    )


def _told(hint: Any, *, references: bool = False) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in _PLAIN:
        return "reference" if hint is str and references else _PLAIN[hint]
    if origin is Literal:
        return " or ".join(str(_plain(one)) for one in arguments)
    if origin is Annotated:
        return _told(arguments[0], references=references)
    if origin in (Union, types.UnionType):
        # What may be left out has a default that says so.
        kept = [one for one in arguments if one is not type(None)]
        return " or ".join(_told(one, references=references) for one in kept)
    if isinstance(origin, type) and issubclass(origin, Collection):
        inner = [_told(one, references=references) for one in arguments if one is not Ellipsis]
        shape = "mapping" if issubclass(origin, Mapping) else "list"
        return f"{shape} of {' to '.join(inner)}"
    if isinstance(hint, type) and issubclass(hint, Enum):
        return " or ".join(str(one.value) for one in hint)
    return hint if isinstance(hint, str) else str(getattr(hint, "__name__", hint))


def _default(one: dataclasses.Field[Any]) -> object:
    if one.default_factory is not dataclasses.MISSING:
        return one.default_factory()
    return None if one.default is dataclasses.MISSING else one.default


def _plain(value: Any) -> object:
    """Return a default as a configuration would have it."""
    if isinstance(value, timedelta):
        return durations.write(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value):
        fields = dataclasses.fields(value)
        return {one.name: _plain(getattr(value, one.name)) for one in fields if one.init}
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one) for one in value]
    return value
