"""A function and its world."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import botocore.loaders
import pytest

from rotator.testing.postgres import ScratchPostgres
from rotator.testing.secrets_manager import SecretsManager
from tests.aws_lambda.worlds import ROLES, World

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session", autouse=True)
def _models() -> Iterator[None]:
    """Read botocore's models once, not for each of a thousand cold starts."""
    with pytest.MonkeyPatch.context() as patch:
        read = functools.cache(botocore.loaders.JSONFileLoader.load_file)
        patch.setattr(
            botocore.loaders.JSONFileLoader, "load_file", lambda _self, path: read(_one, path)
        )
        yield


_one = botocore.loaders.JSONFileLoader()


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
