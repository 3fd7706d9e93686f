"""What tests of more than one part use: a real PostgreSQL for the whole run of a worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rotator.testing.postgres import ScratchPostgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[ScratchPostgres]:
    """A PostgreSQL whose log holds every statement."""
    with ScratchPostgres(settings={"log_statement": "all"}) as server:
        yield server
