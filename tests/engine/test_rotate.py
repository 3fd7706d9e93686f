"""`Engine.rotate`: one rotation, from nothing to the proof that the old credential is dead."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rotator.core.errors import (
    Busy,
    Conflict,
    Denied,
    JournalError,
    LockLost,
    NotDue,
    Parked,
    Refused,
    Transient,
    Unknown,
    UsageError,
)
from rotator.core.model import Kind, Outcome, Policy, Step
from rotator.testing.fake_rotations import STRATEGIES
from tests.engine.sandboxes import DAY, HOUR, PATH, EngineSandbox, Killed, fail_next


def test_a_first_rotation_is_done_once_its_credential_is_published(sandbox: EngineSandbox):
    """There is no old one to revoke."""
    result = sandbox.engine.rotate(sandbox.secret)
    assert result.outcome is Outcome.DONE
    assert result.login == sandbox.served.username
    assert sandbox.accepts(sandbox.served)
    assert sandbox.finished() == [Step.STAGE, Step.CREATE, Step.VERIFY, Step.PUBLISH]


def test_a_rotation_leaves_the_old_credential_its_grace(rotated: EngineSandbox):
    """The call returns with the rotation open."""
    old = rotated.served
    result = rotated.engine.rotate(rotated.secret)
    assert result.outcome is None
    assert result.until == rotated.clock.now() + HOUR
    assert result.published
    assert rotated.served != old
    assert rotated.accepts(old)
    assert rotated.accepts(rotated.served)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_rotation_with_patience_ends_with_a_rejected_old_credential(strategy: str):
    """Under each strategy, and nothing was done on the way that breaks a promise."""
    sandbox = EngineSandbox(strategy)
    old = sandbox.rotate_wholly()
    result = sandbox.engine.rotate(sandbox.secret, patience=2 * DAY)
    assert (result.outcome, result.old_refused) == (Outcome.DONE, True)
    assert not sandbox.accepts(old)
    assert sandbox.accepts(sandbox.served)
    assert sandbox.backend.pending(PATH) == {}
    assert sandbox.target.violations == sandbox.journal.violations == []


def test_the_journal_holds_each_intent_before_its_effect(rotated: EngineSandbox):
    """Whatever is done on the target or in the backend, its step was begun in the journal."""
    seen: list[tuple[str, Kind, Step | None]] = []

    def tap(what, effect):
        seen.append((what, rotated.last.kind, rotated.last.step))
        effect()

    rotated.target.tap = rotated.backend.tap = tap
    rotated.rotate_wholly()
    assert seen == [
        ("write pending", Kind.STARTED, Step.STAGE),
        ("create login", Kind.STARTED, Step.CREATE),
        ("write current", Kind.STARTED, Step.PUBLISH),
        ("remove pending", Kind.STARTED, Step.PUBLISH),
        ("disable login", Kind.STARTED, Step.REVOKE),
        ("drop login", Kind.STARTED, Step.REVOKE),
    ]


def test_the_request_keeps_the_reason_and_the_id_it_was_given(sandbox: EngineSandbox):
    """An auditor finds why."""
    sandbox.engine.rotate(sandbox.secret, reason="ticket 7", rotation_id="id-7")
    opened = sandbox.journal.rotation("id-7")
    assert opened is not None
    assert opened.reason == "ticket 7"


def test_a_rotated_secret_is_due_a_period_after_its_publish(rotated: EngineSandbox):
    """The period counts from then."""
    assert rotated.record.next_due == rotated.clock.now() + 30 * DAY


# -- what is not rotated ---------------------------------------------------------------------------


def test_rotate_refuses_a_secret_in_its_grace_period(in_grace: EngineSandbox):
    """The hint shows how to end it, and what to do about a leak."""
    with pytest.raises(NotDue) as error:
        in_grace.engine.rotate(in_grace.secret)
    assert error.value.until == in_grace.clock.now() + HOUR
    assert "rotator revoke app\n" in error.value.hint
    assert "rotator incident open app --reason" in error.value.hint


def test_only_if_due_begins_nothing_before_the_secret_is_due(rotated: EngineSandbox):
    """Another process may just have rotated it."""
    before = rotated.everything()
    with pytest.raises(NotDue):
        rotated.engine.rotate(rotated.secret, only_if_due=True)
    assert rotated.everything() == before
    rotated.clock.advance(30 * DAY)
    assert rotated.engine.rotate(rotated.secret, only_if_due=True).published


def test_only_if_due_waits_for_the_next_try_unless_it_is_at_once(rotated: EngineSandbox):
    """A secret whose rotation was undone is due since before, and tried again later."""
    rotated.clock.advance(30 * DAY)
    fail_next(rotated.rotation, "verify", *(Transient("no."), Transient("no.")))
    assert rotated.engine.rotate(rotated.secret, patience=HOUR).outcome is Outcome.UNDONE
    with pytest.raises(NotDue):
        rotated.engine.rotate(rotated.secret, only_if_due=True)
    assert rotated.engine.rotate(rotated.secret, only_if_due=True, at_once=True).published


def test_rotate_refuses_a_credential_that_was_not_adopted(sandbox: EngineSandbox):
    """The hint is to adopt it."""
    sandbox.write_by_hand(sandbox.handed_over())
    before = sandbox.everything()
    with pytest.raises(UsageError, match="not taken over") as error:
        sandbox.engine.rotate(sandbox.secret)
    assert "rotator adopt app" in error.value.hint
    assert sandbox.everything() == before


def test_rotate_refuses_a_version_that_the_journal_does_not_know(rotated: EngineSandbox):
    """Somebody else wrote it; their value stays."""
    rotated.write_by_hand(rotated.handed_over())
    before = rotated.everything()
    with pytest.raises(Conflict, match="somebody else wrote"):
        rotated.engine.rotate(rotated.secret)
    assert rotated.everything() == before


def test_rotate_refuses_a_parked_secret(rotated: EngineSandbox):
    """The hint is to unpark it."""
    rotated.engine.park(rotated.secret, reason="by hand")
    with pytest.raises(Parked, match="by hand") as error:
        rotated.engine.rotate(rotated.secret)
    assert "rotator unpark app" in error.value.hint


def test_rotate_refuses_a_secret_that_another_engine_works_on(rotated: EngineSandbox):
    """One lock, one engine."""
    rotated.journal.acquire("app", "another", HOUR)
    with pytest.raises(Busy) as error:
        rotated.engine.rotate(rotated.secret)
    assert error.value.secret == "app"


# -- what fails ------------------------------------------------------------------------------------


def test_rotate_finishes_an_interrupted_rotation_first(rotated: EngineSandbox):
    """And that one counts as the rotation that was asked for."""
    fail_next(rotated.rotation, "verify", Killed())
    with pytest.raises(Killed):
        rotated.engine.rotate(rotated.secret, rotation_id="first")
    result = rotated.process().rotate(rotated.secret, patience=2 * DAY)
    assert (result.rotation_id, result.resumed, result.outcome) == ("first", True, Outcome.DONE)


def test_rotate_is_not_due_when_the_interrupted_rotation_comes_as_far_as_its_grace(
    rotated: EngineSandbox,
):
    """It is published by this call all the same."""
    old = rotated.served
    fail_next(rotated.rotation, "verify", Killed())
    with pytest.raises(Killed):
        rotated.engine.rotate(rotated.secret)
    with pytest.raises(NotDue, match="not completed"):
        rotated.process().rotate(rotated.secret)
    assert rotated.served != old


def test_rotate_begins_anew_once_an_old_rotation_has_only_its_revoke_left(in_grace: EngineSandbox):
    """It was published long ago: finishing it is not what was asked for."""
    first = in_grace.opened.id
    in_grace.clock.advance(2 * HOUR)
    result = in_grace.engine.rotate(in_grace.secret)
    assert result.rotation_id != first
    assert result.published


def test_a_refused_candidate_is_replaced_by_another(rotated: EngineSandbox):
    """In the same call, in a rotation of its own."""
    rotated.target.refuse_next = 2
    assert rotated.engine.rotate(rotated.secret).published
    outcomes = [one.outcome for one in rotated.journal.rotations("app")]
    assert outcomes == [None, Outcome.UNDONE, Outcome.UNDONE, Outcome.DONE]


def test_a_rotation_is_undone_when_every_candidate_is_refused(rotated: EngineSandbox):
    """As many are tried as the policy allows."""
    old, rotated.target.refuse_next = rotated.served, 100
    result = rotated.engine.rotate(rotated.secret)
    assert result.outcome is Outcome.UNDONE
    assert result.error is not None
    assert result.error.kind == Refused.kind
    assert 100 - rotated.target.refuse_next == rotated.policy.proposals
    assert rotated.served == old


def test_a_given_id_allows_one_candidate_only(rotated: EngineSandbox):
    """Its caller waits for that rotation."""
    rotated.target.refuse_next = 1
    result = rotated.engine.rotate(rotated.secret, rotation_id="given")
    assert (result.outcome, result.rotation_id) == (Outcome.UNDONE, "given")


def test_a_rotation_that_failed_before_publish_leaves_no_trace(rotated: EngineSandbox):
    """The old credential works, the new login is gone, nothing is staged."""
    old, logins = rotated.served, rotated.target.usable()
    fail_next(rotated.rotation, "verify", Transient("no."), Transient("no."))
    result = rotated.engine.rotate(rotated.secret, patience=HOUR)
    assert result.outcome is Outcome.UNDONE
    assert rotated.served == old
    assert rotated.accepts(old)
    assert rotated.target.usable() == logins
    assert rotated.backend.pending(PATH) == {}
    assert result.error is not None
    assert "The application is safe" in result.error.safety


def test_a_failure_that_passes_is_tried_again_within_the_patience(rotated: EngineSandbox):
    """And no error is left of it."""
    fail_next(rotated.rotation, "verify", Transient("no."))
    result = rotated.engine.rotate(rotated.secret, patience=HOUR)
    assert result.published
    assert result.error is None


def test_without_patience_a_failure_leaves_the_rotation_open(rotated: EngineSandbox):
    """Until its next attempt."""
    fail_next(rotated.rotation, "verify", Transient("no."))
    result = rotated.engine.rotate(rotated.secret)
    assert (result.outcome, result.waiting) == (None, "waiting to try again")
    assert result.error is not None
    assert result.error.step == "verify"


def test_a_missing_right_undoes_the_rotation_and_parks_the_secret(rotated: EngineSandbox):
    """A retry would change nothing."""
    fail_next(rotated.rotation, "create", Denied("no right.", hint="GRANT it."))
    result = rotated.engine.rotate(rotated.secret)
    assert (result.outcome, result.parked) == (Outcome.UNDONE, True)
    assert "no right" in (rotated.record.parked or "")
    assert rotated.record.parked_hint == "GRANT it."


def test_as_many_undone_rotations_as_there_are_cycles_park_the_secret(rotated: EngineSandbox):
    """An operator must look."""
    fail_next(rotated.rotation, "verify", *[Transient("no.") for _ in range(4)])
    first = rotated.engine.rotate(rotated.secret, patience=HOUR)
    assert (first.outcome, first.parked) == (Outcome.UNDONE, False)
    second = rotated.engine.rotate(rotated.secret, patience=HOUR)
    assert (second.outcome, second.parked) == (Outcome.UNDONE, True)
    assert "2 rotations in a row failed" in (rotated.record.parked or "")


def test_a_bug_in_a_plugin_is_an_unknown_outcome_without_its_text(rotated: EngineSandbox):
    """The text may hold a password."""
    fail_next(rotated.rotation, "create", ValueError("hunter2-hunter2"))
    result = rotated.engine.rotate(rotated.secret)
    assert result.error is not None
    assert result.error.kind == Unknown.kind
    assert "hunter2" not in str(result.error)
    assert "hunter2" not in str(rotated.log.lines)


def test_a_publish_whose_answer_is_lost_is_not_undone(rotated: EngineSandbox):
    """The next attempt finds that it has happened."""
    old = rotated.served
    fail_next(rotated.backend, "publish", Unknown("the answer was lost."), done=True)
    result = rotated.engine.rotate(rotated.secret, patience=2 * DAY)
    assert result.outcome is Outcome.DONE
    assert not rotated.accepts(old)
    assert rotated.accepts(rotated.served)


def test_a_version_that_cannot_be_read_back_is_not_revoked_for(rotated: EngineSandbox):
    """The old credential is valid as long as nobody has seen the new one served."""
    old = rotated.served
    fail_next(rotated.backend, "read", *[Transient("away.") for _ in range(100)])
    result = rotated.engine.rotate(rotated.secret, patience=2 * DAY)
    assert result.parked
    assert Step.REVOKE not in rotated.finished()
    assert rotated.accepts(old)
    assert rotated.accepts(rotated.served)


def test_without_a_journal_there_is_no_effect(rotated: EngineSandbox):
    """No intent, no act."""
    state, served = rotated.target.state(), rotated.served
    fail_next(rotated.journal, "append", JournalError("disk full."))
    with pytest.raises(JournalError):
        rotated.engine.rotate(rotated.secret)
    assert (rotated.target.state(), rotated.served) == (state, served)
    assert rotated.backend.pending(PATH) == {}


def test_an_engine_that_was_overtaken_stops_before_its_next_effect(rotated: EngineSandbox):
    """The other one has the newer fence."""
    staged = rotated.backend.stage

    def slow(*arguments):
        answer = staged(*arguments)
        rotated.clock.advance(DAY)
        rotated.journal.acquire("app", "another", HOUR)
        return answer

    rotated.backend.stage = slow
    state = rotated.target.state()
    with pytest.raises(LockLost):
        rotated.engine.rotate(rotated.secret)
    assert rotated.target.state() == state


def test_sessions_of_the_old_login_hold_up_its_revoke(rotated: EngineSandbox):
    """Until they have ended."""
    old = rotated.served
    rotated.target.open_session(old.username)
    result = rotated.engine.rotate(rotated.secret, patience=2 * HOUR)
    assert (result.outcome, result.waiting) == (None, "the old login still has open sessions")
    assert rotated.accepts(old)
    rotated.target.close_sessions()
    resumed = rotated.engine.resume(rotated.secret, patience=HOUR)
    assert resumed is not None
    assert resumed.outcome is Outcome.DONE


def test_a_policy_without_grace_revokes_in_the_same_call(rotated: EngineSandbox):
    """Nothing is left to wait for."""
    old, rotated.policy = rotated.served, replace(rotated.policy, grace=Policy().jitter)
    assert rotated.engine.rotate(rotated.secret).outcome is Outcome.DONE
    assert not rotated.accepts(old)
