"""A function and its world."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rotator.testing.postgres import ScratchPostgres
from rotator.testing.secrets_manager import SecretsManager
from tests.aws_lambda.worlds import ROLES, World

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A server and a service of the test's own; the journal is the log."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTING")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    with ScratchPostgres() as server, SecretsManager() as aws:
        with server.connect() as admin:
            admin.execute(ROLES.encode())
        yield World(server=server, aws=aws, dbname="postgres")


@pytest.fixture(params=["log", "postgresql"])
def either(request: pytest.FixtureRequest, world: World) -> World:
    """With each kind of journal."""
    if request.param == "postgresql":
        world.keep_journal_in(world.server)
    return world
