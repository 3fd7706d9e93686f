"""The contract of a plugin, on a real PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rotator.testing.rotation_suite import RotationSuite
from tests.copying import CopiesRights
from tests.postgresql.worlds import STRATEGIES, worlds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rotator.testing.crash import World
    from rotator.testing.postgres import ScratchPostgres


class TestContract(CopiesRights, RotationSuite):
    """All three strategies pass."""

    # Everything is minutes of logins.
    sample = 10

    @pytest.fixture(params=STRATEGIES)
    def make_world(
        self, request: pytest.FixtureRequest, postgres: ScratchPostgres
    ) -> Iterator[Callable[[], World]]:
        """Return what makes roles of a world's own."""
        with worlds(postgres, request.param) as make:
            yield make
