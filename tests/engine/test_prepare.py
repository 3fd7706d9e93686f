"""Consumers read the next version before a password is replaced in place."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from rotator.core.consumers import Consumer, Gate, InstanceKind, Level, Report
from rotator.core.errors import Transient, UsageError
from rotator.core.model import Kind, Outcome, Prepare, PrepareThen, Step
from tests.engine.sandboxes import HOUR, PATH, POLICY, EngineSandbox, fail_next

if TYPE_CHECKING:
    from rotator.core.model import Event
    from rotator.engine import Result

WAITS = "consumers have not read the next version"
MINUTE = timedelta(minutes=1)


def sandbox(
    then: PrepareThen = PrepareThen.PROCEED,
    *,
    gate: Gate = Gate.WARN,
    strategy: str = "single-user",
    instances: int = 1,
) -> EngineSandbox:
    """Return a secret that was rotated once, and whose consumers prepare."""
    policy = replace(POLICY, prepare=Prepare(wait=2 * MINUTE, then=then), drain_poll=MINUTE)
    made = EngineSandbox(strategy, policy=policy)
    made.consumers = (Consumer(name="web", instances=instances, gate=gate),)
    made.engine.rotate(made.secret)
    return made


def prepared(made: EngineSandbox, instance: str = "web-1", rotation_id: str = "") -> None:
    """Let an instance report that it has read the next version."""
    following = made.backend.next(PATH)
    assert rotation_id or following is not None
    report(made, instance, Level.PREPARED, rotation_id or following.rotation_id)  # pyright: ignore[reportOptionalMemberAccess]


def report(made: EngineSandbox, instance: str, level: Level, version: str) -> None:
    assert made.registry is not None
    one = Report(
        secret="app",
        consumer="web",
        instance=instance,
        kind=InstanceKind.CLIENT,
        version=version,
        level=level,
    )
    _ = made.registry.report([one])


def resume(made: EngineSandbox) -> Result:
    result = made.process().resume(made.secret)
    assert result is not None
    return result


def of_prepare(made: EngineSandbox) -> list[Event]:
    return [event for event in made.journal.events("app") if event.step is Step.PREPARE]


def test_the_target_changes_once_every_consumer_has_read_the_next_version():
    """Until then nothing but the backend has changed, and the call returns."""
    made = sandbox(instances=2)
    old = made.served
    result = made.engine.rotate(made.secret)
    assert (result.outcome, result.waiting, result.published) == (None, WAITS, False)
    following = made.backend.next(PATH)
    assert following is not None
    assert following.rotation_id == result.rotation_id
    assert made.accepts(old)
    assert not made.accepts(following.credential)
    prepared(made, "web-1")
    assert resume(made).outcome is None
    prepared(made, "web-2")
    assert resume(made).outcome is Outcome.DONE
    assert (made.served, made.backend.next(PATH)) == (following.credential, None)
    assert made.backend.current(PATH).id == following.version  # pyright: ignore[reportOptionalMemberAccess]


def test_the_event_names_who_has_read_it():
    made = sandbox()
    made.engine.rotate(made.secret)
    prepared(made)
    assert resume(made).outcome is Outcome.DONE
    finished = of_prepare(made)[-1]
    facts = finished.data["consumers"]
    assert finished.kind is Kind.FINISHED
    assert isinstance(facts, dict)
    assert facts["level"] == "prepared"
    assert facts["consumers"] == [
        {"name": "web", "expected": 1, "acknowledged": 1, "behind": [], "gate": "warn"}
    ]
    assert len(str(facts["digest"])) == 64


def test_after_the_wait_the_rotation_goes_on_without_those_that_did_not_answer():
    """And the event says who that was."""
    made = sandbox()
    made.engine.rotate(made.secret)
    made.clock.advance(timedelta(seconds=119))
    assert resume(made).outcome is None
    made.clock.advance(timedelta(seconds=1))
    assert resume(made).outcome is Outcome.DONE
    facts = of_prepare(made)[-1].data["consumers"]
    assert isinstance(facts, dict)
    assert facts["consumers"][0]["acknowledged"] == 0


def test_held_it_waits_without_end_and_that_is_recorded_once():
    made = sandbox(PrepareThen.HOLD)
    made.engine.rotate(made.secret)
    for _ in range(50):
        made.clock.advance(HOUR)
        result = resume(made)
        assert (result.outcome, result.waiting) == (None, WAITS)
        assert result.until == made.clock.now() + made.policy.drain_poll
    waits = [one.data["consumers"] for one in of_prepare(made) if one.kind is Kind.WAITING]
    assert [one.get("held") for one in waits if isinstance(one, dict)] == [None, True]


@pytest.mark.parametrize("hours", [0, 5])
def test_an_operators_word_ends_the_wait_and_that_is_recorded(hours: int):
    made = sandbox(PrepareThen.HOLD)
    made.engine.rotate(made.secret)
    made.clock.advance(hours * HOUR)
    result = made.process().revoke(made.secret, reason="web is gone")
    assert result.outcome is Outcome.DONE
    assert of_prepare(made)[-1].data["gate_overridden"] is True


def test_before_it_waits_there_is_nothing_to_revoke():
    made = sandbox()
    made.policy = replace(made.policy, prepare=None)
    fail_next(made.backend, "stage", Transient("away."))
    made.engine.rotate(made.secret)
    with pytest.raises(UsageError, match="has not published"):
        made.process().revoke(made.secret)


def test_undone_it_leaves_no_next_version():
    """And a report about it counts for no other rotation."""
    made = sandbox(PrepareThen.HOLD)
    old = made.served
    first = made.engine.rotate(made.secret)
    prepared(made)
    assert made.process().rollback(made.secret).outcome is Outcome.UNDONE
    assert made.backend.next(PATH) is None
    assert made.accepts(old)
    again = made.engine.rotate(made.secret)
    assert again.rotation_id != first.rotation_id
    assert (again.outcome, again.waiting) == (None, WAITS)


def test_a_consumer_whose_gate_is_off_is_not_waited_for():
    made = sandbox(PrepareThen.HOLD, gate=Gate.OFF)
    assert made.engine.rotate(made.secret).outcome is Outcome.DONE


def test_an_instance_that_is_alive_and_has_not_read_it_is_waited_for():
    """Also where more of them run than the configuration expects."""
    made = sandbox(PrepareThen.HOLD)
    current = made.backend.current(PATH)
    assert current is not None
    report(made, "web-2", Level.USED, current.id)
    made.engine.rotate(made.secret)
    prepared(made, "web-1")
    assert resume(made).outcome is None
    prepared(made, "web-2")
    assert resume(made).outcome is Outcome.DONE


def test_a_call_with_patience_waits_for_the_consumers():
    made = sandbox()
    before = made.clock.now()
    result = made.engine.rotate(made.secret, patience=HOUR)
    assert result.outcome is Outcome.DONE
    assert made.clock.now() - before == 2 * MINUTE


def test_a_backend_that_cannot_show_it_now_is_asked_again_and_then_the_rotation_is_undone():
    """Nothing has changed on the target."""
    made = sandbox()
    old = made.served
    fail_next(made.backend, "offer", Transient("away."), Transient("away."))
    made.engine.rotate(made.secret)
    made.clock.advance(HOUR)
    assert resume(made).outcome is Outcome.UNDONE
    assert made.accepts(old)


@pytest.mark.parametrize(
    ("strategy", "change"),
    [
        pytest.param("new-user", {}, id="an overlap"),
        pytest.param("single-user", {"consumers": ()}, id="no consumers"),
        pytest.param("single-user", {"registry": None}, id="no reports"),
    ],
)
def test_without_need_or_consumers_nothing_is_prepared(strategy: str, change: dict[str, object]):
    made = sandbox(strategy=strategy)
    for name, value in change.items():
        setattr(made, name, value)
    result = made.process().rotate(made.secret, rotation_id="another")
    assert result.published
    assert of_prepare(made) == []


def test_the_first_credential_is_not_prepared():
    """Nobody uses an earlier one."""
    assert of_prepare(sandbox()) == []


def test_a_policy_that_no_longer_prepares_goes_on():
    made = sandbox(PrepareThen.HOLD)
    made.engine.rotate(made.secret)
    made.policy = replace(made.policy, prepare=None)
    assert resume(made).outcome is Outcome.DONE
    assert made.backend.next(PATH) is None


def test_the_plan_names_whom_it_waits_for():
    made = sandbox()
    planned = [one.text for one in made.engine.plan(made.secret).steps if one.step is Step.PREPARE]
    expected = (
        "let consumers read it in main as the next version, and wait for 1 of web to have read it"
        " (at most 2m, then proceed)"
    )
    assert planned == [expected]


def test_the_engine_shows_who_has_read_it():
    made = sandbox(instances=2)
    assert made.engine.prepared(made.secret) is None
    made.engine.rotate(made.secret)
    prepared(made)
    verdict = made.engine.prepared(made.secret)
    assert verdict is not None
    assert [one.acknowledged for one in verdict.standings] == [1]
