"""The contract of a plugin, on a real PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rotator.testing.rotation_suite import RotationSuite
from tests.copied_rights import CopiesRights
from tests.postgresql.sandboxes import STRATEGIES, sandboxes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rotator.testing.crash import Sandbox
    from rotator.testing.postgres import ScratchPostgres


class TestContract(CopiesRights, RotationSuite):
    """All three strategies pass."""

    # Everything is minutes of logins.
    sample = 6

    @pytest.fixture(params=STRATEGIES)
    def make_sandbox(
        self, request: pytest.FixtureRequest, postgres: ScratchPostgres
    ) -> Iterator[Callable[[], Sandbox]]:
        """Return what makes roles of a sandbox's own."""
        with sandboxes(postgres, request.param) as make:
            yield make
