"""`Engine.schedule` and `Engine.postpone`: a due date, and a next try, other than the last rotation's."""

from __future__ import annotations

from rotator.core.model import Kind
from rotator.core.schedule import is_due
from tests.engine.sandboxes import DAY, HOUR, EngineSandbox


def test_schedule_sets_the_due_date(rotated: EngineSandbox):
    """The journal keeps why."""
    due = rotated.clock.now() + DAY
    rotated.engine.schedule(rotated.secret, due, reason="another policy")
    assert rotated.record.next_due == rotated.record.due == due
    assert (rotated.last.kind, rotated.last.data["reason"]) == (Kind.SCHEDULED, "another policy")


def test_schedule_takes_the_due_date_away(rotated: EngineSandbox):
    """The policy has no period any longer."""
    rotated.engine.schedule(rotated.secret, None, reason="on demand")
    rotated.clock.advance(1000 * DAY)
    assert not is_due(rotated.record, rotated.clock.now())


def test_schedule_with_a_later_time_keeps_since_when_it_has_been_due(rotated: EngineSandbox):
    """It is rotated later, and shown as due since before."""
    due, later = rotated.clock.now(), rotated.clock.now() + HOUR
    rotated.engine.schedule(rotated.secret, due, reason="catching up", again=later)
    assert (rotated.record.due, rotated.record.next_due) == (due, later)
    assert not is_due(rotated.record, rotated.clock.now())
    assert is_due(rotated.record, rotated.clock.now(), at_once=True)


def test_schedule_rotates_nothing(rotated: EngineSandbox):
    """Only a rotation does."""
    served = rotated.served
    rotated.engine.schedule(rotated.secret, rotated.clock.now(), reason="now")
    assert rotated.served == served
    assert rotated.journal.open_rotation("app") is None


def test_postpone_keeps_the_due_date(rotated: EngineSandbox):
    """Only its next try is later."""
    rotated.clock.advance(30 * DAY)
    due, until = rotated.record.next_due, rotated.clock.now() + HOUR
    rotated.engine.postpone(rotated.secret, until, reason="the target is away")
    assert (rotated.record.due, rotated.record.next_due) == (due, until)


def test_a_postponed_secret_is_due_at_its_next_try(rotated: EngineSandbox):
    """Not before, unless the next try is not waited for."""
    rotated.clock.advance(30 * DAY)
    rotated.engine.postpone(rotated.secret, rotated.clock.now() + HOUR, reason="away")
    assert not is_due(rotated.record, rotated.clock.now())
    assert is_due(rotated.record, rotated.clock.now(), at_once=True)
    rotated.clock.advance(HOUR)
    assert is_due(rotated.record, rotated.clock.now())
