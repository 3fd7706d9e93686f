"""A lease is a login for one holder: issued, renewed up to its longest time, and proven dead at its end."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rotator.core.errors import (
    Busy,
    Denied,
    InUse,
    LeaseEnded,
    Refused,
    Transient,
    Unavailable,
    Unknown,
    Unprovable,
    UsageError,
)
from rotator.core.lease_chain import chain_of
from rotator.core.leases import AtEnd, LeaseOutcome, LeaseState, LeaseTerms, Share
from rotator.core.model import Credential, Kind, Outcome
from rotator.engine import IssuedLease, LeaseRequest
from tests.engine.sandboxes import HOUR, PATH, EngineSandbox, Killed, fail_next

MINUTE = timedelta(minutes=1)
TERMS = LeaseTerms(ttl=10 * MINUTE, longest=HOUR, limit=3)
LEASES = f"leases/{PATH}"


@pytest.fixture
def lending(rotated: EngineSandbox) -> EngineSandbox:
    """A rotated secret whose logins are lent."""
    rotated.leases = TERMS
    return rotated


def issue(sandbox: EngineSandbox, holder: str = "web", **more: Any) -> IssuedLease:
    return sandbox.engine.leases.issue(sandbox.secret, LeaseRequest(holder=holder, **more))


def kinds(sandbox: EngineSandbox) -> list[Kind]:
    return [one.kind for one in sandbox.journal.events(chain_of("app"))]


def test_issue_hands_out_a_login_of_its_own_that_is_verified(lending: EngineSandbox):
    first, second = issue(lending), issue(lending, "batch", purpose="the nightly job")
    assert first.credential.username != second.credential.username
    assert lending.accepts(first.credential)
    assert lending.accepts(second.credential)
    assert lending.accepts(lending.served)
    assert second.record.holder == "batch"
    assert second.record.purpose == "the nightly job"
    assert second.record.ends_at == lending.clock.now() + TERMS.ttl
    assert lending.target.violations == []
    assert lending.journal.violations == []
    # Of each: requested before any effect, issued after it was verified.
    assert kinds(lending) == [Kind.LEASE_REQUESTED, Kind.LEASE_ISSUED] * 2


def test_backend_forgets_the_value_once_it_is_handed_out(lending: EngineSandbox):
    lease = issue(lending)
    assert lending.backend.staged(LEASES, lease.record.id) is None
    assert lending.backend.pending(LEASES) == {}


def test_end_drops_the_login_and_proves_that_it_is_rejected(lending: EngineSandbox):
    lease, before = issue(lending), set(lending.target.accounts)
    ended = lending.engine.leases.end(lending.secret, lease.record.id, reason="done")
    assert ended.state is LeaseState.ENDED
    assert ended.outcome is LeaseOutcome.ENDED
    assert set(lending.target.accounts) == before - {lease.credential.username}
    assert not lending.accepts(lease.credential)
    event = lending.journal.events(chain_of("app"))[-1]
    assert event.data["refused"] is True
    assert event.data["reason"] == "done"
    # Ended again, nothing happens.
    assert lending.engine.leases.end(lending.secret, lease.record.id) == ended


def test_rotations_and_leases_do_not_wait_for_each_other(lending: EngineSandbox):
    lease = issue(lending)
    held = lending.journal.acquire("app", "somebody else", HOUR)
    other = issue(lending)
    lending.engine.leases.end(lending.secret, other.record.id)
    lending.journal.release(held)
    assert lending.engine.rotate(lending.secret, patience=2 * HOUR).outcome is Outcome.DONE
    assert lending.accepts(lease.credential)


def test_secret_without_leases_lends_nothing(rotated: EngineSandbox):
    before = rotated.everything()
    with pytest.raises(UsageError, match="no `leases`"):
        issue(rotated)
    assert rotated.everything() == before


@pytest.mark.parametrize("ttl", [timedelta(seconds=29), HOUR + timedelta(seconds=1)])
def test_time_that_the_terms_do_not_allow_makes_nothing(lending: EngineSandbox, ttl: timedelta):
    lease, before = issue(lending), lending.target.state()
    with pytest.raises(UsageError, match="from 30s to 1h"):
        issue(lending, ttl=ttl)
    with pytest.raises(UsageError, match="from 30s to 1h"):
        lending.engine.leases.renew(lending.secret, lease.record.id, ttl=ttl)
    assert lending.target.state() == before


def test_limit_holds_until_a_lease_has_ended(lending: EngineSandbox):
    leases, before = [issue(lending) for _ in range(3)], lending.target.state()
    with pytest.raises(UsageError, match="all 3 leases are taken"):
        issue(lending)
    assert lending.target.state() == before
    lending.engine.leases.end(lending.secret, leases[1].record.id)
    assert issue(lending).record.state is LeaseState.LIVE


def test_renewal_counts_from_now_and_is_cut_at_the_longest_time(lending: EngineSandbox):
    lease, start = issue(lending).record, lending.clock.now()
    lending.clock.advance(5 * MINUTE)
    renewed = lending.engine.leases.renew(lending.secret, lease.id)
    assert renewed.record.ends_at == start + 15 * MINUTE
    assert not renewed.final
    # Asked again, because the answer was lost, it gives the same.
    assert lending.engine.leases.renew(lending.secret, lease.id) == renewed
    lending.clock.advance(9 * MINUTE)
    cut = lending.engine.leases.renew(lending.secret, lease.id, ttl=HOUR)
    assert cut.record.ends_at == start + HOUR
    assert cut.final


def test_ended_lease_cannot_be_renewed(lending: EngineSandbox):
    lease = issue(lending).record
    lending.clock.advance(TERMS.ttl)
    with pytest.raises(LeaseEnded, match="has ended") as raised:
        lending.engine.leases.renew(lending.secret, lease.id)
    assert raised.value.kind == "ended"
    assert "rotator lease issue app --for web" in raised.value.hint


def test_next_lease_is_taken_while_the_old_one_still_works(lending: EngineSandbox):
    lease, start = issue(lending), lending.clock.now()
    # `overlap` is longer than a third of the time.
    assert lease.take_next_at == start + 5 * MINUTE
    lending.leases = replace(TERMS, overlap=MINUTE)
    assert issue(lending).take_next_at == start + timedelta(seconds=400)


@pytest.mark.parametrize("step", ["create", "verify"])
def test_lost_answer_is_tried_again(lending: EngineSandbox, step: str):
    fail_next(lending.rotation, step, Unknown("the answer was lost."), done=True)
    assert lending.accepts(issue(lending).credential)
    assert lending.target.violations == []


@pytest.mark.parametrize("step", ["create", "verify"])
@pytest.mark.parametrize("error", [Denied("a right is missing."), Unavailable("it is away.")])
def test_lease_that_cannot_be_issued_leaves_nothing(
    lending: EngineSandbox, step: str, error: Exception
):
    before = lending.target.state()
    fail_next(lending.rotation, step, error)
    with pytest.raises(type(error)) as raised:
        issue(lending)
    assert lending.target.state() == before
    assert lending.backend.pending(LEASES) == {}
    assert "No lease was issued." in raised.value.safety
    assert [one.outcome for one in lending.journal.leases.recent(9)] == [LeaseOutcome.UNDONE]


def test_refused_candidate_is_followed_by_another(lending: EngineSandbox):
    lending.target.refuse_next = 1
    assert lending.accepts(issue(lending).credential)
    assert len(lending.journal.leases.open("app")) == 1


def test_login_that_is_ready_after_its_end_is_undone(lending: EngineSandbox):
    works = lending.rotation.verify

    def slow(new: Credential, ctx: Any) -> object:
        lending.clock.advance(timedelta(seconds=29))
        return works(new, ctx)

    before, lending.rotation.verify = lending.target.state(), slow
    lending.clock.at += timedelta(microseconds=1)
    fail_next(lending.rotation, "create", Transient("busy."), Transient("busy."))
    lending.policy = replace(lending.policy, attempts=4)
    with pytest.raises(Transient, match="after the end of the lease"):
        issue(lending, ttl=timedelta(seconds=30))
    assert lending.target.state() == before


def test_crash_before_the_issue_is_undone_by_the_end(lending: EngineSandbox):
    before = lending.target.state()
    fail_next(lending.rotation, "verify", Killed())
    with pytest.raises(Killed):
        issue(lending)
    (left,) = lending.journal.leases.open("app")
    assert left.state is LeaseState.REQUESTED
    assert left.login is None
    lending.clock.advance(MINUTE)
    assert [one.id for one in lending.journal.leases.due(lending.clock.now(), 9)] == [left.id]
    ended = lending.process().leases.end(lending.secret, left.id)
    assert ended.outcome is LeaseOutcome.UNDONE
    assert lending.target.state() == before
    assert lending.backend.pending(LEASES) == {}


def test_failed_end_is_shown_and_tried_again_for_as_long_as_it_takes(lending: EngineSandbox):
    lease, waits = issue(lending).record, list[timedelta]()
    lending.clock.advance(TERMS.ttl)
    fail_next(lending.rotation, "revoke", *[Denied("a right is missing.")] * 12)
    for _ in range(12):
        with pytest.raises(Denied):
            lending.engine.leases.end(lending.secret, lease.id)
        stranded = lending.journal.leases.get(lease.id)
        assert stranded is not None
        assert stranded.is_stranded
        assert stranded.problem == "a right is missing."
        assert stranded.next_at is not None
        waits.append(stranded.next_at - lending.clock.now())
    assert waits[0] < timedelta(seconds=2)
    assert waits[-1] <= timedelta(minutes=5) * 1.25
    assert waits[-1] > timedelta(minutes=3)
    ended = lending.engine.leases.end(lending.secret, lease.id)
    assert ended.outcome is LeaseOutcome.ENDED
    assert not ended.is_stranded
    # What it was asked for is recorded once.
    assert kinds(lending).count(Kind.LEASE_ENDING) == 1


def test_target_that_is_away_is_no_failure_of_the_lease(lending: EngineSandbox):
    lease = issue(lending).record
    fail_next(lending.rotation, "revoke", Unavailable("it is away."))
    with pytest.raises(Unavailable):
        lending.engine.leases.end(lending.secret, lease.id)
    (left,) = lending.journal.leases.open("app")
    assert left.state is LeaseState.ENDING
    assert not left.is_stranded


def test_login_that_is_still_accepted_after_its_end_is_stranded(lending: EngineSandbox):
    lease = issue(lending).record
    lending.rotation.probe = lambda _credential, _ctx: True
    with pytest.raises(Unprovable, match="still accepted"):
        lending.engine.leases.end(lending.secret, lease.id)
    assert lending.journal.leases.open("app")[0].is_stranded


def test_open_sessions_end_with_the_lease_or_keep_it_ending(lending: EngineSandbox):
    lease = issue(lending)
    lending.target.open_session(lease.credential.username)
    lending.engine.leases.end(lending.secret, lease.record.id)
    assert lease.credential.username not in lending.target.accounts
    assert lending.target.violations == []

    lending.leases = replace(TERMS, at_end=AtEnd.DRAIN)
    lease = issue(lending)
    lending.target.open_session(lease.credential.username)
    with pytest.raises(InUse):
        lending.engine.leases.end(lending.secret, lease.record.id)
    # New logins are rejected, and that is not a failure.
    assert not lending.accepts(lease.credential)
    (left,) = lending.journal.leases.open("app")
    assert not left.is_stranded
    lending.target.close_sessions()
    ended = lending.engine.leases.end(lending.secret, lease.record.id)
    assert ended.outcome is LeaseOutcome.ENDED


def test_instances_of_a_consumer_share_one_login(lending: EngineSandbox):
    lending.leases = replace(TERMS, share=Share.CONSUMER, limit=1)
    leases = [issue(lending, instance=f"web-{number}") for number in range(100)]
    (login,) = {lease.credential.username for lease in leases}
    assert lending.accepts(leases[-1].credential)
    (record,) = lending.journal.leases.open("app")
    assert len(record.instances) == 100
    for number in range(99):
        left = lending.engine.leases.release(lending.secret, record.id, f"web-{number}")
        assert left.state is LeaseState.LIVE
    last = lending.engine.leases.release(lending.secret, record.id, "web-99")
    assert last.outcome is LeaseOutcome.ENDED
    assert login not in lending.target.accounts
    assert lending.backend.pending(LEASES) == {}
    assert lending.journal.events(chain_of("app"))[-1].data["tried"] == "its password"


def test_another_consumer_gets_another_login(lending: EngineSandbox):
    lending.leases = replace(TERMS, share=Share.CONSUMER)
    web, batch = issue(lending, instance="a"), issue(lending, "batch", instance="a")
    assert web.credential.username != batch.credential.username


def test_login_is_shared_only_while_more_than_a_third_of_its_time_is_left(lending: EngineSandbox):
    lending.leases = replace(TERMS, share=Share.CONSUMER)
    first = issue(lending, instance="a")
    lending.clock.advance(timedelta(seconds=399))
    assert issue(lending, instance="b").record.id == first.record.id
    lending.clock.advance(timedelta(seconds=1))
    second = issue(lending, instance="c")
    assert second.record.id != first.record.id
    assert lending.accepts(first.credential)


def test_release_of_a_login_that_is_not_shared_ends_it(lending: EngineSandbox):
    lease = issue(lending, instance="a")
    ended = lending.engine.leases.release(lending.secret, lease.record.id, "a")
    assert ended.outcome is LeaseOutcome.ENDED


_Moves = st.lists(
    st.tuples(
        st.sampled_from(["wait", "renew", "lost renewal", "join"]),
        st.sampled_from([30, 600, 1800, 3600]),
    ),
    max_size=12,
)


@settings(max_examples=100, deadline=None)
@given(moves=_Moves)
def test_no_path_prolongs_a_lease_beyond_its_longest_time(moves: list[tuple[str, int]]):
    sandbox = EngineSandbox()
    sandbox.engine.rotate(sandbox.secret)
    sandbox.leases = replace(TERMS, share=Share.CONSUMER, limit=100)
    first, start = issue(sandbox, instance="a").record, sandbox.clock.now()
    longest: datetime = start + TERMS.longest
    for move, seconds in moves:
        ttl = timedelta(seconds=seconds)
        if move == "wait":
            sandbox.clock.advance(ttl / 4)
        elif move == "join":
            joined = issue(sandbox, instance=str(seconds)).record
            assert joined.ends_at <= joined.latest
        else:
            if move == "lost renewal":
                fail_next(sandbox.journal, "append", Killed(), done=True)
            with suppress(LeaseEnded, Killed):
                renewed = sandbox.engine.leases.renew(sandbox.secret, first.id, ttl=ttl).record
                assert renewed.ends_at <= longest
            sandbox.journal.__dict__.pop("append", None)
        record = sandbox.journal.leases.get(first.id)
        assert record is not None
        assert record.ends_at <= longest
        assert record.latest == longest


def test_refused_means_that_nothing_is_left_when_every_candidate_is(lending: EngineSandbox):
    before = lending.target.state()
    lending.target.refuse_next = lending.policy.proposals
    with pytest.raises(Refused):
        issue(lending)
    assert lending.target.state() == before
    assert lending.journal.leases.open("app") == []


def test_lease_is_not_issued_while_another_process_issues_one(lending: EngineSandbox):
    """Else both would count the leases before either has made one."""
    lending.leases = replace(TERMS, limit=1)
    before = lending.target.state()
    held = lending.journal.acquire(chain_of("app"), "somebody else", HOUR)
    with pytest.raises(Busy):
        issue(lending)
    assert lending.target.state() == before
    lending.journal.release(held)
    issue(lending)
    with pytest.raises(UsageError, match="all 1 leases are taken"):
        issue(lending)


def test_credential_that_its_holder_cannot_take_is_never_made(lending: EngineSandbox):
    def refuse(example: Credential) -> None:
        assert example.fields == lending.served.fields
        raise UsageError("it cannot be written.")

    before = lending.target.state()
    with pytest.raises(UsageError, match="cannot be written"):
        lending.engine.leases.issue(lending.secret, LeaseRequest(holder="web"), check=refuse)
    assert lending.target.state() == before
    assert kinds(lending) == []
