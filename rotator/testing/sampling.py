"""How much of the crash harness a suite tries."""

from __future__ import annotations

from typing import ClassVar

import pytest


class Sampled:
    """A suite whose test of the harness takes `tried`: how many sandboxes, None being all.

    `sample`: how many crashes and failures a run tries, where trying all of them takes too long.
    All of them are then a test of their own, marked `slow`, if the project has such a marker.
    """

    sample: ClassVar[int | None] = None

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Let the harness try a sample, or everything, or each in a test of its own."""
        if "tried" not in metafunc.fixturenames:
            return
        config = metafunc.config
        patient = [pytest.mark.timeout(3600)] if config.pluginmanager.hasplugin("timeout") else []
        if self.sample is None:
            cases = [pytest.param(None, id="whole", marks=patient)]
        else:
            cases = [pytest.param(self.sample, id="sample")]
            markers: list[str] = config.getini("markers")
            if any(one.partition(":")[0].strip() == "slow" for one in markers):
                marks = [pytest.mark.slow, *patient]
                cases.append(pytest.param(None, id="whole", marks=marks))
        metafunc.parametrize("tried", cases)
