"""What tests of more than one part use: a real PostgreSQL for the whole run of a worker."""

from __future__ import annotations

from collections.abc import Iterator

import hypothesis
import pytest

from rotator.testing.postgres import ScratchPostgres

# How long one example takes says more about the machine's load than about the code.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")


@pytest.fixture(scope="session")
def postgres() -> Iterator[ScratchPostgres]:
    """A PostgreSQL whose log holds every statement."""
    with ScratchPostgres(settings={"log_statement": "all"}) as server:
        yield server
