"""The contract of a plugin, on real servers: Valkey and Redis, alone and with a replica."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rotations.valkey.wire import WireConnection
from rotator.testing.crash import explore, scenarios
from rotator.testing.rotation_suite import RotationSuite
from tests.copied_rights import CopiesRights
from tests.valkey.sandboxes import STRATEGIES, effects, sandboxes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rotator.testing.crash import Sandbox
    from tests.servers.valkey import ScratchValkey


class TestContract(CopiesRights, RotationSuite):
    """All four strategies pass."""

    # Everything is minutes of logins.
    sample = 6

    @pytest.fixture(params=STRATEGIES)
    def make_sandbox(
        self, request: pytest.FixtureRequest, server: ScratchValkey
    ) -> Iterator[Callable[[], Sandbox]]:
        """Return what makes users of a sandbox's own."""
        with sandboxes([server], request.param) as make:
            yield make


class TestContractWithReplica(RotationSuite):
    """Users are not replicated: each node is done."""

    sample = 6

    @pytest.fixture(params=STRATEGIES)
    def make_sandbox(
        self, request: pytest.FixtureRequest, pair: list[ScratchValkey]
    ) -> Iterator[Callable[[], Sandbox]]:
        """Return what makes users of a sandbox's own."""
        with sandboxes(pair, request.param) as make:
            yield make


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ["first credential", "rotation", "rollback before publish"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_it_survives_a_crash_at_every_command(
    server: ScratchValkey, strategy: str, name: str, monkeypatch: pytest.MonkeyPatch
):
    """Killed before and after each one it sends, it leaves no orphan and no outage."""
    commands = effects()
    monkeypatch.setattr(WireConnection, "call", commands.through(WireConnection.call))
    with sandboxes([server], strategy, commands) as make:
        scenario = next(one for one in scenarios(make) if one.name == name)
        report = explore(scenario)
    assert not report.violations, str(report)
    assert report.runs > 30, str(report)
    assert report.inner >= 4
