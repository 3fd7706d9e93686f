"""The configuration: `load` reads `rotator.yaml` into frozen `Settings`, or raises `ConfigError`.

YAML and pydantic are imported when a file is loaded, not before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rotator import plugins
from rotator.config.model import (
    AdminSettings,
    BackendSettings,
    ConfigError,
    JournalSettings,
    Problem,
    SecretSettings,
    Settings,
    TargetSettings,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rotator.core.contracts.plugin import BackendPlugin, RotationPlugin

__all__ = [
    "AdminSettings",
    "BackendSettings",
    "ConfigError",
    "JournalSettings",
    "Problem",
    "SecretSettings",
    "Settings",
    "TargetSettings",
    "load",
]


def load(
    path: Path,
    *,
    rotations: Callable[[str], RotationPlugin] = plugins.rotation_plugin,
    backends: Callable[[str], BackendPlugin] = plugins.backend_plugin,
) -> Settings:
    """Read the configuration. Raises `ConfigError` with everything that is wrong, all at once.

    Nothing is opened and no reference is followed. `rotations` and `backends` find plugins.
    """
    from rotator.config.loader import load_file  # noqa: PLC0415 # keeps this package's import lean

    return load_file(path, rotations, backends)
