"""Every name of `rotator.api`, with its docstring."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import re
from typing import TYPE_CHECKING, Any, Final

from rotator import api

if TYPE_CHECKING:
    from collections.abc import Iterator

_GROUPS: Final = (
    ("Protocols", "What plugins and backends implement, and what the engine hands to them."),
    ("Base classes", "What a plugin is made of."),
    ("Data", "Values that pass between plugins and the engine."),
    ("Errors", "What a plugin or backend may raise; the type decides what the engine does."),
    ("Functions", "What strategies and backends have in common."),
    ("Constants", ""),
)


def listing() -> str:
    """Return a section for each group, with a part for each name."""
    groups: dict[str, list[str]] = {title: [] for title, _ in _GROUPS}
    for name in sorted(api.__all__, key=str.lower):
        value = getattr(api, name)
        groups[_group(value)].append(_part(name, value))
    return "\n\n".join(
        "\n\n".join(part for part in (f"## {title}", about, *groups[title]) if part)
        for title, about in _GROUPS
    )


def _group(value: Any) -> str:
    if inspect.isfunction(value):
        return "Functions"
    if not inspect.isclass(value):
        return "Constants"
    if issubclass(value, Exception):
        return "Errors"
    if getattr(value, "_is_protocol", False):
        return "Protocols"
    if dataclasses.is_dataclass(value) or issubclass(value, enum.Enum | tuple):
        return "Data"
    return "Base classes"


def _part(name: str, value: Any) -> str:
    head = f"### {name}"
    if inspect.isfunction(value):
        return f"{head}\n\n{_code([f'def {name}{_signature(value)}'])}\n\n{_doc(value)}"
    if not inspect.isclass(value):
        shown = repr(value) if isinstance(value, str | int) else ""
        return f"{head}\n\n`{shown}`" if shown else head
    if issubclass(value, Exception):
        bases = ", ".join(f"`{base.__name__}`" for base in value.__bases__)
        return f"{head}\n\n{_doc(value)}\n\nIs a {bases}."
    parts = [head, _doc(value)]
    if issubclass(value, enum.Enum):
        parts.append(", ".join(f"`{member.value}`" for member in value))
    elif dataclasses.is_dataclass(value):
        parts.append(_code(_fields(value)))
    methods = list(_methods(value))
    parts.extend(
        f"**`{method}`**\n\n{doc}" if doc else f"**`{method}`**" for method, doc in methods
    )
    return "\n\n".join(parts)


def _fields(value: Any) -> Iterator[str]:
    for field in dataclasses.fields(value):
        if not field.name.startswith("_"):
            yield f"{field.name}: {_type(field.type)}"


def _methods(value: Any) -> Iterator[tuple[str, str]]:
    for name, member in vars(value).items():
        if name.startswith("_"):
            continue
        if isinstance(member, property):
            returns = _type(inspect.signature(member.fget).return_annotation) if member.fget else ""
            yield f"{name}: {returns}", _doc(member)
        elif isinstance(member, classmethod | staticmethod):
            yield f"{name}{_signature(member.__func__)}", _doc(member.__func__)
        elif inspect.isfunction(member):
            yield f"{name}{_signature(member)}", _doc(member)


def _signature(function: Any) -> str:
    text = re.sub(r"\((self|cls)(, )?", "(", str(inspect.signature(function)))
    return re.sub(r"<factory>|<function .*?>|<object .*?>", "…", text).replace("'", "")


def _type(annotation: Any) -> str:
    return (
        annotation
        if isinstance(annotation, str)
        else getattr(annotation, "__name__", str(annotation))
    )


def _doc(value: Any) -> str:
    text = inspect.getdoc(value) or ""
    # A docstring of a dataclass without one is its signature.
    return "" if text.startswith(f"{getattr(value, '__name__', None)}(") else text


def _code(lines: Any) -> str:
    return "\n".join(("```py", *lines, "```"))
