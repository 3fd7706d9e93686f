"""A call that should stop ends between two steps, and a later call goes on there."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from rotator.core.model import Kind, Outcome, Policy, Step
from rotator.engine import Engine, ManagedSecret
from rotator.testing.fake_backend import FakeBackend
from rotator.testing.fake_journal import MemoryJournal
from rotator.testing.fake_rotations import fake_rotation
from rotator.testing.fake_target import FakeTarget
from rotator.testing.fakes import ListLog, ManualClock, SeededEntropy

if TYPE_CHECKING:
    from rotator.core.model import Event

_PATIENT = timedelta(days=1)


class _Sandbox:
    """An engine that should stop once `stop_after` has been seen."""

    def __init__(self, stop_after: Step | None = None, grace: timedelta = timedelta(0)) -> None:
        self.clock, backend = ManualClock(), FakeBackend()
        self.stop_after = stop_after
        self.stops = False
        self.events: list[Event] = []
        self.journal = MemoryJournal(clock=self.clock)
        self.engine = Engine(
            journal=self.journal,
            clock=self.clock,
            entropy=SeededEntropy(),
            log=ListLog(),
            holder=lambda: "test",
            observer=self.events.append,
            should_stop=self.should_stop,
        )
        self.secret = ManagedSecret(
            name="app",
            path="app",
            backend_name="vault",
            backend=backend,
            target_name="db",
            rotation=fake_rotation("new-user", FakeTarget(stored=backend.holds)),
            plugin="fake",
            strategy="new-user",
            policy=Policy(grace=grace),
        )

    def should_stop(self) -> bool:
        started = [event.step for event in self.events if event.kind is Kind.STARTED]
        return self.stops or (self.stop_after is not None and started[-1:] == [self.stop_after])

    def finished(self) -> list[Step | None]:
        return [event.step for event in self.events if event.kind is Kind.FINISHED]


@pytest.mark.parametrize("step", [Step.STAGE, Step.CREATE, Step.VERIFY])
def test_a_call_ends_after_the_step_that_was_running(step: Step):
    """Its result is recorded, the next step is not begun, and the rotation waits."""
    sandbox = _Sandbox(stop_after=step)
    result = sandbox.engine.rotate(sandbox.secret)
    assert result.stopped
    assert result.outcome is None
    assert result.until == sandbox.clock.now()
    assert sandbox.events[-1].kind is Kind.FINISHED
    assert sandbox.events[-1].step is step


def test_a_later_call_goes_on_where_an_earlier_one_stopped():
    """No step runs twice."""
    sandbox = _Sandbox(stop_after=Step.CREATE)
    stopped = sandbox.engine.rotate(sandbox.secret)
    sandbox.stop_after = None
    result = sandbox.engine.resume(sandbox.secret)
    assert result is not None
    assert result.outcome is Outcome.DONE
    assert result.rotation_id == stopped.rotation_id
    assert len(sandbox.finished()) == len(set(sandbox.finished()))


def test_a_call_that_should_stop_at_once_begins_no_rotation():
    """Nothing is written, so nothing is left open."""
    sandbox = _Sandbox()
    sandbox.stops = True
    result = sandbox.engine.rotate(sandbox.secret)
    assert result.stopped
    assert result.rotation_id is None
    assert sandbox.events == []


def test_a_wait_ends_when_the_call_should_stop():
    """The grace period of an hour is not waited for."""
    sandbox = _Sandbox(grace=timedelta(hours=1))
    assert sandbox.engine.rotate(sandbox.secret).outcome is Outcome.DONE
    sandbox.events.clear()
    sandbox.stop_after = Step.PUBLISH
    begun = sandbox.clock.now()
    result = sandbox.engine.rotate(sandbox.secret, patience=_PATIENT)
    assert result.published
    assert result.stopped
    assert sandbox.clock.now() - begun < timedelta(minutes=1)


def test_a_rotation_that_has_ended_is_not_reported_as_stopped():
    """After the last step nothing is left to stop."""
    sandbox = _Sandbox(stop_after=Step.PUBLISH)
    result = sandbox.engine.rotate(sandbox.secret)
    assert result.outcome is Outcome.DONE
    assert not result.stopped


def test_a_stopped_call_releases_its_lease():
    """Another process goes on at once."""
    sandbox = _Sandbox(stop_after=Step.STAGE)
    assert sandbox.engine.rotate(sandbox.secret).stopped
    lock = sandbox.journal.acquire("app", "another", _PATIENT)
    assert lock.holder == "another"
