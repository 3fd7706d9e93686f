"""The rotation function: checks what it is invoked with, and dispatches it."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any

from rotator.core.errors import UsageError
from rotator.faces.aws_lambda.events import require_account, sound, swept
from rotator.faces.aws_lambda.rotation_step import RotationStep
from rotator.faces.aws_lambda.settings import settings as read_settings
from rotator.faces.aws_lambda.wiring import Wiring

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rotator.core.ports import Log
    from rotator.faces.aws_lambda.events import Event
    from rotator.faces.aws_lambda.managed_secret import Invocation
    from rotator.faces.aws_lambda.settings import Settings


@functools.cache
def function() -> Function:
    """Return the function of this process, which all its invocations use."""
    return Function(read_settings(os.environ), environ=os.environ)


class Function:
    """One process of a rotation function."""

    def __init__(
        self,
        settings: Settings,
        *,
        environ: Mapping[str, str],
        line: Callable[[str], None] | None = None,
        log: Log | None = None,
    ) -> None:
        """Nothing is connected yet. `line` writes a line of the journal where that is the log."""
        self._wiring: Wiring = Wiring(settings, environ=environ, line=line, log=log)

    def close(self) -> None:
        """Give back the connections; Lambda just stops a process."""
        self._wiring.close()

    def handle(self, event: object, context: Any) -> None:
        """Do one step. Returns when it is done, also when it was done before."""
        asked, invocation = sound(event), self._wiring.invocation(context)
        require_account(asked, context)
        backend = self._wiring.backend
        backend.begin(asked.arn, asked.token, asked.rotation_token)
        try:
            is_over = self._step(asked, invocation)
        except BaseException:
            backend.end(asked.arn)
            raise
        if is_over:
            backend.end(asked.arn)

    def _step(self, asked: Event, invocation: Invocation) -> bool:
        """Do one step; return whether the rotation is published."""
        about = self._wiring.backend.describe(asked.arn)
        if about is None:
            raise UsageError(f"there is no secret {asked.arn}.", safety="Nothing was changed.")
        if not about.get("RotationEnabled"):
            raise UsageError(
                "rotation is not turned on for this secret.",
                safety="Nothing was changed.",
                hint="aws secretsmanager rotate-secret turns it on.",
            )
        return RotationStep(self._wiring, asked, invocation).run(about)

    def sweep(self, event: object, context: Any) -> dict[str, Any]:
        """End what is due: revoke old logins whose grace is over, finish what was interrupted."""
        from rotator.faces.aws_lambda.sweeper import Sweeper  # noqa: PLC0415 # no rotation needs it

        asked, invocation = swept(event), self._wiring.invocation(context)
        require_account(asked, context)
        self._wiring.backend.begin()
        here = str(getattr(context, "invoked_function_arn", ""))
        arns = [asked.arn] if asked.arn else self._wiring.journals.to_sweep(here)
        return Sweeper(self._wiring, invocation, now=asked.now).run(arns)
