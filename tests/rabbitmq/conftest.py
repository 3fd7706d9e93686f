"""A real RabbitMQ, where `make rabbitmq` asks for it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from rotator.api import UsageError
from tests.servers.rabbitmq import WANTED, ScratchRabbitMq

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def rabbit() -> Iterator[ScratchRabbitMq]:
    """One server."""
    if not os.environ.get(WANTED):
        pytest.skip("a RabbitMQ takes 15 s to start: make rabbitmq")
    try:
        server = ScratchRabbitMq()
    except UsageError as error:
        pytest.skip(f"{error.what} {error.hint}")
    with server:
        yield server
