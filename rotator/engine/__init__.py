"""The engine: drives the machine over the ports. Every face calls these functions and no others."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from rotator.core.commands import unpark_command
from rotator.core.delegated import DelegatedRotation
from rotator.core.durations import write
from rotator.core.errors import Busy, NotDue, Parked, Refused, UsageError
from rotator.core.model import NO_ROTATION, Kind, NewEvent, Outcome, Planned, Step
from rotator.core.ports import Explains, TakesTurns
from rotator.core.schedule import as_data, is_due, retry_data
from rotator.core.state_machine import progress
from rotator.engine.copies import Copy
from rotator.engine.delegated import DelegatedRunner, is_delegated
from rotator.engine.delegated_requests import pending
from rotator.engine.results import Health, Plan, Result, Second, UnprovenSecond
from rotator.engine.retirement import Retired, Retirement, let_go, renamed, retire
from rotator.engine.runner import EngineContext, Runner
from rotator.engine.steps import ManagedSecret, Steps

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from rotator.core.history import RotationRecord, SecretRecord
    from rotator.core.model import Credential, Event, Json, Version
    from rotator.core.ports import Clock, Entropy, Journal, Log

__all__ = [
    "Copy",
    "Engine",
    "Health",
    "ManagedSecret",
    "Plan",
    "Result",
    "Retired",
    "Retirement",
    "Second",
    "UnprovenSecond",
]

_NO_TIME: Final = timedelta(0)
_BY_BACKEND: Final = Second()
# What a plan says in the place of the rotation's id.
_NOT_BEGUN: Final = "(its id)"
# The lease of what only writes to the journal.
_LET_GO: Final = timedelta(seconds=60)


class Engine:
    """Rotates secrets. One engine serves any number of threads; the lease keeps them apart."""

    def __init__(
        self,
        *,
        journal: Journal,
        clock: Clock,
        entropy: Entropy,
        log: Log,
        holder: Callable[[], str],
        observer: Callable[[Event], None] | None = None,
        controlled: set[str] | None = None,
    ) -> None:
        """`holder` names whoever holds a lease; called once for each lease. `controlled`: the targets
        that have refused a wrong password in this process; engines may share it.
        """
        self._journal: Journal = journal
        self._context: EngineContext = EngineContext(
            journal=journal,
            clock=clock,
            entropy=entropy,
            log=log,
            holder=holder,
            observer=observer or (lambda _event: None),
            controlled=controlled if controlled is not None else set(),
        )

    # -- what a face asks for ------------------------------------------------------------------

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

        Where another system rotates the secret it is asked to, and what it does is followed: an
        error is then raised, after it was written down.

        `patience` is how long waits (backoff, grace, drain) may last in all before the call
        returns with the rotation open. `only_if_due`: begin nothing unless the secret is due, by a
        look under the lease: somebody else may just have done it. `at_once`: do not wait for the next
        try of what failed before. `away`: a host that is known to be away, and is tried by this call.

        Raises `Busy`, `NotDue` (in its grace period, or not due), `Parked`, `Conflict` (the backend's current version is not the one that the journal knows),
        `JournalError` or `LeaseLost`; what happens inside a step is in the result.
        """
        if is_delegated(secret):
            record = self._refuse_parked(secret)
            if record is None or record.open_rotation is None:
                following = DelegatedRunner(self._context, secret, patience)
                return following.rotate(
                    reason, rotation_id, only_if_due=only_if_due, at_once=at_once
                )
        with Runner(self._context, secret, patience, at_once=at_once, away=away) as work:
            record = self._refuse_parked(secret)
            if record is not None and record.open_rotation is not None:
                opened = self._journal.rotation(record.open_rotation)
                result = work.drive(record.open_rotation, resumed=True)
                if result.outcome is None and result.published:
                    raise _in_grace(result)
                published = opened is not None and opened.published_at is not None
                if not published or result.outcome is not Outcome.DONE:
                    return work.park_if_exhausted(result)
                record = self._journal.secret(secret.name)
            if only_if_due and not is_due(record, self._context.clock.now(), at_once=at_once):
                raise NotDue("it is not due.", until=None)
            # A given id allows for one candidate only.
            left = 0 if rotation_id is not None else secret.policy.proposals - 1
            result = work.start(reason, rotation_id, record, more=left > 0)
            while left > 0 and result.outcome is Outcome.UNDONE and _is_refused(result):
                left -= 1
                record = self._journal.secret(secret.name)
                result = work.start(reason, None, record, more=left > 0)
            return work.park_if_exhausted(result)

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

        One that another system was asked for, and that was not seen through, counts as open. `ends` as
        for `advance`, `at_once` and `away` as for `rotate`.
        """
        if self._journal.open_rotation(secret.name) is None:
            if pending(self._journal, secret.name) is None or not is_delegated(secret):
                return None
            self._refuse_parked(secret)
            return DelegatedRunner(self._context, secret, patience).resume()
        work = Runner(self._context, secret, patience, ends=ends, at_once=at_once, away=away)
        with work:
            self._refuse_parked(secret)
            opened = self._journal.open_rotation(secret.name)
            return (
                None
                if opened is None
                else work.park_if_exhausted(work.drive(opened.id, resumed=True))
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
        """Drive a rotation that somebody else leads, as far as the end of step `to` and no further.

        It is begun when it is not known yet: an earlier one that is open is ended first, and what
        is current is taken under our care if it logs in, with the logins of `others`. A failure
        for good undoes it; one that may pass leaves it, for whoever leads to come back to.

        `ends`: when the call must have returned, on the monotonic scale. Raises as `rotate` does,
        and `NotDue` while the earlier rotation's old credential is in its grace period.
        """
        with Runner(self._context, secret, patience, ends=ends) as work:
            known = self._journal.rotation(rotation_id)
            if known is not None:
                work.unpark_if_parked(known, reason)
                return work.drive(rotation_id, resumed=True, to=to)
            opened = self._journal.open_rotation(secret.name)
            if opened is not None:
                result = work.end_earlier(opened.id)
                if result.outcome is None or result.parked:
                    raise result.error or _in_grace(result)
            work.meet(rotation_id, others, reason)
            return work.start(reason, rotation_id, self._journal.secret(secret.name), to=to)

    def rollback(
        self, secret: ManagedSecret, *, reason: str = "", patience: timedelta = _NO_TIME
    ) -> Result:
        """Make the previous credential current again, while it is still valid.

        Before publish this undoes the rotation. After it the previous credential is tried first,
        then published again; the newer one stays valid for the grace period and is then revoked.
        """
        with Runner(self._context, secret, patience, at_once=True) as work:
            opened = self._open(secret, "roll back")
            state = progress(self._journal.history(opened.id))
            if state.published:
                work.check_rollback(opened, state.direction, revoking=Step.REVOKE in state.begun)
            work.record(
                NewEvent(
                    kind=Kind.ROLLBACK_REQUESTED,
                    rotation_id=opened.id,
                    data={"reason": reason, "kind": "aborted", "what": "asked for by a person"},
                )
            )
            work.unpark_if_parked(opened, reason or "rollback")
            return work.park_if_exhausted(work.drive(opened.id, resumed=True))

    def revoke(
        self,
        secret: ManagedSecret,
        *,
        reason: str = "",
        end_sessions: bool = False,
        patience: timedelta = _NO_TIME,
    ) -> Result:
        """End the grace period now, and tell whether the old credential is proven dead."""
        with Runner(self._context, secret, patience, at_once=True) as work:
            opened = self._open(secret, "revoke")
            if opened.published_at is None:
                what = "the open rotation has not published its new credential yet, so the old one is needed."
                raise UsageError(what, hint=f"Finish it first: rotator resume {secret.name}")
            data: dict[str, Json] = {"reason": reason, "end_sessions": end_sessions}
            work.record(NewEvent(kind=Kind.REVOKE_REQUESTED, rotation_id=opened.id, data=data))
            work.unpark_if_parked(opened, reason or "revoke")
            return work.park_if_exhausted(work.drive(opened.id, resumed=True))

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
        with Runner(self._context, secret, _NO_TIME) as work:
            opened = self._journal.open_rotation(secret.name)
            return work.adopt(first, opened, second, reason, made_at)

    def check(self, secret: ManagedSecret) -> Health:
        """Try to log in with what the backend serves now, and record the answer.

        While another engine works on the secret the answer is only returned, not recorded. What
        another system has rotated by its own schedule is known from then on.
        """
        try:
            with Runner(self._context, secret, _NO_TIME) as work:
                if is_delegated(secret):
                    DelegatedRunner(self._context, secret, _NO_TIME).notice(work)
                return work.check(record=True)
        except Busy:
            return Runner(self._context, secret, _NO_TIME).check(record=False)

    def plan(self, secret: ManagedSecret) -> Plan:
        """Return what a rotation would do. Reads the backend and the target, changes nothing."""
        record = self._journal.secret(secret.name)
        current = secret.backend.current(secret.path)
        credential = current.credential if current else None
        work = Runner(self._context, secret, _NO_TIME)
        ctx = work.steps(_NOT_BEGUN, record).context(credential)
        led = is_delegated(secret)
        self.require_no_second(secret, credential)
        steps: list[Planned] = []
        if isinstance(secret.rotation, Explains) and not (
            led and not isinstance(secret.rotation, DelegatedRotation)
        ):
            steps = secret.rotation.explain(credential, ctx)
        whole = _led_steps if led else _with_engine_steps
        return Plan(
            secret=secret.name,
            login=credential.username if credential else None,
            steps=tuple(whole(secret, steps, has_old=credential is not None)),
            open_rotation=record.open_rotation if record else None,
            next_due=record.next_due if record else None,
        )

    def require_no_second(self, secret: ManagedSecret, current: Credential | None) -> None:
        """Raise `UnprovenSecond` where a second login exists that the next rotation could not take."""
        if current is not None and isinstance(secret.rotation, TakesTurns):
            ctx = self.steps(secret).context(current)
            if (name := secret.rotation.unmanaged(current, ctx)) is not None:
                raise UnprovenSecond(secret.name, name)

    def steps(self, secret: ManagedSecret) -> Steps:
        """Return the steps of no rotation: for looking at a target with the engine's own eyes."""
        return Runner(self._context, secret, _NO_TIME).steps(
            NO_ROTATION, self._journal.secret(secret.name)
        )

    def schedule(
        self,
        secret: ManagedSecret,
        due: datetime | None,
        *,
        reason: str,
        again: datetime | None = None,
    ) -> None:
        """Write down that the secret is due at another time than its last rotation said.

        `again`: where it is not to be rotated when it is due, but later.
        """
        data: dict[str, Json] = {"reason": reason, **as_data(secret.policy, again or due)}
        if again is not None:
            data["due_since"] = due.isoformat() if due else None
        with Runner(self._context, secret, _NO_TIME) as work:
            _ = work.record(NewEvent(kind=Kind.SCHEDULED, data=data))

    def postpone(self, secret: ManagedSecret, until: datetime | None, *, reason: str) -> None:
        """Write down when to rotate a secret that is due: the due date stays."""
        data: dict[str, Json] = {"reason": reason, **retry_data(until)}
        with Runner(self._context, secret, _NO_TIME) as work:
            _ = work.record(NewEvent(kind=Kind.SCHEDULED, data=data))

    def park(self, secret: ManagedSecret, *, reason: str, hint: str = "") -> None:
        """Stop automatic work on the secret until an operator unparks it."""
        with Runner(self._context, secret, _NO_TIME) as work:
            opened = self._journal.open_rotation(secret.name)
            work.park(opened.id if opened else None, reason, hint=hint)

    def unpark(self, secret: ManagedSecret, *, reason: str) -> None:
        """Let automatic work go on; failures are counted from zero again."""
        with Runner(self._context, secret, _NO_TIME) as work:
            opened = self._journal.open_rotation(secret.name)
            data: dict[str, Json] = {"reason": reason}
            work.record(
                NewEvent(kind=Kind.UNPARKED, rotation_id=opened.id if opened else None, data=data)
            )

    # -- the end of management -----------------------------------------------------------------

    def retire(self, secret: ManagedSecret, asked: Retirement) -> Retired:
        """End the management of a secret: complete or undo what is open, then what was asked for.

        Without `drop_login` its login stays as it is, and the journal says so.
        """
        with Runner(self._context, secret, _NO_TIME) as work:
            return retire(work, self._journal, secret, asked)

    def let_go(self, name: str, *, reason: str) -> None:
        """End the management of a secret that nobody can work on: its target or entry is gone.

        Nothing is tried or changed; what is open ends as it is, and the journal names its logins.
        """
        lease = self._journal.acquire(name, self._context.holder(), _LET_GO)
        try:
            record = self._journal.secret(name)
            if record is None or record.retired is not None or record.renamed_to is not None:
                what = f"there is nothing to retire: {name} is not under management."
                raise UsageError(what, safety="Nothing was changed.")
            events = let_go(record, self._journal.open_rotation(name), reason)
            self._observe(self._journal.append(lease, events, _LET_GO))
        finally:
            self._journal.release(lease)

    def rename(self, old: str, secret: ManagedSecret, *, reason: str = "") -> None:
        """Let the history of `old` go on under the name of `secret`, which serves the same version.

        Run again after an interruption, it does what was left undone.
        """
        lease = self._journal.acquire(old, self._context.holder(), _LET_GO)
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
                with Runner(self._context, secret, _NO_TIME) as work:
                    _ = work.record(begins)
            if record.renamed_to is None:
                self._observe(self._journal.append(lease, [ends], _LET_GO))
        finally:
            self._journal.release(lease)

    def _require_renamable(
        self, record: SecretRecord, known: SecretRecord | None, secret: ManagedSecret
    ) -> None:
        old, new = record.name, secret.name
        unchanged = "Nothing was changed."
        if record.open_rotation is not None:
            what = f"rotation {record.open_rotation} of {old} is still open."
            raise UsageError(
                what, hint=f"Complete it first: rotator revoke {old}", safety=unchanged
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

    # -- what is left of the above -------------------------------------------------------------

    def _refuse_parked(self, secret: ManagedSecret) -> SecretRecord | None:
        record = self._journal.secret(secret.name)
        if record is not None and record.parked is not None:
            error = Parked(
                f"it is parked: {record.parked}",
                hint=f"Mend the cause, then: {unpark_command(secret.name)}",
            )
            error.secret = secret.name
            raise error
        return record

    def _open(self, secret: ManagedSecret, verb: str) -> RotationRecord:
        opened = self._journal.open_rotation(secret.name)
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
    error = NotDue(
        f"its last rotation is not over: {result.waiting}.",
        until=result.until,
        hint=f"To end only the older login {old!r} now: rotator revoke {name}\n"
        f"If login {new!r}, which is served, has leaked: rotator revoke {name} && rotator rotate {name}",
    )
    error.safety = "The new credential is published, and the old one is not revoked yet."
    error.secret = result.secret
    return error


def _with_engine_steps(
    secret: ManagedSecret, steps: list[Planned], *, has_old: bool
) -> list[Planned]:
    """Put what the engine does itself between what the plugin does."""
    policy = secret.policy
    own = {
        Step.STAGE: f"keep the new credential in {secret.backend_name}, at {secret.path}, unseen by consumers",
        Step.PUBLISH: f"make it current in {secret.backend_name}, only if nobody else wrote there; read it back",
        Step.DRAIN: f"wait {write(policy.grace)} (grace), then until the old login has no sessions"
        f" (at most {write(policy.drain_wait)}, then {policy.drain_then.value})"
        if secret.rotation.overlaps
        else "nothing: the old password stopped working when the new one was set",
    }
    if secret.copies:
        listed = ", ".join(map(str, secret.copies))
        own[Step.COPY] = f"write it to {listed} too, and read it back"
    after = {Step.REVOKE: "log in with the old credential and require that it is refused"}
    planned: list[Planned] = []
    order = [Step.STAGE, Step.CREATE, Step.VERIFY, Step.PUBLISH, Step.COPY]
    for step in [*order, Step.DRAIN, Step.REVOKE] if has_old else order:
        planned += [Planned(step=step, text=own[step])] if step in own else []
        planned += [one for one in steps if one.step is step]
        planned += [Planned(step=step, text=after[step])] if step in after else []
    return planned


def _led_steps(secret: ManagedSecret, steps: list[Planned], *, has_old: bool) -> list[Planned]:
    """Return what happens where another system rotates: it is asked to, and what it does is proven."""
    own = {one.step for one in steps}
    asked = f"ask {secret.backend_name} to rotate {secret.path}, once; a lost answer is looked for"
    tried = (
        f"log in on {secret.target_name} with what is served then; where it is refused, ask again,"
        f" at most {secret.policy.proposals} times in all"
    )
    said = {Step.CREATE: asked, Step.VERIFY: tried}
    if has_old:
        said[Step.REVOKE] = "log in with the old credential and write down whether it is refused"
    added = [Planned(step=step, text=text) for step, text in said.items() if step not in own]
    return sorted([*steps, *added], key=lambda one: list(Step).index(one.step))
