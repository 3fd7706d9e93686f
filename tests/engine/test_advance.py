"""`Engine.advance`: a rotation that somebody else leads goes as far as the step that they ask for."""

from __future__ import annotations

from datetime import timedelta

import pytest

from rotator.core.errors import Busy, NotDue, Refused, Transient, UsageError
from rotator.core.model import Credential, Kind, Outcome, Step, Version
from rotator.core.secret import Secret
from tests.engine.sandboxes import DAY, HOUR, PATH, EngineSandbox, fail_next

_LED = (Step.STAGE, Step.CREATE, Step.VERIFY, Step.PUBLISH)


@pytest.mark.parametrize("to", _LED)
def test_advance_goes_as_far_as_the_step_and_no_further(rotated: EngineSandbox, to: Step):
    """Whatever comes after is the leader's to ask for."""
    result = rotated.engine.advance(rotated.secret, rotation_id="led", to=to)
    assert (result.rotation_id, result.outcome, result.error) == ("led", None, None)
    assert rotated.finished() == list(_LED[: _LED.index(to) + 1])


def test_advance_goes_on_with_the_rotation_that_it_began(rotated: EngineSandbox):
    """A call for each step, each by another process."""
    for to in _LED:
        result = rotated.process().advance(rotated.secret, rotation_id="led", to=to)
        assert result.rotation_id == "led"
    assert rotated.finished() == list(_LED)
    assert rotated.accepts(rotated.served)


def test_advance_to_a_step_that_is_finished_changes_nothing(rotated: EngineSandbox):
    """Who leads may ask twice."""
    rotated.engine.advance(rotated.secret, rotation_id="led", to=Step.CREATE)
    before = rotated.everything()
    rotated.engine.advance(rotated.secret, rotation_id="led", to=Step.CREATE)
    assert rotated.everything() == before


def test_advance_adopts_what_is_current_if_it_logs_in(sandbox: EngineSandbox):
    """Nobody has adopted it before."""
    sandbox.write_by_hand(sandbox.handed_over())
    result = sandbox.engine.advance(sandbox.secret, rotation_id="led", to=Step.VERIFY)
    assert result.old_login == "theirs"
    assert sandbox.record.adopted == ("theirs",)


def test_advance_refuses_what_is_current_if_it_does_not_log_in(sandbox: EngineSandbox):
    """Then the application is locked out already."""
    sandbox.handed_over()
    sandbox.write_by_hand(Credential(username="theirs", password=Secret("another")))
    before = sandbox.target.state()
    with pytest.raises(UsageError, match="with what is current") as error:
        sandbox.engine.advance(sandbox.secret, rotation_id="led", to=Step.STAGE)
    assert "NOT safe" in error.value.safety
    assert sandbox.target.state() == before


def test_advance_refuses_an_empty_backend(sandbox: EngineSandbox):
    """There is no login to take over."""
    with pytest.raises(UsageError, match="holds no credential"):
        sandbox.engine.advance(sandbox.secret, rotation_id="led", to=Step.STAGE)


@pytest.mark.parametrize(("password", "adopted"), [("made-by-hand", True), ("guessed", False)])
def test_advance_adopts_other_logins_only_by_their_passwords(
    rotated: EngineSandbox, password: str, *, adopted: bool
):
    """Who can write the backend could name any login there."""
    other = Credential(username=rotated.handed_over("second").username, password=Secret(password))
    rotated.engine.advance(
        rotated.secret,
        rotation_id="led",
        to=Step.STAGE,
        others=(Version(id="0", credential=other),),
    )
    assert ("second" in rotated.record.adopted) is adopted


def test_advance_undoes_an_earlier_rotation_that_was_not_published(rotated: EngineSandbox):
    """Its leader has begun another."""
    rotated.engine.advance(rotated.secret, rotation_id="first", to=Step.CREATE)
    rotated.engine.advance(rotated.secret, rotation_id="second", to=Step.CREATE)
    first = rotated.journal.rotation("first")
    assert first is not None
    assert first.outcome is Outcome.UNDONE
    assert rotated.opened.id == "second"
    assert list(rotated.backend.pending(PATH)) == ["second"]


def test_advance_is_not_due_while_an_earlier_rotation_is_in_its_grace(rotated: EngineSandbox):
    """A third valid credential would be one too many."""
    rotated.engine.advance(rotated.secret, rotation_id="first", to=Step.PUBLISH)
    with pytest.raises(NotDue):
        rotated.engine.advance(rotated.secret, rotation_id="second", to=Step.STAGE)
    rotated.clock.advance(HOUR)
    rotated.engine.advance(rotated.secret, rotation_id="second", to=Step.STAGE)
    first = rotated.journal.rotation("first")
    assert first is not None
    assert first.outcome is Outcome.DONE


def test_a_failure_for_good_undoes_what_is_led(rotated: EngineSandbox):
    """Nothing is left of it, and asked again it stays undone."""
    logins = rotated.target.usable()
    fail_next(rotated.rotation, "verify", Refused("no."))
    for _ in range(2):
        result = rotated.engine.advance(rotated.secret, rotation_id="led", to=Step.VERIFY)
        assert result.outcome is Outcome.UNDONE
        assert result.error is not None
        assert rotated.target.usable() == logins


def test_a_failure_that_passes_leaves_what_is_led(rotated: EngineSandbox):
    """Its leader comes back to it."""
    fail_next(rotated.rotation, "verify", Transient("no."))
    result = rotated.engine.advance(rotated.secret, rotation_id="led", to=Step.VERIFY)
    assert (result.outcome, result.error and result.error.kind) == (None, Transient.kind)
    rotated.clock.advance(timedelta(minutes=2))
    again = rotated.engine.advance(rotated.secret, rotation_id="led", to=Step.VERIFY)
    assert (again.outcome, again.error) == (None, None)
    assert rotated.finished()[-1] is Step.VERIFY


def test_advance_unparks_what_its_leader_comes_back_to(rotated: EngineSandbox):
    """That is an operator's word."""
    rotated.engine.advance(rotated.secret, rotation_id="led", to=Step.CREATE)
    rotated.engine.park(rotated.secret, reason="by hand")
    rotated.engine.advance(rotated.secret, rotation_id="led", to=Step.VERIFY)
    assert rotated.record.parked is None
    assert rotated.finished()[-1] is Step.VERIFY


def test_advance_refuses_a_secret_that_another_engine_works_on(rotated: EngineSandbox):
    """One lock, one engine."""
    rotated.journal.acquire("app", "another", DAY)
    with pytest.raises(Busy):
        rotated.engine.advance(rotated.secret, rotation_id="led", to=Step.STAGE)
    assert rotated.last.kind is Kind.ENDED
