"""One engine at work on one secret: record the intent, act, record the result."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import timedelta
from math import inf
from shlex import quote
from typing import TYPE_CHECKING, Final

from rotator.core.errors import (
    RETRIED,
    Conflict,
    CurrentRejected,
    InUse,
    Refused,
    RotatorError,
    Transient,
    Unavailable,
    UsageError,
)
from rotator.core.history import fold_rotation, moment, newest_step, text
from rotator.core.identifiers import new_id
from rotator.core.model import UNEXPLAINED, Credential, Event, Kind, NewEvent, Outcome, Step
from rotator.core.ports import KeepsPrevious, TakesTurns
from rotator.core.schedule import as_data, next_due, retry_data, retry_due
from rotator.core.state_machine import GAP, Direction, Finish, Run, WaitUntil, decide, progress
from rotator.engine.copies import same
from rotator.engine.error_origin import Contacts, tag_errors
from rotator.engine.results import Health, Result, UnprovenSecond
from rotator.engine.safety import after_failure, after_undo
from rotator.engine.steps import ManagedSecret, Steps, failure, made_current

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from rotator.core.history import RotationRecord, SecretRecord
    from rotator.core.model import Json, Lease, Version
    from rotator.core.ports import Clock, Entropy, Journal, Log, SecretBackend
    from rotator.engine.results import Second

# How long a lease outlives the deadline of the step that renewed it.
_LEASE_MARGIN: Final = timedelta(seconds=30)
# A step that has less time than this, in seconds, is not begun.
_SHORTEST_STEP: Final = 2.0
# Errors that are not about the step: they end the call, and the history stays as it is.
_NOT_OF_A_STEP: Final = frozenset({"lease-lost", "journal", "journal-broken", "busy", "usage"})


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineContext:
    """What an engine works with: the ports, and what it has learnt in this process."""

    journal: Journal
    clock: Clock
    entropy: Entropy
    log: Log
    holder: Callable[[], str]
    observer: Callable[[Event], None]
    controlled: set[str]


class Runner:
    """One engine at work on one secret, under one lease."""

    def __init__(
        self,
        context: EngineContext,
        secret: ManagedSecret,
        patience: timedelta,
        *,
        ends: float | None = None,
        at_once: bool = False,
        away: str | None = None,
    ) -> None:
        """`patience` is how long waits may last in all. `ends`: when everything must be over, on the
        monotonic scale; no step is begun shortly before that. `at_once`: do not wait for the next
        try of what failed before. `away`: a host that is known to be away, and is tried now.
        """
        self._context: EngineContext = context
        self._journal: Journal = context.journal
        self._clock: Clock = context.clock
        self._log: Log = context.log
        self._secret: ManagedSecret = secret
        self._patience_ends: datetime = self._clock.now() + patience
        self._ttl: timedelta = secret.policy.step_timeout + _LEASE_MARGIN
        self._lease: Lease | None = None
        self._ends: float = inf if ends is None else ends
        self._at_once: bool = at_once
        self._away: str | None = away
        self._more_candidates: bool = False
        self.contacts: Contacts = Contacts()
        # When the lease was taken or renewed, read before: so that we stop before it ends.
        self._renewed: tuple[float, datetime] = self._clock.monotonic(), self._clock.now()

    def __enter__(self) -> Runner:
        self._renewed = self._clock.monotonic(), self._clock.now()
        try:
            holder = self._context.holder()
            self._lease = self._journal.acquire(self._secret.name, holder, self._ttl)
        except RotatorError as error:
            error.secret = error.secret or self._secret.name
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> None:
        if isinstance(error, RotatorError):
            error.secret = error.secret or self._secret.name
        if self._lease is not None:
            self._journal.release(self._lease)

    # -- rotations -----------------------------------------------------------------------------

    def start(
        self,
        reason: str,
        rotation_id: str | None,
        record: SecretRecord | None,
        *,
        to: Step | None = None,
        more: bool = False,
    ) -> Result:
        """Begin a rotation and drive it as far as it gets. `record`: as the journal has it now.

        `to`: no further than the end of this step, unless it turns back. `more`: another candidate
        follows when the target refuses this one.
        """
        secret = self._secret
        self._more_candidates = more
        current = self._marked_backend().current(secret.path)
        self._check_known(record, current)
        rotation_id = rotation_id or new_id(self._context.entropy)
        requested = NewEvent(
            kind=Kind.REQUESTED,
            rotation_id=rotation_id,
            data={
                "reason": reason,
                "plugin": secret.plugin,
                "strategy": secret.strategy,
                "overlaps": secret.rotation.overlaps,
                "target": secret.target_name,
                "backend": secret.backend_name,
                "path": secret.path,
                "old_version": current.id if current else None,
                "old_login": current.credential.username if current else None,
                **({"copies": [str(copy) for copy in secret.copies]} if secret.copies else {}),
                **({"entry": secret.entry} if secret.entry else {}),
            },
        )
        steps = self.steps(rotation_id, record)
        steps.know_current(current)
        return self._drive(rotation_id, [], [requested], steps, resumed=False, to=to)

    def drive(self, rotation_id: str, *, resumed: bool, to: Step | None = None) -> Result:
        """Go on with a rotation that has a history, as far as it gets; `to` as for `start`."""
        record = self._journal.secret(self._secret.name)
        history = self._journal.history(rotation_id)
        steps = self.steps(rotation_id, record)
        return self._drive(rotation_id, history, [], steps, resumed=resumed, to=to)

    def end_earlier(self, rotation_id: str) -> Result:
        """End a rotation that another one is to follow: forward once it is published, else back."""
        opened = self._journal.rotation(rotation_id)
        if opened is not None:
            self.unpark_if_parked(opened, "another rotation is asked for")
            if progress(self._journal.history(rotation_id)).can_turn_back:
                data: dict[str, Json] = {
                    "reason": "another rotation is asked for",
                    "kind": "aborted",
                    "what": "another rotation was asked for before it was published",
                }
                kind = Kind.ROLLBACK_REQUESTED
                _ = self.record(NewEvent(kind=kind, rotation_id=rotation_id, data=data))
        return self.drive(rotation_id, resumed=True)

    def park_if_exhausted(self, result: Result) -> Result:
        """Park the secret when its failures call for an operator."""
        if result.outcome is not Outcome.UNDONE or result.error is None or result.parked:
            return result
        record = self._journal.secret(self._secret.name)
        reason = self._why_park(
            result.error.kind, result.error.what, record.failures if record else 0
        )
        if reason is None:
            return result
        self.park(None, reason, hint=result.error.hint)
        return replace(result, parked=True)

    def _why_park(self, kind: str, what: str, failures: int) -> str | None:
        """Return why the secret is parked after `failures` undone rotations in a row; None if it is not."""
        if kind in ("denied", "current-rejected", "unprovable", "conflict"):
            return f"{kind}: {what}"
        if failures >= self._secret.policy.cycles and kind != Unavailable.kind:
            return f"{failures} rotations in a row failed; the last one: {what}"
        return None

    def _drive(
        self,
        rotation_id: str,
        history: list[Event],
        pending: list[NewEvent],
        steps: Steps,
        *,
        resumed: bool,
        to: Step | None = None,
    ) -> Result:
        """Decide, record, act, record, until nothing more can be done now.

        `pending` holds results that are not committed yet: they share a commit with the next
        intent. Before any effect everything up to its intent is in the journal.
        """
        error: RotatorError | None = None
        while True:
            # A result must be in the history before the next decision; when that decision is to run
            # a step, the two share one commit.
            foreseen = [*history, *(_foresee(event, self._clock.now()) for event in pending)]
            decision = decide(
                foreseen, self._clock.now(), self._secret.policy, at_once=self._at_once
            )
            match decision:
                case Run(step=step) if _has_got(foreseen, to) or self._time_is_up(foreseen, step):
                    history += self._append(pending)
                    error = error or self._too_late(history, step, to)
                    return self._result(rotation_id, history, error, resumed=resumed)
                case Run(step=step, end_sessions=end_sessions):
                    pending.append(NewEvent(kind=Kind.STARTED, rotation_id=rotation_id, step=step))
                    # Counted from before the lease was renewed, so that both end before it does.
                    begun, now = self._clock.monotonic(), self._clock.now()
                    history += self._append(pending)
                    timeout = self._secret.policy.step_timeout.total_seconds()
                    deadline = min(begun + timeout, self._ends)
                    steps.allow(deadline=deadline, lease_ends=now + self._ttl)
                    result, failed = self._act(steps, history, step, end_sessions=end_sessions)
                    self._at_once = False
                    # A step that failed and then succeeded has no error left to tell of.
                    error = failed
                    pending = [result]
                case WaitUntil(at=at, why=why):
                    history += self._append(pending)
                    pending = []
                    # A host that is away is not waited for here: whoever knows of it tries again.
                    if at > self._patience_ends or isinstance(error, Unavailable):
                        return self._result(
                            rotation_id, history, error, resumed=resumed, until=at, waiting=why
                        )
                    self._wait(at)
                case Finish(outcome=Outcome.PARKED, cause=cause):
                    history += self._append(pending)
                    if progress(history).parked is None:
                        reason = text(cause.data, "what") if cause else None
                        hint = text(cause.data, "hint") if cause else None
                        reason = reason or "its retries are used up"
                        history += self.park(rotation_id, reason, hint=hint or "")
                    return self._result(rotation_id, history, error, resumed=resumed)
                case Finish(outcome=outcome, cause=cause):
                    if progress(history).outcome is None:
                        pending.append(self._ended(rotation_id, outcome, cause, foreseen))
                        history += self._append(pending)
                    if outcome is not Outcome.UNDONE:
                        # What failed on the way was mended on the way.
                        error = None
                    elif cause is not None and cause.kind is Kind.FAILED:
                        error = failure(cause)
                        error.safety = after_undo(history)
                    return self._result(rotation_id, history, error, resumed=resumed)

    def _time_is_up(self, history: list[Event], step: Step) -> bool:
        needed = _SHORTEST_STEP
        if not progress(history).overlaps and step in GAP:
            # Between them nobody can log in: what is begun there is ended, to the last second.
            needed = _SHORTEST_STEP * len(GAP) if step is Step.CREATE else 0.0
        return self._clock.monotonic() + needed > self._ends

    def _too_late(self, history: list[Event], step: Step, to: Step | None) -> RotatorError | None:
        """Return the error of a call that ends before its time; None when it has got where it should."""
        if _has_got(history, to):
            return None
        late = Transient(f"there is no time left for step {step.value}.")
        late.secret, late.step, late.safety = (
            self._secret.name,
            step.value,
            after_failure(history, step, self._clock.now()),
        )
        return late

    def _act(
        self, steps: Steps, history: list[Event], step: Step, *, end_sessions: bool
    ) -> tuple[NewEvent, RotatorError | None]:
        """Run one step; return the event that says how it went, and the error if it did not."""
        begun = self._clock.monotonic()
        facts: dict[str, object] = {
            "secret": self._secret.name,
            "rotation_id": history[-1].rotation_id,
            "step": step.value,
        }
        try:
            data = steps.run(step, history, end_sessions=end_sessions)
        except InUse as busy:
            seconds = round(self._clock.monotonic() - begun, 4)
            self._log.info("waiting", **facts, seconds=seconds, sessions=len(busy.sessions))
            sessions: list[Json] = [
                {
                    "login": session.login,
                    "client": session.client,
                    "application": session.application,
                    "since": session.since.isoformat() if session.since else None,
                }
                for session in busy.sessions
            ]
            found: dict[str, Json] = {"what": busy.what, "sessions": sessions, "seconds": seconds}
            return self._event(Kind.WAITING, history, step, found), None
        except RotatorError as raised:
            error = self._known_away(raised)
            seconds = round(self._clock.monotonic() - begun, 4)
            error.secret, error.step = self._secret.name, step.value
            stated = bool(error.safety)
            error.safety = error.safety or after_failure(history, step, self._clock.now())
            # Of a host that is away one line tells, where that begins.
            log = self._log.debug if error.kind == Unavailable.kind else self._log.warning
            log("failed", **facts, seconds=seconds, kind=error.kind, what=error.what)
            if error.kind in _NOT_OF_A_STEP:
                raise
            said: dict[str, Json] = {
                "kind": error.kind,
                "what": error.what,
                "hint": error.hint,
                "safety": error.safety,
                "origin": error.origin,
                "seconds": seconds,
                # By who raised it, because it was seen, and not by what the history allows to say.
                **({"stated": True} if stated else {}),
                **({"current_accepted": False} if isinstance(error, CurrentRejected) else {}),
            }
            return self._event(Kind.FAILED, history, step, said), error
        seconds = round(self._clock.monotonic() - begun, 4)
        self._log.info("finished", **facts, seconds=seconds)
        return self._event(Kind.FINISHED, history, step, {**data, "seconds": seconds}), None

    def _known_away(self, error: RotatorError) -> RotatorError:
        """Take what a host answers that was away before, and still is, for a fault of the host."""
        host = self._away
        if host is None or error.origin != host or error.kind != Transient.kind:
            return error
        if host in self.contacts.answered:
            return error
        away = Unavailable(error.what, hint=error.hint, safety=error.safety)
        away.origin = error.origin
        return away

    @staticmethod
    def _event(kind: Kind, history: list[Event], step: Step, data: dict[str, Json]) -> NewEvent:
        return NewEvent(kind=kind, rotation_id=history[-1].rotation_id, step=step, data=data)

    def _ended(
        self, rotation_id: str, outcome: Outcome, cause: Event | None, history: list[Event]
    ) -> NewEvent:
        data: dict[str, Json] = {"outcome": outcome.value}
        if cause is not None:
            data["cause"] = text(cause.data, "kind")
            data["what"] = text(cause.data, "what")
        data |= self._due_after(outcome, history)
        if outcome is Outcome.UNDONE and cause is not None and cause.kind is Kind.FAILED:
            data |= self._after_undone(cause, history)
        return NewEvent(kind=Kind.ENDED, rotation_id=rotation_id, data=data)

    def _after_undone(self, cause: Event, history: list[Event]) -> dict[str, Json]:
        """Return whether this end counts as a failure of the secret, and what follows it."""
        kind, what = text(cause.data, "kind") or "", text(cause.data, "what") or ""
        if kind in RETRIED and (
            kind == Unavailable.kind or Step.CREATE not in progress(history).begun
        ):
            # The host was away, and nothing was changed there: that is no failure of this secret.
            return {"counts": False}
        record = self._journal.secret(self._secret.name)
        if kind == Refused.kind and self._more_candidates:
            return {"follows": "another candidate"}
        parks = self._why_park(kind, what, (record.failures if record else 0) + 1)
        return {"follows": "parked"} if parks is not None else {}

    def _due_after(self, outcome: Outcome, history: list[Event]) -> dict[str, Json]:
        """Return when the secret is due after this end, or is tried again; nothing leaves it as it is."""
        policy, name = self._secret.policy, self._secret.name
        record = self._journal.secret(name)
        if outcome is Outcome.ROLLED_BACK:
            # Due from the publication of the credential that is served again.
            return as_data(policy, next_due(policy, record.since if record else None, name))
        if outcome is not Outcome.UNDONE:
            return as_data(policy, next_due(policy, progress(history).pivot_at, name))
        if record is None or record.next_due is None:
            return {}
        # Not at once again, and not earlier than it was due.
        again = retry_due(policy, self._clock.now(), record.failures + 1, name)
        return {} if again is None else retry_data(max(again, record.next_due))

    def _result(
        self,
        rotation_id: str,
        history: list[Event],
        error: RotatorError | None,
        *,
        resumed: bool,
        until: datetime | None = None,
        waiting: str = "",
    ) -> Result:
        record: RotationRecord | None = None
        for event in history:
            record = fold_rotation(record, event)
        state = progress(history)
        parked = state.parked is not None and state.outcome is None
        if parked and error is None and state.parked is not None:
            error = failure(state.parked)
        last = newest_step(history)
        return Result(
            secret=self._secret.name,
            rotation_id=rotation_id,
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
            resumed=resumed,
            rolling_back=state.direction is Direction.ROLLBACK,
            untried=_untried(history),
            answered=frozenset(self.contacts.answered),
            worked=frozenset(self.contacts.worked),
            error=error,
        )

    # -- beside rotations ----------------------------------------------------------------------

    def adopt(
        self,
        first: Credential | None,
        opened: RotationRecord | None,
        second: Second,
        reason: str,
        made_at: datetime | None,
    ) -> Health:
        """Try the credential, then write down that it is ours now; so with the second of a pair."""
        secret = self._secret
        current = secret.backend.current(secret.path)
        if opened is not None:
            self._check_adoption(opened, current)
        if first is not None and current is not None and same(first, current.credential):
            # An earlier call was cut off after it had written it.
            first = None
        if first is not None and current is not None:
            what = (
                f"the backend already holds a credential for login {current.credential.username!r}."
            )
            raise UsageError(what, hint="Adopt it as it is, without giving another.")
        credential = first or (current.credential if current else None)
        if credential is None:
            what = f"the backend holds nothing at {secret.path!r}, so there is nothing to adopt."
            hint = "Give the login with --username and --password-from, or let `rotator rotate` create it."
            raise UsageError(what, hint=hint)
        record = self._journal.secret(secret.name)
        steps = self.steps("adopt", record)
        steps.copies.check(credential)
        steps.control(credential.username)
        if not secret.rotation.probe(credential, steps.context(credential)):
            given = "the password given" if first is not None else "what the backend holds"
            why = steps.rejection(credential)
            raise UsageError(
                f"the target rejects login {credential.username!r} with {given}{why.because}.",
                safety="Nothing was changed.",
                hint=why.hint or f"Correct the password, then: rotator adopt {secret.name}",
            )
        beside = self._beside(steps, credential, second, reason)
        rotation_id = None
        if first is not None:
            # The same id at each try: what an interrupted one left behind is found and replaced.
            rotation_id = hashlib.sha256(f"adopt {secret.name}".encode()).hexdigest()[:36]
            secret.backend.discard(secret.path, rotation_id)
            _ = secret.backend.stage(secret.path, rotation_id, first)
            version = secret.backend.publish(secret.path, rotation_id, expect=None)
            current = secret.backend.read(secret.path, version)
        if current is None:
            raise Conflict(f"what was written to {secret.path!r} could not be read back.")
        events, looked_at = list(beside), bool(beside)
        written_anew = self._written_anew(record, current) is not None
        if record is None or record.version != current.id or written_anew:
            age = self._age(None if written_anew else record, current, made_at)
            since = moment(age, "since") or self._clock.now()
            due = next_due(secret.policy, since, secret.name)
            data = {**self._taken_over(current, reason), **age, **as_data(secret.policy, due)}
            rotation_id = opened.id if opened else rotation_id
            events.append(NewEvent(kind=Kind.ADOPTED, rotation_id=rotation_id, data=data))
            looked_at = looked_at or opened is not None
        if looked_at and record is not None and record.parked is not None:
            rotation_id = opened.id if opened else None
            unparked: dict[str, Json] = {"reason": reason or "adopted"}
            events.append(NewEvent(kind=Kind.UNPARKED, rotation_id=rotation_id, data=unparked))
        _ = self.record_all(events)
        return Health(
            secret=secret.name,
            login=current.credential.username,
            version=current.id,
            accepted=True,
            known=True,
            recorded=True,
            second=next((str(one.data["login"]) for one in beside), None),
        )

    def _age(
        self, record: SecretRecord | None, current: Version, made_at: datetime | None
    ) -> dict[str, Json]:
        """Return since when the credential that is taken over has been in use, where that is known."""
        if made_at is not None:
            return {"rotated_at": made_at.isoformat(), "since": made_at.isoformat()}
        if record is None or record.version is None or record.since is None:
            return {}
        known = self._secret.backend.read(self._secret.path, record.version)
        if known is None or not same(known.credential, current.credential):
            return {}
        rotated_at = record.rotated_at.isoformat() if record.rotated_at else None
        return {"same": True, "rotated_at": rotated_at, "since": record.since.isoformat()}

    def _beside(
        self, steps: Steps, current: Credential, second: Second, reason: str
    ) -> list[NewEvent]:
        """Return the adoption of the second login of a pair, where it exists and is not ours yet.

        Who hands it over knows its password, or names it and says why. Raises `UnprovenSecond`.
        """
        secret, ctx = self._secret, steps.context(current)
        if not isinstance(secret.rotation, TakesTurns):
            if second.password is not None or second.take_over is not None:
                what = (
                    f"strategy {secret.strategy} has one login, so there is no second one to adopt."
                )
                raise UsageError(what, safety="Nothing was changed.", hint="Adopt it without that.")
            return []
        name = secret.rotation.unmanaged(current, ctx)
        if name is None:
            return []
        if second.take_over is not None:
            if second.take_over != name or not reason:
                what = f"the second login of {secret.name} is {name!r}: taking it over needs that name and a reason."
                hint = f"rotator adopt {secret.name} --take-over {quote(name)} --reason 'WHY'"
                raise UsageError(what, safety="Nothing was changed.", hint=hint)
            return [self._second(name, None, "word", reason)]
        previous = None
        if second.password is None and isinstance(secret.backend, KeepsPrevious):
            previous = secret.backend.previous(secret.path)
        if (
            previous is not None
            and previous.credential.username == name
            and secret.rotation.probe(previous.credential, ctx)
        ):
            return [self._second(name, previous.id, "password", reason)]
        if second.password is None:
            raise UnprovenSecond(secret.name, name)
        given = Credential(username=name, password=second.password)
        if not secret.rotation.probe(given, ctx):
            why = steps.rejection(given)
            raise UsageError(
                f"the target rejects the second login {name!r} with the password given{why.because}.",
                safety="Nothing was changed.",
                hint=why.hint or "Correct the password, then adopt again.",
            )
        return [self._second(name, None, "password", reason)]

    def _second(self, login: str, version: str | None, proof: str, reason: str) -> NewEvent:
        """Return the event by which a login is ours beside the one that the backend serves."""
        data = {**self._place(login, version, reason), "served": False, "proof": proof}
        return NewEvent(kind=Kind.ADOPTED, data=data)

    def meet(self, rotation_id: str, others: tuple[Version, ...], reason: str) -> None:
        """Take a login under our care because whoever leads the rotation asks for it.

        What is current must log in, each time; or what is staged for `rotation_id`, where an earlier
        try has set it already. `others`: versions whose logins are handed over too, such as the other
        one of a pair, if they log in.
        """
        secret = self._secret
        record = self._journal.secret(secret.name)
        current = secret.backend.current(secret.path)
        if current is None:
            raise UsageError(f"the backend holds no credential at {secret.path!r}.")
        adopted = set(record.adopted if record else ())
        steps = self.steps("adopt", record)
        steps.control(current.credential.username)
        ctx = steps.context(current.credential)
        if not secret.rotation.probe(current.credential, ctx):
            staged = secret.backend.staged(secret.path, rotation_id)
            if staged is None or not secret.rotation.probe(staged, ctx):
                why = steps.rejection(current.credential)
                raise UsageError(
                    f"the target rejects login {current.credential.username!r} with what is current{why.because}.",
                    safety="Nothing was changed. The application is NOT safe: what it reads does not log in.",
                    hint=why.hint
                    or "Write the password that works into the secret, or set the one that is in it on the target; then rotate again.",
                )
        # Whoever can write the backend could name any login there: only who knows its password has it.
        events = [
            self._second(one.credential.username, one.id, "password", reason)
            for one in others
            if one.credential.username not in adopted and secret.rotation.probe(one.credential, ctx)
        ]
        known = record is not None and record.version == current.id
        if not known or current.credential.username not in adopted:
            events.append(NewEvent(kind=Kind.ADOPTED, data=self._taken_over(current, reason)))
        _ = self.record_all(events)

    def _taken_over(self, version: Version, reason: str) -> dict[str, Json]:
        """Return what the journal says of a login that is taken under our care."""
        return self._place(version.credential.username, version.id, reason)

    def _place(self, login: str, version: str | None, reason: str) -> dict[str, Json]:
        return {
            "reason": reason,
            "login": login,
            "version": version,
            "target": self._secret.target_name,
            "backend": self._secret.backend_name,
            "path": self._secret.path,
        }

    def _check_adoption(self, opened: RotationRecord, current: Version | None) -> None:
        """In the middle of a rotation only what it made current itself can be taken over.

        Somebody may have written it back with another field beside it; any other credential waits
        until the rotation is over.
        """
        secret = self._secret
        made = made_current(self._journal.history(opened.id))
        kept = secret.backend.read(secret.path, made) if made else None
        known = (
            kept is not None and current is not None and same(kept.credential, current.credential)
        )
        if not known:
            raise UsageError(
                f"rotation {opened.id} is still open.",
                hint=f"Finish it first: rotator resume {secret.name}. If that stops because somebody"
                " else wrote to the backend, write the credential back that the rotation published.",
            )

    def check(self, *, record: bool) -> Health:
        """Try what the backend serves."""
        secret = self._secret
        known = self._journal.secret(secret.name)
        current = self._marked_backend().current(secret.path)
        accepted, why = False, UNEXPLAINED
        if current is not None:
            steps = self.steps("check", known)
            steps.control(current.credential.username)
            target = tag_errors(secret.rotation, f"target {secret.target_name}", self.contacts)
            accepted = target.probe(current.credential, steps.context(current.credential))
            why = why if accepted else steps.rejection(current.credential)
        stale = tuple(
            map(str, self.steps("check", known).copies.stale(current and current.credential))
        )
        health = Health(
            secret=secret.name,
            stale=stale,
            login=current.credential.username if current else None,
            version=current.id if current else None,
            accepted=accepted,
            known=known is not None and current is not None and known.version == current.id,
            recorded=record,
            rejection=why,
            answered=frozenset(self.contacts.answered),
        )
        if record:
            data: dict[str, Json] = {
                "login": health.login,
                "version": health.version,
                "accepted": health.accepted,
                "known": health.known,
                **({"stale": list(stale)} if stale else {}),
                **({"cause": why.cause, "why": why.text} if why.cause else {}),
                **({"hint": why.hint} if why.hint else {}),
            }
            self.record(NewEvent(kind=Kind.CHECKED, data=data))
        return health

    def check_rollback(
        self, opened: RotationRecord, direction: Direction, *, revoking: bool
    ) -> None:
        """Refuse a rollback that could lock the application out."""
        secret = self._secret
        if direction is Direction.ROLLBACK:
            raise UsageError("this rotation is being rolled back already.")
        if not secret.rotation.overlaps or opened.old_version is None:
            what = "the old credential stopped working when the new one was set, so there is nothing to go back to."
            raise UsageError(what, hint=f"Rotate again instead: rotator rotate {secret.name}")
        if revoking:
            what = "the old credential is being revoked already."
            raise UsageError(what, hint=f"Rotate again instead: rotator rotate {secret.name}")
        old = self._marked_backend().read(secret.path, opened.old_version)
        again = f"Rotate again instead: rotator rotate {secret.name}"
        unchanged = "Nothing was changed."
        if old is None:
            raise UsageError(
                f"backend {secret.backend_name!r} no longer holds version {opened.old_version}, so the old password is lost.",
                hint=f"Keep at least two versions of each secret there. {again}",
                safety=unchanged,
            )
        steps = self.steps(opened.id, self._journal.secret(secret.name))
        if not secret.rotation.probe(old.credential, steps.context(old.credential)):
            what = f"the target rejects the old credential (login {old.credential.username!r})."
            raise UsageError(what, hint=again, safety=unchanged)

    def park(self, rotation_id: str | None, reason: str, *, hint: str = "") -> list[Event]:
        """Write down that an operator must look. `hint`: the remedy, where it is known."""
        self._log.error("parked", secret=self._secret.name, rotation_id=rotation_id, reason=reason)
        data: dict[str, Json] = {"reason": reason, "what": reason}
        data |= {"hint": hint} if hint else {}
        return self.record(NewEvent(kind=Kind.PARKED, rotation_id=rotation_id, data=data))

    def unpark_if_parked(self, opened: RotationRecord, reason: str) -> None:
        """A person's word on a parked rotation is a look at it."""
        record = self._journal.secret(self._secret.name)
        if record is not None and record.parked is not None:
            data: dict[str, Json] = {"reason": reason}
            self.record(NewEvent(kind=Kind.UNPARKED, rotation_id=opened.id, data=data))

    def record(self, event: NewEvent) -> list[Event]:
        """Write one event."""
        return self._append([event])

    def record_all(self, events: list[NewEvent]) -> list[Event]:
        """Write several events at once, or none of them."""
        return self._append(events)

    def _written_anew(self, record: SecretRecord | None, current: Version | None) -> str | None:
        """Return how a version differs from what the journal knows of it; None where it does not.

        A version's number proves nothing: a backend may begin to count anew once a secret was removed.
        """
        if record is None or current is None:
            return None
        if record.login is not None and record.login != current.credential.username:
            return _unlike(current, record.login)
        newest = next(iter(self._journal.rotations(self._secret.name, 1)), None)
        if (
            newest is not None
            and newest.new_version == current.id
            and newest.published_at == record.rotated_at
            and newest.id != current.rotation_id
        ):
            return f"it does not bear the mark of rotation {newest.id}, which published it"
        return None

    # -- the ports -----------------------------------------------------------------------------

    def steps(self, rotation_id: str, record: SecretRecord | None) -> Steps:
        """Return the steps of a rotation of this secret."""
        return Steps(
            secret=self._secret,
            rotation_id=rotation_id,
            clock=self._clock,
            entropy=self._context.entropy,
            log=self._log,
            controlled=self._context.controlled,
            adopted=frozenset(record.adopted if record else ()),
            former_names=frozenset(record.former_names if record else ()),
            wrote=self._wrote,
            contacts=self.contacts,
        )

    def _marked_backend(self) -> SecretBackend:
        return tag_errors(
            self._secret.backend, f"backend {self._secret.backend_name}", self.contacts
        )

    @property
    def log(self) -> Log:
        """Where what happens is logged."""
        return self._log

    def timed_steps(self, rotation_id: str) -> Steps:
        """Return steps that act until their time is up, counted from when the lease was renewed."""
        begun, now = self._renewed
        steps = self.steps(rotation_id, self._journal.secret(self._secret.name))
        timeout = self._secret.policy.step_timeout.total_seconds()
        steps.allow(deadline=min(begun + timeout, self._ends), lease_ends=now + self._ttl)
        return steps

    def _wrote(self, rotation_id: str) -> bool:
        found = self._journal.rotation(rotation_id)
        if found is None or found.secret == self._secret.name:
            return found is not None
        record = self._journal.secret(self._secret.name)
        return record is not None and found.secret in record.former_names

    def _append(self, events: list[NewEvent]) -> list[Event]:
        if not events:
            return []
        assert self._lease is not None  # noqa: S101 # `record` and `drive` are only called under the lease
        self._renewed = self._clock.monotonic(), self._clock.now()
        written = self._journal.append(self._lease, events, self._ttl)
        for event in written:
            self._context.observer(event)
        return written

    def _wait(self, until: datetime) -> None:
        """Sleep until then, in pieces short enough to keep the lease."""
        piece = self._ttl.total_seconds() / 3
        while (left := (until - self._clock.now()).total_seconds()) > 0:
            self._clock.sleep(min(left, piece))
            if left > piece and self._lease is not None:
                self._journal.append(self._lease, [], self._ttl)

    def _check_known(self, record: SecretRecord | None, current: Version | None) -> None:
        """Refuse to replace a credential that neither we nor a person put under our care."""
        known = record.version if record else None
        version = current.id if current else None
        name = self._secret.name
        if version == known:
            written_anew = self._written_anew(record, current)
            if written_anew is not None:
                raise Conflict(
                    f"somebody else wrote version {version} in the backend anew: {written_anew}.",
                    safety="Nothing was changed.",
                    hint=f"Find out who did: anyone who may remove a secret there can write the same version again. If what is there is right, take it over: rotator adopt {name}",
                )
            return
        if known is None:
            raise UsageError(
                "the backend already holds a credential that rotator has not taken over.",
                safety="Nothing was changed.",
                hint=f"Take it over as it stands: rotator adopt {name}",
            )
        if version is None:
            raise Conflict(
                f"the backend no longer holds the credential that was published as version {known}.",
                hint=f"Restore it in the backend, or write the working one there and run: rotator adopt {name}",
            )
        raise Conflict(
            f"somebody else wrote to the backend: it holds version {version}, the journal knows {known}.",
            safety="Nothing was changed.",
            hint=f"If the version that is there is right, take it over: rotator adopt {name}",
        )


def _unlike(current: Version, login: str | None) -> str:
    return f"it is for login {current.credential.username!r}, and the journal knows {login!r}"


def _has_got(history: list[Event], to: Step | None) -> bool:
    """Return whether a rotation that goes forward has this step behind it."""
    if to is None:
        return False
    state = progress(history)
    return state.direction is Direction.FORWARD and to in state.done


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
