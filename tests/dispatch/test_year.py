"""A year of a thousand secrets, in seconds: each rotation at its time, and none without a reason."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import combinations, pairwise

import pytest

from rotator.config.calendars import Cron
from rotator.core.daemon_settings import SpacingGroup
from rotator.core.model import Kind, Policy, Step
from rotator.core.windows import Blackout, Window, Windows
from rotator.testing.fakes import START
from tests.dispatch.sandboxes import Entry, Place

_DAY = timedelta(days=1)
_APART = timedelta(hours=6)
_BERLIN = "Europe/Berlin"
_NIGHTS = Windows(
    allow=(Window(opens=Cron(line="0 1 * * *", zone=_BERLIN), lasts=timedelta(hours=4)),),
    blackouts=(
        Blackout(start=datetime(2026, 7, 1, tzinfo=UTC), end=datetime(2026, 7, 8, tzinfo=UTC)),
    ),
)
_WEEKDAYS = Windows(deny=(Window(opens=Cron(line="0 0 * * 6,0"), lasts=_DAY),))
_POLICIES = (
    Policy(every=90 * _DAY, jitter=3 * _DAY, windows=_NIGHTS),
    Policy(every=30 * _DAY, jitter=_DAY, windows=_NIGHTS),
    Policy(every=60 * _DAY, windows=_WEEKDAYS, jitter=6 * timedelta(hours=1)),
    Policy(cron=Cron(line="0 3 1 * *", zone=_BERLIN), jitter=timedelta(hours=1)),
    Policy(every=None),
)


def _place(count: int) -> Place:
    entries = {
        f"s{number:04}": Entry(
            policy=_POLICIES[number % len(_POLICIES)],
            target=f"db{number % 20}",
            strategy=("new-user", "single-user")[number % 2],
        )
        for number in range(count)
    }
    names = list(entries)
    groups = [
        SpacingGroup(
            name=f"g{number}", apart=_APART, secrets=tuple(names[number : number + 10 : 5])
        )
        for number in range(0, 200, 10)
    ]
    place = Place(
        entries=entries, partners={one: group for group in groups for one in group.secrets}
    )
    # Taken into care one after the other over a month, as in life.
    for number, name in enumerate(names):
        place.clock.at = START + 30 * _DAY * number / count
        place.engine.rotate(place.secret(name), patience=2 * _DAY)
    place.clock.at = START + 33 * _DAY
    place.written.clear()
    return place


def _published(place: Place) -> dict[str, list[datetime]]:
    found: defaultdict[str, list[datetime]] = defaultdict(list)
    for event in place.written:
        if event.kind is Kind.FINISHED and event.step is Step.PUBLISH:
            found[event.secret].append(event.at)
    return found


@pytest.mark.parametrize("count", [250, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_year_of_many_secrets(count: int):
    """Restarts, a changed policy and a week of downtime in between rotate nothing before its time.

    Every rotation is in its window, no two partners are close to each other, no secret gets older
    than its period, jitter, wait for a window and, once, the downtime.
    """
    place = _place(count)
    begun = place.clock.at
    daemon = place.daemon()
    place.live(daemon, begun + 40 * _DAY)

    due = {one.name for one in place.journal.due(place.clock.at, count)}
    before = len(place.written)
    daemon = place.daemon()
    daemon.tick()
    requested = {one.secret for one in place.written[before:] if one.kind is Kind.REQUESTED}
    assert requested <= due, "a restart made work"
    place.live(daemon, begun + 80 * _DAY)

    # Every third secret of 90 days is to be rotated every 20 from now on.
    changed = list(place.entries)[:: 5 * 3]
    shorter = replace(_POLICIES[0], every=20 * _DAY, jitter=timedelta(0), windows=Windows())
    for name in changed:
        place.entries[name] = replace(place.entries[name], policy=shorter)
    reloaded = place.clock.at
    rotated_before = {name: place.journal.secret(name) for name in changed}
    daemon = place.daemon()
    daemon.tick()
    published = _published(place)
    assert not [one for name in changed for one in published[name] if one == reloaded]
    place.live(daemon, begun + 150 * _DAY)
    published = _published(place)
    for name in changed:
        first = next(one for one in published[name] if one > reloaded)
        record = rotated_before[name]
        assert record is not None
        assert record.rotated_at is not None
        due = max(record.rotated_at + 20 * _DAY, reloaded + timedelta(0))
        assert due <= first <= due + timedelta(hours=2)

    # Nobody at work for a week; then not all at once.
    place.clock.at += 7 * _DAY
    back = place.clock.at
    daemon = place.daemon()
    place.live(daemon, begun + 365 * _DAY)

    published = _published(place)
    total = sum(map(len, published.values()))
    assert 5.5 * count < total < 8.5 * count, total
    _check_windows(place, published, since=back)
    _check_ages(place, published, begun, changed)
    _check_partners(place, published)
    after_downtime = Counter(
        int((at - back).total_seconds() // 60)
        for times in published.values()
        for at in times
        if back <= at < back + timedelta(hours=1)
    )
    assert max(after_downtime.values()) <= 20
    assert not any(published[name] for name in list(place.entries)[4::5]), "asked for by nobody"
    outcomes = Counter(event.data["outcome"] for event in place.written if event.kind is Kind.ENDED)
    assert set(outcomes) == {"done"}


def _check_windows(place: Place, published: dict[str, list[datetime]], since: datetime) -> None:
    for name, times in published.items():
        windows = place.entries[name].policy.windows
        outside = [at for at in times if not windows.is_open(at) and at > since]
        assert outside == [], name


def _check_ages(
    place: Place, published: dict[str, list[datetime]], begun: datetime, changed: list[str]
) -> None:
    downtime, blackout, window = 7 * _DAY, 7 * _DAY, _DAY
    for name, times in published.items():
        policy = place.entries[name].policy
        period = policy.every or 31 * _DAY
        if name in changed:
            period = 90 * _DAY
        allowed = period + policy.jitter + window + 2 * _DAY + downtime + blackout + _APART
        ages = [later - earlier for earlier, later in pairwise(times)]
        assert all(age <= allowed for age in ages), (name, max(ages), allowed)
        usual = period + policy.jitter + window + 2 * _DAY + _APART
        assert sum(age > usual for age in ages) <= 2, name
        assert all(age >= min(period, 20 * _DAY, 27 * _DAY) for age in ages), name
        assert times[0] >= begun


def _check_partners(place: Place, published: dict[str, list[datetime]]) -> None:
    for group in set(place.partners.values()):
        for one, other in combinations(group.secrets, 2):
            close = [
                (first, second)
                for first in published[one]
                for second in published[other]
                if abs(first - second) < _APART
            ]
            assert close == [], (one, other)
