"""Durations as people write them."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotator.core import durations


@given(st.integers(0, durations.LONGEST // timedelta(milliseconds=1)))
def test_what_is_written_is_read_back(milliseconds: int):
    """Every duration of whole milliseconds survives being written and read."""
    duration = timedelta(milliseconds=milliseconds)
    assert durations.parse(durations.write(duration)) == duration


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("30d", timedelta(days=30)),
        ("12h", timedelta(hours=12)),
        ("15m", timedelta(minutes=15)),
        ("10s", timedelta(seconds=10)),
        ("250ms", timedelta(milliseconds=250)),
        ("1w", timedelta(days=7)),
        ("1d12h", timedelta(days=1, hours=12)),
        (
            "1w2d3h4m5s6ms",
            timedelta(weeks=1, days=2, hours=3, minutes=4, seconds=5, milliseconds=6),
        ),
        ("1m500ms", timedelta(minutes=1, milliseconds=500)),
        ("0s", timedelta()),
        ("36500d", durations.LONGEST),
    ],
)
def test_units_are_combined_from_large_to_small(text: str, duration: timedelta):
    """A duration is one or more numbers with units."""
    assert durations.parse(text) == duration


@pytest.mark.parametrize(
    "text",
    ["", "30", "d", "1h1d", "1d1d", "-1d", "1.5h", "1 d", "1D", "1y", "1d\n", "٣d", "1ms5m"],
)
def test_anything_else_is_refused(text: str):
    """A number without a unit, units in disorder, signs and fractions are no durations."""
    with pytest.raises(ValueError, match=r"a duration is a number with a unit$"):
        durations.parse(text)


@pytest.mark.parametrize("text", ["36500d1ms", "999999999w", "999999999w999999999d"])
def test_what_would_leave_the_calendar_is_refused(text: str):
    """No duration is so long that a date computed from it does not exist."""
    with pytest.raises(ValueError, match="at most a hundred years"):
        durations.parse(text)


@given(st.text(alphabet="0123456789wdhms ", max_size=12))
def test_the_schemas_pattern_says_the_same_as_the_code(text: str):
    """What an editor accepts by the pattern, the loader accepts, and the other way round."""
    accepted = True
    try:
        durations.parse(text)
    except ValueError as error:
        accepted = "hundred years" in str(error)
    assert accepted == (re.search(durations.PATTERN, text) is not None)
