"""A file of configuration, written and loaded with plugins that only declare."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Protocol

import pytest

from rotator.config import ConfigError, Settings, load
from tests.config import plugins

if TYPE_CHECKING:
    from pathlib import Path

    from rotator.config import Problem


class Load(Protocol):
    """Write a text to `rotator.yaml` and load it."""

    def __call__(self, text: str) -> Settings:
        """Return the settings."""
        ...


@pytest.fixture
def settings(tmp_path: Path) -> Load:
    """Load a text as a file of configuration."""

    def loaded(text: str) -> Settings:
        file = tmp_path / "rotator.yaml"
        file.write_text(textwrap.dedent(text))
        return load(file, rotations=plugins.rotations, backends=plugins.backends)

    return loaded


class Problems(Protocol):
    """Write a text that is wrong and load it."""

    def __call__(self, text: str) -> tuple[Problem, ...]:
        """Return everything that was wrong."""
        ...


@pytest.fixture
def problems(settings: Load) -> Problems:
    """Return what is wrong with a text."""

    def found(text: str) -> tuple[Problem, ...]:
        with pytest.raises(ConfigError) as caught:
            settings(text)
        return caught.value.problems

    return found
