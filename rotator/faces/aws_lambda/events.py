"""Validates the events of Secrets Manager and EventBridge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from rotator import system
from rotator.core.errors import UsageError
from rotator.core.model import Step
from rotator.core.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

# AWS's names of the steps, in both spellings of its documentation, and how far each of them goes.
STEPS: Final[Mapping[str, Step]] = {
    "createSecret": Step.STAGE,
    "setSecret": Step.CREATE,
    "testSecret": Step.VERIFY,
    "finishSecret": Step.PUBLISH,
    "create_secret": Step.STAGE,
    "set_secret": Step.CREATE,
    "test_secret": Step.VERIFY,
    "finish_secret": Step.PUBLISH,
}
_ARN_PARTS: Final = 7
# arn:partition:service:region:account
_ACCOUNT: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A step of a rotation. `token`: the version that is to become current."""

    step: Step
    arn: str
    token: str
    rotation_token: Secret | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """A sweep of all secrets, or of one. `now`: without waiting for the grace period."""

    arn: str | None = None
    now: bool = False


def sound(event: object) -> Event:
    """Read an event. Raises `UsageError` that names what is wrong with it."""
    given = cast("dict[str, Any]", event) if isinstance(event, dict) else {}
    step, arn, token = (given.get(one) for one in ("Step", "SecretId", "ClientRequestToken"))
    if not isinstance(step, str) or step not in STEPS:
        said = "no step" if step is None else "a step that is not known"
        raise UsageError(
            f"the event names {said}.",
            safety="Nothing was changed.",
            hint=f"One of {', '.join(list(STEPS)[:4])}: this function is for Secrets Manager's rotation.",
        )
    if not isinstance(arn, str) or not is_secret(arn):
        raise UsageError(
            "the event's SecretId is not the ARN of a secret.", safety="Nothing was changed."
        )
    if not isinstance(token, str) or not token:
        raise UsageError("the event has no ClientRequestToken.", safety="Nothing was changed.")
    rotation_token = given.get("RotationToken")
    return Event(
        step=STEPS[step],
        arn=arn,
        token=token,
        rotation_token=Secret(str(rotation_token)) if rotation_token else None,
    )


def swept(event: object) -> Sweep:
    """Read what a sweep is called with: `{"SecretId": ARN, "now": true}`, or anything else from a schedule."""
    given = cast("dict[str, Any]", event) if isinstance(event, dict) else {}
    arn, now = given.get("SecretId"), given.get("now", False)
    if arn is not None and (not isinstance(arn, str) or not is_secret(arn)):
        raise UsageError("SecretId is not the ARN of a secret.", safety="Nothing was changed.")
    if now is not False and (arn is None or now is not True):
        raise UsageError(
            "`now` is true, for the one secret that SecretId names.", safety="Nothing was changed."
        )
    return Sweep(arn=arn, now=bool(now))


def is_secret(arn: str) -> bool:
    """Return whether it is the ARN of a secret."""
    parts = arn.split(":")
    return len(parts) == _ARN_PARTS and (parts[0], parts[2], parts[5]) == (
        "arn",
        "secretsmanager",
        "secret",
    )


def require_account(asked: Event | Sweep, context: Any) -> None:
    """Refuse the secret of another account, unless AWS gave a token for just that."""
    if asked.arn is None:
        return
    ours = str(getattr(context, "invoked_function_arn", "")).split(":")
    account = asked.arn.split(":")[_ACCOUNT]
    entrusted = isinstance(asked, Event) and asked.rotation_token is not None
    if len(ours) > _ACCOUNT and ours[_ACCOUNT] != account and not entrusted:
        raise UsageError(
            f"the secret is in account {account}, and this function in {ours[_ACCOUNT]}.",
            safety="Nothing was changed.",
            hint="Give each account its own function, and let only that account invoke it (aws:SourceAccount).",
        )


def request_of(context: Any) -> str:
    """Return the id of this invocation."""
    return str(getattr(context, "aws_request_id", "") or system.holder())
