"""The engine: drives the state machine over the ports. Faces work on secrets through it."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from rotator.core.commands import unpark_command
from rotator.core.errors import Busy, NotDue, Parked, Refused, UsageError
from rotator.core.history import taken_up, text
from rotator.core.model import NO_ROTATION, AfterReveal, Kind, NewEvent, Outcome, Step
from rotator.core.schedule import as_data, is_due, retry_data
from rotator.core.state_machine import progress
from rotator.engine import incident
from rotator.engine.adoption import adopt, adopt_for_delegation
from rotator.engine.checks import check, checked, require_rollback_possible
from rotator.engine.context import EngineContext, OnBehalf, SecretContext
from rotator.engine.copies import Copy
from rotator.engine.delegated import handed_over, is_delegated, noticed
from rotator.engine.delegated_requests import pending
from rotator.engine.incident import Contained, Exposure, Leaked, LeakReport, Mode, Proof
from rotator.engine.leases import IssuedLease, LeaseRequest, Leases, RenewedLease
from rotator.engine.lock import locked, locked_in_time
from rotator.engine.results import Health, Plan, Result, Second, UnprovenSecond
from rotator.engine.retirement import Retired, Retirement, let_go, renamed, retire
from rotator.engine.runner import Runner
from rotator.engine.steps import ManagedSecret, Steps, wrap_plugin_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from rotator.core.consumers import ConsumerRegistry, Verdict
    from rotator.core.history import RotationRecord, SecretRecord
    from rotator.core.leases import LeaseBook
    from rotator.core.model import Credential, Event, Json, Version
    from rotator.core.ports import Clock, Entropy, Journal, Log
    from rotator.core.secret import Secret
    from rotator.engine.lock import LockedSecret

__all__ = [
    "Contained",
    "Copy",
    "Engine",
    "Exposure",
    "Health",
    "IssuedLease",
    "LeakReport",
    "Leaked",
    "LeaseRequest",
    "ManagedSecret",
    "Mode",
    "Plan",
    "Proof",
    "RenewedLease",
    "Result",
    "Retired",
    "Retirement",
    "Second",
    "UnprovenSecond",
]

_NO_TIME: Final = timedelta(0)
_BY_BACKEND: Final = Second()
# The lock of a call that only writes to the journal.
_LET_GO: Final = timedelta(seconds=60)


class Engine:
    """Rotates secrets. One engine serves any number of threads; the lock keeps them apart."""

    def __init__(
        self,
        *,
        journal: Journal,
        clock: Clock,
        entropy: Entropy,
        log: Log,
        holder: Callable[[], str],
        observer: Callable[[Event], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
        controlled: set[str] | None = None,
        registry: ConsumerRegistry | None = None,
        by: Mapping[str, Json] | None = None,
        leases: LeaseBook | None = None,
    ) -> None:
        """`holder` names the holder of a lock; called once for each lock. `observer` gets each event
        after it is in the journal. `should_stop` is asked between steps and in waits; after True a
        call returns with `Result.stopped` and its rotation open. `controlled`: the targets that have
        refused a wrong password in this process; engines may share it. `registry`: what consumers have
        reported of the versions that they use. `by`: who decides what this engine is asked for, as
        events record it. `leases`: those that the journal knows.
        """
        self._journal: Journal = journal
        self._context: EngineContext = EngineContext(
            journal=journal,
            clock=clock,
            entropy=entropy,
            log=log,
            holder=holder,
            observer=observer or (lambda _event: None),
            should_stop=should_stop or (lambda: False),
            controlled=controlled if controlled is not None else set(),
            registry=registry,
            on_behalf=OnBehalf(data={"by": by} if by else {}),
        )
        self._leases: LeaseBook | None = leases

    def on_behalf(self, data: Mapping[str, Json]) -> Engine:
        """Return this engine, for one call: the events of its decision record `data`.

        With a `request` among it, the call raises `AlreadyTaken` where an engine has carried that out.
        """
        other = copy(self)
        request = text(data, "request")
        behalf = OnBehalf(data={**self._context.on_behalf.data, **data}, request=request)
        other._context = replace(self._context, on_behalf=behalf)  # noqa: SLF001 # our own copy
        return other

    def taken_up(self, secret: ManagedSecret, request: str) -> Event | None:
        """Return the event with which an engine carried a request out; None where none has."""
        return taken_up(SecretContext(self._context, secret).events(), request)

    # -- rotations -----------------------------------------------------------------------------

    def rotate(
        self,
        secret: ManagedSecret,
        *,
        reason: str = "",
        rotation_id: str | None = None,
        patience: timedelta = _NO_TIME,
        only_if_due: bool = False,
        at_once: bool = False,
        away: str | None = None,
    ) -> Result:
        """Rotate once. An interrupted rotation is finished first, and then counts as this one.

        Where another system rotates the secret, it is asked to, and what it serves then is proven.

        `patience` is how long waits (backoff, grace, drain) may last in all before the call
        returns with the rotation open. `only_if_due`: begin nothing unless the secret is due, by a
        look under the lock: somebody else may just have done it. `at_once`: do not wait for the next
        try of what failed before. `away`: a host that is known to be away, and is tried by this call.

        Raises `Busy`, `NotDue` (in its grace period, or not due), `Parked`, `Conflict` (the backend's current version is not the one that the journal knows),
        `JournalError` or `LockLost`; what happens inside a step is in the result.
        """
        with locked(self._context, secret) as lock:
            runner = Runner(lock, patience, at_once=at_once, away=away)
            record = self._refuse_parked(secret)
            if record is not None and record.open_rotation is not None:
                opened = self._journal.rotation(record.open_rotation)
                result = runner.drive(record.open_rotation, resumed=True)
                if result.stopped:
                    return result
                if result.by:
                    return runner.park_if_exhausted(result)
                if result.outcome is None and result.published:
                    raise _in_grace(result)
                published = opened is not None and opened.published_at is not None
                if not published or result.outcome is not Outcome.DONE:
                    return runner.park_if_exhausted(result)
                record = self._journal.secret(secret.name)
            delegated = is_delegated(secret)
            unrequested = self._record_noticed(lock) if delegated else None
            if unrequested is not None:
                if unrequested.outcome is not Outcome.DONE:
                    return runner.park_if_exhausted(unrequested)
                record = self._journal.secret(secret.name)
            before = pending(self._journal, secret.name) if delegated else None
            due = is_due(record, self._context.clock.now(), at_once=at_once)
            if only_if_due and before is None and not due:
                why = ": it rotated automatically, which is recorded now" if unrequested else ""
                raise NotDue(f"it is not due{why}.", until=None)
            if delegated:
                return runner.park_if_exhausted(runner.request(reason, rotation_id, before=before))
            # A given id allows for one candidate only.
            left = 0 if rotation_id is not None else secret.policy.proposals - 1
            result = runner.start(reason, rotation_id, record, more=left > 0)
            while left > 0 and result.outcome is Outcome.UNDONE and _is_refused(result):
                left -= 1
                record = self._journal.secret(secret.name)
                result = runner.start(reason, None, record, more=left > 0)
            return runner.park_if_exhausted(result)

    def resume(
        self,
        secret: ManagedSecret,
        *,
        patience: timedelta = _NO_TIME,
        ends: float | None = None,
        at_once: bool = False,
        away: str | None = None,
    ) -> Result | None:
        """Go on with the open rotation, as far as it gets now; None when there is none.

        A request to another system that an older release did not complete counts as open. `ends` as
        for `advance`, `at_once` and `away` as for `rotate`.
        """
        if self._journal.open_rotation(secret.name) is None:
            if pending(self._journal, secret.name) is None or not is_delegated(secret):
                return None
            result = self.rotate(secret, patience=patience, at_once=at_once, away=away)
            return replace(result, resumed=True)
        with locked(self._context, secret, ends=ends) as lock:
            runner = Runner(lock, patience, at_once=at_once, away=away)
            self._refuse_parked(secret)
            opened = self._journal.open_rotation(secret.name)
            return (
                None
                if opened is None
                else runner.park_if_exhausted(runner.drive(opened.id, resumed=True))
            )

    def advance(
        self,
        secret: ManagedSecret,
        *,
        rotation_id: str,
        to: Step,
        reason: str = "",
        others: tuple[Version, ...] = (),
        patience: timedelta = _NO_TIME,
        ends: float | None = None,
    ) -> Result:
        """Drive a rotation that the caller leads, as far as the end of step `to` and no further.

        It is begun when it is not known yet: an earlier one that is open is ended first, and the
        current login is adopted if it authenticates, with the logins of `others`. A permanent failure
        undoes it; after a transient one it stays open, and the caller tries again.

        `ends`: when the call must have returned, on the monotonic scale. Raises as `rotate` does,
        and `NotDue` while the earlier rotation's old credential is in its grace period.
        """
        with locked(self._context, secret, ends=ends) as lock:
            runner = Runner(lock, patience)
            known = self._journal.rotation(rotation_id)
            if known is not None:
                lock.unpark_if_parked(known, reason)
                return runner.drive(rotation_id, resumed=True, to=to)
            opened = self._journal.open_rotation(secret.name)
            if opened is not None and progress(self._journal.history(opened.id)).delegated:
                # It has asked for what the caller does.
                _ = lock.append([handed_over(opened.id, rotation_id)])
                opened = None
            if opened is not None:
                result = runner.end_earlier(opened.id)
                if result.stopped:
                    return result
                if result.outcome is None or result.parked:
                    raise result.error or _in_grace(result)
            adopt_for_delegation(lock, rotation_id, others, reason)
            return runner.start(reason, rotation_id, self._journal.secret(secret.name), to=to)

    def rollback(
        self, secret: ManagedSecret, *, reason: str = "", patience: timedelta = _NO_TIME
    ) -> Result:
        """Make the previous credential current again, while it is still valid.

        Before publish this undoes the rotation. After it the previous credential is tried first,
        then published again; the newer one stays valid for the grace period and is then revoked.
        """
        with locked(self._context, secret) as lock:
            runner = Runner(lock, patience, at_once=True)
            opened = self._open(secret, "roll back")
            state = progress(self._journal.history(opened.id))
            if state.leak is not None:
                what = f"its old password has leaked (incident {state.leak.incident}), so it is not served again."
                error = UsageError(what, hint=f"See: rotator incident show {secret.name}")
                error.safety = "Nothing was changed."
                raise error
            is_set_again = not state.overlaps and Step.CREATE in state.begun
            if is_set_again or not state.can_turn_back:
                incident.require_not_leaked(lock, opened.old_version)
            if state.published:
                revoking = Step.REVOKE in state.begun
                require_rollback_possible(lock, opened, state.direction, revoking=revoking)
            data: dict[str, Json] = {
                "reason": reason,
                "kind": "aborted",
                "what": "requested by an operator",
            }
            kind = Kind.ROLLBACK_REQUESTED
            _ = lock.append([NewEvent(kind=kind, rotation_id=opened.id, data=data)])
            lock.unpark_if_parked(opened, reason or "rollback")
            return runner.park_if_exhausted(runner.drive(opened.id, resumed=True))

    def revoke(
        self,
        secret: ManagedSecret,
        *,
        reason: str = "",
        end_sessions: bool = False,
        patience: timedelta = _NO_TIME,
    ) -> Result:
        """End the grace period now, and return whether the old credential is proven dead.

        A rotation that waits for consumers to read its next version goes on without them.
        """
        with locked(self._context, secret) as lock:
            runner = Runner(lock, patience, at_once=True)
            opened = self._open(secret, "revoke")
            if opened.published_at is None and not self._prepares(opened):
                what = "the open rotation has not published its new credential yet, so the old one is needed."
                raise UsageError(what, hint=f"Finish it first: rotator resume {secret.name}")
            data: dict[str, Json] = {"reason": reason, "end_sessions": end_sessions}
            kind = Kind.REVOKE_REQUESTED
            _ = lock.append([NewEvent(kind=kind, rotation_id=opened.id, data=data)])
            lock.unpark_if_parked(opened, reason or "revoke")
            return runner.park_if_exhausted(runner.drive(opened.id, resumed=True))

    def _record_noticed(self, lock: LockedSecret) -> Result | None:
        """Record a rotation by another system that nobody requested; None where there is none."""
        version = noticed(lock)
        if version is None:
            return None
        return Runner(lock).request("it rotated automatically", None, noticed=version)

    def _prepares(self, opened: RotationRecord) -> bool:
        """Return whether a rotation waits for consumers to read its next version."""
        waited = progress(self._journal.history(opened.id)).waited
        return waited is not None and waited.step is Step.PREPARE

    def adopt(
        self,
        secret: ManagedSecret,
        *,
        first: Credential | None = None,
        second: Second = _BY_BACKEND,
        reason: str = "",
        made_at: datetime | None = None,
    ) -> Health:
        """Take over a login without changing it. Nothing changes on the target or in the backend.

        The backend's current credential must log in. `first` is written to the backend before
        that when it holds nothing yet. Where two logins take turns and the other exists already, it
        is taken over too, as `second` says. `made_at`: since when its password has been in use;
        without it the age is unknown. Raises `UsageError` when there is nothing to adopt, and
        `UnprovenSecond` when only the second login is in the way.
        """
        with locked(self._context, secret) as lock:
            opened = self._journal.open_rotation(secret.name)
            return adopt(lock, first, opened, second, reason, made_at)

    def check(self, secret: ManagedSecret) -> Health:
        """Try to log in with what the backend serves now, and record the answer.

        While another engine works on the secret the answer is only returned, not recorded. A rotation
        that another system did by its own schedule is recorded too.
        """
        try:
            with locked(self._context, secret) as lock:
                if is_delegated(secret):
                    _ = self._record_noticed(lock)
                health = check(lock, recorded=True)
                _ = lock.append([checked(health)])
                return health
        except Busy:
            return check(SecretContext(self._context, secret), recorded=False)

    def plan(self, secret: ManagedSecret) -> Plan:
        """Return what a rotation would do. Reads the backend and the target, changes nothing."""
        from rotator.engine import planning  # noqa: PLC0415 # no rotation needs it

        return planning.plan(SecretContext(self._context, secret))

    def require_no_second(self, secret: ManagedSecret, current: Credential | None) -> None:
        """Raise `UnprovenSecond` where a second login exists that the next rotation could not take."""
        from rotator.engine import planning  # noqa: PLC0415 # no rotation needs it

        planning.require_no_second(SecretContext(self._context, secret), current)

    def consumers(self, secret: ManagedSecret) -> Verdict | None:
        """Return which consumers use the version that is served; None where the journal knows none.

        Asks the target for the sessions of the login that is served, and of the one before while it is
        valid. Raises as a step does.
        """
        access = SecretContext(self._context, secret)
        record = access.record()
        if record is None or record.version is None:
            return None
        opened = self._journal.open_rotation(secret.name)
        logins = [record.login, opened.old_login, opened.new_login] if opened else [record.login]
        steps = access.steps(NO_ROTATION, record)
        with wrap_plugin_errors(self._context.log, secret.name, NO_ROTATION, "consumers"):
            return steps.verdict(record.version, [login for login in logins if login])

    def prepared(self, secret: ManagedSecret) -> Verdict | None:
        """Return which consumers have read the next version; None where there is none."""
        access = SecretContext(self._context, secret)
        opened = self._journal.open_rotation(secret.name)
        if opened is None or not self._prepares(opened):
            return None
        return access.steps(opened.id, access.record()).prepared()

    def steps(self, secret: ManagedSecret) -> Steps:
        """Return the steps of no rotation: to examine a target as the engine would see it."""
        access = SecretContext(self._context, secret)
        return access.steps(NO_ROTATION, access.record())

    def schedule(
        self,
        secret: ManagedSecret,
        due: datetime | None,
        *,
        reason: str,
        again: datetime | None = None,
    ) -> None:
        """Record another due date than the one that follows from the last rotation.

        `again`: when it is rotated, where that is later than its due date.
        """
        data: dict[str, Json] = {"reason": reason, **as_data(secret.policy, again or due)}
        if again is not None:
            data["due_since"] = due.isoformat() if due else None
        with locked(self._context, secret) as lock:
            _ = lock.append([NewEvent(kind=Kind.SCHEDULED, data=data)])

    def postpone(self, secret: ManagedSecret, until: datetime | None, *, reason: str) -> None:
        """Record when to rotate a secret that is due; the due date stays."""
        data: dict[str, Json] = {"reason": reason, **retry_data(until)}
        with locked(self._context, secret) as lock:
            _ = lock.append([NewEvent(kind=Kind.SCHEDULED, data=data)])

    def park(self, secret: ManagedSecret, *, reason: str, hint: str = "") -> None:
        """Stop automatic work on the secret until an operator unparks it."""
        with locked(self._context, secret) as lock:
            opened = self._journal.open_rotation(secret.name)
            _ = lock.park(opened.id if opened else None, reason, hint=hint, decided=True)

    def unpark(self, secret: ManagedSecret, *, reason: str) -> None:
        """Resume automatic work; failures are counted from zero again."""
        with locked(self._context, secret) as lock:
            opened = self._journal.open_rotation(secret.name)
            rotation_id = opened.id if opened else None
            data: dict[str, Json] = {"reason": reason}
            _ = lock.append([NewEvent(kind=Kind.UNPARKED, rotation_id=rotation_id, data=data)])

    def record_reveal(
        self, secret: ManagedSecret, *, reason: str, version: str, patience: timedelta = _NO_TIME
    ) -> None:
        """Record that somebody is about to read the value of the secret. `patience`: for its lock.

        By its policy the secret is then due. Raises `Busy`, or `JournalError`: then nothing may be shown.
        """
        now = self._context.clock.now()
        data: dict[str, Json] = {"reason": reason, "version": version}
        if secret.policy.after_reveal is not AfterReveal.OFF:
            data |= as_data(secret.policy, now)
        with locked_in_time(self._context, secret, patience) as lock:
            _ = lock.append([NewEvent(kind=Kind.REVEALED, data=data)])

    @property
    def leases(self) -> Leases:
        """What issues, renews and ends leases. Raises `UsageError` where the journal keeps none."""
        if self._leases is None:
            raise UsageError("this journal keeps no leases.", safety="Nothing was changed.")
        return Leases(self._context, self._leases)

    # -- leaked passwords ----------------------------------------------------------------------

    def exposure(self, secret: ManagedSecret, version: str | None = None) -> Exposure:
        """Return what a leaked version opens, and to whom; None for the one that is served.

        Changes nothing. Raises `UsageError` for a version that the journal does not know.
        """
        return incident.exposure(SecretContext(self._context, secret), version)

    def find_version(self, secret: ManagedSecret, *values: Secret) -> str | None:
        """Return the newest kept version with one of these passwords, compared in memory; None for none."""
        return incident.find_version(SecretContext(self._context, secret), values)

    def open_incident(self, secret: ManagedSecret, report: LeakReport) -> tuple[str, Mode]:
        """Record that a password has leaked. `contain` does the rest, also after an interruption.

        Returns the incident and its mode: of another report of the same leak where that one was faster.
        """
        with locked(self._context, secret) as lock:
            return incident.begin(lock, report)

    def contain(self, secret: ManagedSecret, *, patience: timedelta = _NO_TIME) -> Contained:
        """Replace or revoke what has leaked, and prove that it is dead: as far as it gets now.

        `patience`: how long waits for consumers and open sessions may last in all. Raises `Busy`,
        `JournalError`, `LockLost`, and `UsageError` without an open incident.
        """
        with locked(self._context, secret) as lock:
            return incident.contain(lock, Runner(lock, patience, at_once=True))

    def close_incident(self, secret: ManagedSecret, *, reason: str) -> None:
        """End the watch over a leaked password, whatever its last proof has shown."""
        with locked(self._context, secret) as lock:
            incident.close(lock, reason)

    def reopen_incident(self, secret: ManagedSecret, *, reason: str) -> str:
        """Begin the watch over a leaked password again; return the incident. `contain` does the rest."""
        with locked(self._context, secret) as lock:
            return incident.reopen(lock, reason)

    # -- the end of management -----------------------------------------------------------------

    def retire(self, secret: ManagedSecret, asked: Retirement) -> Retired:
        """End the management of a secret: complete or undo its open rotation, then do what `asked` wants.

        Without `drop_login` its login stays as it is, and the journal says so.
        """
        with locked(self._context, secret) as lock:
            return retire(lock, asked, self.leases if self._leases is not None else None)

    def let_go(self, name: str, *, reason: str, abandoned: bool = False) -> list[str]:
        """End the management of a secret that nobody can work on: its target or entry is gone.

        Nothing is tried or changed; what is open ends as it is, and the journal names its logins.
        `abandoned`: also an incident that is not proven, and open leases. Returns the logins of those.
        """
        lock = self._journal.acquire(name, self._context.holder(), _LET_GO)
        try:
            record = self._journal.secret(name)
            if record is None or record.retired is not None or record.renamed_to is not None:
                what = f"there is nothing to retire: {name} is not under management."
                raise UsageError(what, safety="Nothing was changed.")
            if not abandoned:
                way_out = f"If its target is gone: rotator retire {name} --abandon --reason 'WHY'"
                incident.require_ended(record, way_out)
                if self._leases is not None:
                    self.leases.require_none(name, f"rotator retire {name}", way_out)
            lent = self.leases.abandon(name, reason) if self._leases is not None else []
            events = let_go(record, self._journal.open_rotation(name), reason, lent)
            self._observe(self._journal.append(lock, events, _LET_GO))
            return lent
        finally:
            self._journal.release(lock)

    def rename(self, old: str, secret: ManagedSecret, *, reason: str = "") -> None:
        """Let the history of `old` go on under the name of `secret`, which serves the same version.

        Run again after an interruption, it does what was left undone.
        """
        lock = self._journal.acquire(old, self._context.holder(), _LET_GO)
        try:
            record, known = self._journal.secret(old), self._journal.secret(secret.name)
            begun = known is not None and old in known.former_names
            if record is None or (record.version is None and not begun):
                raise UsageError(
                    f"the journal knows no credential of {old!r}.", safety="Nothing was changed."
                )
            if not begun:
                self._require_renamable(record, known, secret)
            begins, ends = renamed(record, secret.name, reason)
            if not begun:
                if self._leases is not None:
                    self.leases.require_none(old, f"rotator rename {old} {secret.name}")
                with locked(self._context, secret) as lock_of_new:
                    _ = lock_of_new.append([begins])
            if record.renamed_to is None:
                self._observe(self._journal.append(lock, [ends], _LET_GO))
        finally:
            self._journal.release(lock)

    def _require_renamable(
        self, record: SecretRecord, known: SecretRecord | None, secret: ManagedSecret
    ) -> None:
        old, new = record.name, secret.name
        unchanged = "Nothing was changed."
        if record.open_rotation is not None:
            what = f"rotation {record.open_rotation} of {old} is still open."
            delegated = progress(self._journal.history(record.open_rotation)).delegated
            ends = "resume" if delegated else "revoke"
            raise UsageError(
                what, hint=f"Complete it first: rotator {ends} {old}", safety=unchanged
            )
        if known is not None and (known.version is not None or known.open_rotation is not None):
            raise UsageError(
                f"the journal knows a credential of {new} already.",
                hint=f"Choose another name, or retire that one first: rotator retire {new}",
                safety=unchanged,
            )
        current = secret.backend.current(secret.path)
        if current is None or current.id != record.version:
            held = f"version {current.id}" if current else "nothing"
            raise UsageError(
                f"{secret.path!r} in {secret.backend_name} holds {held}, and {old} is at version {record.version}.",
                hint=f"Let the entry of {new} name the path of {old}: `path: ...`",
                safety=unchanged,
            )

    def _observe(self, events: list[Event]) -> None:
        for event in events:
            self._context.observer(event)

    # -- requirements --------------------------------------------------------------------------

    def _is_of_another_system(self, opened: RotationRecord) -> bool:
        return progress(self._journal.history(opened.id)).delegated

    def _refuse_parked(self, secret: ManagedSecret) -> SecretRecord | None:
        record = self._journal.secret(secret.name)
        if record is not None and record.parked is not None:
            error = Parked(
                f"it is parked: {record.parked}",
                hint=f"Fix the cause, then: {unpark_command(secret.name)}",
            )
            error.secret = secret.name
            raise error
        return record

    def _open(self, secret: ManagedSecret, verb: str) -> RotationRecord:
        opened = self._journal.open_rotation(secret.name)
        if is_delegated(secret) if opened is None else self._is_of_another_system(opened):
            again = (
                "complete it: rotator resume"
                if opened is not None
                else "rotate it again: rotator rotate"
            )
            error = UsageError(
                f"there is nothing to {verb}: {secret.backend_name} rotates it, and ends the credential before, which is kept nowhere.",
                hint=f"Where the credential must go, {again} {secret.name}",
                safety="Nothing was changed.",
            )
            error.secret = secret.name
            raise error
        if opened is None:
            error = UsageError(
                f"there is nothing to {verb}: no rotation is open, so the old credential is gone.",
                hint=f"See what happened: rotator history {secret.name}",
            )
            error.secret = secret.name
            raise error
        return opened


def _is_refused(result: Result) -> bool:
    return result.error is not None and result.error.kind == Refused.kind


def _in_grace(result: Result) -> NotDue:
    # Which of the two leaked decides: a revoke alone leaves the one that is served.
    name, old, new = result.secret, result.old_login, result.login
    if result.rolling_back:
        error = NotDue(
            "its rollback is not completed: the newer credential is in its grace period.",
            until=result.until,
            hint=f"To end only the newer login {new!r} now: rotator revoke {name}\n"
            f"If login {old!r}, which is served, has leaked: rotator incident open {name} --reason 'WHY'",
        )
        error.safety = (
            "The older credential is current again, and the newer one is not revoked yet."
        )
        error.secret = result.secret
        return error
    error = NotDue(
        f"its last rotation is not completed: {result.waiting}.",
        until=result.until,
        hint=f"To end only the older login {old!r} now: rotator revoke {name}\n"
        f"If login {new!r}, which is served, has leaked: rotator incident open {name} --reason 'WHY'",
    )
    error.safety = "The new credential is published, and the old one is not revoked yet."
    error.secret = result.secret
    return error
