"""The sweep: revokes old logins whose grace period is over, and ends interrupted rotations."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from rotator.backends.aws import aws_driven
from rotator.core.errors import RotatorError, Transient
from rotator.core.model import Outcome, Step
from rotator.faces.aws_lambda.rotation_step import adopt_edit, not_completed, prove_old_rejected
from rotator.faces.aws_lambda.secret_json import check_pending
from rotator.faces.aws_lambda.tag_journal import REASON
from rotator.faces.aws_lambda.wiring import MARGIN

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rotator.engine import Result
    from rotator.faces.aws_lambda.managed_secret import AwsSecret, Invocation
    from rotator.faces.aws_lambda.wiring import Wiring

# AWS tries a step again several times, within some minutes; it has given up on what is older.
_GIVEN_UP: Final = timedelta(minutes=15)


class Sweeper:
    """One sweep, in one invocation."""

    def __init__(self, wiring: Wiring, invocation: Invocation, *, now: bool) -> None:
        """`now`: do not wait for grace periods and sessions."""
        self._wiring: Wiring = wiring
        self._invocation: Invocation = invocation
        self._now: bool = now

    def run(self, arns: Iterable[str]) -> dict[str, Any]:
        """Sweep these secrets; return how many rotations ended. Raises `Transient` where one failed."""
        wiring = self._wiring
        answer: dict[str, Any] = {"ended": 0, "waiting": 0, "failed": []}
        for arn in arns:
            if self._invocation.left < 2 * MARGIN:
                answer["left"] = "the function ran out of time; the next sweep continues"
                break
            try:
                ended = self._sweep(arn)
            except RotatorError as error:
                wiring.log.error("sweep", secret=arn, kind=error.kind, what=error.what)  # noqa: TRY400 # it may hold anything
                answer["failed"].append(str(error))
            else:
                answer["ended"] += ended is True
                answer["waiting"] += ended is False
        if failed := answer["failed"]:
            raise Transient(f"{len(failed)} secret(s) could not be swept: {'; '.join(failed)}")
        return answer

    def _sweep(self, arn: str) -> bool | None:
        """Return whether its rotation has ended; None when there was none."""
        wiring, invocation = self._wiring, self._invocation
        about = wiring.backend.describe(arn)
        if about is None:
            return None
        known = wiring.secret(arn, about)
        opened, pending = wiring.journals.open_rotation(known.name, known.state), known.pending()
        if pending is not None and aws_driven.PREVIOUS in known.stages[pending]:
            # Somebody has made another one current since. AWS would begin no rotation any more.
            wiring.backend.discard(arn, pending)
            pending = None
        if pending is not None:
            return self._end_stuck(known, pending)
        if opened is None:
            return None
        state = known.state
        if state is not None and known.may_be_published:
            if known.current.id not in (state.rotation, state.old):
                why = "somebody else's value is current, so its old login is left as it is"
                wiring.log.warning("not swept", secret=known.name, why=why)
                return None
            if state.busy_until is not None and state.busy_until > wiring.clock.now():
                return False
        with wiring.engine(known, invocation, token=known.current.id) as (engine, secret):
            if opened != known.current.id and not wiring.journals.was_published(opened):
                # Somebody has removed the label AWSPENDING, so AWS does not call for it again.
                return _has_ended(engine.rollback(secret, reason="AWS has given it up"))
            adopt_edit(wiring, engine, secret, known)
            if self._now:
                reason = "asked for at once"
                return _has_ended(engine.revoke(secret, reason=reason, end_sessions=True))
            return _has_ended(engine.resume(secret, ends=invocation.ends))

    def _end_stuck(self, known: AwsSecret, pending: str) -> bool | None:
        """Go on where AWS has given up half-way and the application is locked out."""
        wiring, invocation = self._wiring, self._invocation
        version = wiring.backend.read(known.arn, pending)
        if version is None or version.created is None:
            return None
        if wiring.clock.now() - version.created < _GIVEN_UP:
            return None
        check_pending(known.about, known.current.credential, version.credential)
        with wiring.engine(known, invocation, token=pending, pending=version.credential) as (
            engine,
            secret,
        ):
            if engine.check(secret).accepted:
                return None
            result = engine.advance(
                secret, rotation_id=pending, to=Step.PUBLISH, reason=REASON, ends=invocation.ends
            )
            if not result.published:
                raise result.error or not_completed(Step.PUBLISH)
            prove_old_rejected(wiring, engine, secret, invocation)
            return True


def _has_ended(result: Result | None) -> bool | None:
    if result is None:
        return None
    if result.error is not None and result.outcome is not Outcome.UNDONE:
        raise result.error
    return result.outcome is not None
