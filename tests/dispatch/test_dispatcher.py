"""What the daemon does at 3 a.m.: hosts that are away or hang, rights that are missing, others at work."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from rotator.core.consumers import Consumer, Gate, InstanceKind, Level, Report
from rotator.core.daemon_settings import (
    BreakerSettings,
    DaemonSettings,
    Limits,
    SpacingGroup,
    Topic,
)
from rotator.core.errors import Conflict, Denied, JournalError, Transient, Unavailable
from rotator.core.history import PROVEN
from rotator.core.model import Kind, Outcome, Policy, Step
from rotator.core.observations import ObservationKind
from rotator.core.windows import Blackout, Windows
from rotator.dispatch.breaker import Breaker
from rotator.dispatch.worker import topic_of
from rotator.engine import LeakReport, Mode
from rotator.testing.fakes import START
from tests.dispatch.sandboxes import Entry, Place

if TYPE_CHECKING:
    from rotator.core.contracts.rotation import Rotation

_DAY = timedelta(days=1)
_MINUTE = timedelta(minutes=1)
_HOUR = timedelta(hours=1)
_POLICY = Policy(every=30 * _DAY, grace=timedelta(hours=1))


@dataclass(slots=True)
class Weather:
    """What goes wrong on which target, and how often somebody came there."""

    wrong: dict[str, Exception] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    hung: dict[str, threading.Event] = field(default_factory=dict)
    # Where only some calls fail; empty: all of them.
    only: frozenset[str] = frozenset()
    place: Place | None = None

    def over(self, name: str, rotation: Rotation) -> Any:
        assert self.place is not None
        return _Weathered(self, self.place.entry(name).target, rotation)


class _Weathered:
    """A rotation whose target is in the weather."""

    def __init__(self, weather: Weather, target: str, inner: Rotation) -> None:
        self._weather, self._target, self._inner = weather, target, inner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return found

        def call(*args: Any) -> Any:
            self._weather.calls[self._target] += 1
            if self._target in self._weather.hung:
                self._weather.hung[self._target].wait(30)
            met = not self._weather.only or name in self._weather.only
            if met and self._target in self._weather.wrong:
                raise self._weather.wrong[self._target]
            return found(*args)

        return call


def _place(targets: dict[str, int], **given: Any) -> tuple[Place, Weather]:
    """Return secrets on targets, so many on each, due in a month."""
    entries = {
        f"{target}-{number}": Entry(policy=_POLICY, target=target)
        for target, count in targets.items()
        for number in range(count)
    }
    weather = Weather()
    place = Place(entries=entries, wrap=weather.over, **given)
    weather.place = place
    for name in entries:
        place.engine.rotate(place.secret(name))
    place.clock.at = START + 30 * _DAY
    place.written.clear()
    weather.calls.clear()
    return place, weather


def _done(place: Place) -> list[str]:
    return [
        one.secret
        for one in place.written
        if one.kind is Kind.ENDED and one.data["outcome"] == Outcome.DONE.value
    ]


# -- hosts that are away ---------------------------------------------------------------------------


@pytest.mark.parametrize("count", [200, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_dead_host_is_tried_now_and_then_and_holds_up_nobody_else(count: int):
    """Many secrets on it cause a trickle; when it is back, all are rotated automatically."""
    place, weather = _place({"dead": count, "well": 10})
    weather.wrong["dead"] = Transient("no route to host.")
    daemon = place.daemon()
    place.live(daemon, place.clock.at + timedelta(hours=2))
    assert len(_done(place)) == 10
    assert weather.calls["dead"] <= 100, "the dead host was hammered"
    assert daemon.waiting > 0.9 * count
    assert list(daemon.hosts_away()) == ["target dead"]
    parked = [one for one in place.journal.secrets() if one.parked]
    assert parked == [], "retries were used up on a host that is away"

    del weather.wrong["dead"]
    place.live(daemon, place.clock.at + timedelta(hours=4))
    assert Counter(_done(place)) == Counter(list(place.entries))
    assert daemon.hosts_away() == {}


def test_a_breaker_waits_longer_each_time_up_to_a_limit():
    """And lets one try through at the end of each wait."""
    breaker = Breaker(BreakerSettings(failures=2, wait=_MINUTE, longest=3 * _MINUTE))
    now, waits = START, list[timedelta]()
    assert not breaker.failed(now)
    assert breaker.allows(now)
    assert breaker.failed(now)
    for _ in range(4):
        assert not breaker.allows(now)
        until = breaker.until
        assert until is not None
        waits.append(until - now)
        now = until
        assert breaker.allows(now)
        breaker.started()
        assert not breaker.allows(now), "one at a time"
        breaker.failed(now)
    assert waits == [_MINUTE, 2 * _MINUTE, 3 * _MINUTE, 3 * _MINUTE]
    assert breaker.succeeded()
    assert breaker.allows(now)
    assert not breaker.failed(now), "counted from the beginning again"


def test_failures_of_several_that_were_under_way_count_as_one_wait():
    """They all met the same outage."""
    breaker = Breaker(BreakerSettings(failures=1, wait=_MINUTE))
    for _ in range(8):
        breaker.failed(START)
    assert breaker.until == START + _MINUTE


def test_a_hung_target_delays_nobody_by_more_than_a_second():
    """It may take its own places, and no others."""
    limits = Limits(total=6, per_target=4)
    duty = DaemonSettings(verify_every=None, limits=limits)
    place, weather = _place({"hung": 20, "well": 5}, duty=duty)
    weather.hung["hung"] = threading.Event()
    with ThreadPoolExecutor(limits.total) as pool:
        place.pool = pool
        daemon = place.daemon()
        begun = time.monotonic()
        try:
            while len({one.secret for one in place.written if one.kind is Kind.REQUESTED}) < 9:
                assert time.monotonic() - begun < 5
                daemon.tick()
                time.sleep(0.005)
            well = [one for one in place.written if one.secret.startswith("well")]
            assert len({one.secret for one in well}) == 5
            assert time.monotonic() - begun < 1
            assert daemon.running >= 4
        finally:
            weather.hung["hung"].set()


# -- what trying again does not mend ---------------------------------------------------------------


@pytest.mark.parametrize("error", [Denied("no right."), Conflict("somebody else's.")])
def test_an_error_that_only_an_operator_can_mend_parks_the_secret(error: Exception):
    """Whatever happens meanwhile."""
    place, weather = _place({"db": 1})
    weather.wrong["db"] = error
    daemon = place.daemon()
    place.live(daemon, place.clock.at + _MINUTE)
    calls = weather.calls["db"]
    place.live(daemon, place.clock.at + 10 * _DAY)
    assert weather.calls["db"] == calls
    record = place.journal.secret("db-0")
    assert record is not None
    assert record.parked is not None


def test_a_credential_that_somebody_else_wrote_is_parked_before_anything_begins():
    """It is theirs; nothing is overwritten."""
    place, _ = _place({"db": 1})
    current = place.backend.current("db-0")
    assert current is not None
    theirs = place.backend.written_by_a_stranger("db-0", current.credential)
    place.live(place.daemon(), place.clock.at + _DAY)
    record, now = place.journal.secret("db-0"), place.backend.current("db-0")
    assert record is not None
    assert record.parked is not None
    assert "somebody else wrote" in record.parked
    assert now is not None
    assert now.id == theirs


def test_retries_end_in_a_parked_secret_after_the_cycles():
    """Each of them later than the one before; then a person is told."""
    policy = replace(_POLICY, attempts=2, cycles=3)
    place, weather = _place(
        {"db": 1}, duty=DaemonSettings(verify_every=None, breaker=BreakerSettings(failures=1000))
    )
    place.entries["db-0"] = Entry(policy=policy, target="db")
    weather.wrong["db"], weather.only = Transient("locked."), frozenset({"create"})
    place.live(place.daemon(), place.clock.at + 20 * _DAY)
    requested = [one.at for one in place.written if one.kind is Kind.REQUESTED]
    assert len(requested) == 3
    assert requested[2] - requested[1] > requested[1] - requested[0]
    record = place.journal.secret("db-0")
    assert record is not None
    assert record.parked is not None


def test_a_bug_in_a_plugin_affects_only_its_own_secrets():
    """The others are rotated; it is tried again later, and later."""
    place, weather = _place({"bad": 1, "well": 3})
    weather.wrong["bad"] = ZeroDivisionError("hunter2")
    place.live(place.daemon(), place.clock.at + timedelta(hours=3))
    assert sorted(set(_done(place))) == ["well-0", "well-1", "well-2"]
    assert "hunter2" not in str(place.log.lines)


# -- others at work --------------------------------------------------------------------------------


def test_a_secret_that_another_process_works_on_is_rotated_once():
    """Its lock counts; and what it has just done is not due any more."""
    place, _ = _place({"db": 1})
    lock = place.journal.acquire("db-0", "another", timedelta(minutes=2))
    daemon = place.daemon()
    daemon.tick()
    assert place.written == []
    place.journal.release(lock)
    place.engine.rotate(place.secret("db-0"), patience=2 * _DAY)
    place.live(daemon, place.clock.at + _DAY)
    assert _done(place) == ["db-0"]


def test_two_daemons_rotate_each_secret_once():
    """Over one journal, tick by tick."""
    place, _ = _place({"db": 50})
    one, other = place.daemon(), place.daemon()
    for _ in range(200):
        one.tick()
        other.tick()
        place.clock.advance(_MINUTE)
    assert Counter(_done(place)) == Counter(list(place.entries))


def test_partners_that_come_due_together_are_rotated_apart():
    """Also by two daemons."""
    apart = timedelta(hours=6)
    group = SpacingGroup(name="pair", apart=apart, secrets=("db-0", "db-1"))
    place, _ = _place({"db": 2}, partners={"db-0": group, "db-1": group})
    one, other = place.daemon(), place.daemon()
    for _ in range(60 * 12):
        one.tick()
        other.tick()
        place.clock.advance(_MINUTE)
    records = [place.journal.secret(name) for name in group.secrets]
    times = sorted(one.rotated_at for one in records if one is not None and one.rotated_at)
    assert times[0] > START + 29 * _DAY
    assert apart <= times[1] - times[0] < apart + timedelta(minutes=5)


# -- the rest --------------------------------------------------------------------------------------


def test_a_journal_that_does_not_answer_is_asked_again():
    """Nothing is done meanwhile, and nothing is forgotten."""
    place, _ = _place({"db": 3})
    daemon = place.daemon()
    due = place.journal.due

    def away(*_: object, **__: object) -> Any:
        raise JournalError("the database is away.")

    place.journal.due = away
    daemon.tick()
    assert daemon.ticked_at is None
    assert place.written == []
    place.journal.due = due
    place.live(daemon, place.clock.at + _DAY)
    assert len(_done(place)) == 3


def test_a_secret_that_is_no_longer_configured_is_left_alone():
    """The journal remembers it; nobody asked for it."""
    place, _ = _place({"db": 2})
    del place.entries["db-1"]
    place.live(place.daemon(), place.clock.at + _DAY)
    assert _done(place) == ["db-0"]


@pytest.mark.parametrize("restarted", [False, True], ids=["the same daemon", "the next daemon"])
def test_the_open_rotation_of_a_secret_that_left_the_file_is_finished(
    restarted: bool,  # noqa: FBT001 # pytest passes it by name
):
    """From what the journal remembers: the old login ends after its grace. No new rotation begins."""
    place, _ = _place({"db": 1})
    daemon = place.daemon()
    place.live(daemon, place.clock.at + 10 * _MINUTE)
    opened = place.journal.open_rotation("db-0")
    assert opened is not None
    assert opened.published_at is not None
    place.left["db-0"] = place.entries.pop("db-0")
    if restarted:
        daemon = place.daemon()
    place.live(daemon, place.clock.at + timedelta(hours=2))
    assert _done(place) == ["db-0"]
    ended = place.journal.rotation(opened.id)
    assert ended is not None
    assert ended.old_refused
    place.live(daemon, place.clock.at + 60 * _DAY)
    assert _done(place) == ["db-0"]
    assert place.journal.open_rotation("db-0") is None


def test_without_a_time_for_catching_up_what_was_missed_is_rotated_at_once():
    """Not when the agenda is looked through again, a minute later."""
    place, _ = _place({"db": 3}, duty=DaemonSettings(verify_every=None, catch_up=timedelta(0)))
    place.clock.at += _DAY
    place.live(place.daemon(), place.clock.at + timedelta(seconds=10))
    published = [
        one.secret
        for one in place.written
        if one.kind is Kind.FINISHED and one.step is Step.PUBLISH
    ]
    assert sorted(published) == ["db-0", "db-1", "db-2"]


def test_a_secret_that_is_overdue_for_a_day_is_notified_once():
    """Not each time that somebody looks."""
    place, weather = _place(
        {"dead": 3}, duty=DaemonSettings(verify_every=None, catch_up=timedelta(days=9))
    )
    weather.wrong["dead"] = Transient("away.")
    daemon = place.daemon()
    place.live(daemon, place.clock.at + 3 * _DAY)
    told = [secret for topic, secret, _ in place.told if topic is Topic.OVERDUE]
    assert sorted(told) == sorted(set(told))


def test_the_dispatcher_keeps_its_limits_of_parallel_work():
    """In all, for each target and for each backend."""
    limits = Limits(total=8, per_target=3, per_backend=5)
    place, weather = _place(
        {"a": 10, "b": 10, "c": 10}, duty=DaemonSettings(verify_every=None, limits=limits)
    )
    for name, entry in place.entries.items():
        entry.backend = "one" if name.startswith(("a", "b")) else "two"
    for target in "abc":
        weather.hung[target] = threading.Event()
    with ThreadPoolExecutor(30) as pool:
        place.pool = pool
        daemon = place.daemon()

        def busy() -> Counter[str]:
            return Counter(one.secret[0] for one in place.written if one.kind is Kind.REQUESTED)

        ends = time.monotonic() + 5
        while busy().total() < limits.total and time.monotonic() < ends:
            daemon.tick()
        for _ in range(5):
            # Nothing more begins, because all of them hang.
            daemon.tick()
        begun = busy()
        for event in weather.hung.values():
            event.set()
    assert begun.total() == 8
    assert max(begun.values()) == 3
    assert begun["a"] + begun["b"] == 5


def test_current_credentials_are_tried_one_by_one():
    """All of them within the time for it; a login that is rejected is notified as an alarm."""
    place, _ = _place({"db": 48}, duty=DaemonSettings(verify_every=_DAY))
    place.clock.at = START + 2 * _DAY
    place.targets["db-7"].accounts.clear()
    daemon = place.daemon()
    for _ in range(25 * 60):
        daemon.tick()
        place.clock.advance(_MINUTE)
    checked = Counter(one.secret for one in place.written if one.kind is Kind.CHECKED)
    assert set(checked) == set(place.entries)
    assert max(checked.values()) <= 2
    refused = {secret for topic, secret, _ in place.told if topic is Topic.REFUSED}
    assert refused == {"db-7"}


@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_what_becomes_due_while_a_daemon_runs_begins_within_two_seconds(count: int):
    """Looked at every second."""
    place, _ = _place({"db": count})
    place.clock.at = START + 30 * _DAY - timedelta(minutes=1)
    daemon = place.daemon()
    while not place.written:
        daemon.tick()
        place.clock.advance(timedelta(seconds=1))
    record = place.written[0]
    assert record.at - (START + 30 * _DAY) < timedelta(seconds=2)


# -- one fault of a host ---------------------------------------------------------------------------

_ADMIN = Unavailable("the admin is rejected.", hint="Correct the password of the admin.")


def _topics(place: Place) -> list[Topic]:
    return [topic for topic, _, _ in place.told]


def test_an_admin_that_is_rejected_is_one_fault_of_its_target():
    """Forty secrets: one notice with cause and cure, nothing parked, all go on when it is mended."""
    place, weather = _place({"db": 40, "well": 3})
    weather.wrong["db"], weather.only = _ADMIN, frozenset({"create", "revoke", "withdraw"})
    daemon = place.daemon()
    place.live(daemon, place.clock.at + timedelta(hours=2))
    assert len(_done(place)) == 3
    assert [one for one in place.journal.secrets() if one.parked or one.failures] == []
    assert weather.calls["db"] < 200, "it was hammered"
    assert _topics(place) == [Topic.UNAVAILABLE]
    told = place.told[0][2]
    assert told["host"] == "target db"
    assert told["secrets"] == 40
    assert told["hint"] == "Correct the password of the admin."
    assert [
        observation.subject for observation in place.observations.all(ObservationKind.FAULT)
    ] == ["target db"]
    logged = [event for level, event, _ in place.log.lines if level != "debug"]
    assert logged.count("unavailable") == 1
    assert "failed" not in logged

    del weather.wrong["db"]
    place.live(daemon, place.clock.at + timedelta(hours=2))
    assert Counter(_done(place)) == Counter(list(place.entries))
    assert _topics(place) == [Topic.UNAVAILABLE, Topic.AVAILABLE]
    assert place.observations.all(ObservationKind.FAULT) == []


@pytest.mark.parametrize("policy", [_POLICY, replace(_POLICY, attempts=1, cycles=1)])
@pytest.mark.parametrize("strategy", ["new-user", "single-user"])
@pytest.mark.parametrize("error", [_ADMIN, Transient("no route to host.")])
def test_a_secret_that_failed_before_the_breaker_opened_goes_on_with_the_others(
    error: Exception, strategy: str, policy: Policy
):
    """It waits neither for its own next try nor for an operator."""
    place, weather = _place({"db": 6})
    for entry in place.entries.values():
        entry.policy, entry.strategy = policy, strategy
    weather.wrong["db"] = error
    daemon = place.daemon()
    place.live(daemon, place.clock.at + timedelta(minutes=40))
    assert [one for one in place.journal.secrets() if one.parked] == []
    del weather.wrong["db"]
    until = daemon.hosts_away()["target db"]
    place.clock.at = until
    for _ in range(10):
        daemon.tick()
        place.clock.advance(timedelta(seconds=1))
    rotated = [one for one in place.journal.secrets() if one.rotated_at and one.rotated_at >= until]
    assert len(rotated) == 6


def test_a_daemon_that_is_started_again_knows_which_host_is_away():
    """It tries one secret there, and notifies nobody a second time."""
    place, weather = _place({"db": 10})
    weather.wrong["db"] = _ADMIN
    place.live(place.daemon(), place.clock.at + _MINUTE)
    weather.calls.clear()
    again = place.daemon()
    assert list(again.hosts_away()) == ["target db"]
    again.tick()
    assert len([one for one in place.written if one.kind is Kind.REQUESTED]) <= 2
    assert _topics(place) == [Topic.UNAVAILABLE]
    del weather.wrong["db"]
    place.live(again, place.clock.at + timedelta(hours=2))
    assert Counter(_done(place)) == Counter(list(place.entries))
    assert _topics(place) == [Topic.UNAVAILABLE, Topic.AVAILABLE]


def test_a_look_that_succeeds_does_not_end_a_fault_of_the_admin():
    """Logins work all the while: notices would go back and forth."""
    place, weather = _place({"db": 20}, duty=DaemonSettings(verify_every=timedelta(hours=1)))
    weather.wrong["db"], weather.only = _ADMIN, frozenset({"create", "revoke", "withdraw"})
    place.live(place.daemon(), place.clock.at + timedelta(hours=6))
    assert _topics(place) == [Topic.UNAVAILABLE]


def test_a_fault_of_one_login_is_no_fault_of_its_target():
    """A connection limit that is used up: the target answered, so the others are not held back."""
    place, weather = _place({"db": 5})
    broken = Transient("too many connections for login 'app'.")

    def over(name: str, rotation: Rotation) -> Any:
        return _Limited(rotation, broken) if name == "db-0" else rotation

    place.wrap = over
    daemon = place.daemon()
    place.live(daemon, place.clock.at + timedelta(hours=3))
    assert sorted(set(_done(place))) == ["db-1", "db-2", "db-3", "db-4"]
    assert Topic.UNAVAILABLE not in _topics(place)
    assert daemon.hosts_away() == {}
    assert weather.calls["db"] == 0


class _Limited:
    """A rotation whose new login can never be tried."""

    def __init__(self, inner: Rotation, error: Exception) -> None:
        self._inner, self._error = inner, error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def verify(self, *_: object) -> Any:
        raise self._error


def test_a_parked_secret_is_notified_once_with_its_remedy():
    """Not as failed and as parked."""
    place, weather = _place({"db": 1})
    weather.wrong["db"] = Denied("no right.", hint="GRANT it.")
    weather.only = frozenset({"create"})
    topics: list[Topic | None] = []
    place.live(place.daemon(), place.clock.at + _MINUTE)
    topics = [topic_of(one.kind, one.data) for one in place.written]
    assert [one for one in topics if one is not None] == [Topic.PARKED]
    record = place.journal.secret("db-0")
    assert record is not None
    assert record.parked_hint == "GRANT it."


def test_a_journal_that_cannot_be_written_is_one_fault():
    """As of a full disk: what is read still works, and no effect is made."""
    place, _ = _place({"db": 20})
    daemon = place.daemon()
    append, tries = place.journal.append, Counter[str]()

    def full(*_: object, **__: object) -> Any:
        tries["append"] += 1
        raise JournalError("the disk is full.", hint="Make room.")

    place.journal.append = full
    place.live(daemon, place.clock.at + timedelta(hours=1))
    assert _topics(place) == [Topic.UNAVAILABLE]
    assert place.told[0][2]["host"] == "journal"
    assert tries["append"] < 30
    place.journal.append = append
    place.live(daemon, place.clock.at + timedelta(hours=2))
    assert Counter(_done(place)) == Counter(list(place.entries))
    assert _topics(place) == [Topic.UNAVAILABLE, Topic.AVAILABLE]


def test_a_failure_moves_the_next_try_and_not_the_due_date():
    """What is late shows as late from the day on which it was due."""
    place, weather = _place({"db": 1})
    due = START + 30 * _DAY
    weather.wrong["db"], weather.only = Transient("locked."), frozenset({"create"})
    place.live(place.daemon(), due + timedelta(minutes=8))
    record = place.journal.secret("db-0")
    assert record is not None
    assert record.failures >= 1
    assert record.next_due is not None
    assert record.next_due > due
    assert record.due == due
    now = place.clock.now()
    assert place.journal.counts(now, due).overdue == 1


def _in_grace(gate: Gate, *, early: bool) -> Place:
    """Return a secret whose old credential is still valid, and whose consumer has not moved."""
    policy = Policy(
        grace=timedelta(hours=1), until_acknowledged=early, drain_poll=timedelta(minutes=1)
    )
    place = Place(entries={"app": Entry(policy, consumers=(Consumer(name="web", gate=gate),))})
    secret = place.secret("app")
    place.engine.rotate(secret)
    place.engine.rotate(secret)
    return place


def _moved(place: Place) -> None:
    record = place.journal.secret("app")
    assert record is not None
    assert record.version is not None
    report = Report(
        secret="app",
        consumer="web",
        instance="web-1",
        kind=InstanceKind.CLIENT,
        version=record.version,
        level=Level.USED,
    )
    _ = place.registry.report([report])


def _is_open(place: Place) -> bool:
    return place.journal.open_rotation("app") is not None


def test_a_report_of_a_consumer_wakes_its_rotation():
    """The grace period ends at once, not at the next look."""
    place = _in_grace(Gate.HOLD, early=True)
    daemon = place.daemon()
    daemon.tick()
    assert _is_open(place)
    _moved(place)
    daemon.wake({"app", "unknown"})
    assert not _is_open(place)


def test_without_a_report_the_daemon_looks_itself():
    """A consumer may be seen by its sessions alone."""
    place = _in_grace(Gate.HOLD, early=True)
    daemon = place.daemon()
    daemon.tick()
    _moved(place)
    for _ in range(5):
        place.clock.advance(timedelta(seconds=1))
        daemon.tick()
    assert not _is_open(place)


def test_waking_a_secret_with_nothing_to_do_loses_nothing():
    """It stays due when it was due."""
    place = Place(entries={"app": Entry(Policy(every=timedelta(hours=1)))})
    place.engine.rotate(place.secret("app"))
    daemon = place.daemon()
    daemon.tick()
    daemon.wake({"app"})
    place.clock.advance(timedelta(hours=1))
    daemon.tick()
    assert len(place.journal.rotations("app")) == 2


@pytest.mark.parametrize(
    ("gate", "topic"), [(Gate.HOLD, Topic.GATE_HELD), (Gate.WARN, Topic.CONSUMER_BEHIND)]
)
def test_a_gate_is_notified_when_it_begins_to_hold(gate: Gate, topic: Topic):
    """Once, while nothing changes."""
    place = _in_grace(gate, early=False)
    daemon = place.daemon()
    place.clock.advance(timedelta(hours=1))
    for _ in range(30):
        daemon.tick()
        place.clock.advance(timedelta(minutes=1))
    events = [event for event in place.written if topic_of(event.kind, event.data) is topic]
    assert len(events) == 1


# -- leaked passwords ------------------------------------------------------------------------------


def test_a_daemon_contains_a_reported_leak_at_once_and_tries_it_again_on_time():
    """Also outside of windows, and beside all that is due."""
    place, _ = _place({"main": 3})
    closed = replace(
        _POLICY, windows=Windows(blackouts=(Blackout(start=START, end=START + 90 * _DAY),))
    )
    name, begun = "main-1", place.clock.now()
    place.entries[name] = replace(place.entries[name], policy=closed)
    version, target = place.backend.current(name), place.targets[name]
    assert version is not None
    leaked = version.credential
    place.engine.open_incident(place.secret(name), LeakReport(id="I", reason="x", mode=Mode.KILL))
    daemon = place.daemon()
    place.live(daemon, begun + _MINUTE)
    assert not target.accepts(leaked.username, leaked.password.reveal())
    for minutes in (3, *range(60, 50 * 60, 60)):
        place.live(daemon, begun + minutes * _MINUTE)
    proven = [one.at - begun for one in place.written if one.kind is Kind.PROVEN]
    assert [round(one / _HOUR) for one in proven] == [0, 0, 1, 24, 48]
    heard = [topic_of(one.kind, one.data) for one in place.written if one.secret == name]
    assert heard.count(Topic.INCIDENT_OPENED) == 1
    assert heard.count(Topic.INCIDENT_PROVEN) == 1


@pytest.mark.parametrize("mode", [Mode.KILL, Mode.MOVE])
def test_a_daemon_does_not_wait_for_a_grace_period_to_contain_a_leak(mode: Mode):
    """It waited for the end of the grace period when the leak was reported."""
    place = Place(entries={"app": Entry(Policy(every=30 * _DAY, grace=7 * _DAY))})
    daemon = place.daemon()
    place.engine.rotate(place.secret("app"))
    place.clock.advance(31 * _DAY)
    place.live(daemon, place.clock.at + _MINUTE)
    place.engine.rotate(place.secret("app"))
    place.live(daemon, place.clock.at + _MINUTE)
    version = place.backend.current("app")
    assert version is not None
    leaked, target = version.credential, place.targets["app"]
    report = LeakReport(id="I", reason="x", mode=mode, within=timedelta(0))
    place.engine.open_incident(place.secret("app"), report)
    place.live(daemon, place.clock.at + 2 * _MINUTE)
    assert not target.accepts(leaked.username, leaked.password.reveal())


def test_a_leak_that_cannot_be_contained_is_tried_again_at_its_own_time():
    """Not at each look of the daemon."""
    place, weather = _place({"main": 1})
    name = "main-0"
    report = LeakReport(id="I", reason="x", mode=Mode.KILL)
    place.engine.open_incident(place.secret(name), report)
    weather.wrong["main"] = Transient("it does not answer.")
    daemon = place.daemon()
    place.live(daemon, place.clock.at + 60 * _MINUTE)
    assert 3 < sum(one.kind is Kind.FAILED for one in place.written) < 200


class _Held:
    """Keeps work until it is wanted."""

    def __init__(self) -> None:
        self.work: list[Any] = []

    def submit(self, work: Any) -> None:
        self.work.append(work)

    def do_one(self) -> None:
        self.work.pop(0)()


def _crowded() -> tuple[Place, Any, _Held]:
    """Return a daemon with one place, in which one of twenty due secrets is, and the others wait."""
    held = _Held()
    one_place = DaemonSettings(
        verify_every=None, limits=Limits(total=1, per_target=1, per_backend=1)
    )
    place, _ = _place({"main": 20}, duty=one_place, pool=held)
    daemon = place.daemon()
    daemon.tick()
    assert (len(held.work), daemon.waiting) == (1, 19)
    return place, daemon, held


def test_a_leak_goes_before_the_job_that_its_secret_waits_for():
    """It is due too, and the last of a long line: its password leaked, so it is the next."""
    place, daemon, held = _crowded()
    name = "main-19"
    version = place.backend.current(name)
    assert version is not None
    leaked, report = version.credential, LeakReport(id="I", reason="x", mode=Mode.KILL)
    place.engine.open_incident(place.secret(name), report)
    place.clock.advance(_MINUTE)
    daemon.tick()
    assert daemon.waiting == 19
    held.do_one()
    held.do_one()
    assert not place.targets[name].accepts(leaked.username, leaked.password.reveal())
    record = place.journal.secret(name)
    assert record is not None
    assert record.incident_state == PROVEN


def test_a_leak_of_a_secret_that_is_worked_on_is_contained_after_it():
    """The rotation that is under way ends in its grace period, which is not waited for."""
    place, daemon, held = _crowded()
    busy = place.journal.due(place.clock.now(), 1)[0].name
    report = LeakReport(id="I", reason="x", mode=Mode.KILL)
    place.engine.open_incident(place.secret(busy), report)
    place.clock.advance(_MINUTE)
    daemon.tick()
    held.do_one()
    place.clock.advance(_MINUTE)
    daemon.tick()
    held.do_one()
    held.do_one()
    record = place.journal.secret(busy)
    assert record is not None
    assert record.incident_state == PROVEN
