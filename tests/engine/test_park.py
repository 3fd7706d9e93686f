"""`Engine.park` and `Engine.unpark`: automatic work stops, and goes on."""

from __future__ import annotations

from rotator.core.errors import Transient
from rotator.core.model import Kind, Outcome
from rotator.core.schedule import is_due
from tests.engine.sandboxes import DAY, HOUR, EngineSandbox, fail_next


def test_a_parked_secret_is_not_due(rotated: EngineSandbox):
    """Whatever its date."""
    rotated.engine.park(rotated.secret, reason="by hand", hint="Ask Ann.")
    rotated.clock.advance(100 * DAY)
    assert not is_due(rotated.record, rotated.clock.now())
    assert (rotated.record.parked, rotated.record.parked_hint) == ("by hand", "Ask Ann.")


def test_park_changes_nothing_on_the_target_or_in_the_backend(in_grace: EngineSandbox):
    """Both credentials of an open rotation stay valid."""
    state, served = in_grace.target.state(), in_grace.served
    in_grace.engine.park(in_grace.secret, reason="by hand")
    assert (in_grace.target.state(), in_grace.served) == (state, served)


def test_park_belongs_to_the_open_rotation(in_grace: EngineSandbox):
    """Its history shows it."""
    opened = in_grace.opened.id
    in_grace.engine.park(in_grace.secret, reason="by hand")
    assert in_grace.journal.history(opened)[-1].kind is Kind.PARKED


def test_an_unparked_secret_is_due_by_its_date_again(rotated: EngineSandbox):
    """Nothing else has changed."""
    rotated.engine.park(rotated.secret, reason="by hand")
    rotated.engine.unpark(rotated.secret, reason="mended")
    rotated.clock.advance(30 * DAY)
    assert is_due(rotated.record, rotated.clock.now())


def test_unpark_lets_the_open_rotation_go_on(in_grace: EngineSandbox):
    """From where it was left."""
    opened = in_grace.opened.id
    in_grace.engine.park(in_grace.secret, reason="by hand")
    in_grace.engine.unpark(in_grace.secret, reason="mended")
    in_grace.clock.advance(HOUR)
    result = in_grace.engine.resume(in_grace.secret)
    assert result is not None
    assert (result.rotation_id, result.outcome) == (opened, Outcome.DONE)


def test_unpark_counts_failures_from_zero(rotated: EngineSandbox):
    """Else the next failure would park the secret again."""
    fail_next(rotated.rotation, "verify", *[Transient("no.") for _ in range(6)])
    for _ in range(2):
        rotated.engine.rotate(rotated.secret, patience=HOUR)
    assert rotated.record.parked is not None
    rotated.engine.unpark(rotated.secret, reason="mended")
    assert rotated.record.failures == 0
    assert not rotated.engine.rotate(rotated.secret, patience=HOUR).parked
