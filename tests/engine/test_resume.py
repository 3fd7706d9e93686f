"""`Engine.resume`: an open rotation goes on, as far as it gets now; nothing is begun."""

from __future__ import annotations

import pytest

from rotator.core.errors import Parked, Transient, Unavailable
from rotator.core.model import Outcome, Step
from tests.engine.sandboxes import DAY, HOUR, EngineSandbox, Killed, fail_next


def test_resume_returns_none_when_nothing_is_open(rotated: EngineSandbox):
    """And begins nothing."""
    before = rotated.everything()
    assert rotated.engine.resume(rotated.secret) is None
    assert rotated.everything() == before


@pytest.mark.parametrize(
    ("owner", "method", "done"),
    [
        ("backend", "stage", False),
        ("backend", "stage", True),
        ("rotation", "create", False),
        ("rotation", "create", True),
        ("rotation", "verify", False),
        ("backend", "publish", False),
        ("backend", "publish", True),
        ("rotation", "sessions", False),
        ("rotation", "revoke", False),
        ("rotation", "revoke", True),
    ],
)
def test_resume_completes_a_rotation_that_was_killed(
    rotated: EngineSandbox, owner: str, method: str, *, done: bool
):
    """Before and after each effect: one rotation, one valid login, and it is the served one."""
    old = rotated.served
    fail_next(getattr(rotated, owner), method, Killed(), done=done)
    with pytest.raises(Killed):
        rotated.engine.rotate(rotated.secret, rotation_id="killed", patience=2 * DAY)
    result = rotated.process().resume(rotated.secret, patience=2 * DAY)
    assert result is not None
    assert (result.outcome, result.rotation_id) == (Outcome.DONE, "killed")
    assert rotated.target.usable() == {rotated.served.username}
    assert not rotated.accepts(old)
    assert rotated.target.violations == []


def test_resume_in_the_grace_period_changes_nothing(in_grace: EngineSandbox):
    """It answers until when."""
    state = in_grace.target.state()
    result = in_grace.engine.resume(in_grace.secret)
    assert result is not None
    assert (result.outcome, result.until) == (None, in_grace.clock.now() + HOUR)
    assert in_grace.target.state() == state


def test_resume_after_the_grace_period_revokes(in_grace: EngineSandbox):
    """And proves it."""
    in_grace.clock.advance(HOUR)
    result = in_grace.engine.resume(in_grace.secret)
    assert result is not None
    assert (result.outcome, result.old_refused) == (Outcome.DONE, True)


def test_resume_refuses_a_parked_secret(in_grace: EngineSandbox):
    """An operator must unpark it."""
    in_grace.engine.park(in_grace.secret, reason="by hand")
    in_grace.clock.advance(DAY)
    with pytest.raises(Parked, match="by hand"):
        in_grace.engine.resume(in_grace.secret)


def test_resume_waits_for_the_next_attempt_unless_it_is_at_once(rotated: EngineSandbox):
    """`at_once` is for a host that is back, or an operator."""
    calls = fail_next(rotated.rotation, "verify", Transient("no."))
    rotated.engine.rotate(rotated.secret)
    waits = rotated.engine.resume(rotated.secret)
    assert waits is not None
    assert (waits.waiting, len(calls)) == ("waiting to try again", 1)
    result = rotated.engine.resume(rotated.secret, at_once=True)
    assert result is not None
    assert (result.published, len(calls)) == (True, 2)


def test_what_a_host_that_is_away_answers_uses_up_no_attempt(rotated: EngineSandbox):
    """However often it is tried."""
    calls = fail_next(rotated.rotation, "create", *[Transient("away.") for _ in range(20)])
    rotated.engine.rotate(rotated.secret, away="target db")
    for _ in range(19):
        result = rotated.engine.resume(rotated.secret, at_once=True, away="target db")
        assert result is not None
        assert result.error is not None
        assert result.error.kind == Unavailable.kind
    assert len(calls) == 20
    result = rotated.engine.resume(rotated.secret, at_once=True, away="target db")
    assert result is not None
    assert result.published


def test_no_step_begins_without_the_time_for_it(rotated: EngineSandbox):
    """The call ends in time, and the rotation is left where it was."""
    fail_next(rotated.rotation, "create", Killed())
    with pytest.raises(Killed):
        rotated.engine.rotate(rotated.secret)
    before = rotated.everything()
    result = rotated.engine.resume(rotated.secret, ends=rotated.clock.monotonic() + 1)
    assert result is not None
    assert result.error is not None
    assert "no time left for step create" in result.error.what
    assert rotated.everything() == before


def test_without_overlap_what_was_begun_is_completed_to_the_last_second():
    """Between create and publish nobody can log in: stopping there would be the worst."""
    sandbox = EngineSandbox("single-user")
    sandbox.rotate_wholly()
    fail_next(sandbox.rotation, "verify", Killed())
    with pytest.raises(Killed):
        sandbox.engine.rotate(sandbox.secret)
    result = sandbox.process().resume(sandbox.secret, ends=sandbox.clock.monotonic() + 0.5)
    assert result is not None
    assert result.published
    assert sandbox.finished()[-1] is Step.PUBLISH
