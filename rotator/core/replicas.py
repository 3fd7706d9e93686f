"""Waiting for a replica, which is a moment behind the server on which a login was changed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from rotator.core.errors import Transient, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotator.core.contracts.rotation import StepContext

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
                hint="Has its replication stopped, or does it lag? On PostgreSQL: SELECT now() - pg_last_xact_replay_timestamp(); on MySQL: SHOW REPLICA STATUS; on MariaDB: SHOW SLAVE STATUS",
            )
        ctx.clock.sleep(wait)
        wait *= 2


def split_address(address: str, port: int) -> tuple[str, int]:
    """Split `host`, `host:port` or `[address]:port`; `port` where none is named."""
    bracketed = re.fullmatch(r"\[([^]]+)\](?::(\d+))?", address)
    plain = re.fullmatch(r"([^:\[\]\s]+)(?::(\d+))?", address)
    found = bracketed or plain
    if found is None or not 0 < int(found[2] or port) <= 65_535:  # noqa: PLR2004 # what a TCP port is
        raise UsageError(
            f"{address!r} does not name a host.", hint="Such as db-2.example.org or 10.0.0.5:5433."
        )
    return found[1], int(found[2] or port)
