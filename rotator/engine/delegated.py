"""Secrets that another system rotates: it is asked to, and what it does is followed and proven.

Two that rotate one secret lock each other out. So nothing is staged and nothing is set here. The
journal says who asked, when, what is served since, that it logs in, and what became of the
credential before. Where the target refuses what is served, another rotation is asked for: that is
the one way back for an application whose password was lost between the two.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final, cast

from rotator.core.backoff import backoff
from rotator.core.contracts.delegated import Repairs, RotatesOnRequest
from rotator.core.delegated import DelegatedRotation
from rotator.core.errors import (
    RETRIED,
    Denied,
    JournalError,
    LeaseLost,
    NotDue,
    Refused,
    RotatorError,
    StepError,
    Unavailable,
    Unknown,
    Unprovable,
)
from rotator.core.identifiers import new_id
from rotator.core.model import Check, Evidence, Kind, NewEvent, Outcome
from rotator.core.schedule import as_data, is_due, next_due, retry_data, retry_due
from rotator.engine.copies import same
from rotator.engine.delegated_requests import DelegatedRequest, delegated, failed, outcomes, pending
from rotator.engine.error_origin import tag_errors
from rotator.engine.lease import leased
from rotator.engine.results import STOPPED, Result
from rotator.engine.safety import NOT_SAFE, SAFE
from rotator.engine.steps import failure, wrap_plugin_errors

if TYPE_CHECKING:
    from datetime import datetime

    from rotator.core.contracts.backend import SecretBackend
    from rotator.core.contracts.rotation import Rotation, StepContext
    from rotator.core.model import Credential, Json, Version
    from rotator.engine.context import EngineContext
    from rotator.engine.lease import LeasedSecret
    from rotator.engine.steps import ManagedSecret, Steps

_LOOK_EVERY: Final = 2.0
_STEP: Final = "follow"


def is_delegated(secret: ManagedSecret) -> bool:
    """Return whether another system rotates this secret."""
    inner = secret.backend
    if not isinstance(inner, RotatesOnRequest):
        return False
    owner = cast("RotatesOnRequest", tag_errors(inner, f"backend {secret.backend_name}"))
    return owner.rotates_itself(secret.path)


class DelegatedRunner:
    """One request, from asking to proof. The lease is held only while something is done: whoever
    rotates may keep the same journal.
    """

    def __init__(self, context: EngineContext, secret: ManagedSecret, patience: timedelta) -> None:
        """`patience`: how long waits may last in all, beside at least one step's time to look on."""
        origin = f"backend {secret.backend_name}"
        self._context: EngineContext = context
        self._secret: ManagedSecret = secret
        self._backend: SecretBackend = tag_errors(secret.backend, origin)
        self._owner: RotatesOnRequest = cast("RotatesOnRequest", tag_errors(secret.backend, origin))
        self._rotation: Rotation = tag_errors(secret.rotation, f"target {secret.target_name}")
        self._waits: timedelta = max(patience, secret.policy.step_timeout)
        now = context.clock.now()
        self._looks_until: datetime = now + self._waits
        self._retries_until: datetime = now + patience
        self._followed: DelegatedRequest | None = None
        self._at_once: bool = False
        # The credential before, and whether it logged in, as this process has seen it.
        self._old: Version | None = None
        self._old_accepted: bool | None = None

    # -- what the engine asks for --------------------------------------------------------------

    def rotate(
        self, reason: str, rotation_id: str | None, *, only_if_due: bool, at_once: bool = False
    ) -> Result:
        """Ask once, also when a process died after asking, and see it through."""
        self._at_once = at_once
        policy, tries = self._secret.policy, 0
        while True:
            try:
                return self._rotate(reason, rotation_id, only_if_due=only_if_due)
            except RotatorError as error:
                self._tell_where(error)
                tries += 1
                wait = backoff(
                    tries, first=policy.backoff, longest=policy.backoff_cap, key=self._secret.name
                )
                again = self._context.clock.now() + wait
                passes = error.kind in RETRIED and error.kind != Unavailable.kind
                stops = self._context.should_stop()
                if stops or not passes or again > self._retries_until:
                    raise
                self._context.clock.sleep(wait.total_seconds())

    def resume(self) -> Result | None:
        """See through what was asked for; None when nothing was."""
        if pending(self._context.journal, self._secret.name) is None:
            return None
        result = self.rotate("", None, only_if_due=False)
        return replace(result, resumed=True)

    def notice(self, lease: LeasedSecret) -> bool:
        """Write down a rotation that nobody asked for, such as one by the system's own schedule.

        What is served then must log in; else nothing is written, and False is returned.
        """
        record = self._context.journal.secret(self._secret.name)
        current = self._backend.current(self._secret.path)
        if record is None or record.version is None or current is None:
            return False
        if record.version == current.id or pending(self._context.journal, self._secret.name):
            return False
        steps = lease.steps(_STEP, record)
        steps.control(current.credential.username)
        evidence = self._evidence(steps, current.credential)
        if not evidence.ok:
            return False
        at = min(current.created or self._context.clock.now(), self._context.clock.now())
        data: dict[str, Json] = {
            "request": None,
            "noticed": True,
            "rotated_at": at.isoformat(),
            **self._found(current, evidence),
            **as_data(self._secret.policy, next_due(self._secret.policy, at, self._secret.name)),
        }
        _ = lease.append([NewEvent(kind=Kind.FOLLOWED, data=data)])
        return True

    # -- one try -------------------------------------------------------------------------------

    def _rotate(self, reason: str, rotation_id: str | None, *, only_if_due: bool) -> Result:
        while True:
            with leased(self._context, self._secret) as lease:
                request = pending(self._context.journal, self._secret.name)
                if request is None and self._followed is not None:
                    return self._ended_by_another(self._followed)
                if request is None and self._context.should_stop():
                    return Result(secret=self._secret.name, waiting=STOPPED, stopped=True)
                if request is None:
                    request = self._request(lease, reason, rotation_id, only_if_due=only_if_due)
                self._followed = request
                if self._context.should_stop():
                    return self._still_waiting(request)
                steps = lease.timed_steps(_STEP)
                try:
                    with wrap_plugin_errors(
                        self._context.log, self._secret.name, request.id, _STEP
                    ):
                        awaited, current = self._ask(steps, request)
                        if current is not None and current.id == awaited:
                            done = self._prove(lease, steps, request, current)
                            if done is not None:
                                return done
                            continue
                except StepError as error:
                    raise self._failed(lease, request, error) from error
            found = self._await(awaited)
            if found is None:
                return self._still_waiting(request)
            done = self._see(request, found)
            if done is not None:
                return done

    def _request(
        self, lease: LeasedSecret, reason: str, rotation_id: str | None, *, only_if_due: bool
    ) -> DelegatedRequest:
        """Write down a new request, if there is to be one."""
        journal, name = self._context.journal, self._secret.name
        noticed = self.notice(lease)
        record = journal.secret(name)
        if only_if_due and not is_due(record, self._context.clock.now(), at_once=self._at_once):
            why = ": it rotated automatically, which is recorded now" if noticed else ""
            raise NotDue(f"it is not due{why}.", until=None)
        current = self._backend.current(self._secret.path)
        steps = lease.steps(_STEP, record)
        steps.control(current.credential.username if current else None)
        if current is not None:
            # Where the target cannot be reached nothing could be proven, so nothing is asked for.
            self._old_accepted = self._rotation.probe(
                current.credential, steps.context(current.credential)
            )
        request = DelegatedRequest(
            id=rotation_id or new_id(self._context.entropy),
            reason=reason,
            old_version=current.id if current else None,
            old_login=current.credential.username if current else None,
            due=record.due if record else None,
        )
        _ = lease.append([delegated(self._secret, request, self._context.clock.now())])
        return request

    def _ask(self, steps: Steps, request: DelegatedRequest) -> tuple[str, Version | None]:
        """Ask for it, if it has not happened; return the version to come and what is served now."""
        before = self._backend.current(self._secret.path)
        if self._old is None and before is not None and before.id == request.old_version:
            self._old = before
        ctx = steps.context(before.credential if before else None)
        if before is not None:
            self._repair(before.credential, ctx)
        ctx.require_time()
        awaited = self._owner.request_rotation(
            self._secret.path, request.id, expect=request.old_version
        )
        return awaited, self._backend.current(self._secret.path)

    def _repair(self, served: Credential, ctx: StepContext) -> None:
        """Let the rotation bring its keeper back where that cannot rotate as it stands."""
        if not isinstance(self._secret.rotation, Repairs):
            return
        if not self._rotation.probe(served, ctx):
            cast("Repairs", self._rotation).repair(served, ctx)

    def _await(self, awaited: str) -> Version | None:
        clock = self._context.clock
        while (
            current := self._backend.current(self._secret.path)
        ) is None or current.id != awaited:
            if clock.now() >= self._looks_until or self._context.should_stop():
                return None
            clock.sleep(_LOOK_EVERY)
        return current

    def _see(self, request: DelegatedRequest, current: Version) -> Result | None:
        """Prove what was waited for, under a lease of its own."""
        with leased(self._context, self._secret) as lease:
            if pending(self._context.journal, self._secret.name) != request:
                return self._ended_by_another(request)
            try:
                with wrap_plugin_errors(self._context.log, self._secret.name, request.id, _STEP):
                    return self._prove(lease, lease.timed_steps(_STEP), request, current)
            except StepError as error:
                raise self._failed(lease, request, error) from error

    def _prove(
        self, lease: LeasedSecret, steps: Steps, request: DelegatedRequest, current: Version
    ) -> Result | None:
        """Try what is served now and what was before; None when another rotation is asked for."""
        steps.control(current.credential.username)
        evidence = self._evidence(steps, current.credential)
        if not evidence.ok:
            self._ask_again(lease, request, current, evidence)
            return None
        refused = self._old_refused(steps, current)
        due = next_due(self._secret.policy, self._context.clock.now(), self._secret.name)
        data: dict[str, Json] = {
            "request": request.id,
            "asked": request.asked,
            **self._found(current, evidence),
            "old_version": request.old_version,
            "old_login": request.old_login,
            "old_accepted_before": self._old_accepted,
            "old_refused": refused,
            **as_data(self._secret.policy, due),
        }
        _ = lease.append([NewEvent(kind=Kind.FOLLOWED, data=data)])
        self._context.log.info("followed", secret=self._secret.name, request=request.id)
        if refused is False and isinstance(self._secret.rotation, DelegatedRotation):
            raise _StillAccepted(
                f"the old credential (login {request.old_login!r}) is still accepted after it was rotated.",
                safety=SAFE,
                hint="Look for another way in, such as `trust` in pg_hba.conf, and close it.",
            )
        return self._result(request, current, refused)

    def _ended_by_another(self, request: DelegatedRequest) -> Result:
        """Return how it ended, as another process has written it down that looked on too."""
        current = self._backend.current(self._secret.path)
        newest = next(iter(outcomes(self._context.journal, self._secret.name, 1)), None)
        if newest is not None and newest.kind is Kind.FAILED:
            raise failure(newest)
        if current is None or newest is None:
            raise Unknown("what was asked for is no longer known; somebody else is at work on it.")
        refused = newest.data.get("old_refused")
        return self._result(request, current, refused if isinstance(refused, bool) else None)

    # -- when it does not go well --------------------------------------------------------------

    def _ask_again(
        self, lease: LeasedSecret, request: DelegatedRequest, current: Version, evidence: Evidence
    ) -> None:
        """Write down that the target refuses what is served, and a request for another one."""
        login = current.credential.username
        wrong = ", ".join(one.detail or one.name for one in evidence.checks if not one.ok)
        what = f"{self._secret.backend_name} has rotated it, and the target rejects login {login!r} with what is served now"
        if request.asked >= self._secret.policy.proposals:
            hint = (
                f"It was asked for {request.asked} times. Is the login on the server that is named to try it on? See: rotator doctor {self._secret.name}"
                if isinstance(self._secret.rotation, DelegatedRotation)
                else "Look at the log of the function that rotated it."
            )
            raise Denied(f"{what} ({wrong}).", safety=NOT_SAFE, hint=hint)
        self._context.log.warning("refused", secret=self._secret.name, login=login, what=wrong)
        again = DelegatedRequest(
            id=new_id(self._context.entropy),
            reason="the target refuses what is served",
            old_version=current.id,
            old_login=login,
            asked=request.asked + 1,
            due=request.due,
        )
        self._old_accepted = False
        refused = Refused(f"{what} ({wrong}).", safety=NOT_SAFE)
        now = self._context.clock.now()
        _ = lease.append(
            [
                failed(request, refused, retry_data(now)),
                delegated(self._secret, again, now),
            ]
        )

    def _failed(
        self, lease: LeasedSecret, request: DelegatedRequest, error: StepError
    ) -> StepError:
        """Write down what kept it from being done; return what is to be raised."""
        if isinstance(error, _StillAccepted):
            return error
        record = self._context.journal.secret(self._secret.name)
        policy = self._secret.policy
        tries = (record.failures if record else 0) + 1
        waits = error.kind == Unavailable.kind
        if error.kind in RETRIED and not waits and tries >= policy.attempts * policy.cycles:
            last, error = (
                error,
                Denied(
                    f"it failed {tries} times in a row; the last time: {error.what}",
                    hint=error.hint,
                ),
            )
            error.origin = last.origin
        if waits:
            due: datetime | None = self._context.clock.now() + policy.backoff_cap
        elif error.kind in RETRIED:
            due = self._context.clock.now() + backoff(
                tries, first=policy.backoff, longest=policy.backoff_cap, key=self._secret.name
            )
        else:
            due = self._due_after(request, tries)
        error.safety = error.safety or self._safety(lease)
        with suppress(JournalError, LeaseLost):
            # What went wrong is what a person must hear of; the request itself is written down.
            _ = lease.append([failed(request, error, retry_data(due))])
        return error

    def _due_after(self, request: DelegatedRequest, tries: int) -> datetime | None:
        """Return when to ask anew by itself: not at once, and never where it never was due."""
        if request.due is None:
            return None
        again = retry_due(self._secret.policy, self._context.clock.now(), tries, self._secret.name)
        return None if again is None else max(again, request.due)

    def _safety(self, lease: LeasedSecret) -> str:
        """Return whether what is served logs in, as far as that can be told now."""
        try:
            current = self._backend.current(self._secret.path)
            if current is None:
                return ""
            steps = lease.steps(_STEP, None)
            accepted = steps.accepts(current.credential, steps.context(current.credential))
        except RotatorError:
            return ""
        if accepted is None:
            return ""
        return SAFE if accepted else NOT_SAFE

    def _tell_where(self, error: RotatorError) -> None:
        error.secret = error.secret or self._secret.name

    # -- evidence ------------------------------------------------------------------------------

    def _evidence(self, steps: Steps, credential: Credential) -> Evidence:
        """Return what a login with this credential showed."""
        ctx = steps.context(credential)
        if not isinstance(self._secret.rotation, DelegatedRotation):
            accepted = self._rotation.probe(credential, ctx)
            return Evidence(checks=(_logs_in(accepted, "it is refused"),))
        try:
            return self._rotation.verify(credential, ctx)
        except Refused as refused:
            return Evidence(checks=(_logs_in(accepted=False, why=refused.what),))

    def _old_refused(self, steps: Steps, current: Version) -> bool | None:
        """Return whether the credential before is dead; None where it is not known any more."""
        old = self._old
        if old is None or not old.credential.password.reveal():
            return None
        if same(old.credential, current.credential):
            return None
        ctx = steps.context(current.credential)
        if steps.may_lock(old.credential.username, ctx):
            return None
        return not self._rotation.probe(old.credential, steps.context(current.credential))

    def _found(self, current: Version, evidence: Evidence) -> dict[str, Json]:
        return {
            "login": current.credential.username,
            "version": current.id,
            "backend": self._secret.backend_name,
            "target": self._secret.target_name,
            "checks": [
                {"name": one.name, "ok": one.ok, "detail": one.detail} for one in evidence.checks
            ],
        }

    # -- results --------------------------------------------------------------------

    def _still_waiting(self, request: DelegatedRequest) -> Result:
        stopped = self._context.should_stop()
        return Result(
            secret=self._secret.name,
            rotation_id=request.id,
            old_login=request.old_login,
            until=self._context.clock.now() if stopped else self._looks_until,
            stopped=stopped,
            waiting=STOPPED
            if stopped
            else f"{self._secret.backend_name} was asked to rotate it, and has not ended within"
            f" {round(self._waits.total_seconds())} s; look at the log of its function",
            by=self._secret.backend_name,
        )

    def _result(self, request: DelegatedRequest, current: Version, refused: bool | None) -> Result:  # noqa: FBT001 # what was seen, not a switch
        return Result(
            secret=self._secret.name,
            rotation_id=current.rotation_id or request.id,
            outcome=Outcome.DONE,
            login=current.credential.username,
            old_login=request.old_login,
            version=current.id,
            published=True,
            old_refused=refused,
            by=self._secret.backend_name,
        )


class _StillAccepted(Unprovable):
    """It was rotated and written down, and the target lets the old credential in all the same."""


def _logs_in(accepted: bool, why: str = "") -> Check:  # noqa: FBT001 # the answer of a probe
    return Check(name="logs in", ok=accepted, detail="" if accepted else why)
