"""The daemon ends leases in time, for as long as it takes, and finds what was left behind."""

from __future__ import annotations

from datetime import timedelta

import pytest

from rotator.core.daemon_settings import BreakerSettings, DaemonSettings, Topic
from rotator.core.errors import Denied, Transient, Unavailable
from rotator.core.lease_chain import chain_of
from rotator.core.leases import LeaseOutcome, LeaseTerms
from rotator.core.model import Kind, Policy
from rotator.dispatch.breaker import Breaker
from rotator.dispatch.dispatcher import Dispatcher
from rotator.dispatch.worker import notice_of
from rotator.engine import IssuedLease, LeaseRequest
from rotator.testing.fake_target import Account
from rotator.testing.fakes import START
from tests.dispatch.sandboxes import Entry, Place
from tests.engine.sandboxes import Killed, fail_next

MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)
TERMS = LeaseTerms(ttl=10 * MINUTE, longest=timedelta(hours=2), limit=10_000)
POLICY = Policy(attempts=1, backoff=SECOND)


@pytest.fixture
def place() -> Place:
    """A secret that lends its logins."""
    made = Place(entries={"app": Entry(policy=POLICY, leases=TERMS)})
    made.engine.rotate(made.secret("app"))
    return made


def issue(place: Place, name: str = "app", ttl: timedelta | None = None) -> IssuedLease:
    return place.engine.leases.issue(place.secret(name), LeaseRequest(holder="web", ttl=ttl))


def run(place: Place, daemon: Dispatcher, time: timedelta, step: timedelta = SECOND) -> None:
    until = place.clock.now() + time
    while place.clock.now() < until:
        daemon.tick()
        place.clock.advance(step)
    daemon.tick()


def test_daemon_ends_a_lease_in_time(place: Place):
    daemon, lease = place.daemon(), issue(place)
    login, accounts = lease.credential.username, place.targets["app"].accounts
    run(place, daemon, TERMS.ttl - 2 * SECOND)
    assert login in accounts
    run(place, daemon, 4 * SECOND)
    assert login not in accounts
    assert place.journal.leases.open() == []
    assert place.targets["app"].violations == []


def test_renewed_lease_lives_on(place: Place):
    daemon, lease = place.daemon(), issue(place)
    run(place, daemon, 9 * MINUTE, MINUTE)
    place.engine.leases.renew(place.secret("app"), lease.record.id)
    run(place, daemon, 9 * MINUTE, MINUTE)
    assert lease.credential.username in place.targets["app"].accounts


def test_lease_of_a_process_that_died_is_undone_within_a_minute(place: Place):
    daemon, before = place.daemon(), place.targets["app"].state()
    place.wrap = lambda _name, rotation: rotation
    secret = place.secret("app")
    fail_next(secret.rotation, "verify", Killed())
    with pytest.raises(Killed):
        place.engine.leases.issue(secret, LeaseRequest(holder="web"))
    run(place, daemon, MINUTE)
    assert place.targets["app"].state() == before
    assert place.journal.leases.open() == []


def test_thousand_ends_missed_while_the_target_was_away_are_made_up_for(place: Place):
    """Its breaker would wait for ten minutes; leases that have ended do not."""
    place.duty = DaemonSettings(verify_every=None)
    away = False
    works = place.wrap

    def wrapped(name: str, rotation: object):
        made = works(name, rotation)  # pyright: ignore[reportArgumentType] # it is one
        revoke = made.revoke

        def guarded(*arguments: object) -> None:
            if away:
                raise Transient("the connection was refused.")
            # An end takes time.
            place.clock.advance(timedelta(milliseconds=100))
            revoke(*arguments)  # pyright: ignore[reportArgumentType]

        made.revoke = guarded  # pyright: ignore[reportAttributeAccessIssue]
        return made

    place.wrap = wrapped  # pyright: ignore[reportAttributeAccessIssue]
    before = set(place.targets["app"].accounts)
    for _ in range(1000):
        issue(place)
    daemon, away = place.daemon(), True
    run(place, daemon, timedelta(hours=1) + TERMS.ttl, 10 * SECOND)
    assert len(place.journal.leases.open()) == 1000
    away = False
    run(place, daemon, 5 * MINUTE)
    assert place.journal.leases.open() == []
    assert set(place.targets["app"].accounts) == before
    # While it was away, its leases were not tried one by one.
    failed = [one for one in place.journal.events(chain_of("app")) if one.kind == "lease-failed"]
    assert len(failed) < 90


def test_lease_that_cannot_be_ended_does_not_hold_up_the_others(place: Place):
    daemon = place.daemon()
    stuck, other = issue(place), issue(place, ttl=11 * MINUTE)
    login = stuck.credential.username
    works = place.wrap

    def wrapped(name: str, rotation: object):
        made = works(name, rotation)  # pyright: ignore[reportArgumentType]
        revoke = made.revoke

        def guarded(old: object, ctx: object) -> None:
            if getattr(old, "username", None) == login:
                raise Denied("a right is missing.")
            revoke(old, ctx)  # pyright: ignore[reportArgumentType]

        made.revoke = guarded  # pyright: ignore[reportAttributeAccessIssue]
        return made

    place.wrap = wrapped  # pyright: ignore[reportAttributeAccessIssue]
    run(place, daemon, 12 * MINUTE)
    (left,) = place.journal.leases.open()
    assert left.id == stuck.record.id
    assert left.is_stranded
    assert other.credential.username not in place.targets["app"].accounts
    assert place.journal.leases.counts()["stranded"] == 1
    assert place.journal.secret("app") is not None
    # One notice is sent, after a few attempts; the secret itself is not parked.
    told = [notice_of(one) for one in place.written if one.kind is Kind.LEASE_FAILED]
    assert [one[0] for one in told if one is not None] == [Topic.LEASE_STRANDED]
    assert not [one for one in place.told if one[0] is Topic.PARKED]
    place.wrap = works
    run(place, daemon, 7 * MINUTE)
    assert place.journal.leases.open() == []


def test_marked_login_without_a_lease_is_ended_at_the_start_and_each_hour(place: Place):
    live = issue(place, ttl=timedelta(hours=2))
    accounts = place.targets["app"].accounts
    accounts["left_behind"] = Account(passwords=["unknown to us"], owner=chain_of("app"))
    accounts["of_others"] = Account(passwords=["unknown to us"], owner="other")
    daemon = place.daemon()
    run(place, daemon, SECOND)
    assert "left_behind" not in accounts
    accounts["later"] = Account(passwords=["unknown to us"], owner=chain_of("app"))
    run(place, daemon, 61 * MINUTE, MINUTE)
    assert "later" not in accounts
    assert {"of_others", live.credential.username} <= set(accounts)
    served = place.backend.current("app")
    assert served is not None
    assert served.credential.username in accounts
    assert place.targets["app"].violations == []


def test_lease_whose_login_is_gone_is_closed_as_lost(place: Place):
    lease = issue(place)
    del place.targets["app"].accounts[lease.credential.username]
    run(place, place.daemon(), SECOND)
    (closed,) = place.journal.leases.recent(9)
    assert closed.outcome is LeaseOutcome.LOST


def test_away_target_is_tried_by_one_lease(place: Place):
    daemon, lease = place.daemon(), issue(place)
    works = place.wrap

    def wrapped(name: str, rotation: object):
        made = works(name, rotation)  # pyright: ignore[reportArgumentType]
        fail_next(made, "revoke", Unavailable("the admin is rejected."))
        return made

    place.wrap = wrapped  # pyright: ignore[reportAttributeAccessIssue]
    run(place, daemon, 11 * MINUTE, 10 * SECOND)
    (left,) = place.journal.leases.open()
    assert left.id == lease.record.id
    assert not left.is_stranded
    assert "target db" in daemon.hosts_away()


@pytest.mark.parametrize(("whole", "tries"), [(False, 60), (True, 13)])
def test_host_that_rejects_the_admin_is_not_tried_each_minute(*, whole: bool, tries: int):
    """Each try could lock the admin; a host that does not answer is tried, as logins wait to be ended."""
    now, breaker = START, Breaker(BreakerSettings())
    for _ in range(BreakerSettings().failures):
        breaker.failed(now, whole=whole)
    made = 0
    while now < START + timedelta(hours=1):
        now += SECOND
        if breaker.allows(now, within=MINUTE):
            breaker.started()
            breaker.failed(now, whole=whole)
            made += 1
    assert made <= tries
    assert made > tries / 2
