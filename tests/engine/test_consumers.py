"""The gate: a revoke waits for the consumers, and they can end the grace period."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from rotator.core.consumers import Consumer, Gate, InstanceKind, Level, Report
from rotator.core.errors import JournalError, Transient
from rotator.core.model import Kind, Outcome, Step
from tests.engine.sandboxes import DAY, HOUR, POLICY, EngineSandbox, fail_next

if TYPE_CHECKING:
    from rotator.core.consumers import ReportedInstance
    from rotator.engine import Result

WAITS = "consumers have not confirmed the new version"


def sandbox(gate: Gate = Gate.HOLD, *, early: bool = False, instances: int = 1) -> EngineSandbox:
    """Return a secret in its grace period, with one consumer, which uses the old version."""
    made = EngineSandbox(policy=replace(POLICY, until_acknowledged=early))
    made.consumers = (Consumer(name="web", instances=instances, gate=gate, wait=HOUR),)
    made.engine.rotate(made.secret)
    used(made)
    made.engine.rotate(made.secret)
    return made


def used(made: EngineSandbox, instance: str = "web-1", level: Level = Level.USED) -> None:
    """Let an instance report that it uses what is served."""
    current = made.backend.current(made.secret.path)
    assert current is not None
    report = Report(
        secret="app",
        consumer="web",
        instance=instance,
        kind=InstanceKind.CLIENT,
        version=current.id,
        level=level,
    )
    _ = made.registry.report([report])


def resume(made: EngineSandbox) -> Result:
    result = made.process().resume(made.secret)
    assert result is not None
    return result


def test_a_consumer_that_holds_delays_the_revoke_without_end():
    """The old login is accepted as long as it is needed."""
    made = sandbox()
    made.clock.advance(HOUR)
    for _ in range(3):
        result = resume(made)
        assert (result.outcome, result.waiting) == (None, WAITS)
        made.clock.advance(30 * DAY)
        _ = made.registry.report([])
    assert len(made.target.usable()) == 2


def test_the_revoke_follows_once_the_consumer_has_moved():
    """And the event names who confirmed what."""
    made = sandbox()
    made.clock.advance(HOUR)
    assert resume(made).outcome is None
    used(made)
    made.clock.advance(timedelta(minutes=1))
    assert resume(made).outcome is Outcome.DONE
    (drained,) = [
        event
        for event in made.journal.events("app")[-8:]
        if (event.kind, event.step) == (Kind.FINISHED, Step.DRAIN)
    ]
    facts = drained.data["consumers"]
    assert isinstance(facts, dict)
    assert facts["consumers"] == [
        {"name": "web", "expected": 1, "acknowledged": 1, "behind": [], "gate": "hold"}
    ]
    assert len(str(facts["digest"])) == 64


def test_a_consumer_that_warns_delays_the_revoke_by_its_wait():
    """Then the revoke goes on, and the event says who was left."""
    made = sandbox(Gate.WARN)
    made.clock.advance(HOUR)
    assert resume(made).outcome is None
    made.clock.advance(HOUR)
    assert resume(made).outcome is Outcome.DONE


def test_a_consumer_whose_gate_is_off_delays_nothing():
    """It is only shown."""
    made = sandbox(Gate.OFF)
    made.clock.advance(HOUR)
    assert resume(made).outcome is Outcome.DONE


def test_an_operators_revoke_overrides_the_gate_and_that_is_recorded():
    """Every gate has a way out, and the way out is counted."""
    made = sandbox()
    result = made.engine.revoke(made.secret, reason="leaked")
    assert result.outcome is Outcome.DONE
    drained = [event for event in made.journal.events("app") if event.step is Step.DRAIN]
    assert drained[-1].data["gate_overridden"] is True


def test_looking_again_writes_nothing_while_nothing_changes():
    """A revoke that is held for a month does not fill the journal."""
    made = sandbox()
    made.clock.advance(HOUR)
    _ = resume(made)
    before = len(made.journal.events("app"))
    for _ in range(50):
        made.clock.advance(timedelta(seconds=90))
        result = resume(made)
        assert result.until == made.clock.now() + made.policy.drain_poll
    # The report of the instance that is behind expired: that is news, once.
    assert len(made.journal.events("app")) - before <= 2


def test_looking_again_for_sessions_writes_nothing_while_they_stay(rotated: EngineSandbox):
    """The same for the drain's count of sessions."""
    old = rotated.served
    rotated.engine.rotate(rotated.secret)
    rotated.target.open_session(old.username)
    rotated.clock.advance(HOUR)
    _ = rotated.engine.resume(rotated.secret)
    before = rotated.journal.events("app")
    for _ in range(20):
        rotated.clock.advance(timedelta(minutes=1))
        _ = rotated.process().resume(rotated.secret)
    assert rotated.journal.events("app") == before
    rotated.target.accounts[old.username].began.clear()
    result = rotated.process().resume(rotated.secret)
    assert result is not None
    assert result.outcome is Outcome.DONE


def test_the_grace_period_ends_as_soon_as_every_consumer_has_moved():
    """Not after the hour that the policy allows."""
    made = sandbox(early=True, instances=2)
    used(made, "web-1")
    assert resume(made).outcome is None
    used(made, "web-2")
    made.clock.advance(timedelta(seconds=10))
    assert resume(made).outcome is Outcome.DONE
    (ready,) = [one for one in made.journal.events("app") if one.kind is Kind.CONSUMERS_READY]
    assert ready.at == made.clock.now()


def test_the_grace_period_does_not_end_early_without_that_policy():
    """A duration is a duration."""
    made = sandbox()
    used(made)
    result = resume(made)
    assert (result.outcome, result.waiting) == (None, "the old credential is in its grace period")


def test_the_grace_period_ends_at_its_limit_when_nobody_has_moved():
    """Then the gate decides."""
    made = sandbox(Gate.WARN, early=True)
    made.clock.advance(HOUR)
    assert resume(made).waiting == WAITS
    made.clock.advance(HOUR)
    assert resume(made).outcome is Outcome.DONE


def test_a_call_that_waits_ends_the_grace_period_when_the_consumers_move():
    """Also inside one call with patience, such as `rotator rotate --wait`."""
    made = sandbox(early=True)
    assert made.registry is not None
    looks, look = list[int](), made.registry.instances

    def instances(secret: str | None = None) -> list[ReportedInstance]:
        looks.append(len(looks))
        if len(looks) > 3:
            used(made)
        return look(secret)

    made.registry.instances = instances
    result = made.process().resume(made.secret, patience=DAY)
    assert result is not None
    assert result.outcome is Outcome.DONE
    assert made.clock.now() - made.opened_at < timedelta(minutes=1)


def test_looks_at_the_consumers_become_rarer():
    """A second after publish at first, a minute in the end: a report wakes the daemon at once."""
    made = sandbox(early=True)
    waits: list[timedelta] = []
    while made.clock.now() < made.opened_at + timedelta(minutes=50):
        result = resume(made)
        assert result.until is not None
        waits.append(result.until - made.clock.now())
        made.clock.at = result.until
    assert waits[0] == timedelta(seconds=1)
    assert waits == sorted(waits)
    assert waits[-1] == made.policy.drain_poll
    assert len(waits) < 150


@pytest.mark.parametrize("error", [Transient("away."), JournalError("away.")])
def test_while_the_consumers_cannot_be_asked_the_grace_period_goes_on(error: Exception):
    """Nothing is ended on a guess, and nothing is recorded as a failure of the secret."""
    made = sandbox(early=True)
    used(made)
    owner, method = (
        (made.rotation, "sessions")
        if isinstance(error, Transient)
        else (made.registry, "instances")
    )
    fail_next(owner, method, error)
    if isinstance(error, JournalError):
        with pytest.raises(JournalError):
            resume(made)
    else:
        assert resume(made).outcome is None
    made.clock.advance(timedelta(minutes=1))
    assert resume(made).outcome is Outcome.DONE


def test_after_a_rollback_the_consumers_must_come_back():
    """The newer credential is revoked when they use the restored one again."""
    made = sandbox(early=True)
    used(made)
    result = made.engine.rollback(made.secret)
    assert result.outcome is None
    made.clock.advance(HOUR)
    assert resume(made).waiting == WAITS
    used(made)
    made.clock.advance(timedelta(minutes=1))
    assert resume(made).outcome is Outcome.ROLLED_BACK


def test_an_engine_without_a_registry_holds_nothing():
    """On AWS Lambda, where nobody reports, the grace period is all there is."""
    made = sandbox()
    made.registry = None
    made.clock.advance(HOUR)
    assert resume(made).outcome is Outcome.DONE
