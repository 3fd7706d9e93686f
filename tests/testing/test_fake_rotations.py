"""The contract of a plugin, over the fakes: what every strategy has to do."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from rotator.testing.crash import Sandbox, fake_sandbox
from rotator.testing.fake_rotations import NEW_KEY, STRATEGIES
from rotator.testing.rotation_suite import RotationSuite

if TYPE_CHECKING:
    from collections.abc import Callable


class TestContract(RotationSuite):
    """All four pass, and so do keys that the target draws."""

    # tests/crash does all of it, with more that goes wrong.
    sample = 40

    @pytest.fixture(params=(*STRATEGIES, NEW_KEY))
    def make_sandbox(self, request: pytest.FixtureRequest) -> Callable[[], Sandbox]:
        """Return a server in memory."""
        return partial(fake_sandbox, request.param)
