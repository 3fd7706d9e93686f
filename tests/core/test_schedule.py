"""When a secret is due: unknown is never 'now', windows are kept, and clocks that change are right."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotator.config.calendars import Cron, end_of, start_of
from rotator.core import windows
from rotator.core.history import SecretRecord
from rotator.core.model import Policy
from rotator.core.schedule import (
    after_partners,
    caught_up,
    is_due,
    next_due,
    open_seconds,
    retry_due,
    room,
    stable_part,
)
from rotator.core.windows import Blackout, Window, Windows
from rotator.testing.fakes import START

_MONTH = timedelta(days=30)
_MOMENT = timedelta(microseconds=1)
_HOUR = timedelta(hours=1)
_BERLIN = "Europe/Berlin"


def _berlin(*parts: int, fold: int = 0) -> datetime:
    return datetime(*parts, tzinfo=ZoneInfo(_BERLIN), fold=fold).astimezone(UTC)  # pyright: ignore[reportArgumentType] # year, month, day, hour, minute


def _window(line: str, hours: float, zone: str = "UTC") -> Window:
    return Window(opens=Cron(line=line, zone=zone), lasts=timedelta(hours=hours))


def test_a_rotated_secret_is_due_a_period_later():
    """The period counts from the last rotation or adoption."""
    assert next_due(Policy(every=_MONTH), START, "app") == START + _MONTH


def test_without_a_period_nothing_is_ever_due():
    """Rotated on demand only."""
    assert next_due(Policy(every=None), START, "app") is None


def test_what_was_never_rotated_has_no_due_date():
    """Unknown is not 'now': a new configuration does not rotate everything at once."""
    assert next_due(Policy(every=_MONTH), None, "app") is None
    assert next_due(Policy(cron=Cron(line="* * * * *")), None, "app") is None


@pytest.mark.parametrize(
    ("record", "due"),
    [
        (None, False),
        (SecretRecord(name="app"), False),
        (SecretRecord(name="app", next_due=None, rotated_at=START), False),
        (SecretRecord(name="app", next_due=START + _MOMENT), False),
        (SecretRecord(name="app", next_due=START), True),
        (SecretRecord(name="app", next_due=START - 12 * _MONTH), True),
        (SecretRecord(name="app", next_due=START - _MONTH, parked="denied"), False),
    ],
    ids=[
        "unknown to the journal",
        "known, without a date",
        "rotated, without a date",
        "a moment too early",
        "on the moment",
        "long overdue",
        "overdue but parked",
    ],
)
def test_whether_a_secret_is_due(*, record: SecretRecord | None, due: bool):
    """Only a date that the journal holds, and that has come, makes a secret due."""
    assert is_due(record, START) is due


# -- jitter, retries, catching up, partners --------------------------------------------------------


def test_jitter_is_a_part_of_its_own_for_each_secret_and_always_the_same():
    """So that secrets of one policy are not all due at once, and a restart moves none."""
    policy = Policy(every=_MONTH, jitter=_HOUR)
    due = {name: next_due(policy, START, name) for name in map(str, range(200))}
    assert len(set(due.values())) == 200
    assert all(
        one is not None and START + _MONTH <= one < START + _MONTH + _HOUR for one in due.values()
    )
    assert due == {name: next_due(policy, START, name) for name in due}
    early = [one for one in due.values() if one is not None and one < START + _MONTH + _HOUR / 2]
    assert 60 < len(early) < 140


@given(st.text(), st.timedeltas(min_value=timedelta(0), max_value=_MONTH))
def test_a_stable_part_is_less_than_the_whole(name: str, whole: timedelta):
    """Whatever the name, and also of nothing."""
    assert timedelta(0) <= stable_part(name, whole) <= whole


def test_undone_rotations_are_begun_anew_later_and_later():
    """The wait doubles, and ends at a quarter of the period."""
    policy = Policy(every=timedelta(days=1), backoff_cap=timedelta(minutes=5))
    waits = [retry_due(policy, START, failures, "app") for failures in range(1, 12)]
    found = [one - START for one in waits if one is not None]
    assert len(found) == 11
    assert found[0] >= timedelta(minutes=5)
    assert all(later >= earlier for earlier, later in pairwise(found))
    assert found[-1] <= timedelta(hours=6) * 1.25


def test_missed_rotations_are_spread():
    """After a week of downtime nothing begins at once."""
    due = [caught_up(Policy(), START, _HOUR, str(number)) for number in range(1000)]
    minutes = [int((one - START).total_seconds() // 60) for one in due if one is not None]
    assert len(minutes) == 1000
    assert max(minutes.count(minute) for minute in range(60)) < 40


def test_partners_are_never_due_within_their_distance():
    """The one comes after the other by at least so much."""
    apart = timedelta(hours=6)
    assert after_partners(Policy(), START, [None, START - _HOUR], apart) == START - _HOUR + apart
    assert after_partners(Policy(), START, [START - 2 * apart], apart) == START
    assert after_partners(Policy(), START, [], apart) == START


# -- windows ---------------------------------------------------------------------------------------


def test_a_due_date_outside_of_the_windows_moves_to_the_next_opening():
    """Nothing begins before; one that lies inside stays."""
    nightly = Windows(allow=(_window("0 1 * * *", 4),))
    policy = Policy(every=timedelta(hours=12), windows=nightly)
    assert next_due(policy, datetime(2026, 1, 1, 1, tzinfo=UTC), "a") == datetime(
        2026, 1, 2, 1, tzinfo=UTC
    )
    inside = datetime(2026, 1, 1, 14, 30, tzinfo=UTC)
    assert next_due(policy, inside, "a") == inside + timedelta(hours=12)


def test_a_window_is_open_from_its_first_moment_and_closed_at_its_last():
    """The end is not part of it."""
    windows = Windows(allow=(_window("0 1 * * *", 4),))
    one = datetime(2026, 1, 1, 1, tzinfo=UTC)
    assert windows.is_open(one)
    assert windows.is_open(one + 4 * _HOUR - _MOMENT)
    assert not windows.is_open(one + 4 * _HOUR)
    assert not windows.is_open(one - _MOMENT)
    assert windows.open_until(one) == one + 4 * _HOUR


def test_what_is_denied_is_taken_out_of_what_is_allowed():
    """Also where denied stretches run into each other, and on forbidden days."""
    day = datetime(2026, 3, 2, tzinfo=UTC)
    windows = Windows(
        allow=(_window("0 0 * * *", 12),),
        deny=(_window("0 2 * * *", 2), _window("0 3 * * *", 3)),
        blackouts=(Blackout(start=day + timedelta(days=1), end=day + timedelta(days=3)),),
    )
    assert windows.next_open(day + 2.5 * _HOUR) == day + 6 * _HOUR
    assert windows.next_open(day + 13 * _HOUR) == day + timedelta(days=3)
    assert windows.open_until(day) == day + 2 * _HOUR


@pytest.mark.parametrize(
    ("days", "steps"),
    [(60, 500), pytest.param(5 * 366, 20_000, marks=pytest.mark.slow, id="the real bounds")],
)
def test_windows_that_never_open_have_no_next_opening(
    monkeypatch: pytest.MonkeyPatch, days: int, steps: int
):
    """The search for one has two bounds."""
    monkeypatch.setattr(windows, "_HORIZON", timedelta(days=days))
    monkeypatch.setattr(windows, "_MOST_STEPS", steps)
    closed = Windows(allow=(_window("0 1 * * *", 1),), deny=(_window("0 * * * *", 1),))
    assert next_due(Policy(every=_MONTH, windows=closed), START, "app") is None
    assert Windows(deny=(_window("* * * * *", 1),)).next_open(START) is None


def test_open_seconds_are_those_of_the_open_windows():
    """For the question whether so many secrets can be done in them."""
    nightly = Policy(windows=Windows(allow=(_window("0 1 * * *", 4),)))
    assert open_seconds(nightly, START, timedelta(days=10)) == 10 * 4 * 3600
    assert open_seconds(Policy(), START, _HOUR) == 3600
    but = Windows(allow=(_window("0 1 * * *", 4),), deny=(_window("0 2 * * *", 1),))
    assert open_seconds(Policy(windows=but), START, timedelta(days=1)) == 3 * 3600


def test_room_is_the_number_of_rotations_that_fit_into_the_windows():
    """Four nights of an hour, two at a time, five seconds each."""
    hourly = Windows(allow=(_window("0 1 * * *", 1),))
    policy = Policy(every=timedelta(days=4), windows=hourly)
    assert room(policy, START, parallel=2) == 4 * 3600 * 2 / 5
    assert room(Policy(), START, parallel=2) is None
    monthly = Policy(cron=Cron(line="0 1 1 * *"), windows=hourly)
    assert room(monthly, START, parallel=1) == 31 * 3600 / 5


@given(
    st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=730)),
    st.integers(1, 48),
    st.sampled_from(["0 1 * * *", "30 2 * * 0", "15 */6 * * *", "0 0 1 * *"]),
)
def test_the_next_opening_is_open_and_not_in_the_past(later: timedelta, hours: int, line: str):
    """In Berlin, with all its changes of the clock."""
    at = START + later
    windows = Windows(
        allow=(_window(line, hours, _BERLIN),), deny=(_window("0 3 * * *", 0.5, _BERLIN),)
    )
    opened = windows.next_open(at)
    assert opened is not None
    assert opened >= at
    assert windows.is_open(opened)
    assert opened == at or not windows.is_open(at)


# -- clocks that change ----------------------------------------------------------------------------


def test_what_falls_into_an_hour_that_is_skipped_comes_right_after_it():
    """2026-03-29, 2:00 becomes 3:00 in Berlin."""
    cron = Cron(line="30 2 * * *", zone=_BERLIN)
    assert cron.after(_berlin(2026, 3, 28, 12)) == _berlin(2026, 3, 29, 3, 0)
    assert cron.after(_berlin(2026, 3, 29, 3, 0)) == _berlin(2026, 3, 30, 2, 30)


def test_what_falls_into_an_hour_that_comes_twice_comes_once():
    """2026-10-25, 3:00 becomes 2:00 in Berlin; also asked from within the second of the two."""
    cron = Cron(line="30 2 * * *", zone=_BERLIN)
    first = cron.after(_berlin(2026, 10, 24, 12))
    assert first == _berlin(2026, 10, 25, 2, 30)
    assert cron.after(first) == _berlin(2026, 10, 26, 2, 30)
    for minute in (0, 10, 30, 59):
        again = cron.after(_berlin(2026, 10, 25, 2, minute, fold=1))
        assert again == _berlin(2026, 10, 26, 2, 30)


def test_what_comes_every_hour_comes_in_both_of_the_two():
    """Twenty-five times on that day."""
    cron = Cron(line="0 * * * *", zone=_BERLIN)
    at, count = start_of("2026-10-25", _BERLIN) - _MOMENT, 0
    while (found := cron.after(at)) is not None and found < end_of("2026-10-25", _BERLIN):
        at, count = found, count + 1
    assert count == 25


def test_a_day_on_which_the_clock_changes_has_23_or_25_hours():
    """Twenty-three and twenty-five hours, where the clocks change."""
    assert end_of("2026-03-29", _BERLIN) - start_of("2026-03-29", _BERLIN) == 23 * _HOUR
    assert end_of("2026-10-25", _BERLIN) - start_of("2026-10-25", _BERLIN) == 25 * _HOUR
    assert end_of("2026-06-01", _BERLIN) - start_of("2026-06-01", _BERLIN) == 24 * _HOUR


def test_a_window_over_a_change_of_the_clock_has_its_whole_length():
    """Four hours by the stopwatch."""
    window = _window("0 1 * * *", 4, _BERLIN)
    for day in ((2026, 3, 29), (2026, 10, 25)):
        opened = _berlin(*day, 1)
        assert window.last_end(opened) == opened + 4 * _HOUR
