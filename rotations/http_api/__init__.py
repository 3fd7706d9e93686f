"""Logins of an HTTP API, by requests of an operator's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rotations.http_api.client import Api
from rotations.http_api.options import Request, SecretOptions, TargetOptions
from rotations.http_api.strategies import STRATEGIES
from rotator.api import Finding, Plugin, Severity, StepError

if TYPE_CHECKING:
    from rotator.api import StepContext

__all__ = ["PLUGIN", "Request", "SecretOptions", "TargetOptions"]

# No login has this name.
_NOBODY: Final = "rotator-doctor"


def _examine(api: Api, ctx: StepContext) -> list[Finding]:
    """Look up a login that does not exist, as the admin."""
    exists, subject = api.options.exists, str(api)
    values = dict.fromkeys(exists.names, _NOBODY)
    doing = "looking up a login as the admin"
    try:
        answer = api.ask(exists, values, ctx, doing=doing)
        if answer.status not in exists.absent:
            api.require_ok(exists, answer, doing=doing)
    except StepError as error:
        finding = Finding(
            severity=Severity.ERROR, subject=subject, message=error.what, remedy=error.hint
        )
        return [finding]
    message = f"the admin can look up logins (status {answer.status})"
    return [Finding(severity=Severity.OK, subject=subject, message=message)]


PLUGIN: Final = Plugin(
    name="http",
    summary="An HTTP API that keeps logins, by requests of your own.",
    strategies=STRATEGIES,
    target_options=TargetOptions,
    secret_options=SecretOptions,
    connect=Api,
    examine=_examine,
)
