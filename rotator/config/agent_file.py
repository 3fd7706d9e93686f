"""Reads `agent.yaml`: a file with one backend, whose other keys a dataclass declares."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

from rotator import plugins
from rotator.config import options, schema
from rotator.config.document import VERSION, BackendDocument
from rotator.config.errors import name_fits, validated
from rotator.config.model import BackendSettings, ConfigError
from rotator.config.positions import SourceFile, read
from rotator.config.types import Names
from rotator.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rotator.config.parsing import Data
    from rotator.core.contracts.plugin import BackendPlugin

_T = TypeVar("_T")
_OWN: Final = ("version", "backend")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentFile(Generic[_T]):
    """What the file says. Relative paths start at `base`."""

    base: Path
    backend: BackendSettings
    options: _T


def is_agent_file(path: Path) -> bool:
    """Return whether a file has the one `backend:` of `agent.yaml`. False for what cannot be read."""
    data = read(path.expanduser().absolute(), str(path)).data
    return isinstance(data, dict) and "backend" in data


def load(
    path: Path,
    declared: type[_T],
    *,
    backends: Callable[[str], BackendPlugin] = plugins.backend_plugin,
) -> AgentFile[_T]:
    """Return the file's backend, and the rest as `declared`. Raises `ConfigError`."""
    file = path.expanduser().absolute()
    source = read(file, str(path))
    data = source.data
    if not file.exists():
        source.problems.clear()
        said, remedy = "the file does not exist.", "To write an example: rotator agent init"
        source.problem((), said, remedy)
    elif not isinstance(data, dict):
        if not source.problems:
            source.problem((), "expected a mapping.", "To write an example: rotator agent init")
    elif data.get("version") != VERSION:
        source.problem(("version",), "expected `version: 1`.", "Begin the file with it.")
    if source.problems or not isinstance(data, dict):
        raise ConfigError(tuple(source.problems))
    for name in _names(data):
        _ = name_fits(source, ("secrets", name))
    backend = _backend(source, data.get("backend"), file.parent, backends)
    rest = {key: value for key, value in data.items() if key not in _OWN}
    chosen = options.read(source, (), rest, declared, names=Names(), base=file.parent)
    if source.problems or backend is None or chosen is None:
        problems = sorted(source.problems, key=lambda problem: (problem.line, problem.column))
        raise ConfigError(tuple(problems))
    return AgentFile(base=file.parent, backend=backend, options=cast("_T", chosen))


def schema_text(declared: type) -> str:
    """Return the JSON Schema of the file."""
    made: dict[str, Any] = options.model_of(declared).model_json_schema()
    definitions = made.setdefault("$defs", {})
    definitions["Backend"] = BackendDocument.model_json_schema()
    made["properties"] = {
        "version": {"const": VERSION},
        "backend": {"$ref": "#/$defs/Backend"},
        **made["properties"],
    }
    made["required"] = [*_OWN, *made.get("required", [])]
    made = {"$schema": schema.DRAFT, **made, "title": "agent.yaml"}
    return json.dumps(made, indent=2, ensure_ascii=False) + "\n"


def _names(data: dict[str, Data]) -> list[str]:
    secrets = data.get("secrets")
    return [str(name) for name in secrets] if isinstance(secrets, dict) else []


def _backend(
    source: SourceFile, data: Data, base: Path, find: Callable[[str], BackendPlugin]
) -> BackendSettings | None:
    keys = ("backend",)
    document = validated(source, keys, data, BackendDocument, Names())
    if document is None or not isinstance(data, dict):
        return None
    try:
        info = find(document.type).info
    except UsageError as error:
        source.problem((*keys, "type"), error.what, error.hint)
        return None
    rest = {key: value for key, value in data.items() if key != "type"}
    chosen = options.read(source, keys, rest, info.target_options, names=Names(), base=base)
    if chosen is None:
        return None
    return BackendSettings(name="backend", type=document.type, options=chosen)
