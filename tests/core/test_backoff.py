"""The one function that decides how long to wait between two tries."""

from __future__ import annotations

from datetime import timedelta

import pytest

from rotator.core.backoff import backoff

_SECOND = timedelta(seconds=1)
_MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("failures", "seconds"), [(0, 1), (1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (10_000, 60)]
)
def test_a_wait_doubles_up_to_the_longest(failures: int, seconds: int):
    """Without a key there is no jitter."""
    assert backoff(failures, first=_SECOND, longest=_MINUTE) == timedelta(seconds=seconds)


def test_a_wait_that_cannot_grow_any_further_does_not_overflow():
    """Also where the first wait is long already."""
    month = timedelta(days=30)
    assert backoff(10_000, first=month, longest=12 * month) == 12 * month


def test_the_jitter_is_a_quarter_either_way_and_the_same_for_one_key():
    """Different keys come back at different moments."""
    waits = [backoff(1, first=_MINUTE, longest=_MINUTE, key=str(key)) for key in range(200)]
    assert min(waits) >= 0.75 * _MINUTE
    assert max(waits) <= 1.25 * _MINUTE
    assert min(waits) < _MINUTE < max(waits)
    assert len(set(waits)) == len(waits)
    assert waits[7] == backoff(1, first=_MINUTE, longest=_MINUTE, key="7")


def test_a_jitter_that_may_not_shorten_the_wait_lengthens_it():
    """By a quarter at most."""
    waits = [
        backoff(1, first=_MINUTE, longest=_MINUTE, key=str(key), sooner=False) for key in range(200)
    ]
    assert min(waits) >= _MINUTE
    assert max(waits) <= 1.25 * _MINUTE
