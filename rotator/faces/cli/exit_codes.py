"""Exit codes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rotator.core.errors import (
    Busy,
    Conflict,
    Denied,
    LockLost,
    NeedsApproval,
    NotDue,
    NotPermitted,
    Parked,
    RotatorError,
    Unavailable,
    UsageError,
)
from rotator.core.model import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rotator.engine import Result


class Interrupted(RotatorError):
    """An operator, or the system, interrupted the command."""

    kind = "interrupted"


class NotAccepted(RotatorError):
    """The target rejects the credential that the backend serves."""

    kind = "not-accepted"


DONE: Final = 0
FAILED: Final = 1
MISUSE: Final = 2
STUCK: Final = 3
LATER: Final = 4
FORBIDDEN: Final = 5
INTERRUPTED: Final = 130
TERMINATED: Final = 143
# The command exits with the worst code of its secrets: first those that need an operator.
_WORST_FIRST: Final = (INTERRUPTED, TERMINATED, STUCK, FAILED, FORBIDDEN, MISUSE, LATER, DONE)
# Outcomes that are a success for a command.
_WANTED: Final = {
    "resume": (Outcome.ROLLED_BACK,),
    "revoke": (Outcome.ROLLED_BACK,),
    "rollback": (Outcome.ROLLED_BACK, Outcome.UNDONE),
}


def worst(codes: Iterable[int]) -> int:
    """Return the worst code, with which the command exits."""
    return min(codes, key=_WORST_FIRST.index, default=DONE)


def of_result(result: Result, command: str) -> int:
    """Return the code for the result of `command`."""
    if result.parked or result.outcome is Outcome.PARKED:
        return STUCK
    if result.outcome is None:
        return _of_open(result, command)
    wanted = _WANTED.get(command, ())
    return DONE if result.outcome is Outcome.DONE or result.outcome in wanted else FAILED


def of_error(error: BaseException, *, begun: bool = False) -> int:
    """Return the code for an error. `begun`: a rotation was started and is still open."""
    match error:
        case UsageError():
            return MISUSE
        case NotPermitted() | NeedsApproval():
            return FORBIDDEN
        case Busy() | NotDue() | LockLost():
            return LATER
        case Parked() | Conflict() | Denied() | Unavailable():
            # A retry cannot help: an operator must act.
            return STUCK
        case KeyboardInterrupt():
            return INTERRUPTED
        case RotatorError() if not begun:
            return FAILED
        case _:
            return STUCK if begun else FAILED


def failing(result: Result) -> bool:
    """Return whether an open rotation waits because its newest step failed."""
    return result.outcome is None and result.error is not None


def _of_open(result: Result, command: str) -> int:
    if result.by and not failing(result):
        return LATER
    if failing(result) or not result.published:
        return STUCK
    # `revoke` has not succeeded while sessions keep the old credential in use.
    return STUCK if command == "revoke" else DONE
