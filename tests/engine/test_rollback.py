"""`Engine.rollback`: the previous credential is current again, while it is still valid."""

from __future__ import annotations

import pytest

from rotator.core.errors import Transient, UsageError
from rotator.core.model import Kind, Outcome
from tests.engine.sandboxes import DAY, HOUR, PATH, EngineSandbox, Killed, fail_next


def test_rollback_refuses_when_no_rotation_is_open(rotated: EngineSandbox):
    """The old credential is gone."""
    with pytest.raises(UsageError, match="nothing to roll back"):
        rotated.engine.rollback(rotated.secret)


def test_rollback_before_publish_undoes_the_rotation(rotated: EngineSandbox):
    """Nothing of it is left."""
    old, logins = rotated.served, rotated.target.usable()
    fail_next(rotated.rotation, "verify", Killed())
    with pytest.raises(Killed):
        rotated.engine.rotate(rotated.secret)
    assert rotated.process().rollback(rotated.secret).outcome is Outcome.UNDONE
    assert rotated.served == old
    assert rotated.target.usable() == logins
    assert rotated.backend.pending(PATH) == {}


def test_rollback_in_the_grace_period_serves_the_old_credential_again(rotated: EngineSandbox):
    """The newer one has its own grace, and is then revoked."""
    old = rotated.served
    rotated.engine.rotate(rotated.secret)
    new = rotated.served
    result = rotated.engine.rollback(rotated.secret, reason="it broke the reports")
    assert (result.outcome, result.rolling_back) == (None, True)
    assert rotated.served == old
    assert rotated.accepts(new)
    rotated.clock.advance(HOUR)
    ended = rotated.engine.resume(rotated.secret)
    assert ended is not None
    assert (ended.outcome, ended.old_refused) == (Outcome.ROLLED_BACK, True)
    assert not rotated.accepts(new)
    assert rotated.accepts(old)


def test_rollback_keeps_its_reason(in_grace: EngineSandbox):
    """It is in the journal."""
    in_grace.engine.rollback(in_grace.secret, reason="it broke the reports")
    asked = [one for one in in_grace.journal.events("app") if one.kind is Kind.ROLLBACK_REQUESTED]
    assert [one.data["reason"] for one in asked] == ["it broke the reports"]


def test_a_rolled_back_secret_is_due_by_the_age_of_what_is_served(rotated: EngineSandbox):
    """The old credential has not become younger."""
    published = rotated.clock.now()
    rotated.clock.advance(10 * DAY)
    rotated.engine.rotate(rotated.secret)
    rotated.engine.rollback(rotated.secret, patience=DAY)
    assert rotated.record.next_due == published + 30 * DAY


def test_a_secret_can_be_rotated_after_its_rollback(in_grace: EngineSandbox):
    """The journal and the backend agree on what is current."""
    in_grace.engine.rollback(in_grace.secret, patience=DAY)
    assert in_grace.engine.rotate(in_grace.secret, patience=DAY).outcome is Outcome.DONE


@pytest.mark.parametrize("strategy", ["single-user"])
def test_rollback_refuses_where_old_and_new_do_not_overlap(strategy: str):
    """The old password was overwritten."""
    sandbox = EngineSandbox(strategy)
    sandbox.rotate_wholly()
    fail_next(sandbox.rotation, "revoke", Killed())
    with pytest.raises(Killed):
        sandbox.engine.rotate(sandbox.secret, patience=DAY)
    before = sandbox.everything()
    with pytest.raises(UsageError, match="nothing to go back to"):
        sandbox.process().rollback(sandbox.secret)
    assert sandbox.everything() == before


def test_rollback_refuses_a_second_time(in_grace: EngineSandbox):
    """It is under way already."""
    in_grace.engine.rollback(in_grace.secret)
    with pytest.raises(UsageError, match="rolled back already"):
        in_grace.engine.rollback(in_grace.secret)


def test_rollback_refuses_once_the_old_credential_is_being_revoked(in_grace: EngineSandbox):
    """It may be dead."""
    fail_next(in_grace.rotation, "revoke", Transient("no."))
    in_grace.clock.advance(HOUR)
    in_grace.engine.resume(in_grace.secret)
    with pytest.raises(UsageError, match="being revoked already"):
        in_grace.engine.rollback(in_grace.secret)


def test_rollback_refuses_a_credential_that_the_target_rejects(rotated: EngineSandbox):
    """It would lock the application out."""
    old = rotated.served
    rotated.engine.rotate(rotated.secret)
    rotated.target.accounts[old.username].can_login = False
    before = rotated.everything()
    with pytest.raises(UsageError, match="rejects the old credential"):
        rotated.engine.rollback(rotated.secret)
    assert rotated.everything() == before


def test_rollback_refuses_when_the_backend_has_lost_the_old_version(in_grace: EngineSandbox):
    """Its password is not known any longer."""
    in_grace.backend.read = lambda path, version: None  # type: ignore[method-assign]
    with pytest.raises(UsageError, match="no longer holds version"):
        in_grace.engine.rollback(in_grace.secret)


def test_rollback_unparks_the_secret(in_grace: EngineSandbox):
    """An operator has looked at it."""
    in_grace.engine.park(in_grace.secret, reason="by hand")
    assert in_grace.engine.rollback(in_grace.secret, patience=DAY).outcome is Outcome.ROLLED_BACK
    assert in_grace.record.parked is None


def test_a_rollback_that_a_backend_answers_by_a_copy_is_the_same():
    """As Vault's KV does, which cannot move a label."""
    from rotator.testing.fake_backend import FakeBackend

    sandbox = EngineSandbox(backend=FakeBackend(copies=True))
    old = sandbox.rotate_wholly()
    sandbox.engine.rotate(sandbox.secret)
    assert sandbox.engine.rollback(sandbox.secret, patience=DAY).outcome is Outcome.ROLLED_BACK
    assert sandbox.served == old
