"""The engine is killed at every port call and effect, its calls fail, hang and are overtaken.

`ROTATOR_CRASH=double` (make crash) adds a second death at every point of every recovery.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from rotator.testing.crash import (
    Process,
    Report,
    Scenario,
    explore,
    explore_failures,
    explore_outages,
    explore_strangers,
    explore_takeovers,
    fake_sandbox,
    scenarios,
)
from rotator.testing.fake_rotations import NEW_KEY, STRATEGIES
from tests.sampling import sampled

if TYPE_CHECKING:
    from collections.abc import Callable

# The others do not differ from these once there is a copy to write.
_WITH_COPIES = ("first credential", "rotation", "rollback in the grace period", "early revoke")
_DOUBLE = os.environ.get("ROTATOR_CRASH") == "double"


def _every_scenario() -> list[Any]:
    """Return each strategy with each of its scenarios; those that restore over a backend that
    moves labels and over one that can only write copies; and all with another backend that is
    written too; and those of keys that the target draws.
    """
    found = [
        pytest.param(scenario, id=f"{strategy}-{kind}-{scenario.name}".replace(" ", "-"))
        for strategy in STRATEGIES
        for kind, copies in (("labels", False), ("copies", True))
        for scenario in scenarios(partial(fake_sandbox, strategy, copies=copies))
        if not copies or "rollback" in scenario.name
    ]
    return (
        found
        + [
            pytest.param(scenario, id=f"{strategy}-two-backends-{scenario.name}".replace(" ", "-"))
            for strategy in STRATEGIES
            for scenario in scenarios(partial(fake_sandbox, strategy, copied=True))
            if scenario.name in _WITH_COPIES
        ]
        + [
            pytest.param(scenario, id=f"{NEW_KEY}-{scenario.name}".replace(" ", "-"))
            for scenario in scenarios(partial(fake_sandbox, NEW_KEY))
            # Who drew the key makes no difference to who uses it.
            if "consumers" not in scenario.name
        ]
    )


_SCENARIOS = _every_scenario()
_HOWS = (explore_failures, explore_outages, explore_takeovers, explore_strangers)


def _each_trouble() -> list[Any]:
    """Return each trouble with each scenario: in turn, so that each has its share in `make test`."""
    return [
        pytest.param(how, *case.values, id=f"{how.__name__}-{case.id}", marks=case.marks)
        for first, how in enumerate(_HOWS)
        for case in sampled(_SCENARIOS, of=17, first=4 * first)
        # A stranger may write the leaked password back, which nothing makes valid again.
        if how is not explore_strangers or not case.values[0].is_incident
    ]


@pytest.mark.parametrize("scenario", sampled(_SCENARIOS, of=9))
def test_every_promise_holds_after_a_crash_at_any_point(scenario: Scenario):
    """Killed before or after any call or effect, a resumed rotation ends as it should."""
    _expect_none(explore(scenario), least=15)


@pytest.mark.slow
@pytest.mark.skipif(not _DOUBLE, reason="set ROTATOR_CRASH=double, or run `make crash`")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("scenario", _SCENARIOS)
def test_every_promise_holds_when_the_recovery_crashes_too(
    scenario: Scenario, capsys: pytest.CaptureFixture[str]
):
    """Killed anywhere, and killed anywhere again while recovering, a rotation ends as it should."""
    report = explore(scenario, double=True)
    with capsys.disabled():
        print(f"\n{report}")  # the counts are what `make crash` is run for
    _expect_none(report, least=100)


@pytest.mark.parametrize(("how", "scenario"), _each_trouble())
def test_every_promise_holds_when_something_else_goes_wrong(
    how: Callable[[Scenario], Report], scenario: Scenario
):
    """Any call may fail, the target or backend be away, the engine frozen, somebody else write."""
    _expect_none(how(scenario), least=3)


@pytest.mark.parametrize("scenario", sampled(_SCENARIOS, of=17, first=1))
def test_an_engine_that_wakes_up_after_a_rollback_changes_nothing(scenario: Scenario):
    """Frozen until another one has undone its rotation, an engine stops before its next effect."""
    _expect_none(explore_takeovers(scenario, by=Process.rollback), least=5)


def _expect_none(report: Report, *, least: int) -> None:
    assert not report.violations, str(report)
    assert report.runs >= least, f"only {report}"
