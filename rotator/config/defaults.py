"""What secrets have in common: the `defaults` of a file, laid under each of its secrets."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from rotator.config.document import DefaultsDocument
from rotator.config.errors import validated

if TYPE_CHECKING:
    from rotator.config.parsing import Data, Keys
    from rotator.config.positions import SourceFile
    from rotator.config.types import Names

    Entry: TypeAlias = dict[str, Data]

KEY: Final = "defaults"
NAME: Final = "{name}"
_PLACEHOLDER: Final = re.compile(r"\{[A-Za-z_][A-Za-z0-9_]*\}")
# Keys whose texts may hold the secret's name.
_FILLED: Final = ("path", "options", "copies")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """The `defaults` of one file."""

    source: SourceFile
    entry: Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """The defaults that hold for the secrets of one file, the nearest first."""

    layers: tuple[Layer, ...] = ()

    def over(self, source: SourceFile, data: Data) -> Defaults:
        """Return these defaults with those of another file laid over them."""
        if not isinstance(data, dict):
            return self
        return Defaults(layers=(Layer(source=source, entry=data), *self.layers))

    def under(self, given: Data, name: str) -> Data:
        """Return a secret's entry with everything that it leaves to the defaults.

        A mapping of options or of a policy's keys is completed key by key, tags are added, and a
        key whose value is null is as if there were no default for it.
        """
        if given is not None and not isinstance(given, dict):
            return given
        entry: Entry = dict(given or {})
        for layer in self.layers:
            entry = _laid_under(entry, _filled(layer.entry, name))
        return _without_nulls(entry, self.layers)

    def find(self, keys: Keys) -> tuple[SourceFile, Keys] | None:
        """Return the file and place that a secret's `keys` come from, None where no default says it.

        `keys` begin below the secret's name.
        """
        # A secret has its own tags first, so the number of one says nothing here.
        within = (KEY, *keys[:1], *(() if keys[:1] == ("tags",) else keys[1:]))
        return next(
            ((one.source, within) for one in self.layers if one.source.has(within)),
            None,
        )


def check(source: SourceFile, data: Data, names: Names) -> None:
    """Note what is wrong with the `defaults` of a file themselves."""
    if data is None:
        return
    _ = validated(source, (KEY,), data, DefaultsDocument, names)
    if isinstance(data, dict):
        for key in _FILLED:
            _check_placeholders(source, (KEY, key), data.get(key))
        _check_path(source, (KEY, "path"), data.get("path"))
        copies = data.get("copies")
        for number, copy in enumerate(copies if isinstance(copies, list) else ()):
            path = copy.get("path") if isinstance(copy, dict) else None
            _check_path(source, (KEY, "copies", number, "path"), path)


def _check_placeholders(source: SourceFile, keys: Keys, data: Data) -> None:
    if isinstance(data, str):
        if any(one != NAME for one in _PLACEHOLDER.findall(data)):
            said = "unknown placeholder."
            remedy = (
                f"The only placeholder is `{NAME}`: the secret's name. Write other braces in"
                " the secret itself."
            )
            source.problem(keys, said, remedy)
    elif isinstance(data, dict):
        for key, below in data.items():
            _check_placeholders(source, (*keys, key), below)
    elif isinstance(data, list):
        for number, below in enumerate(data):
            _check_placeholders(source, (*keys, number), below)


def _check_path(source: SourceFile, keys: Keys, path: Data) -> None:
    if isinstance(path, str) and path and not _PLACEHOLDER.search(path):
        said = "all secrets would use this one path."
        source.problem(keys, said, f"Include the secret's name in it, such as `apps/{NAME}`.")


def _filled(entry: Entry, name: str) -> Entry:
    return {
        key: _with_name(value, name) if key in _FILLED else value for key, value in entry.items()
    }


def _with_name(value: Data, name: str) -> Data:
    if isinstance(value, str):
        return value.replace(NAME, name)
    if isinstance(value, list):
        return [_with_name(one, name) for one in value]
    if isinstance(value, dict):
        return {key: _with_name(one, name) for key, one in value.items()}
    return value


def _laid_under(entry: Entry, below: Entry) -> Entry:
    merged: Entry = {**below, **entry}
    upper, lower = entry.get("options"), below.get("options")
    if isinstance(upper, dict) and isinstance(lower, dict):
        merged["options"] = {**lower, **upper}
    upper, lower = entry.get("policy"), below.get("policy")
    if isinstance(upper, dict) and lower is not None:
        base: Entry = lower if isinstance(lower, dict) else {"base": lower}
        # Who names another policy as the base leaves the keys of the default policy behind.
        merged["policy"] = upper if "base" in upper else _merged(upper, base)
    upper, lower = entry.get("tags"), below.get("tags")
    if isinstance(upper, list) and isinstance(lower, list):
        merged["tags"] = [*upper, *(one for one in lower if one not in upper)]
    return merged


def _merged(upper: Entry, lower: Entry) -> Entry:
    both: Entry = {**lower, **upper}
    for key, value in upper.items():
        below = lower.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            both[key] = _merged(value, below)
    return both


def _without_nulls(entry: Entry, layers: tuple[Layer, ...]) -> Entry:
    """Take out what is null in place of a default."""
    for layer in layers:
        for key in layer.entry:
            if key in entry and entry[key] is None:
                del entry[key]
        given, lower = entry.get("options"), layer.entry.get("options")
        if isinstance(given, dict) and isinstance(lower, dict):
            kept = {key: one for key, one in given.items() if one is not None or key not in lower}
            entry["options"] = kept
    return entry
