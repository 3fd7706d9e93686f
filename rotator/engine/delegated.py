"""The steps of a secret that another system rotates: it is requested, awaited and proven.

Two that rotate one secret lock each other out. So nothing is staged and nothing is set here. What the
target rejects although it is served is requested again: that is the one way back for an application
whose password was lost between the two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from rotator.core.contracts.delegated import Repairs, RotatesOnRequest
from rotator.core.delegated import DelegatedRotation
from rotator.core.errors import InUse, Refused, RotatorError, StepError, Transient, Unprovable
from rotator.core.history import text
from rotator.core.model import Check, Evidence, Kind, NewEvent, Outcome, Step
from rotator.core.schedule import as_data, next_due
from rotator.core.state_machine import progress
from rotator.engine.copies import same
from rotator.engine.delegated_requests import pending
from rotator.engine.error_origin import tag_errors
from rotator.engine.safety import NOT_SAFE, SAFE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rotator.core.contracts.backend import SecretBackend
    from rotator.core.contracts.rotation import Rotation, StepContext
    from rotator.core.model import Credential, Event, Json, Version
    from rotator.engine.lock import LockedSecret
    from rotator.engine.steps import ManagedSecret, Steps


def is_delegated(secret: ManagedSecret) -> bool:
    """Return whether another system rotates this secret."""
    inner = secret.backend
    if not isinstance(inner, RotatesOnRequest):
        return False
    owner = cast("RotatesOnRequest", tag_errors(inner, f"backend {secret.backend_name}"))
    return owner.rotates_itself(secret.path)


def noticed(lock: LockedSecret) -> Version | None:
    """Return what is served after a rotation that nobody requested, such as by the system's own schedule.

    What is served must log in; where it does not, that is no reason to record it.
    """
    record, current = lock.record(), lock.backend.current(lock.secret.path)
    if record is None or record.version is None or current is None:
        return None
    if record.version == current.id or record.open_rotation is not None:
        return None
    if pending(lock.journal, lock.name) is not None:
        return None
    steps = lock.steps("notice", record)
    steps.control(current.credential.username)
    target = tag_errors(lock.secret.rotation, f"target {lock.secret.target_name}", lock.contacts)
    seen = evidence(lock.secret, target, current.credential, steps.context(current.credential))
    return current if seen.ok else None


def handed_over(rotation_id: str, to: str) -> NewEvent:
    """Return the end of a request that the other system carries out as a rotation in the same journal."""
    data: dict[str, Json] = {"outcome": Outcome.DONE.value, "continues_as": to}
    return NewEvent(kind=Kind.ENDED, rotation_id=rotation_id, data=data)


def abandoned(rotation_id: str, backend: str, reason: str) -> NewEvent:
    """Return the end of a request that nobody waits for any longer."""
    data: dict[str, Json] = {
        "outcome": Outcome.UNDONE.value,
        "cause": "aborted",
        "what": f"its secret is retired; {backend} may still rotate it.",
        "reason": reason,
    }
    return NewEvent(kind=Kind.ENDED, rotation_id=rotation_id, data=data)


class DelegatedSteps:
    """The steps of one rotation by another system. The credential before is known to this process only."""

    def __init__(
        self,
        steps: Steps,
        secret: ManagedSecret,
        backend: SecretBackend,
        rotation: Rotation,
        id_: str,
    ) -> None:
        """`backend` and `rotation`: those of the secret, whose errors bear their names."""
        self._steps: Steps = steps
        self._secret: ManagedSecret = secret
        self._backend: SecretBackend = backend
        self._rotation: Rotation = rotation
        self._id: str = id_
        self._old: Version | None = None
        self._run: Mapping[Step, Callable[[list[Event]], Mapping[str, Json]]] = {
            Step.CHECK: self._check,
            Step.REQUEST: self._request,
            Step.AWAIT: self._await,
            Step.PROVE: self._prove,
            Step.REVOKE: self._revoke,
        }

    def run(self, step: Step, history: list[Event]) -> Mapping[str, Json]:
        """Run one step; a failure says whether what is served logs in, as far as that can be told."""
        try:
            return self._run[step](history)
        except InUse:
            raise
        except StepError as error:
            error.safety = error.safety or self._safety()
            raise

    def _check(self, history: list[Event]) -> Mapping[str, Json]:
        """Try what is served: where the target cannot be reached nothing could be proven."""
        current = self._served(history)
        self._steps.control(current.credential.username if current else None)
        if current is None:
            return {"accepted": None}
        ctx = self._steps.context(current.credential)
        return {
            "login": current.credential.username,
            "accepted": self._rotation.probe(current.credential, ctx),
        }

    def _request(self, history: list[Event]) -> Mapping[str, Json]:
        current = self._served(history)
        ctx = self._steps.context(current.credential if current else None)
        if current is not None:
            self._repair(current.credential, ctx)
        ctx.require_time()
        number = 1 + sum(_is_rejection(event) for event in history)
        version = cast("RotatesOnRequest", self._backend).request_rotation(
            self._secret.path,
            # Another request has another id: by the same one it would be the same rotation.
            self._id if number == 1 else f"{self._id}-{number}",
            expect=_replaced(history),
        )
        return {"version": version, "asked": number}

    def _repair(self, served: Credential, ctx: StepContext) -> None:
        """Let the rotation recover the secret's owner where what is served is rejected."""
        if isinstance(self._secret.rotation, Repairs) and not self._rotation.probe(served, ctx):
            cast("Repairs", self._rotation).repair(served, ctx)

    def _await(self, history: list[Event]) -> Mapping[str, Json]:
        current = self._served(history)
        awaited = _newest(history, Step.REQUEST)
        if current is not None and (current.id == awaited or current.id != _replaced(history)):
            return {"version": current.id}
        name = self._secret.backend_name
        raise InUse(
            f"{name} was asked to rotate it and has not done so; look at the log of its function.",
            hint=f"Look at the log of the function in {name}. To ask again now: rotator resume {self._secret.name}",
        )

    def _prove(self, history: list[Event]) -> Mapping[str, Json]:
        current = self._served(history)
        if current is None:
            raise Transient(f"{self._secret.backend_name} serves nothing at {self._secret.path!r}.")
        login = current.credential.username
        self._steps.control(login)
        ctx = self._steps.context(current.credential)
        seen = evidence(self._secret, self._rotation, current.credential, ctx)
        if not seen.ok:
            raise self._rejected(history, login, seen)
        policy, now = self._secret.policy, ctx.clock.now()
        data: dict[str, Json] = {"version": current.id, "login": login}
        if progress(history).noticed is not None:
            now = min(current.created or now, now)
            data["rotated_at"] = now.isoformat()
        checks: list[Json] = [
            {"name": one.name, "ok": one.ok, "detail": one.detail} for one in seen.checks
        ]
        return {
            **data,
            "checks": checks,
            **as_data(policy, next_due(policy, now, self._secret.name)),
        }

    def _rejected(self, history: list[Event], login: str, seen: Evidence) -> Refused:
        name = self._secret.name
        number = 1 + sum(_is_rejection(event) for event in history)
        wrong = ", ".join(one.detail or one.name for one in seen.checks if not one.ok)
        hint = ""
        if number >= self._secret.policy.proposals:
            hint = (
                f"It was asked for {number} times. Is the login on the server that is named to try it on? See: rotator doctor {name}"
                if isinstance(self._secret.rotation, DelegatedRotation)
                else "Look at the log of the function that rotated it."
            )
        return Refused(
            f"{self._secret.backend_name} has rotated it, and the target rejects login {login!r} with what is served now ({wrong}).",
            safety=NOT_SAFE,
            hint=hint,
        )

    def _revoke(self, history: list[Event]) -> Mapping[str, Json]:
        """Try the old credential. The other system revokes it."""
        login = text(history[0].data, "old_login")
        current, old = self._served(history), self._old
        if old is None or not old.credential.password.reveal() or current is None:
            return _untried(login, "its password is no longer known")
        if same(old.credential, current.credential):
            return _untried(login, "the same credential is served")
        ctx = self._steps.context(current.credential)
        if self._steps.may_lock(old.credential.username, ctx):
            return _untried(login, "a failed login could lock the account")
        refused = not self._rotation.probe(old.credential, ctx)
        if not refused and isinstance(self._secret.rotation, DelegatedRotation):
            # Another process cannot try it again: nobody keeps it.
            raise Unprovable(
                f"the old credential (login {login!r}) is still accepted after it was rotated.",
                safety=SAFE,
                hint="Look for another way in, such as `trust` in pg_hba.conf, and close it.",
            )
        return {"login": login, "refused": refused}

    def _served(self, history: list[Event]) -> Version | None:
        """Return what is served now, and keep it in mind while it is the credential before."""
        current = self._backend.current(self._secret.path)
        old = text(history[0].data, "old_version")
        if self._old is None and current is not None and current.id == old:
            self._old = current
        return current

    def _safety(self) -> str:
        """Return whether what is served logs in, as far as that can be told now."""
        try:
            current = self._backend.current(self._secret.path)
            if current is None:
                return ""
            ctx = self._steps.context(current.credential)
            accepted = self._steps.accepts(current.credential, ctx)
        except RotatorError:
            return ""
        return "" if accepted is None else SAFE if accepted else NOT_SAFE


def evidence(
    secret: ManagedSecret, rotation: Rotation, credential: Credential, ctx: StepContext
) -> Evidence:
    """Return what a login with a credential of another system shows. `rotation`: with its errors tagged."""
    if not isinstance(secret.rotation, DelegatedRotation):
        accepted = rotation.probe(credential, ctx)
        return Evidence(checks=(_logs_in(accepted, "it is refused"),))
    try:
        return rotation.verify(credential, ctx)
    except Refused as refused:
        return Evidence(checks=(_logs_in(accepted=False, why=refused.what),))


def _logs_in(accepted: bool, why: str = "") -> Check:  # noqa: FBT001 # the answer of a probe
    return Check(name="logs in", ok=accepted, detail="" if accepted else why)


def _untried(login: str | None, why: str) -> dict[str, Json]:
    return {"login": login, "refused": None, "untried": why}


def _is_rejection(event: Event) -> bool:
    rejected = text(event.data, "kind") == Refused.kind
    return event.kind is Kind.FAILED and event.step is Step.PROVE and rejected


def _newest(history: list[Event], step: Step) -> str | None:
    """Return the version that the newest successful run of a step has found."""
    found = (one for one in reversed(history) if one.kind is Kind.FINISHED and one.step is step)
    return next((text(one.data, "version") for one in found), None)


def _replaced(history: list[Event]) -> str | None:
    """Return the version that the next one takes the place of: the last that was rejected, or the first."""
    rejected = any(_is_rejection(event) for event in history)
    first = text(
        history[0].data, "noticed" if rejected and "noticed" in history[0].data else "old_version"
    )
    return (_newest(history, Step.AWAIT) if rejected else None) or first
