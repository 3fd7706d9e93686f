"""One step of a rotation that Secrets Manager leads, driven as far as the engine's step of that name."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rotator.backends.aws import aws_driven
from rotator.backends.aws.backend import CURRENT, PENDING
from rotator.core.errors import NotDue, RotatorError, Transient, UsageError
from rotator.core.model import Outcome, Step
from rotator.faces.aws_lambda.secret_json import check_pending
from rotator.faces.aws_lambda.tag_journal import REASON

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rotator.core.model import Credential
    from rotator.engine import Engine, ManagedSecret, Result
    from rotator.faces.aws_lambda.events import Event
    from rotator.faces.aws_lambda.managed_secret import AwsSecret, Invocation
    from rotator.faces.aws_lambda.wiring import Wiring


class RotationStep:
    """One step, in one invocation."""

    def __init__(self, wiring: Wiring, event: Event, invocation: Invocation) -> None:
        self._wiring: Wiring = wiring
        self._event: Event = event
        self._invocation: Invocation = invocation

    def run(self, about: Mapping[str, Any]) -> bool:
        """Do the step of a secret that AWS describes so; return whether its rotation is published.

        Returns also where the step was done before.
        """
        event, wiring = self._event, self._wiring
        labels = about.get("VersionIdsToStages", {}).get(event.token)
        if labels is not None and CURRENT in labels:
            if event.step is Step.PUBLISH:
                self._complete(about)
            return True
        self._require_pending(labels)
        known = wiring.secret(event.arn, about)
        pending = self._pending(known)
        if pending is None and event.step is Step.VERIFY:
            # RotateImmediately=false: AWS tries the function, with a version that has no value.
            self._try_current(known)
            return True
        if pending is not None:
            check_pending(known.about, known.current.credential, pending)
        return self._advance(self._not_busy(known), pending)

    def _require_pending(self, labels: list[str] | None) -> None:
        event = self._event
        if labels is None:
            raise UsageError(
                f"the secret has no version {event.token} to be rotated to.",
                safety="Nothing was changed.",
                hint="If its rotation was undone, ask for another: aws secretsmanager rotate-secret",
            )
        if PENDING not in labels:
            raise UsageError(
                f"version {event.token} no longer has the label AWSPENDING.",
                safety="Nothing was changed.",
                hint="Ask for another rotation: aws secretsmanager rotate-secret",
            )
        if aws_driven.PREVIOUS in labels:
            # Its password was replaced since; perhaps because it had leaked.
            self._wiring.backend.discard(event.arn, event.token)
            raise UsageError(
                f"version {event.token} was current before, so it is not made current again.",
                safety="Nothing was changed but its label AWSPENDING, which was left over.",
                hint="Ask for another rotation: aws secretsmanager rotate-secret",
            )

    def _pending(self, known: AwsSecret) -> Credential | None:
        """Return the pending credential; waited for where an earlier step must have written it."""
        backend, token = self._wiring.backend, self._event.token
        if self._event.step is Step.STAGE:
            return backend.staged(known.arn, token)
        return backend.staged_in_time(known.arn, token)

    def _not_busy(self, known: AwsSecret) -> AwsSecret:
        """Wait while a sweep may be closing the old login; return the secret as it is then."""
        wiring = self._wiring
        until = known.state.busy_until if known.state is not None else None
        if until is None or until <= wiring.clock.now():
            return known
        wait = (until - wiring.clock.now()).total_seconds()
        if wait > self._invocation.left * 0.8:
            raise Transient(
                "a sweep is closing the login that it had before the last rotation.",
                safety="Nothing was changed.",
                hint=f"AWS tries again automatically; it is over at {until:%H:%M:%S} UTC at the latest.",
            )
        wiring.clock.sleep(wait)
        return wiring.secret(known.arn, wiring.backend.describe(known.arn) or {})

    def _advance(self, known: AwsSecret, pending: Credential | None) -> bool:
        event, wiring, invocation = self._event, self._wiring, self._invocation
        with wiring.engine(known, invocation, token=event.token, pending=pending) as (
            engine,
            secret,
        ):
            to = event.step
            if to in (Step.CREATE, Step.VERIFY) and not secret.rotation.overlaps:
                # Once the password is set, the current one does not log in: the new one is tried and
                # published at once, not by AWS's next two calls. They find it done.
                to = Step.PUBLISH
            adopt_edit(wiring, engine, secret, known)
            try:
                result = engine.advance(
                    secret,
                    rotation_id=event.token,
                    to=to,
                    reason=REASON,
                    others=wiring.others(known),
                    patience=timedelta(seconds=invocation.left * 0.3),
                    ends=invocation.ends,
                )
            except NotDue as early:
                if pending is None:
                    # Else the sweep, which leaves rotations of AWS alone, would never end it.
                    wiring.backend.discard(event.arn, event.token)
                early.hint = "The sweep ends it once that is over; at once: invoke it with SecretId and now (`rotator docs lambda`). Then ask for another rotation."
                raise
            if result.outcome is Outcome.UNDONE or not _has_reached(result, to):
                raise result.error or not_completed(to)
            if to is Step.PUBLISH and not secret.rotation.overlaps:
                # Nothing is left to wait for: prove at once that the old password is rejected.
                prove_old_rejected(wiring, engine, secret, invocation)
            return to is Step.PUBLISH

    def _complete(self, about: Mapping[str, Any]) -> None:
        """Record, at a repeated finishSecret, what an invocation that was cut off could not."""
        event, wiring, invocation = self._event, self._wiring, self._invocation
        try:
            if wiring.open_rotation(event.arn, about) != event.token:
                return
            known = wiring.secret(event.arn, about)
            with wiring.engine(known, invocation, token=event.token) as (engine, secret):
                prove_old_rejected(wiring, engine, secret, invocation)
        except RotatorError as error:
            # The step that AWS asked for is done.
            wiring.log.warning("not ended", secret=event.arn, kind=error.kind, what=error.what)

    def _try_current(self, known: AwsSecret) -> None:
        """Log in with the current credential, and check that the admin can."""
        with self._wiring.engine(known, self._invocation) as (engine, secret):
            health = engine.check(secret)
            if not health.accepted:
                raise UsageError(
                    f"the target rejects login {health.login!r} with what is current{health.rejection.because}.",
                    safety="Nothing was changed. The application is NOT safe: what it reads does not log in.",
                    hint=health.rejection.hint or "Write the password that works into the secret.",
                )


def adopt_edit(wiring: Wiring, engine: Engine, secret: ManagedSecret, known: AwsSecret) -> None:
    """Adopt a foreign value that replaced the published one: the same login, another key beside it.

    Without a database the published rotation is forgotten instead, see `TagJournal`.
    """
    journals = wiring.journals
    if not journals.adopts_edits:
        return
    opened = journals.open_rotation(known.name, known.state)
    if opened in (None, known.current.id) or not journals.was_published(opened or ""):
        return
    try:
        _ = engine.adopt(secret, reason=REASON)
    except UsageError as error:
        # Another login, or one that does not log in: the step that this stops reports it.
        wiring.log.warning("not taken over", secret=secret.name, what=error.what)


def prove_old_rejected(
    wiring: Wiring, engine: Engine, secret: ManagedSecret, invocation: Invocation
) -> None:
    """Drive a published rotation to its end, as far as it gets now. Raises nothing of rotator's."""
    try:
        _ = engine.resume(secret, ends=invocation.ends)
    except RotatorError as error:
        # It is published, as AWS asked. The sweep does the rest.
        wiring.log.warning("not ended", secret=secret.name, kind=error.kind, what=error.what)


def not_completed(step: Step) -> Transient:
    """Return the error of a rotation that has not reached the end of a step."""
    return Transient(f"step `{step.value}` has not completed yet.")


def _has_reached(result: Result, to: Step) -> bool:
    if to is Step.PUBLISH:
        return result.published
    return result.error is None and result.until is None
