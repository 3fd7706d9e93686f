"""Access keys of IAM users: AWS draws them, and a user has two at most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rotations.aws_iam.options import SecretOptions, TargetOptions
from rotations.aws_iam.service import Iam
from rotations.aws_iam.strategies import NewKeys
from rotator.api import Finding, Plugin, Severity, StepError

if TYPE_CHECKING:
    from rotator.api import StepContext

__all__ = ["PLUGIN", "SecretOptions", "TargetOptions"]


def _examine(iam: Iam, ctx: StepContext) -> list[Finding]:
    """Ask AWS who rotator is."""
    try:
        arn = iam.own_arn(ctx)
    except StepError as error:
        finding = Finding(
            severity=Severity.ERROR, subject=str(iam), message=error.what, remedy=error.hint
        )
        return [finding]
    return [Finding(severity=Severity.OK, subject=str(iam), message=f"authenticated as {arn}")]


PLUGIN: Final = Plugin(
    name="aws-iam",
    summary="Access keys of AWS IAM users.",
    strategies={NewKeys.name: NewKeys},
    target_options=TargetOptions,
    secret_options=SecretOptions,
    connect=Iam,
    needs_admin=False,
    examine=_examine,
)
