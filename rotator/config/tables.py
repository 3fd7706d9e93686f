"""The tables of docs/reference/configuration.md, written from the code: every key, its default, its purpose."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel

from rotator import plugins
from rotator.config import document, schema

if TYPE_CHECKING:
    from collections.abc import Iterable

_PLACE: Final = re.compile(r"(<!-- keys of (\S+) -->\n).*?(?=<!-- end -->)", re.DOTALL)
_HEAD: Final = ("| key | default | description |", "| --- | --- | --- |")


def fill(text: str) -> str:
    """Return a Markdown text with the tables between its `<!-- keys of ... -->` marks anew."""
    made = schema.build()
    return _PLACE.sub(lambda place: f"{place[1]}\n{_table(made, place[2])}\n", text)


def names() -> list[str]:
    """Return every table that the documentation must have."""
    backends = [f"backend.{name}" for name, _ in schema.own(plugins.BACKENDS)]
    targets = [name for name, _ in schema.own(plugins.ROTATIONS)]
    both = [f"{kind}.{name}" for name in targets for kind in ("target", "secret", "strategies")]
    # What options hold below a key of their own.
    inner = [name for name in schema.build()["$defs"] if name.count(".") > 1]
    return [*(one.__name__ for one in documents()), *backends, *both, *inner]


def documents() -> list[type[BaseModel]]:
    """Return the models of the file's parts."""
    parts = [one for one in vars(document).values() if isinstance(one, type)]
    models = [one for one in parts if issubclass(one, BaseModel) and one.model_fields]
    # An override has the keys of a policy, and no defaults of its own.
    return [one for one in models if one is not document.PolicyOverride]


def _table(made: dict[str, Any], name: str) -> str:
    if name.startswith("strategies."):
        return _strategies(name.partition(".")[2])
    model = made if name == "Document" else made["$defs"][name]
    required: list[str] = model.get("required", [])
    rows = (
        (f"`{key}`", _default(key, one, required), str(one.get("description", "")))
        for key, one in model["properties"].items()
        if one is not True
    )
    return _rows(_HEAD, rows)


def _strategies(plugin: str) -> str:
    info = dict(schema.own(plugins.ROTATIONS))[plugin]
    head = ("| strategy | old and new valid together | how |", "| --- | --- | --- |")
    return _rows(
        head,
        (
            (f"`{one.name}`", "yes" if one.overlaps else "no", one.summary)
            for one in info.strategies
        ),
    )


def _rows(head: tuple[str, str], rows: Iterable[tuple[str, ...]]) -> str:
    cells = (" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows)
    return "".join(f"{line}\n" for line in (*head, *(f"| {line} |" for line in cells)))


def _default(key: str, one: dict[str, Any], required: list[str]) -> str:
    if key in required:
        return "required"
    value = one.get("default")
    if value in (None, "", [], {}):
        return ""
    return f"`{flow(value)}`"


def flow(value: object) -> str:
    """Return a default as one line of YAML."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {flow(one)}' for key, one in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(flow, value))}]"
    if value in (None, ""):
        return "null" if value is None else '""'
    return str(value).lower() if isinstance(value, bool) else str(value)
