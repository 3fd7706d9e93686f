"""What a driver's error means. The one place where psycopg's errors become ours."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import psycopg

from rotator.api import Conflict, Denied, Refused, StepError, Transient, Unknown, scrub

if TYPE_CHECKING:
    from collections.abc import Generator

# SQLSTATE (PostgreSQL manual, appendix A), by how it begins; the longest match counts.
_MEANING: Final[dict[str, type[StepError]]] = {
    "08": Unknown,  # the connection broke
    "0P": Conflict,  # no such role
    "22": Refused,
    "25006": Denied,  # read-only: a standby
    "28": Denied,
    "2BP01": Conflict,  # objects still depend on the role
    "3D": Denied,
    "40": Transient,  # serialisation failure, deadlock
    "42501": Denied,
    "42710": Conflict,  # the role exists
    "42704": Conflict,  # the role does not exist
    "53": Transient,
    "55": Transient,  # lock not available, object in use
    "57014": Transient,  # statement timeout: rolled back
    "57P": Unknown,  # shut down under us
}
# What the server says when it lets somebody in no further. libpq hands on the text only, not the
# SQLSTATE, so these are its English texts (src/backend/libpq/auth.c and utils/init/*.c).
_REFUSALS: Final = re.compile(
    r"password authentication failed for user"
    r"|role \".*\" does not exist"
    r"|role \".*\" is not permitted to log in",
    re.DOTALL,
)


def is_refusal(error: psycopg.Error) -> bool:
    """Return whether a failed connection means that these credentials are not accepted."""
    return error.sqlstate in ("28P01", "28000") or bool(_REFUSALS.search(str(error)))


def unreachable(where: str, error: psycopg.Error) -> StepError:
    """Return what a failed connection means when it was not about the credentials."""
    text = brief(error)
    if "no pg_hba.conf entry" in text or "pg_hba.conf rejects" in text:
        return Denied(f"{where} lets nobody in from here: {text}", hint="Mend pg_hba.conf.")
    if "certificate" in text or "SSL" in text:
        return Denied(
            f"the TLS connection to {where} failed: {text}",
            hint="Name the right certificate authority in `sslrootcert` (ROTATOR_SSLROOTCERT of a"
            " Lambda function). RDS has its own, in AWS's global-bundle.pem.",
        )
    if re.search(r"database \".*\" does not exist", text):
        return Denied(f"{where}: {text}", hint="Mend `dbname` or `login_dbname`.")
    if "permission denied for database" in text:
        return Denied(f"{where}: {text}", hint="GRANT CONNECT on it to the login or its group.")
    return Transient(f"{where} cannot be reached: {text}")


@contextmanager
def translated(where: str, doing: str) -> Generator[None]:
    """Turn psycopg's errors inside into ours. `doing` says in a few words what was being done."""
    try:
        yield
    except psycopg.Error as error:
        state = error.sqlstate or ""
        kinds = [start for start in _MEANING if state.startswith(start)]
        # No SQLSTATE: the connection broke, and whether the statement got through is not known.
        kind = _MEANING[max(kinds, key=len)] if kinds else (Denied if state else Unknown)
        hint = ""
        if state == "42501":
            detail = error.diag.message_detail or error.diag.message_hint or ""
            hint = f"Give the admin login that right. {detail}".strip()
        raise kind(f"{where}: {doing}: {brief(error)}", hint=scrub(hint)) from error


def brief(error: psycopg.Error) -> str:
    """Return the server's own words: one line, no statement, nothing secret."""
    text = error.diag.message_primary or str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return scrub(lines[0] if lines else type(error).__name__)[:300]
