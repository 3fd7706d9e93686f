"""What measures the rotation function says no when a limit is missed."""

from __future__ import annotations

import pytest

from tests.aws_lambda.runtime import InvocationError, Killed
from tests.load.lambda_bench import over, summary
from tests.load.lambda_chaos import ChaosReport, LostError, unexpected


@pytest.mark.parametrize(
    ("ours", "missed"),
    [
        ([150.0, 128.0, 70.0], []),
        ([151.0, 128.0, 70.0], ["ratio"]),
        ([150.0, 128.1, 70.0], ["ours_rss_mb"]),
        ([300.0, 200.0, 70.0], ["ratio", "ours_rss_mb"]),
    ],
)
def test_a_cold_start_that_is_too_slow_or_too_big_is_named(ours: list[float], missed: list[str]):
    """By the figure that is over its limit; the first run of each does not count for the time."""
    bare = [[999.0, 50.0, 0.0], [100.0, 50.0, 0.0], [100.0, 50.0, 0.0]]
    found = summary(bare, [[9.0, 60.0, 1.0], ours, ours])
    assert [one.split()[0] for one in over(found)] == missed


def test_an_answer_that_no_disturbance_explains_is_wrong():
    """A step that is killed, or whose answer is lost, is; so is one that meets the killed one's lock."""
    busy = InvocationError({"errorType": "Busy", "errorMessage": "another rotator holds its lock"})
    assert unexpected([Killed(), LostError(), busy]) == []
    bad = InvocationError({"errorType": "UsageError", "errorMessage": "it makes no sense"})
    wrong = unexpected([Killed(), bad, ValueError("x")])
    assert wrong == ["UsageError: it makes no sense", "x"]
    report = ChaosReport(strategy="new-user", journal="log", ended=1)
    assert report.ok
    report.wrong += wrong
    assert not report.ok
