"""The contract of a plugin, on a real PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rotator.testing.rotation_suite import RotationSuite
from tests.postgresql.worlds import STRATEGIES, worlds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rotator.testing.crash import World
    from rotator.testing.postgres import ScratchPostgres


class TestContract(RotationSuite):
    """All three strategies pass."""

    # Hours of logins: tests/crash goes through the scenarios that matter most.
    test_it_survives_a_crash_and_a_failure_at_every_call = None

    @pytest.fixture(params=STRATEGIES)
    def make_world(
        self, request: pytest.FixtureRequest, postgres: ScratchPostgres
    ) -> Iterator[Callable[[], World]]:
        """Return what makes roles of a world's own."""
        with worlds(postgres, request.param) as make:
            yield make
