"""The crash harness: kills an engine at every place where it can die, and looks at the promises.

A plugin's author needs three lines:

    def test_it_survives_crashes():
        assert_survives_crashes(make_sandbox)   # returns a fresh `Sandbox` each time
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from rotator.testing.crash.delegated import delegated_scenarios
from rotator.testing.crash.explorer import (
    explore,
    explore_failures,
    explore_outages,
    explore_sample,
    explore_strangers,
    explore_takeovers,
)
from rotator.testing.crash.frozen_server import Hold, explore_frozen
from rotator.testing.crash.points import Crash, Point, When
from rotator.testing.crash.process import POLICY, Process
from rotator.testing.crash.report import Report, Violation
from rotator.testing.crash.sandbox import Effects, Sandbox, Tapped, delegated_sandbox, fake_sandbox
from rotator.testing.crash.scenarios import Scenario, scenarios

__all__ = [
    "POLICY",
    "Crash",
    "Effects",
    "Hold",
    "Point",
    "Process",
    "Report",
    "Sandbox",
    "Scenario",
    "Tapped",
    "Violation",
    "When",
    "assert_survives_crashes",
    "delegated_sandbox",
    "delegated_scenarios",
    "explore",
    "explore_failures",
    "explore_frozen",
    "explore_outages",
    "explore_sample",
    "explore_strangers",
    "explore_takeovers",
    "fake_sandbox",
    "scenarios",
]


def assert_survives_crashes(
    make_sandbox: Callable[[], Sandbox],
    *,
    sample: int | None = None,
    seed: int = 0,
    double: bool = False,
) -> int:
    """Kill every scenario at every point, let every call fail, and assert that all promises hold.

    `make_sandbox` returns a fresh sandbox each time it is called. `sample` tries only about so many
    deaths and failures, as many in each scenario, drawn by `seed`; where there are more scenarios than
    that, in so many of them. `double` adds a second death at
    every point of each recovery: minutes, for a plugin over a real server hours. Returns how many
    sandboxes were tried.
    """
    first = make_sandbox()
    found = delegated_scenarios if first.is_delegated else scenarios
    if first.close is not None:
        first.close()
    runs, told, every = 0, list[str](), found(make_sandbox)
    if sample is not None and sample < len(every):
        every = random.Random(seed).sample(every, sample)  # noqa: S311 # repeatable on purpose
    for scenario in every:
        if sample is not None:
            reports = [explore_sample(scenario, math.ceil(sample / len(every)), seed=seed)]
        else:
            reports = [explore(scenario, double=double), explore_failures(scenario)]
        runs += sum(report.runs for report in reports)
        told += [str(report) for report in reports if report.violations]
    assert not told, "\n".join(told)
    return runs
