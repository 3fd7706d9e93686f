"""SIGKILL at random: the short form of `make vault-chaos`."""

from __future__ import annotations

import pytest

from tests.load import vault_chaos


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_nothing_is_left_behind_by_killed_processes_and_killed_engines():
    """Everything ends, what is served logs in, and no password is told on the way."""
    report = vault_chaos.run(12, seed=3)
    assert report.ok, report
    assert report.engine_kills == 3
