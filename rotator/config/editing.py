"""Writes entries into a configuration file; its comments and formatting stay as they are.

The text is changed at one place only, and the result is read before it replaces the file: what would
not be the old configuration with the new entries in it is refused.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import yaml

from rotator.config.model import ConfigError, Problem
from rotator.config.parsing import NotYamlError, loader, parse
from rotator.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from rotator.config.model import Settings
    from rotator.config.parsing import Data

_INDENT: Final = "  "
_WIDE: Final = 10_000


def insert(
    file: Path,
    sections: Mapping[str, Mapping[str, Mapping[str, object]]],
    load: Callable[[Path], Settings],
) -> None:
    """Add entries to sections of a file, such as `{"secrets": {"app": {...}}}`.

    Raises `ConfigError` when the file, or what it would become, does not load, and `UsageError` when
    an entry is there already or cannot be placed; the file is then as it was.
    """
    file, before, text = _changed(file, sections, load)
    with _beside(file, text, load) as (beside, _):
        if file.read_bytes().decode("utf-8-sig") != before:
            raise UsageError(
                f"{file} changed during the edit.", hint="Try again.", safety="Nothing was changed."
            )
        _ = beside.replace(file)


def preview(
    file: Path,
    sections: Mapping[str, Mapping[str, Mapping[str, object]]],
    load: Callable[[Path], Settings],
) -> Settings:
    """Return what the file would be with these entries. Nothing is changed; raises as `insert`."""
    file, _, text = _changed(file, sections, load)
    with _beside(file, text, load) as (_, settings):
        return replace(settings, file=file)


def line_of(name: str, entry: Mapping[str, object]) -> str:
    """Return an entry on one line, as it is written."""
    return _dumped({name: dict(entry) or None})[1:-1].removesuffix(": null") + (
        "" if entry else ":"
    )


def _with(text: str, section: str, name: str, entry: Mapping[str, object]) -> str:
    old = _mapping(text)
    present = old.get(section)
    names = present if isinstance(present, (dict, list)) else ()
    if name in names:
        raise UsageError(
            f"`{name}` already exists under `{section}`.",
            hint="Edit that entry, or choose another name.",
            safety="Nothing was changed.",
        )
    expected = dict(old)
    if isinstance(present, list):
        expected[section] = [*present, name]
    else:
        below = present if isinstance(present, dict) else {}
        expected[section] = {**below, name: cast("Data", dict(entry)) if entry else None}
    new = _inserted(text, section, name, entry)
    try:
        same = new is not None and parse(new).data == expected
    except NotYamlError:
        same = False
    if new is None or not same:
        raise UsageError(
            f"rotator cannot insert the entry under `{section}` in this layout of the file.",
            hint=f"Add this line manually: {line_of(name, entry)}",
            safety="Nothing was changed.",
        )
    return new


def _mapping(text: str) -> dict[str, Data]:
    data = parse(text).data
    return data if isinstance(data, dict) else {}


def _inserted(text: str, section: str, name: str, entry: Mapping[str, object]) -> str | None:
    """Return the text with the entry in it, None where the section has a form that is not known."""
    if text and not text.endswith("\n"):
        text += "\n"
    found = _section(text, section)
    if found is None:
        return f"{text}\n{section}:\n{_INDENT}{line_of(name, entry)}\n"
    key, value = found
    lines = text.splitlines(keepends=True)
    if isinstance(value, yaml.ScalarNode):
        # Nothing is below it yet but comments.
        at = key.start_mark.line + 1
        if value.value not in ("", "~", "null"):
            return None
        head = lines[at - 1].replace(" null", "").replace(" ~", "")
        return "".join((*lines[: at - 1], head, f"{_INDENT}{line_of(name, entry)}\n", *lines[at:]))
    is_list = isinstance(value, yaml.SequenceNode)
    if is_list and entry:
        return None
    if value.flow_style:
        return _into_brackets(text, value, name if is_list else line_of(name, entry))
    indent = " " * value.start_mark.column
    written = f"{indent}{f'- {name}' if is_list else line_of(name, entry)}\n"
    at = _last_line(value) + 1
    return "".join((*lines[:at], written, *lines[at:]))


def _into_brackets(text: str, value: Any, written: str) -> str:
    end = _offset(text, value.end_mark) - 1
    inner = text[_offset(text, value.start_mark) + 1 : end].strip()
    comma = ", " if inner and not inner.endswith(",") else ""
    kept = text[:end].rstrip() if inner else text[:end]
    return f"{kept}{comma}{written.removesuffix(':')}{': ' if written.endswith(':') else ''}{text[end:]}"


def _offset(text: str, mark: Any) -> int:
    lines = text.splitlines(keepends=True)
    return sum(len(one) for one in lines[: mark.line]) + int(mark.column)


def _last_line(node: Any) -> int:
    """Return the last line that has something of a value: the end marks of blocks are behind comments."""
    if isinstance(node, yaml.ScalarNode) or node.flow_style:
        end = node.end_mark
        return int(end.line) - (1 if end.column == 0 and end.line > node.start_mark.line else 0)
    last: Any = node.value[-1]
    if isinstance(last, tuple):
        pair = cast("tuple[yaml.Node, yaml.Node]", last)
        return max(_last_line(pair[0]), _last_line(pair[1]))
    return _last_line(last)


def _section(text: str, section: str) -> tuple[Any, Any] | None:
    reader = loader(text)
    try:
        root = reader.get_single_node()
    finally:
        reader.dispose()
    pairs: list[tuple[Any, Any]] = root.value if isinstance(root, yaml.MappingNode) else []
    return next((pair for pair in pairs if pair[0].value == section), None)


def _dumped(data: Mapping[str, object]) -> str:
    return yaml.safe_dump(
        dict(data), default_flow_style=True, sort_keys=False, allow_unicode=True, width=_WIDE
    ).strip()


def _changed(
    file: Path,
    sections: Mapping[str, Mapping[str, Mapping[str, object]]],
    load: Callable[[Path], Settings],
) -> tuple[Path, str, str]:
    """Return the file itself, its text, and its text with the entries."""
    _ = load(file)
    # A link stays a link.
    file = file.resolve()
    before = file.read_bytes().decode("utf-8-sig")
    text = before
    for section, entries in sections.items():
        for name, entry in entries.items():
            text = _with(text, section, name, entry)
    return file, before, text


@contextmanager
def _beside(
    file: Path, text: str, load: Callable[[Path], Settings]
) -> Generator[tuple[Path, Settings]]:
    """Write the text beside the file, read that, and remove it."""
    number, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.", suffix=".new")
    beside = Path(name)
    try:
        with os.fdopen(number, "w", encoding="utf-8") as new:
            found = file.stat()
            os.fchmod(new.fileno(), found.st_mode & 0o7777)
            if (found.st_uid, found.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(new.fileno(), found.st_uid, found.st_gid)
            _ = new.write(text)
            new.flush()
            os.fsync(new.fileno())
        try:
            settings = load(beside)
        except ConfigError as error:
            raise _renamed(error, str(beside), str(file)) from None
        yield beside, settings
    finally:
        beside.unlink(missing_ok=True)


def _renamed(error: ConfigError, wrong: str, right: str) -> ConfigError:
    """Return the error with the file's own name: the one beside it is gone when it is read."""
    return ConfigError(
        [
            Problem(
                file=right if one.file == wrong else one.file,
                line=one.line,
                column=one.column,
                key=one.key,
                message=f"with the new entry: {one.message}",
                remedy=one.remedy,
            )
            for one in error.problems
        ]
    )
