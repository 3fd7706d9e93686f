"""Drives one rotation: decide, record the intent, act, record the result."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from rotator.core.errors import (
    CurrentRejected,
    InUse,
    RotatorError,
    StepError,
    Transient,
    Unavailable,
)
from rotator.core.history import fold_rotation, newest_step, text
from rotator.core.identifiers import new_id
from rotator.core.model import Event, Kind, NewEvent, Outcome, Step
from rotator.core.state_machine import (
    GAP,
    Direction,
    Finish,
    Run,
    WaitUntil,
    await_again,
    decide,
    drain_again,
    next_look,
    prepare_again,
    progress,
    waits_for,
)
from rotator.engine.checks import require_known
from rotator.engine.endings import ended, why_park
from rotator.engine.results import STOPPED, Result
from rotator.engine.rotation_request import requested
from rotator.engine.safety import after_failure, after_undo
from rotator.engine.steps import failure, wrap_plugin_errors

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from rotator.core.history import RotationRecord, SecretRecord
    from rotator.core.model import Json, Version
    from rotator.engine.delegated_requests import DelegatedRequest
    from rotator.engine.lock import LockedSecret
    from rotator.engine.steps import Steps

# A step that has less time than this, in seconds, is not begun.
_SHORTEST_STEP: Final = 2.0
# When what a step waits for is looked at again.
_LOOK_AGAIN: Final = {
    Step.DRAIN: drain_again,
    Step.PREPARE: prepare_again,
    Step.AWAIT: await_again,
}
# Errors that are not about the step: they end the call, and the history stays as it is.
_NOT_OF_A_STEP: Final = frozenset({"lock-lost", "journal", "journal-broken", "busy", "usage"})


@dataclass(slots=True, kw_only=True)
class _Course:
    """One rotation under way.

    `pending` holds events that are not committed yet: results share a commit with the next intent.
    Before any effect everything up to its intent is in the journal.
    """

    rotation_id: str
    steps: Steps
    history: list[Event] = field(default_factory=list["Event"])
    pending: list[NewEvent] = field(default_factory=list[NewEvent])
    error: RotatorError | None = None
    resumed: bool = False

    def write(self, locked: LockedSecret) -> None:
        """Commit what is pending."""
        self.history += locked.append(self.pending)
        self.pending = []

    def foreseen(self, now: datetime) -> list[Event]:
        """Return the history as it will be once everything is committed."""
        return [*self.history, *(_foresee(event, now) for event in self.pending)]

    def event(self, kind: Kind, step: Step) -> NewEvent:
        """Return an event about a step."""
        return NewEvent(kind=kind, rotation_id=self.rotation_id, step=step)


class Runner:
    """Drives the rotations of one locked secret."""

    def __init__(
        self,
        locked: LockedSecret,
        patience: timedelta = timedelta(0),
        *,
        at_once: bool = False,
        away: str | None = None,
    ) -> None:
        """`patience` is how long waits may last in all. `at_once`: do not wait for the next try of
        what failed before. `away`: a host that is known to be away, and is tried now.
        """
        self._locked: LockedSecret = locked
        self._patience_ends: datetime = locked.clock.now() + patience
        self._at_once: bool = at_once
        self._away: str | None = away
        self._more_candidates: bool = False

    # -- rotations -----------------------------------------------------------------------------

    def start(
        self,
        reason: str,
        rotation_id: str | None,
        record: SecretRecord | None,
        *,
        to: Step | None = None,
        more: bool = False,
        leak: Mapping[str, Json] | None = None,
    ) -> Result:
        """Begin a rotation and drive it as far as it gets. `record`: as the journal has it now.

        `to`: no further than the end of this step, unless it turns back. `more`: another candidate
        follows when the target refuses this one. `leak`: the incident that it is part of.
        """
        locked = self._locked
        self._more_candidates = more
        rotation_id = rotation_id or new_id(locked.engine.entropy)
        if leak is not None and record is not None:
            # Without the backend, which may be away: its leaked password is fenced all the same.
            first = requested(
                locked.secret,
                rotation_id,
                reason,
                old_version=record.version,
                old_login=record.login,
                leak=leak,
            )
            steps = locked.steps(rotation_id, record)
            return self._drive(_Course(rotation_id=rotation_id, steps=steps, pending=[first]), to)
        current = locked.backend.current(locked.secret.path)
        require_known(locked, record, current)
        first = requested(
            locked.secret,
            rotation_id,
            reason,
            old_version=current.id if current else None,
            old_login=current.credential.username if current else None,
            has_registry=locked.engine.registry is not None,
        )
        steps = locked.steps(rotation_id, record)
        steps.know_current(current)
        course = _Course(rotation_id=rotation_id, steps=steps, pending=[first])
        return self._drive(course, to)

    def request(
        self,
        reason: str,
        rotation_id: str | None,
        *,
        before: DelegatedRequest | None = None,
        noticed: Version | None = None,
    ) -> Result:
        """Begin a rotation that another system does, and drive it as far as it gets.

        `before`: the request that an older release wrote down and did not complete. `noticed`: what is
        served after a rotation that nobody requested.
        """
        locked, record = self._locked, self._locked.record()
        if before is not None:
            rotation_id, reason = before.id, reason or before.reason
            old_version, old_login = before.old_version, before.old_login
        elif noticed is not None and record is not None:
            old_version, old_login = record.version, record.login
        else:
            current = locked.backend.current(locked.secret.path)
            old_version = current.id if current else None
            old_login = current.credential.username if current else None
        rotation_id = rotation_id or new_id(locked.engine.entropy)
        first = requested(
            locked.secret,
            rotation_id,
            reason,
            old_version=old_version,
            old_login=old_login,
            delegated=True,
            noticed=None if noticed is None else noticed.id,
        )
        steps = locked.steps(rotation_id, record)
        return self._drive(_Course(rotation_id=rotation_id, steps=steps, pending=[first]))

    def drive(self, rotation_id: str, *, resumed: bool, to: Step | None = None) -> Result:
        """Go on with a rotation that has a history, as far as it gets; `to` as for `start`."""
        record = self._locked.record()
        history = self._locked.journal.history(rotation_id)
        steps = self._locked.steps(rotation_id, record)
        course = _Course(rotation_id=rotation_id, steps=steps, history=history, resumed=resumed)
        return self._drive(course, to)

    def end_earlier(self, rotation_id: str) -> Result:
        """End a rotation that another one is to follow: forward once it is published, else back."""
        locked = self._locked
        opened = locked.journal.rotation(rotation_id)
        if opened is not None:
            locked.unpark_if_parked(opened, "another rotation is asked for")
            if progress(locked.journal.history(rotation_id)).can_turn_back:
                data: dict[str, Json] = {
                    "reason": "another rotation is asked for",
                    "kind": "aborted",
                    "what": "another rotation was asked for before it was published",
                }
                kind = Kind.ROLLBACK_REQUESTED
                _ = locked.append([NewEvent(kind=kind, rotation_id=rotation_id, data=data)])
        return self.drive(rotation_id, resumed=True)

    def park_if_exhausted(self, result: Result) -> Result:
        """Park the secret when its failures call for an operator."""
        if result.outcome is not Outcome.UNDONE or result.error is None or result.parked:
            return result
        record, error = self._locked.record(), result.error
        failures = record.failures if record else 0
        reason = why_park(self._locked.secret.policy, error.kind, error.what, failures)
        if reason is None:
            return result
        _ = self._locked.park(None, reason, hint=error.hint)
        return replace(result, parked=True)

    # -- the loop ------------------------------------------------------------------------------

    def _drive(self, course: _Course, to: Step | None = None) -> Result:
        """Decide, record, act, record, until nothing more can be done now."""
        while True:
            result = self._go_on(course, to)
            if result is not None:
                return result

    def _go_on(self, course: _Course, to: Step | None) -> Result | None:
        """Do the next thing; return what the call has reached, None where more can be done now."""
        locked = self._locked
        # A result must be in the history before the next decision; when that decision is to run
        # a step, the two share one commit.
        foreseen = course.foreseen(locked.clock.now())
        policy = locked.secret.policy
        decision = decide(foreseen, locked.clock.now(), policy, at_once=self._at_once)
        match decision:
            case Run(step=step) if _has_reached(foreseen, to) or self._time_is_up(foreseen, step):
                course.write(locked)
                course.error = course.error or self._too_late(course.history, step, to)
                return self._result(course)
            case Run() if locked.engine.should_stop():
                if not course.history:  # not even its request is written
                    return Result(secret=locked.name, waiting=STOPPED, stopped=True)
                course.write(locked)
                return self._stopped(course)
            case Run(step=Step.DRAIN | Step.PREPARE | Step.AWAIT as step, end_sessions=False) if (
                waited := progress(foreseen).waited
            ) is not None:
                return self._look_again(course, step, waited)
            case Run(step=step, end_sessions=end_sessions):
                self._step(course, step, end_sessions=end_sessions)
                return None
            case WaitUntil():
                course.write(locked)
                return self._wait(course, decision)
            case Finish():
                return self._finish(course, decision)

    def _look_again(self, course: _Course, step: Step, waited: Event) -> Result | None:
        """Look again at what the step waits for; only where the answer is new, record a look."""
        locked = self._locked
        course.write(locked)
        locked.renew()
        locked.allow(course.steps)
        self._act(course, step)
        (found,), course.pending = course.pending, []
        if found.kind is not Kind.WAITING or not _same_wait(waited.data, found.data):
            self._step(course, step)
            return None
        at = _LOOK_AGAIN[step](course.history, locked.clock.now(), locked.secret.policy)
        return self._wait_until(course, at, waits_for(waited))

    def _wait(self, course: _Course, decision: WaitUntil) -> Result | None:
        at = decision.at
        if decision.until_acknowledged:
            ready, at = self._consumers_ready(course, at)
            if ready is not None:
                course.pending = [ready]
                return None
        return self._wait_until(course, at, decision.why)

    def _wait_until(self, course: _Course, at: datetime, why: str) -> Result | None:
        # A host that is away is not waited for here: the caller tries again later.
        if at > self._patience_ends or isinstance(course.error, Unavailable):
            return self._result(course, until=at, waiting=why)
        if self._locked.engine.should_stop():
            return self._stopped(course)
        if progress(course.history).delegated:
            # Whoever rotates may keep the same journal; what it has written is read again.
            self._locked.pause(at)
            course.history = self._locked.journal.history(course.rotation_id)
        else:
            self._locked.wait(at)
        return None

    def _consumers_ready(self, course: _Course, ends: datetime) -> tuple[NewEvent | None, datetime]:
        """Return the event that ends the grace period early, or None and when to look again."""
        locked = self._locked
        now = locked.clock.now()
        pivot = progress(course.history).pivot_at or now
        again = min(ends, next_look(pivot, now, locked.secret.policy))
        locked.renew()
        locked.allow(course.steps)
        step = Step.DRAIN.value
        try:
            with wrap_plugin_errors(locked.log, locked.name, course.rotation_id, step):
                verdict = course.steps.verdict_of(course.history)
        except StepError as error:
            # While it cannot be told, the grace period ends by the clock.
            locked.log.debug("consumers", secret=locked.name, what=error.what)
            return None, again
        if verdict is None:  # nobody can end it
            return None, ends
        if not verdict.is_settled:
            return None, again
        data = {"consumers": verdict.facts()}
        return NewEvent(kind=Kind.CONSUMERS_READY, rotation_id=course.rotation_id, data=data), ends

    def _finish(self, course: _Course, finish: Finish) -> Result:
        """Record the end of a rotation, or that an operator must look."""
        locked, cause = self._locked, finish.cause
        if finish.outcome is Outcome.PARKED:
            course.write(locked)
            if progress(course.history).parked is None:
                reason = text(cause.data, "what") if cause else None
                hint = text(cause.data, "hint") if cause else None
                reason = reason or "its retries are used up"
                course.history += locked.park(course.rotation_id, reason, hint=hint or "")
            return self._result(course)
        foreseen = course.foreseen(locked.clock.now())
        if progress(course.history).outcome is None:
            more = self._more_candidates
            end = ended(
                locked, course.rotation_id, finish.outcome, cause, foreseen, more_candidates=more
            )
            course.pending.append(end)
            course.write(locked)
        if finish.outcome is not Outcome.UNDONE:
            # What failed on the way was mended on the way.
            course.error = None
        elif cause is not None and cause.kind is Kind.FAILED:
            course.error = failure(cause)
            course.error.safety = after_undo(course.history)
        return self._result(course)

    def _time_is_up(self, history: list[Event], step: Step) -> bool:
        needed = _SHORTEST_STEP
        if not progress(history).overlaps and step in GAP:
            # Between them nobody can log in: what is begun there is ended, up to the last second.
            needed = _SHORTEST_STEP * len(GAP) if step is Step.CREATE else 0.0
        return self._locked.clock.monotonic() + needed > self._locked.ends

    def _too_late(self, history: list[Event], step: Step, to: Step | None) -> RotatorError | None:
        """Return the error of a call that runs out of time; None when it has reached its last step."""
        if _has_reached(history, to):
            return None
        late = Transient(f"there is no time left for step {step.value}.")
        late.secret, late.step, late.safety = (
            self._locked.name,
            step.value,
            after_failure(history, step, self._locked.clock.now()),
        )
        return late

    def _step(self, course: _Course, step: Step, *, end_sessions: bool = False) -> None:
        """Record the intent to run a step, and run it."""
        course.pending.append(course.event(Kind.STARTED, step))
        course.write(self._locked)
        self._locked.allow(course.steps)
        self._act(course, step, end_sessions=end_sessions)

    def _act(self, course: _Course, step: Step, *, end_sessions: bool = False) -> None:
        """Run one step; what records its result becomes the one pending event."""
        # A step that failed and then succeeded leaves no error to report.
        event, course.error = self._ran(
            course.steps, course.history, step, end_sessions=end_sessions
        )
        course.pending = [event]
        self._at_once = False

    def _ran(
        self, steps: Steps, history: list[Event], step: Step, *, end_sessions: bool
    ) -> tuple[NewEvent, RotatorError | None]:
        """Run one step; return the event that records its result, and the error if it failed."""
        begun = self._locked.clock.monotonic()
        facts: dict[str, object] = {
            "secret": self._locked.name,
            "rotation_id": history[-1].rotation_id,
            "step": step.value,
        }
        try:
            data = steps.run(step, history, end_sessions=end_sessions)
        except InUse as busy:
            seconds = round(self._locked.clock.monotonic() - begun, 4)
            self._locked.log.info("waiting", **facts, seconds=seconds, sessions=len(busy.sessions))
            sessions: list[Json] = [
                {
                    "login": session.login,
                    "client": session.client,
                    "application": session.application,
                    "since": session.since.isoformat() if session.since else None,
                }
                for session in busy.sessions
            ]
            waiting: dict[str, Json] = {"what": busy.what, "sessions": sessions, "seconds": seconds}
            waiting |= {"consumers": busy.consumers} if busy.consumers is not None else {}
            waiting |= {"hint": busy.hint} if busy.hint or busy.consumers is not None else {}
            return self._event(Kind.WAITING, history, step, waiting), None
        except RotatorError as raised:
            error = self._known_away(raised)
            seconds = round(self._locked.clock.monotonic() - begun, 4)
            error.secret, error.step = self._locked.name, step.value
            stated = bool(error.safety)
            error.safety = error.safety or after_failure(history, step, self._locked.clock.now())
            # An absent host is logged once, where its absence begins.
            log = (
                self._locked.log.debug
                if error.kind == Unavailable.kind
                else self._locked.log.warning
            )
            log("failed", **facts, seconds=seconds, kind=error.kind, what=error.what)
            if error.kind in _NOT_OF_A_STEP:
                raise
            failed: dict[str, Json] = {
                "kind": error.kind,
                "what": error.what,
                "hint": error.hint,
                "safety": error.safety,
                "origin": error.origin,
                "seconds": seconds,
                # Stated by the raiser, who saw it; else derived from the history.
                **({"stated": True} if stated else {}),
                **({"current_accepted": False} if isinstance(error, CurrentRejected) else {}),
            }
            return self._event(Kind.FAILED, history, step, failed), error
        seconds = round(self._locked.clock.monotonic() - begun, 4)
        self._locked.log.info("finished", **facts, seconds=seconds)
        return self._event(Kind.FINISHED, history, step, {**data, "seconds": seconds}), None

    def _known_away(self, error: RotatorError) -> RotatorError:
        """Return a transient error of a host that was away before, and still is, as `Unavailable`."""
        host = self._away
        if host is None or error.origin != host or error.kind != Transient.kind:
            return error
        if host in self._locked.contacts.answered:
            return error
        away = Unavailable(error.what, hint=error.hint, safety=error.safety)
        away.origin = error.origin
        return away

    @staticmethod
    def _event(kind: Kind, history: list[Event], step: Step, data: dict[str, Json]) -> NewEvent:
        return NewEvent(kind=kind, rotation_id=history[-1].rotation_id, step=step, data=data)

    def _stopped(self, course: _Course) -> Result:
        result = self._result(course, until=self._locked.clock.now(), waiting=STOPPED)
        return replace(result, stopped=True)

    def _result(
        self, course: _Course, *, until: datetime | None = None, waiting: str = ""
    ) -> Result:
        history, error = course.history, course.error
        record: RotationRecord | None = None
        for event in history:
            record = fold_rotation(record, event)
        state = progress(history)
        parked = state.parked is not None and state.outcome is None
        if parked and error is None and state.parked is not None:
            error = failure(state.parked)
        last = newest_step(history)
        return Result(
            secret=self._locked.name,
            rotation_id=course.rotation_id,
            outcome=Outcome.PARKED if parked else state.outcome,
            until=until,
            waiting=waiting,
            step=last.step if last else None,
            login=record.new_login if record else None,
            old_login=record.old_login if record else None,
            version=record.new_version if record else None,
            published=state.published,
            old_refused=record.old_refused if record else None,
            parked=parked,
            resumed=course.resumed,
            rolling_back=state.direction is Direction.ROLLBACK,
            untried=_untried(history),
            by=self._locked.secret.backend_name if state.delegated else "",
            answered=frozenset(self._locked.contacts.answered),
            worked=frozenset(self._locked.contacts.worked),
            error=error,
        )


def _has_reached(history: list[Event], to: Step | None) -> bool:
    """Return whether a rotation that goes forward has this step behind it."""
    if to is None:
        return False
    state = progress(history)
    return state.direction is Direction.FORWARD and to in state.done


def _same_wait(before: Mapping[str, Json], after: Mapping[str, Json]) -> bool:
    """Return whether two looks found the same: nothing that an operator would want to know differs."""
    return _waited_for(before) == _waited_for(after)


def _waited_for(data: Mapping[str, Json]) -> object:
    sessions = data.get("sessions")
    listed = sessions if isinstance(sessions, list | tuple) else ()
    kept = ("login", "client", "application")
    used = {tuple(one.get(key) for key in kept) for one in listed if isinstance(one, dict)}
    consumers = data.get("consumers")
    if not isinstance(consumers, dict):
        return used, None, False
    return used, consumers.get("consumers"), consumers.get("held")


def _foresee(event: NewEvent, now: datetime) -> Event:
    """Return the event as it will be once it is written, for the next decision."""
    return Event(
        secret="",
        seq=0,
        at=now,
        actor="",
        fence=0,
        kind=event.kind,
        rotation_id=event.rotation_id,
        step=event.step,
        data=event.data,
        prev_hash="",
        hash="",
    )


def _untried(history: list[Event]) -> str:
    """Return why the old credential was not tried after its revoke; empty where it was."""
    for event in reversed(history):
        if event.kind is Kind.FINISHED and event.step is Step.REVOKE:
            return text(event.data, "untried") or ""
    return ""
