"""A secret's entry as the journal keeps it, so that what is open can be completed without the file."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rotator import plugins
from rotator.config import options
from rotator.config.model import CopySettings, SecretSettings
from rotator.config.positions import SourceFile
from rotator.config.types import Names
from rotator.core import durations
from rotator.core.errors import UsageError
from rotator.core.history import text, texts
from rotator.core.model import DrainThen, Policy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rotator.config.model import Settings
    from rotator.config.parsing import Data
    from rotator.core.model import Json

_DURATIONS = ("grace", "drain_wait", "step_timeout")


def entry(secret: SecretSettings) -> dict[str, Json]:
    """Return what a rotation needs of an entry to be completed. There is no secret in it."""
    policy = secret.policy
    kept: dict[str, Json] = {name: durations.write(getattr(policy, name)) for name in _DURATIONS}
    return {
        "options": _plain(secret.options),
        "policy": {**kept, "drain_then": policy.drain_then.value},
    }


def remembered(name: str, requested: Mapping[str, Json], settings: Settings) -> SecretSettings:
    """Return the entry that a rotation was begun with; `requested`: the data of its first event.

    It is never due. Raises `UsageError` when its target or backend is gone, or its options no longer fit.
    """
    target, backend = text(requested, "target") or "", text(requested, "backend") or ""
    kept = requested.get("entry")
    kept = cast("Mapping[str, Json]", kept if isinstance(kept, dict) else {})
    if target not in settings.targets:
        raise _gone(f"target {target!r} is", name)
    plugin = plugins.rotation_plugin(settings.targets[target].plugin)
    if backend not in settings.backends and not plugin.info.keeps_secrets:
        raise _gone(f"backend {backend!r} is", name)
    source, given = SourceFile(file=settings.file.name), kept.get("options")
    chosen = options.read(
        source,
        (),
        cast("dict[str, Data]", given if isinstance(given, dict) else {}),
        plugin.info.secret_options,
        names=Names(backends=tuple(settings.backends), targets=tuple(settings.targets)),
        base=settings.base,
    )
    if chosen is None:
        raise _gone(
            "the plugin no longer accepts the options that the journal recorded: its entry is", name
        )
    return SecretSettings(
        name=name,
        target=target,
        backend=backend,
        path=text(requested, "path") or name,
        strategy=text(requested, "strategy") or "",
        options=chosen,
        policy=_policy(settings.default_policy, kept.get("policy")),
        copies=tuple(_copy(one) for one in texts(requested, "copies")),
        kept_by_target=plugin.info.keeps_secrets,
    )


def _policy(default: Policy, kept: Json) -> Policy:
    policy = dataclasses.replace(default, every=None, cron=None)
    if not isinstance(kept, dict):
        return policy
    changes: dict[str, Any] = {
        key: durations.parse(str(kept[key])) for key in _DURATIONS if key in kept
    }
    if "drain_then" in kept:
        changes["drain_then"] = DrainThen(str(kept["drain_then"]))
    return dataclasses.replace(policy, **changes)


def _copy(written: str) -> CopySettings:
    backend, _, path = written.partition(":")
    return CopySettings(backend=backend, path=path)


def _plain(value: object) -> Json:
    """Return options as the file would have them; what has its default is left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            one.name: _plain(getattr(value, one.name))
            for one in dataclasses.fields(value)
            if one.init and not _is_default(one, getattr(value, one.name))
        }
    if isinstance(value, timedelta):
        return durations.write(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(one) for one in cast("list[object]", value)]
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in cast("dict[object, object]", value).items()}
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return str(value) if isinstance(value, (str, Path)) else str(getattr(value, "value", value))


def _is_default(one: dataclasses.Field[Any], value: object) -> bool:
    if one.default is not dataclasses.MISSING:
        return value == one.default
    return one.default_factory is not dataclasses.MISSING and value == one.default_factory()


def _gone(what: str, name: str) -> UsageError:
    return UsageError(
        f"{what} not in the configuration, so the rotation of {name} cannot be completed.",
        hint=f"Restore the entry, or abandon the rotation: rotator retire {name} --abandon --reason"
        " WHY",
    )
