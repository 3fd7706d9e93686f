"""The crash harness over secrets that another system rotates: it ends them, and finds what breaks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from rotator.core.model import Credential, Version
from rotator.core.secret import Secret
from rotator.testing.crash import (
    Sandbox,
    Scenario,
    delegated_sandbox,
    delegated_scenarios,
    explore,
    explore_failures,
    explore_outages,
    explore_takeovers,
)
from rotator.testing.delegated_suite import DelegatedSuite
from rotator.testing.fake_engine import FakeEngine

if TYPE_CHECKING:
    from collections.abc import Callable

_SCENARIOS = [one.name for one in delegated_scenarios(delegated_sandbox)]


class TestFake(DelegatedSuite):
    """The fake keeps the contract that the suite holds plugins to."""

    @pytest.fixture
    def make_sandbox(self) -> Callable[[], Sandbox]:
        return delegated_sandbox


class _Unseen(FakeEngine):
    """Shows its password to nobody, and tries it itself."""

    def current(self, path: str) -> Version | None:
        found = super().current(path)
        assert found is not None
        return replace(found, credential=replace(found.credential, password=Secret("")))

    def accepts(self, credential: Credential) -> bool:
        return not credential.password.reveal()


def test_the_harness_finds_no_leak_of_a_password_that_it_was_not_shown():
    """An empty one is in every text."""
    found = delegated_scenarios(lambda: delegated_sandbox(_Unseen()))
    report = explore_failures(next(one for one in found if one.name == "request"))
    assert not report.violations, str(report)


@pytest.mark.parametrize("name", _SCENARIOS)
def test_a_delegated_rotation_ends_after_a_fault_at_any_point(name: str):
    """Killed, failing, cut off and overtaken at every point, and between the system's two effects."""
    scenario = next(one for one in delegated_scenarios(delegated_sandbox) if one.name == name)
    for look in (explore, explore_failures, explore_outages, explore_takeovers):
        report = look(scenario)
        assert not report.violations, str(report)


@pytest.mark.slow
@pytest.mark.parametrize("name", _SCENARIOS)
def test_a_delegated_rotation_ends_after_two_faults_at_any_points(name: str):
    """A second death at every point of each recovery."""
    scenario = next(one for one in delegated_scenarios(delegated_sandbox) if one.name == name)
    report = explore(scenario, double=True)
    assert not report.violations, str(report)


def _forgets(engine: FakeEngine) -> FakeEngine:
    """Make a backend that rotates each time it is asked, whatever has happened."""
    asked = engine.request_rotation
    engine.request_rotation = lambda path, rotation_id, *, expect: asked(  # type: ignore[method-assign]
        path, rotation_id, expect=str(engine.kept[0])
    )
    return engine


def test_the_harness_finds_a_backend_that_rotates_twice_for_one_request():
    """Not looking at `expect` is the mistake that is easily made."""

    def make() -> Sandbox:
        sandbox = delegated_sandbox()
        assert isinstance(sandbox.backend, FakeEngine)
        _forgets(sandbox.backend)
        return sandbox

    scenario: Scenario = next(one for one in delegated_scenarios(make) if one.name == "request")
    assert "rotations were made for one request" in str(explore(scenario))
