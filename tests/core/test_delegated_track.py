"""What `decide` answers where another system rotates: a table of histories, and what holds of every one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rotator.core.errors import (
    Conflict,
    Denied,
    Refused,
    Transient,
    Unavailable,
    Unknown,
    Unprovable,
)
from rotator.core.model import Event, Kind, Outcome, Policy, Step
from rotator.core.state_machine import DELEGATED, Finish, Run, WaitUntil, decide, progress
from rotator.testing.fakes import START
from tests.rotation_events import step_event

if TYPE_CHECKING:
    from rotator.core.model import Json

_POLICY: Final = Policy(
    attempts=2,
    cycles=2,
    backoff=timedelta(seconds=4),
    backoff_cap=timedelta(seconds=60),
    step_timeout=timedelta(seconds=30),
    proposals=2,
)
_QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def _asked(*, first: bool = False, **more: Json) -> list[Event]:
    old: dict[str, Json] = {} if first else {"old_version": "1", "old_login": "app"}
    return [step_event(Kind.REQUESTED, delegated=True, overlaps=False, **old, **more)]


def _noticed() -> list[Event]:
    return _asked(noticed="2")


def _started(step: Step) -> list[Event]:
    return [step_event(Kind.STARTED, step)]


def _done(*steps: Step) -> list[Event]:
    return [one for step in steps for one in (*_started(step), step_event(Kind.FINISHED, step))]


def _failed(step: Step, error: Any, times: int = 1) -> list[Event]:
    facts = {"kind": error.kind, "what": "why", "origin": "backend vault"}
    return [*_started(step), step_event(Kind.FAILED, step, **facts)] * times


def _waiting() -> list[Event]:
    return [*_started(Step.AWAIT), step_event(Kind.WAITING, Step.AWAIT, what="it was asked.")]


def _until(step: Step) -> list[Event]:
    return [*_asked(), *_done(*DELEGATED[: DELEGATED.index(step)])]


def _rejected(times: int = 1) -> list[Event]:
    once = [*_done(Step.REQUEST, Step.AWAIT), *_failed(Step.PROVE, Refused)]
    return [*_asked(), *_done(Step.CHECK), *once * times]


def _parked() -> list[Event]:
    return [step_event(Kind.PARKED, reason="why")]


def _unparked() -> list[Event]:
    return [step_event(Kind.UNPARKED)]


_RETRY: Final = (3, 5, "waiting to try again")
# After how many seconds a rotation that does not end is requested again.
_AGAIN: Final = 60
_TABLE: Final[dict[str, tuple[list[Event], object, dict[str, Any]]]] = {
    "it begins with a check": (_asked(), Step.CHECK, {}),
    "request follows check": (_until(Step.REQUEST), Step.REQUEST, {}),
    "await follows request": (_until(Step.AWAIT), Step.AWAIT, {}),
    "prove follows await": (_until(Step.PROVE), Step.PROVE, {}),
    "revoke follows prove, without a grace period": (_until(Step.REVOKE), Step.REVOKE, {}),
    "a revoke ends it": ([*_until(Step.REVOKE), *_done(Step.REVOKE)], Outcome.DONE, {}),
    "the first credential has no one before it": (
        [*_asked(first=True), *_done(*DELEGATED[:4])],
        Outcome.DONE,
        {},
    ),
    "what was noticed is only proven": (_noticed(), Step.PROVE, {}),
    "what was noticed and is proven is done": (
        [*_noticed(), *_done(Step.PROVE)],
        Outcome.DONE,
        {},
    ),
    "what was noticed and is rejected is requested": (
        [*_noticed(), *_failed(Step.PROVE, Refused)],
        Step.REQUEST,
        {},
    ),
    # Failures.
    "a check that fails is tried again": (
        [*_asked(), *_failed(Step.CHECK, Transient)],
        _RETRY,
        {},
    ),
    "a check that goes on failing changes nothing": (
        [*_asked(), *_failed(Step.CHECK, Transient, 2)],
        Outcome.UNDONE,
        {},
    ),
    "a check that cannot prove anything changes nothing": (
        [*_asked(), *_failed(Step.CHECK, Unprovable)],
        Outcome.UNDONE,
        {},
    ),
    "a request that was denied has changed nothing": (
        [*_until(Step.REQUEST), *_failed(Step.REQUEST, Denied)],
        Outcome.UNDONE,
        {},
    ),
    "a request that fails is made again": (
        [*_until(Step.REQUEST), *_failed(Step.REQUEST, Transient)],
        _RETRY,
        {},
    ),
    "a request that goes on failing is parked, because it may have been heard": (
        [*_until(Step.REQUEST), *_failed(Step.REQUEST, Transient, 4)],
        Outcome.PARKED,
        {},
    ),
    "a request whose answer was lost is not taken back when the next one is denied": (
        [
            *_until(Step.REQUEST),
            *_failed(Step.REQUEST, Unknown),
            *_failed(Step.REQUEST, Denied),
        ],
        Outcome.PARKED,
        {},
    ),
    "a request that was cut off is not taken back when the next one is denied": (
        [*_until(Step.REQUEST), *_started(Step.REQUEST), *_failed(Step.REQUEST, Denied)],
        Outcome.PARKED,
        {},
    ),
    "a request that was cut off is made again": (
        [*_until(Step.REQUEST), *_started(Step.REQUEST)],
        Step.REQUEST,
        {},
    ),
    "an unavailable backend uses up no retries": (
        [*_until(Step.REQUEST), *_failed(Step.REQUEST, Unavailable, 50)],
        (45, 75, "waiting for backend vault"),
        {},
    ),
    "a proof that goes on failing is parked": (
        [*_until(Step.PROVE), *_failed(Step.PROVE, Transient, 4)],
        Outcome.PARKED,
        {},
    ),
    "an old credential that is still accepted is parked": (
        [*_until(Step.REVOKE), *_failed(Step.REVOKE, Unprovable)],
        Outcome.PARKED,
        {},
    ),
    # Waiting.
    "a rotation that has not ended is looked at": (
        [*_until(Step.AWAIT), *_waiting()],
        Step.AWAIT,
        {"at": _AGAIN - 1},
    ),
    "a rotation that does not end is requested again": (
        [*_until(Step.AWAIT), *_waiting()],
        Step.REQUEST,
        {"at": _AGAIN},
    ),
    "an operator has it requested again at once": (
        [*_until(Step.AWAIT), *_waiting()],
        Step.REQUEST,
        {"at_once": True},
    ),
    "a second request that fails has its own backoff": (
        [*_until(Step.AWAIT), *_waiting(), *_failed(Step.REQUEST, Transient)],
        _RETRY,
        {},
    ),
    "a rotation that was requested four times in vain is parked": (
        [*_until(Step.AWAIT), *(_waiting() + _done(Step.REQUEST)) * 3, *_waiting()],
        Outcome.PARKED,
        {"at": _AGAIN},
    ),
    "and is looked at once it is unparked": (
        [
            *_until(Step.AWAIT),
            *(_waiting() + _done(Step.REQUEST)) * 3,
            *(*_waiting(), *_parked(), *_unparked()),
        ],
        Step.AWAIT,
        {"at": _AGAIN},
    ),
    # Rejections.
    "what the target rejects is requested again": (_rejected(), Step.REQUEST, {}),
    "what was requested again is awaited": (
        [*_rejected(), *_done(Step.REQUEST)],
        Step.AWAIT,
        {},
    ),
    "what the target goes on rejecting is parked": (_rejected(2), Outcome.PARKED, {}),
    "and is requested again once it is unparked": (
        [*_rejected(2), *_parked(), *_unparked()],
        Step.REQUEST,
        {},
    ),
    "a request after a rejection cannot be taken back": (
        [*_rejected(), *_failed(Step.REQUEST, Denied)],
        Outcome.PARKED,
        {},
    ),
    # Operators.
    "a version that somebody has taken over is proven": (
        [*_until(Step.AWAIT), *_waiting(), step_event(Kind.ADOPTED, version="7")],
        Step.PROVE,
        {},
    ),
    "the version from before that somebody takes over ends nothing": (
        [*_until(Step.AWAIT), step_event(Kind.ADOPTED, version="1")],
        Step.AWAIT,
        {},
    ),
    "what was not requested yet can be called off": (
        [*_until(Step.REQUEST), step_event(Kind.ROLLBACK_REQUESTED)],
        Outcome.UNDONE,
        {},
    ),
    "what was requested cannot be called off": (
        [*_until(Step.AWAIT), step_event(Kind.ROLLBACK_REQUESTED)],
        Step.AWAIT,
        {},
    ),
    "what is proven cannot be rolled back, also where old and new overlap": (
        [
            step_event(Kind.REQUESTED, delegated=True, overlaps=True, old_version="1"),
            *_done(*DELEGATED[:4]),
            step_event(Kind.ROLLBACK_REQUESTED),
        ],
        Step.REVOKE,
        {},
    ),
}


@pytest.mark.parametrize("sentence", list(_TABLE))
def test_the_machine_decides_for_another_system(sentence: str):
    """Each row is a sentence."""
    history, expected, when = _TABLE[sentence]
    now = START + timedelta(seconds=when.get("at", 0))
    decision = decide(history, now, _POLICY, at_once=when.get("at_once", False))
    match decision:
        case Run():
            assert decision == Run(step=expected)  # pyright: ignore[reportArgumentType]
        case Finish(outcome=outcome):
            assert outcome is expected
        case WaitUntil(at=at, why=why):
            assert isinstance(expected, tuple), f"{decision}, not {expected}"
            low, high, reason = expected
            assert why == reason
            assert low <= (at - START).total_seconds() <= high


def test_a_rotation_that_was_noticed_is_as_old_as_the_owner_says():
    """Its next due date counts from then."""
    at = START - timedelta(hours=1)
    history = [*_noticed(), step_event(Kind.FINISHED, Step.PROVE, rotated_at=at.isoformat())]
    assert progress(history).pivot_at == at


# -- properties of simulated histories -------------------------------------------------------------

_ANSWERS: Final = (
    *("success", "transient", "unavailable", "refused", "denied", "conflict", "waits"),
    *("unknown, without the effect", "unknown, with the effect"),
    *("crash before the effect", "crash after the effect"),
)
_ERRORS: Final = {
    one.kind: one for one in (Transient, Unavailable, Refused, Denied, Conflict, Unknown)
}


@dataclass(slots=True, kw_only=True)
class _Simulation:
    """A rotation whose steps answer by a script; afterwards everything succeeds."""

    history: list[Event]
    script: dict[int, str]
    now: datetime = START
    # Whether the other system was reached, whatever came back.
    requested: bool = False
    done: set[Step] = field(default_factory=set[Step])

    def write(self, of: Kind, step: Step | None = None, /, **data: Json) -> None:
        self.history.append(replace(step_event(of, step, **data), at=self.now))

    def live(self) -> Outcome:
        """Follow the script to the end of the rotation; return how it ended."""
        for number in range(400):
            match decide(self.history, self.now, _POLICY):
                case Run(step=step):
                    self._require_order(step)
                    self._run(step, self.script.get(number, "success"))
                case WaitUntil(at=at):
                    assert at > self.now, "a wait that is over is no wait"
                    self.now = at
                case Finish(outcome=outcome):
                    return outcome
        return pytest.fail("it does not end")

    def _require_order(self, step: Step) -> None:
        assert step in DELEGATED
        before = {Step.AWAIT: Step.REQUEST, Step.PROVE: Step.AWAIT, Step.REVOKE: Step.PROVE}
        assert before.get(step) in (None, *self.done), f"{step.value} too early"
        if step is Step.REQUEST:
            assert Step.CHECK in self.done, "nothing could be proven"
            assert Step.PROVE not in self.done, "requested although it is proven"

    def _run(self, step: Step, answer: str) -> None:
        self.write(Kind.STARTED, step)
        if answer in ("success", "unknown, with the effect", "crash after the effect"):
            self.requested = self.requested or step is Step.REQUEST
        if answer.startswith("crash"):
            return
        if answer == "waits" and step is Step.AWAIT:
            self.write(Kind.WAITING, step, what="it was asked.")
            self.now += timedelta(seconds=61)
        elif answer in ("success", "waits"):
            self.requested = self.requested or step is Step.REQUEST
            self.done.add(step)
            self.write(Kind.FINISHED, step)
        else:
            error = _ERRORS[answer.split(",", maxsplit=1)[0]]
            if step is Step.PROVE and error is Refused:
                self.done -= {Step.REQUEST, Step.AWAIT}
            self.write(Kind.FAILED, step, kind=error.kind, what="why", origin="backend vault")


@_QUICK
@given(script=st.dictionaries(st.integers(0, 15), st.sampled_from(_ANSWERS), max_size=8))
def test_every_rotation_of_another_system_ends(script: dict[int, str]):
    """Nothing is requested before a check, and what was requested is never called undone."""
    simulation = _Simulation(history=_asked(), script=script)
    outcome = simulation.live()
    assert outcome in (Outcome.DONE, Outcome.UNDONE, Outcome.PARKED)
    if outcome is Outcome.DONE:
        assert Step.PROVE in simulation.done
    if outcome is Outcome.UNDONE:
        assert not simulation.requested


@_QUICK
@given(
    step=st.sampled_from(DELEGATED),
    answer=st.sampled_from(["transient", "refused", "denied", "waits", "unknown, with the effect"]),
)
def test_a_step_of_another_system_that_never_succeeds_ends(step: Step, answer: str):
    """Requests are limited too: nobody is asked for ever."""
    simulation = _Simulation(history=_asked(), script={})
    for _ in range(100):
        match decide(simulation.history, simulation.now, _POLICY):
            case Run(step=decided):
                simulation._run(decided, answer if decided is step else "success")
            case WaitUntil(at=at):
                simulation.now = at
            case Finish(outcome=outcome):
                waits = answer == "waits" and step is not Step.AWAIT
                assert (outcome is Outcome.DONE) is waits
                return
    pytest.fail("it does not end")
