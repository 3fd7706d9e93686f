"""What a driver's error means. The one place where psycopg's errors become ours."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import psycopg

from rotator.api import Conflict, Denied, Refused, StepError, Transient, Unavailable, Unknown, scrub

if TYPE_CHECKING:
    from collections.abc import Generator

# SQLSTATE (PostgreSQL manual, appendix A), by how it begins; the longest match counts. A statement
# that was answered by an error was rolled back: only where the connection ends is its fate unknown.
MEANING: Final[dict[str, type[StepError]]] = {
    "08": Unknown,  # the connection broke
    "0P": Conflict,  # no such role
    "22": Refused,
    "23505": Transient,  # somebody made the same row at the same moment
    "25006": Unavailable,  # read-only: a standby
    "25P": Transient,  # the transaction had failed, or was ended for its length: rolled back
    "28": Denied,
    "2BP01": Conflict,  # objects still depend on the role
    "3D": Denied,
    "40": Transient,  # serialisation failure, deadlock
    "40003": Unknown,  # statement completion unknown
    "42501": Denied,
    "42710": Conflict,  # the role exists
    "42704": Conflict,  # the role does not exist
    "53": Transient,
    "53100": Unavailable,  # disk full
    "55": Transient,  # lock not available, object in use
    "57014": Transient,  # cancelled, by us or by statement_timeout: rolled back
    "57P": Unknown,  # shut down under us
    "57P03": Transient,  # not yet ready for anybody
    "57P05": Transient,  # ended while it was idle
    "58": Transient,  # an error of the server's system, such as I/O
    "72": Transient,  # snapshot too old
    "F0": Unavailable,  # the server's configuration file is broken
    "XX000": Transient,  # tuple concurrently updated: somebody else changed the same row of the catalog
}
_HINTS: Final = {
    "25006": "This server is read-only, like a standby: set the target's `host` to the primary.",
    "53100": "Free space on the server's disk.",
    "55P03": (
        "Another session holds a lock. The oldest transactions: SELECT pid, usename, xact_start,"
        " state, query FROM pg_stat_activity WHERE xact_start < now() ORDER BY xact_start"
    ),
}


def meaning(state: str) -> type[StepError]:
    """Return what an SQLSTATE means to the engine; empty where the server sent none."""
    if not state:
        # The connection broke, and whether the statement got through is not known.
        return Unknown
    kinds = [start for start in MEANING if state.startswith(start)]
    return MEANING[max(kinds, key=len)] if kinds else Denied


@contextmanager
def translated(where: str, doing: str, *, reading: bool = False) -> Generator[None]:
    """Turn psycopg's errors inside into ours. `doing`: in a few words what is being done.

    `reading`: nothing is changed, so a lost answer means only that it has to be asked again.
    """
    try:
        yield
    except psycopg.Error as error:
        state = error.sqlstate or ""
        kind = meaning(state)
        if reading and kind is Unknown:
            kind = Transient
        hint = _HINTS.get(state, "")
        if state == "42501":
            detail = error.diag.message_detail or error.diag.message_hint or ""
            hint = f"Grant the admin login that right. {detail}".strip()
        raise kind(f"{where}: {doing}: {brief(error)}", hint=scrub(hint)) from error


def brief(error: psycopg.Error) -> str:
    """Return the server's own words: one line, no statement, nothing secret."""
    text = error.diag.message_primary or str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return scrub(lines[0] if lines else type(error).__name__)[:300]
