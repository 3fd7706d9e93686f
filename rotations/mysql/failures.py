"""What a driver's error means. The one place where PyMySQL's errors become ours."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import pymysql

from rotator.api import Conflict, Denied, Refused, StepError, Transient, Unknown, scrub

if TYPE_CHECKING:
    from collections.abc import Generator

# Error numbers (MariaDB Knowledge Base, "MariaDB Error Code Reference"; MySQL's are the same below 1900).
_MEANING: Final[dict[int, type[StepError]]] = {
    1040: Transient,  # too many connections
    1053: Unknown,  # shut down under us
    1158: Unknown,  # the connection broke, as the next three
    1159: Unknown,
    1160: Unknown,
    1161: Unknown,
    1203: Transient,  # too many connections of this user
    1205: Transient,  # lock wait
    1213: Transient,  # deadlock
    1226: Transient,  # a limit of the account
    1317: Unknown,  # interrupted, perhaps in the middle
    1396: Conflict,  # the account exists, or does not
    1819: Refused,  # the password does not satisfy the server's policy
    1969: Unknown,  # max_statement_time, perhaps in the middle
    2006: Unknown,  # the connection broke
    2013: Unknown,
    2055: Unknown,
    3024: Transient,  # max_execution_time, of SELECT only
}
# These credentials are not let in: wrong, unknown, locked, expired.
_REFUSALS: Final = frozenset({1045, 1698, 1820, 1862, 3118, 4151})
_RIGHTS: Final = frozenset({1044, 1045, 1095, 1142, 1143, 1227, 1370, 1410, 1698})
_READ_ONLY: Final = 1290
# Too many wrong passwords in a row: MariaDB's number, and MySQL's. Whether this one is right is not said.
_BLOCKED: Final = frozenset({4150, 3955})


def is_refusal(error: pymysql.MySQLError) -> bool:
    """Return whether a failed connection means that these credentials are not accepted."""
    return number(error) in _REFUSALS


def unreachable(where: str, error: Exception) -> StepError:
    """Return what a failed connection means when it was not about the credentials."""
    text = brief(error)
    if number(error) in _BLOCKED:
        return Denied(
            f"{where} has blocked the login after too many wrong passwords: {text}",
            hint="ALTER USER ... ACCOUNT UNLOCK (MySQL), FLUSH PRIVILEGES (MariaDB); and find out who tries.",
        )
    if "SSL" in text or "certificate" in text or "TLS" in text:
        return Denied(
            f"the TLS connection to {where} failed: {text}",
            hint="Name the right certificate authority in `sslrootcert` (ROTATOR_SSLROOTCERT of a"
            " Lambda function). RDS has its own, in AWS's global-bundle.pem.",
        )
    if "is not allowed to connect" in text:
        return Denied(f"{where} lets nobody in from here: {text}")
    return Transient(f"{where} cannot be reached: {text}")


@contextmanager
def translated(where: str, doing: str) -> Generator[None]:
    """Turn PyMySQL's errors inside into ours. `doing` says in a few words what was being done."""
    try:
        yield
    except pymysql.MySQLError as error:
        code = number(error)
        what = f"{where}: {doing}: {brief(error)}"
        if code in _RIGHTS:
            hint = "Give the admin login that right: CREATE USER, RELOAD, PROCESS, CONNECTION ADMIN and what its logins have: grants WITH GRANT OPTION, roles WITH ADMIN OPTION."
            raise Denied(what, hint=hint) from error
        if code == _READ_ONLY:
            raise Denied(what, hint="Name the primary as `host`: this one is a replica.") from error
        # No number: the connection broke, and whether the statement got through is not known.
        kind = _MEANING.get(code, Denied) if code else Unknown
        raise kind(what) from error
    except OSError as error:
        raise Unknown(f"{where}: {doing}: {brief(error)}") from error


def number(error: Exception) -> int:
    """Return the server's, or the client's, number of an error; 0 without one."""
    given: object = error.args[0] if error.args else 0
    return given if isinstance(given, int) else 0


def brief(error: Exception) -> str:
    """Return the server's own words: one line, no statement, nothing secret."""
    text = str(error.args[1]) if len(error.args) > 1 else str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = lines[0] if lines else type(error).__name__
    # A syntax error repeats the statement from where it was not understood.
    return scrub(said.partition(" near '")[0])[:300]
