"""An application host: a backend of its own, and agent.yaml beside it."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

from rotator.agent.agent import Agent
from rotator.agent.sources import Consumer, open_agent
from rotator.backends.encryption import Keys, create_key_file
from rotator.backends.local import LocalBackend
from rotator.core.model import Credential
from rotator.core.secret import Secret

_CONFIG = """
version: 1
backend: {type: local, path: secrets.db, key: 'file:rotator.key'}
"""


@dataclass(slots=True)
class Host:
    """A folder with a backend, in which versions are published as a rotation does it."""

    folder: Path
    backend: LocalBackend
    count: int = 0

    @property
    def config(self) -> Path:
        return self.folder / "agent.yaml"

    def publish(self, username: str, password: str, *, path: str = "shop", **fields: object) -> str:
        """Publish another version, and return its id."""
        self.count += 1
        current = self.backend.current(path)
        credential = Credential(username=username, password=Secret(password), fields=fields)
        self.backend.stage(path, f"r{self.count}", credential)
        return self.backend.publish(
            path, f"r{self.count}", expect=None if current is None else current.id
        )

    def write(self, text: str) -> Path:
        """Write agent.yaml, with what follows its backend."""
        refresh = "" if "refresh:" in text else "refresh: 100ms\n"
        self.config.write_text(_CONFIG + refresh + textwrap.dedent(text))
        self.config.chmod(0o600)
        return self.config

    def consumer(self, text: str) -> Consumer:
        return open_agent(self.write(text))

    def agent(self, text: str) -> Agent:
        return Agent(self.consumer(text))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    key = tmp_path / "rotator.key"
    create_key_file(key)
    keys = Keys([Secret(key.read_text().strip())])
    return Host(tmp_path, LocalBackend("backend", tmp_path / "secrets.db", keys))
