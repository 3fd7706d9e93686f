"""A sandbox for each test of the engine."""

from __future__ import annotations

import pytest

from tests.engine.sandboxes import EngineSandbox


@pytest.fixture
def sandbox() -> EngineSandbox:
    """A secret under `new-user` that the journal does not know yet."""
    return EngineSandbox()


@pytest.fixture
def rotated(sandbox: EngineSandbox) -> EngineSandbox:
    """The same, rotated once."""
    sandbox.engine.rotate(sandbox.secret)
    return sandbox


@pytest.fixture
def in_grace(rotated: EngineSandbox) -> EngineSandbox:
    """The same, rotated twice: the first credential is in its grace period."""
    rotated.engine.rotate(rotated.secret)
    return rotated
