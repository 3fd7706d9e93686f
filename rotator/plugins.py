"""Finds plugins and backends by their entry points, and loads only the one that is named.

Our own come in through the same groups as a stranger's: `rotator.rotations`, `rotator.backends`.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from rotator.core.contracts.plugin import PluginInfo
from rotator.core.errors import UsageError
from rotator.core.secret import scrub

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from importlib.metadata import EntryPoint

    from rotator.core.contracts.plugin import BackendPlugin, RotationPlugin

ROTATIONS: Final = "rotator.rotations"
BACKENDS: Final = "rotator.backends"

_PACKAGE: Final = "credential-rotator"
_OF_EXTRA: Final = re.compile(
    r"(?P<name>[A-Za-z0-9._-]+).*extra\s*==\s*['\"](?P<extra>[\w-]+)['\"].*"
)
# Extras that bring everything, or what only a developer needs.
_WHOLE: Final = ("all", "demo", "dev")
_NOUN: Final = {ROTATIONS: "rotation plugin", BACKENDS: "backend"}
# No name of a plugin, strategy or option is longer.
_LONGEST_WORD: Final = 100
# The method that a plugin of this group must have, besides `info`.
_METHOD: Final = {ROTATIONS: "target", BACKENDS: "open"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """One entry point: its name, the distribution that brings it, and why it does not load."""

    name: str
    distribution: str
    version: str
    error: str | None = None


def rotation_plugin(name: str) -> RotationPlugin:
    """Return the rotation plugin of this name. Raises `UsageError` when there is none."""
    return cast("RotationPlugin", _plugin(ROTATIONS, name))


def rotation_plugin_for(engine: str) -> RotationPlugin | None:
    """Return the plugin for what a secret calls its `engine`, None when there is none.

    Those whose names resemble it are loaded first: each brings a driver. Raises `UsageError` when
    none was found and one does not load, which may be the one that is meant.
    """
    try:
        return _for_engine(engine)
    except LookupError:
        return None


def require_strategy(strategy: str) -> None:
    """Raise `UsageError` unless some rotation plugin has a strategy of this name."""
    known: list[str] = []
    broken: dict[str, UsageError] = {}
    for point in _points(ROTATIONS):
        try:
            plugin = rotation_plugin(point.name)
        except UsageError as error:
            broken[point.name] = error
            continue
        known += [one.name for one in plugin.info.strategies]
        if strategy in known:
            return
    if broken:
        raise _not_among_those_that_load(f"strategy {strategy!r}", strategy, broken)
    names = sorted(set(known))
    raise UsageError(
        f"no plugin has a strategy {strategy!r}.",
        hint=f"{near(strategy, names)} There are: {', '.join(names)}.".strip(),
    )


def backend_plugin(name: str) -> BackendPlugin:
    """Return the plugin that opens such backends. Raises `UsageError` when there is none."""
    return cast("BackendPlugin", _plugin(BACKENDS, name))


def missing_package(error: ModuleNotFoundError) -> UsageError | None:
    """Return which extra brings a package that is not installed, None where none of ours does."""
    import importlib.metadata  # noqa: PLC0415 # as in `_points`

    wanted = _plain((error.name or "").partition(".")[0])
    for requirement in importlib.metadata.requires(_PACKAGE) or []:
        found = _OF_EXTRA.fullmatch(requirement)
        if found and found["extra"] not in _WHOLE and _plain(found["name"]) == wanted:
            return UsageError(
                f"this needs a package that is not installed: {found['name']}.",
                hint=f"pip install 'credential-rotator[{found['extra']}]'",
            )
    return None


def installed(group: str) -> list[Installed]:
    """Return every plugin of `group` by name. Each is loaded, to tell those that cannot be."""
    return [_described(group, point) for point in _points(group)]


def near(word: str, known: Iterable[str]) -> str:
    """Return 'Did you mean ...?' when `word` resembles one of `known`, else an empty text."""
    import difflib  # noqa: PLC0415 # only a mistake needs it

    # To compare takes time by the square of the length.
    if len(word) > _LONGEST_WORD:
        return ""
    matches = difflib.get_close_matches(word, list(known), n=3)
    scores = [difflib.SequenceMatcher(a=word, b=one).ratio() for one in matches]
    # A match that is clearly worse than the best one only distracts.
    matches = [one for one, score in zip(matches, scores, strict=True) if score > scores[0] - 0.1]
    return f"Did you mean {' or '.join(f'`{one}`' for one in matches)}?" if matches else ""


# A process asks for the same few plugins once per target; finding one reads every installed
# distribution's metadata. What fails to load is not kept.
@functools.cache
def _plugin(group: str, name: str) -> object:
    return _chosen(group, name, _points(group))


@functools.cache
def _for_engine(engine: str) -> RotationPlugin:
    points = _points(ROTATIONS)
    broken: dict[str, UsageError] = {}
    names = (point.name for point in points)
    for name in sorted(names, key=lambda name: not _resemble(name, engine)):
        try:
            plugin = cast("RotationPlugin", _chosen(ROTATIONS, name, points))
        except UsageError as error:
            if _resemble(name, engine):
                raise
            broken[name] = error
            continue
        if engine in (plugin.info.name, *plugin.info.engines):
            return plugin
    if broken:
        raise _not_among_those_that_load(f"plugin for the engine {engine!r}", engine, broken)
    raise LookupError(engine)


def _chosen(group: str, name: str, points: Iterable[EntryPoint]) -> object:
    found = [point for point in points if point.name == name]
    if not found:
        names = sorted({point.name for point in points})
        meant = _of_engine(name) if group == ROTATIONS else None
        guess = near(name, names) if meant is None else f"For {name} write `{meant}`."
        listed = f"Installed: {', '.join(names) or 'none at all'}."
        raise UsageError(f"there is no {_NOUN[group]} `{name}`.", hint=f"{guess} {listed}".strip())
    if len({point.value for point in found}) > 1:
        brought = ", ".join(sorted(_distribution(point)[0] for point in found))
        raise UsageError(
            f"there is more than one {_NOUN[group]} `{name}`, brought by {brought}.",
            hint="Uninstall all but one of these packages.",
        )
    return _load(group, found[0])


def _of_engine(engine: str) -> str | None:
    """Return the name of the plugin for a server that is called otherwise, such as `mariadb`."""
    try:
        return _for_engine(engine).info.name
    except (LookupError, UsageError):
        return None


def _resemble(name: str, engine: str) -> bool:
    return name in engine or engine in name


def _not_among_those_that_load(
    what: str, word: str, broken: Mapping[str, UsageError]
) -> UsageError:
    """Return the error for what only a plugin that does not load could bring: the likeliest's."""
    import difflib  # noqa: PLC0415 # as in `near`

    likely = max(broken, key=lambda name: difflib.SequenceMatcher(a=word, b=name).ratio())
    return UsageError(
        f"there is no {what} among those that load; {broken[likely].what}",
        hint=broken[likely].hint,
    )


def _load(group: str, point: EntryPoint) -> object:
    try:
        plugin = cast("object", point.load())
    except ImportError as error:
        raise UsageError(
            f"the {_NOUN[group]} `{point.name}` cannot be imported: {_first_line(error)}.",
            hint=_install_hint(point),
        ) from error
    # A stranger's module may raise anything at import: it is said, with whose it is, not hidden.
    except Exception as error:
        raise UsageError(
            f"the {_NOUN[group]} `{point.name}` fails at import with {type(error).__name__}.",
            hint=f"This is a fault in the package {_distribution(point)[0]}: {point.value}.",
        ) from error
    method = cast("Callable[..., object] | None", getattr(plugin, _METHOD[group], None))
    if not isinstance(getattr(plugin, "info", None), PluginInfo) or not callable(method):
        raise UsageError(
            f"the entry point `{point.name}` names {point.value}, which is not a {_NOUN[group]}.",
            hint=f"It must have `info` (a PluginInfo) and `{_METHOD[group]}()`, see rotator.api.",
        )
    return plugin


def _points(group: str) -> list[EntryPoint]:
    import importlib.metadata  # noqa: PLC0415 # 40 ms that most imports of this module need not pay

    return sorted(importlib.metadata.entry_points(group=group), key=lambda point: point.name)


def _described(group: str, point: EntryPoint) -> Installed:
    name, version = _distribution(point)
    try:
        _plugin(group, point.name)
    except UsageError as error:
        return Installed(name=point.name, distribution=name, version=version, error=str(error))
    return Installed(name=point.name, distribution=name, version=version)


def _distribution(point: EntryPoint) -> tuple[str, str]:
    dist = point.dist
    return ("an unknown package", "") if dist is None else (dist.name, dist.version)


def _install_hint(point: EntryPoint) -> str:
    """Return the command that brings what is missing, by the extra of that name if there is one."""
    dist = point.dist
    if dist is None:
        return f"Install what {point.value} needs."
    extras = {_plain(extra) for extra in dist.metadata.get_all("Provides-Extra") or []}
    wanted = [extra for extra in (*point.extras, point.name) if _plain(extra) in extras]
    package = f"{dist.name}[{wanted[0]}]" if wanted else dist.name
    return f"Install what it needs: pip install '{package}'"


def _plain(extra: str) -> str:
    return re.sub(r"[-_.]+", "-", extra).lower()


def _first_line(error: Exception) -> str:
    return scrub(str(error).strip().partition("\n")[0]).rstrip(".") or type(error).__name__
