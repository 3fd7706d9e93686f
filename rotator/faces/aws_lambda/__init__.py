"""AWS Lambda: `handler` rotates for Secrets Manager, `sweep` revokes what is due afterwards.

Point the function's handler at `rotator.faces.aws_lambda.handler`; how: docs/how-to/aws-lambda.md. What goes wrong
is raised, as AWS wants it: the type says what kind of trouble it is, the text what to do; never a secret.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rotator.core.traceback_frames import forget_variables
from rotator.faces.aws_lambda.function import function

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["handler", "sweep"]


def handler(event: dict[str, Any], context: Any) -> None:
    """Do one step of a rotation that Secrets Manager leads. Raises `RotatorError`."""
    with _border():
        function().handle(event, context)


def sweep(event: object, context: Any) -> dict[str, Any]:
    """Revoke what is due, and end what was interrupted; for a schedule of EventBridge.

    `{"SecretId": ARN}` sweeps that secret only, `{"SecretId": ARN, "now": true}` without waiting for
    its grace period or its sessions. Returns how many rotations were ended and how many are still
    waiting; raises when one failed.
    """
    with _border():
        return function().sweep(event, context)


@contextmanager
def _border() -> Generator[None]:
    """Let no error bring variables along: the runtime and its extensions may print them."""
    try:
        yield
    except Exception as error:
        forget_variables(error)
        raise
