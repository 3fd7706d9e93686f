"""The maximum age inside a period: rules by example, and a slow reference for everything else."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rotator.core.model import Kind, Step
from rotator.report.model import Age, Period
from tests.report.chains import YEAR, Chain, day

if TYPE_CHECKING:
    from datetime import datetime

    from rotator.core.model import Event

# -- examples ----------------------------------------------------------------------------------

_CASES = {
    "a credential that is never replaced ages until the end": (
        Chain().rotate(10, "1"),
        YEAR,
        (355, True),
    ),
    "the oldest of several counts": (
        Chain().rotate(0, "1").rotate(30, "2").rotate(100, "3").rotate(110, "4"),
        Period(since=day(0), until=day(120)),
        (70, True),
    ),
    "what was replaced before the period does not count": (
        Chain().rotate(0, "1").rotate(100, "2").rotate(130, "3"),
        Period(since=day(101), until=day(140)),
        (30, True),
    ),
    "an age from before the period counts whole": (
        Chain().rotate(0, "1").rotate(200, "2"),
        Period(since=day(190), until=day(201)),
        (200, True),
    ),
    "a rollback serves the older credential again, at its whole age": (
        Chain()
        .rotate(0, "1")
        .request(80, "r2", "1")
        .publish(80, "r2", "2")
        .restore(82, "r2", "1")
        .rotate(95, "3"),
        Period(since=day(81), until=day(100)),
        (95, True),
    ),
    "an adopted credential is at least as old as its adoption": (
        Chain().adopt(10, "1").rotate(50, "2"),
        YEAR,
        (315, False),
    ),
    "an adopted credential with a known date is exact": (
        Chain().adopt(10, "1", made=-300).rotate(20, "2"),
        Period(since=day(0), until=day(30)),
        (320, True),
    ),
    "an adoption of the same credential replaces nothing": (
        Chain()
        .rotate(0, "1")
        .adopt(50, "2", same=True, rotated_at=day(0).isoformat(), since=day(0).isoformat()),
        Period(since=day(0), until=day(60)),
        (60, True),
    ),
    "the second login of a pair is not served": (
        Chain().rotate(0, "1").adopt(50, "9", served=False),
        Period(since=day(0), until=day(60)),
        (60, True),
    ),
    "a retired secret no longer ages": (
        Chain()
        .rotate(0, "1")
        .add(40, Kind.RETIRED, reason="gone")
        .add(90, Kind.CHECKED, version="1"),
        YEAR,
        (40, True),
    ),
    "a new name continues the age": (
        Chain("new").add(
            60,
            Kind.RENAMED,
            **{"from": "old"},
            version="1",
            login="app",
            rotated_at=day(0).isoformat(),
            since=day(0).isoformat(),
        ),
        Period(since=day(50), until=day(70)),
        (70, True),
    ),
    "the old name ends there": (
        Chain().rotate(0, "1").add(60, Kind.RENAMED, to="new"),
        Period(since=day(50), until=day(70)),
        (60, True),
    ),
    "what another system replaced counts from when it did so": (
        Chain()
        .rotate(0, "1")
        .add(
            50,
            Kind.FOLLOWED,
            version="2",
            login="app",
            rotated_at=day(40).isoformat(),
            noticed=True,
        ),
        Period(since=day(0), until=day(60)),
        (40, True),
    ),
    "a first rotation replaces a credential of unknown age": (
        Chain().request(10, "r1", "0").publish(12, "r1", "1"),
        Period(since=day(0), until=day(20)),
        (8, False),
    ),
    "a clock that jumped forward makes an age larger": (
        Chain().rotate(0, "1").add(2000, Kind.CHECKED, version="1", accepted=True).rotate(30, "2"),
        Period(since=day(0), until=day(60)),
        (60, True),
    ),
    "a clock that jumped back makes an age larger": (
        Chain().rotate(30, "1").add(-10, Kind.CHECKED, version="1", accepted=True),
        Period(since=day(0), until=day(60)),
        (70, True),
    ),
}


@pytest.mark.parametrize("case", _CASES.values(), ids=list(_CASES))
def test_the_maximum_age(case: tuple[Chain, Period, tuple[int, bool]]):
    """Inside the period, of the credential that is served."""
    chain, period, (days, exact) = case
    assert chain.reported(period).age_max == Age(age=timedelta(days=days), exact=exact)


def test_ages_at_both_ends_of_the_period():
    """Of what is served at each end."""
    found = Chain().rotate(0, "1").rotate(30, "2").reported(Period(since=day(20), until=day(36)))
    assert found.age_start == Age(age=timedelta(days=20), exact=True)
    assert found.age_end == Age(age=timedelta(days=6), exact=True)


def test_nothing_is_served_before_the_first_publish():
    """An unpublished secret has no age, which is not the age zero."""
    assert Chain().request(10, "r1").reported().age_max is None


# -- the reference -----------------------------------------------------------------------------


def _reference(events: list[Event], period: Period) -> tuple[timedelta, bool] | None:
    """Return the maximum age, asked for at each moment at which it may be largest."""
    moments = {period.since, period.until}
    moments |= {event.at for event in events if period.since < event.at <= period.until}
    ages = [_age([one for one in events if one.at <= at], at) for at in moments]
    # Just before an event replaces something.
    ages += [_age([one for one in events if one.at < at], at) for at in moments - {period.since}]
    known = [age for age in ages if age is not None]
    if not known:
        return None
    return max(age for age, _ in known), all(exact for _, exact in known)


def _age(events: list[Event], at: datetime) -> tuple[timedelta, bool] | None:
    """Return the age of what is served after these events, by versions alone."""
    made: dict[str, tuple[datetime, bool]] = {}
    served: str | None = None
    for event in events:
        version = str(event.data.get("version"))
        match event.kind, event.step:
            case Kind.FINISHED, Step.PUBLISH:
                made[version], served = (event.at, True), version
            case Kind.FINISHED, Step.RESTORE:
                served = version
            case Kind.ADOPTED, _:
                known = event.data.get("rotated_at")
                made[version] = (
                    (type(event.at).fromisoformat(str(known)), True) if known else (event.at, False)
                )
                served = version
            case Kind.RETIRED, _:
                served = None
            case _:
                pass
    if served is None:
        return None
    begin, exact = made[served]
    return at - begin, exact


@st.composite
def _chains(draw: st.DrawFn) -> Chain:
    """Draw the life of a secret: rotations, rollbacks, adoptions, retirements, checks."""
    chain, at, served, before = Chain(), 0.0, None, None
    kinds = draw(st.lists(st.sampled_from("prackx"), max_size=14))
    for version, kind in enumerate(kinds, start=1):
        at += draw(st.integers(0, 40))
        new = str(version)
        match kind:
            case "p":
                chain.request(at, f"r{new}", served).publish(at, f"r{new}", new, at + 30)
                served, before = new, served
            case "r" if before is not None:
                chain.restore(at, f"r{version}", before)
                served, before = before, None
            case "a":
                made = draw(st.none() | st.integers(-200, int(at)))
                chain.adopt(at, new, made)
                served, before = new, None
            case "c" if served is not None:
                chain.add(at, Kind.CHECKED, version=served, accepted=True, known=True)
            case "x" if served is not None:
                chain.add(at, Kind.RETIRED, reason="gone")
                served = before = None
            case _:
                pass
    return chain


@settings(max_examples=300, deadline=None)
@given(_chains(), st.integers(-20, 400), st.integers(0, 200))
def test_the_maximum_age_equals_that_of_the_slow_reference(chain: Chain, since: int, days: int):
    """For each life and each period."""
    period = Period(since=day(since), until=day(since + days))
    events = [event for event in chain.events if event.at <= period.until]
    fold = Chain()
    fold.events = events
    found = fold.report(period)
    expected = _reference(events, period)
    if found is None:
        # It was retired before, or not yet managed.
        assert expected is None
        return
    age = found.age_max
    assert (None if age is None else (age.age, age.exact)) == expected


@settings(max_examples=200, deadline=None)
@given(_chains(), st.integers(0, 14), st.integers(-500, 500))
def test_a_jump_of_the_clock_never_makes_the_served_credential_younger(
    chain: Chain, place: int, jump: int
):
    """Where a check is recorded with a wrong time."""
    events = chain.events
    period = Period(since=day(0), until=day(700))
    before = chain.report(period)
    served = [index for index, one in enumerate(events) if one.kind is Kind.CHECKED]
    if before is None or before.age_max is None or not served:
        return
    index = served[place % len(served)]
    jumped = Chain()
    for number, one in enumerate(events):
        at = (one.at - day(0)) / timedelta(days=1) + (jump if number == index else 0)
        jumped.add(at, one.kind, one.step, one.rotation_id, **one.data)
    after = jumped.reported(period)
    assert after.age_max is not None
    assert after.age_max.age >= before.age_max.age
