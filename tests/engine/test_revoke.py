"""`Engine.revoke`: the grace period ends now."""

from __future__ import annotations

import pytest

from rotator.core.errors import UsageError
from rotator.core.model import Outcome
from tests.engine.sandboxes import DAY, EngineSandbox, Killed, fail_next


def test_revoke_refuses_when_no_rotation_is_open(rotated: EngineSandbox):
    """The one credential that there is stays valid."""
    with pytest.raises(UsageError, match="nothing to revoke"):
        rotated.engine.revoke(rotated.secret)
    assert rotated.accepts(rotated.served)


def test_revoke_refuses_the_current_login(rotated: EngineSandbox):
    """Before publish the old credential is the current one."""
    fail_next(rotated.backend, "publish", Killed())
    with pytest.raises(Killed):
        rotated.engine.rotate(rotated.secret)
    before = rotated.everything()
    with pytest.raises(UsageError, match="has not published") as error:
        rotated.process().revoke(rotated.secret)
    assert "rotator resume app" in error.value.hint
    assert rotated.everything() == before


def test_revoke_ends_the_grace_period(rotated: EngineSandbox):
    """And proves that the old credential is rejected."""
    old = rotated.served
    rotated.engine.rotate(rotated.secret)
    result = rotated.engine.revoke(rotated.secret, reason="leaked")
    assert (result.outcome, result.old_refused) == (Outcome.DONE, True)
    assert not rotated.accepts(old)


def test_revoke_leaves_a_login_that_has_sessions(rotated: EngineSandbox):
    """It is not dropped under them."""
    old = rotated.served
    rotated.engine.rotate(rotated.secret)
    rotated.target.open_session(old.username)
    result = rotated.engine.revoke(rotated.secret)
    assert (result.outcome, result.waiting) == (None, "the old login still has open sessions")
    assert rotated.target.accounts[old.username].sessions == 1


def test_revoke_ends_sessions_on_an_operators_word(rotated: EngineSandbox):
    """Then nothing is left to wait for."""
    old = rotated.served
    rotated.engine.rotate(rotated.secret)
    rotated.target.open_session(old.username)
    assert rotated.engine.revoke(rotated.secret, end_sessions=True).outcome is Outcome.DONE
    assert old.username not in rotated.target.accounts
    assert rotated.target.violations == []


def test_revoke_in_a_rollback_ends_the_newer_login(rotated: EngineSandbox):
    """What is served stays."""
    old = rotated.served
    rotated.engine.rotate(rotated.secret)
    rotated.engine.rollback(rotated.secret)
    assert rotated.engine.revoke(rotated.secret).outcome is Outcome.ROLLED_BACK
    assert rotated.target.usable() == {old.username}


def test_revoke_stops_when_the_current_login_is_rejected(in_grace: EngineSandbox):
    """The old login is all that the application has then."""
    logins = in_grace.target.usable()
    in_grace.target.accounts[in_grace.served.username].passwords = ["set by hand"]
    in_grace.clock.advance(DAY)
    result = in_grace.engine.revoke(in_grace.secret)
    assert result.parked
    assert result.error is not None
    assert "NOT safe" in result.error.safety
    assert in_grace.target.usable() == logins


def test_revoke_stops_when_the_backend_serves_something_else(in_grace: EngineSandbox):
    """Somebody may have put the old credential back."""
    logins = in_grace.target.usable()
    in_grace.write_by_hand(in_grace.handed_over())
    result = in_grace.engine.revoke(in_grace.secret)
    assert result.parked
    assert in_grace.target.usable() == {*logins, "theirs"}


def test_revoke_unparks_the_secret(in_grace: EngineSandbox):
    """An operator has looked at it."""
    in_grace.engine.park(in_grace.secret, reason="by hand")
    assert in_grace.engine.revoke(in_grace.secret).outcome is Outcome.DONE
    assert in_grace.record.parked is None
