"""Completes entries for secrets and writes them into the configuration."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from rotator.config import load
from rotator.core.errors import UsageError
from rotator.faces.cli.invocation import Invocation
from rotator.plugins import rotation_plugin

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from rotator.config import Settings
    from rotator.core.contracts.plugin import PluginInfo

    Entry = dict[str, object]

# Strategies for an existing login, in order of preference: first those without a gap.
_PROPOSED: Final = ("dual-password", "new-user", "single-user")


def write(call: Invocation, file: Path, sections: dict[str, dict[str, Entry]]) -> None:
    """Write entries and print the lines."""
    from rotator.config.editing import insert, line_of  # noqa: PLC0415

    insert(file, sections, load)
    lines = [
        f"{section}: {line_of(name, entry)}"
        for section, entries in sections.items()
        for name, entry in entries.items()
    ]
    call.data |= {"file": str(file), "entries": lines}
    call.print(*(f"written to {file}: {line}" for line in lines))


def completed(settings: Settings, name: str, entry: Entry, login: str | None) -> Entry:
    """Return an entry completed with values that the defaults lack. Raises `UsageError`."""
    known: Entry = {**settings.defaults, **entry}
    if "target" not in known:
        known["target"] = entry["target"] = _only(settings.targets, "target")
    chosen = settings.targets.get(str(known["target"]))
    if chosen is None:
        # The validation of the file reports the unknown target.
        return entry

    info = rotation_plugin(chosen.plugin).info
    if "backend" not in known and not info.keeps_secrets:
        entry["backend"] = _only(settings.backends, "backend")
    if "strategy" not in known:
        known["strategy"] = entry["strategy"] = proposed(info)
    if "options" not in known or login is not None:
        options = options_for(info, str(known["strategy"]), login or name)
        if options:
            entry["options"] = options
    return entry


def proposed(info: PluginInfo) -> str:
    """Return the proposed strategy for an existing login."""
    known = [one.name for one in info.strategies]
    found = next((one for one in _PROPOSED if one in known), None)
    if found is None:
        raise UsageError(
            f"plugin {info.name!r} has several strategies and proposes none.",
            hint=f"Name one: --strategy {'|'.join(known)}",
            safety="Nothing was changed.",
        )
    return found


def options_for(info: PluginInfo, strategy: str, login: str) -> Entry:
    """Return the options that name an existing login for a strategy."""
    declared = info.secret_options
    known = (
        {one.name for one in dataclasses.fields(declared)}
        if dataclasses.is_dataclass(declared)
        else set[str]()
    )
    wanted: Entry = {"username": login}
    if strategy == "alternating-users":
        wanted = {"users": [login, f"{login}_clone"]}
    elif strategy == "new-user":
        wanted = {"group": login} if "group" in known else {"like": login}
    return {key: value for key, value in wanted.items() if key in known}


def _only(found: Iterable[str], noun: str) -> str:
    names = list(found)
    if len(names) == 1:
        return names[0]
    raise UsageError(
        f"no {noun} is given, and {'several are' if names else 'none is'} configured.",
        hint=f"Name it: --{noun} {'|'.join(names) or noun.upper()}",
        safety="Nothing was changed.",
    )
