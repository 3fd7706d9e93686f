"""Waiting for a replica, which is a moment behind the server on which a login was changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rotator.core.errors import Transient

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotator.core.ports import StepContext

# Between two tries, in seconds; each wait is twice as long as the one before.
_FIRST: Final = 0.2


def agree_within(
    accepts: Callable[[], bool], login: str, host: str, ctx: StepContext, *, wanted: bool
) -> None:
    """Try a login on a replica until the answer is `wanted`, for as long as the step lasts.

    Raises `Transient`, with the replica's name, when its answer stays another.
    """
    wait = _FIRST
    while accepts() != wanted:
        if ctx.seconds_left() <= 2 * wait:
            answer = "rejected" if wanted else "accepted"
            raise Transient(
                f"login {login!r} is still {answer} by {host}, and not by the host that it follows.",
                hint="Does its replication stand still, or lag far behind? On PostgreSQL: SELECT now() - pg_last_xact_replay_timestamp()",
            )
        ctx.clock.sleep(wait)
        wait *= 2
