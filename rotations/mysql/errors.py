"""What a driver's error means, by its number. The one place where PyMySQL's errors become ours."""

from __future__ import annotations

import ssl
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pymysql

from rotator.api import (
    Conflict,
    Denied,
    Refused,
    StepError,
    Transient,
    Unavailable,
    Unknown,
    scrub,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why no login at all was tried, or none was possible. `{name}`: the login."""

    kind: type[StepError]
    text: str
    hint: str = ""
    safety: str = ""


# These credentials are rejected: wrong, unknown, locked, expired. `rejections` finds out which.
LOCKED: Final = frozenset({3118, 4151})
EXPIRED: Final = frozenset({1820, 1862})
_REFUSALS: Final = frozenset({1045, 1698}) | LOCKED | EXPIRED
# Too many wrong passwords in a row: MariaDB's number, and MySQL's. Whether this one is right is not said.
BLOCKED: Final = frozenset({3955, 4150})
_OUT: Final = "The application is NOT safe if it uses this login: the server rejects every attempt."
_CONNECTING: Final[dict[int, Cause]] = {
    1040: Cause(
        kind=Unavailable,
        text="has no free connection (max_connections is reached)",
        hint="List the connections: SHOW PROCESSLIST; allow more: SET GLOBAL max_connections = ...;",
    ),
    1053: Cause(kind=Transient, text="is shutting down"),
    1129: Cause(
        kind=Unavailable,
        text="blocks this host after too many connection errors (max_connect_errors)",
        hint="On MariaDB: FLUSH HOSTS; on MySQL: TRUNCATE TABLE performance_schema.host_cache;",
    ),
    1130: Cause(
        kind=Unavailable,
        text="has no account for rotator's client address",
        hint="Create the admin's account for that address, or run rotator on a host that the"
        " account allows.",
    ),
    1184: Cause(
        kind=Unavailable,
        text="accepts the password of login {name!r} and ends its connection: init_connect fails",
        hint="Applications are rejected too. Look at it: SHOW GLOBAL VARIABLES LIKE 'init_connect'",
    ),
    1203: Cause(
        kind=Transient,
        text="accepts the password of login {name!r}, which has no free connection"
        " (max_user_connections)",
        hint="List the connections: SHOW PROCESSLIST; or raise the limit.",
    ),
    1226: Cause(
        kind=Transient,
        text="accepts the password of login {name!r}, but the login's own limit is reached"
        " (MAX_USER_CONNECTIONS, or one per hour)",
        hint="Check it: SHOW CREATE USER; raise it with ALTER USER ... WITH MAX_..., or wait until"
        " the hour is over.",
    ),
    1251: Cause(
        kind=Denied,
        text="accepts login {name!r} only by an old protocol",
        hint="ALTER USER ... IDENTIFIED VIA mysql_native_password (MariaDB), IDENTIFIED WITH caching_sha2_password (MySQL).",
    ),
    1524: Cause(
        kind=Denied,
        text="has not loaded the authentication plugin of login {name!r}",
        hint="ALTER USER ... IDENTIFIED WITH caching_sha2_password BY '...'; MySQL 9 no longer has mysql_native_password.",
        safety=_OUT,
    ),
    2026: Cause(
        kind=Unavailable,
        text="offers no TLS, which `sslmode` requires",
        hint="Set ssl_cert and ssl_key on the server. Only if the connection crosses no network:"
        " sslmode: disable.",
    ),
    2059: Cause(
        kind=Denied,
        text="accepts login {name!r} by a plugin that has no password",
        hint="ALTER USER ... IDENTIFIED VIA mysql_native_password (MariaDB), IDENTIFIED WITH caching_sha2_password (MySQL).",
    ),
    3032: Cause(
        kind=Unavailable,
        text="is in offline mode",
        hint="After the maintenance: SET GLOBAL offline_mode = OFF;",
    ),
    3159: Cause(
        kind=Unavailable,
        text="accepts connections with TLS only (require_secure_transport)",
        hint="Set `sslmode: require` (or verify-full, with `sslrootcert`) in the options of the target.",
    ),
    3955: Cause(
        kind=Denied,
        text="has blocked login {name!r} after too many consecutive wrong passwords",
        hint="SELECT Host FROM mysql.user WHERE User = {name!r}; then for each: ALTER USER {name!r}@'HOST' ACCOUNT UNLOCK; and find out who tries.",
        safety=_OUT,
    ),
    4150: Cause(
        kind=Denied,
        text="has blocked login {name!r} after too many consecutive wrong passwords",
        hint="FLUSH PRIVILEGES; and find the client that sends wrong passwords.",
        safety=_OUT,
    ),
}
# ssl.SSLCertVerificationError.verify_code: X509_V_ERR_ of OpenSSL's x509_vfy.h.
_WRONG_NAME: Final = frozenset({62, 64})
_EXPIRED_CERTIFICATE: Final = frozenset({9, 10})
_AUTHORITY: Final = (
    "Set `sslrootcert` to the server's certificate authority (ROTATOR_SSLROOTCERT of a Lambda"
    " function). For RDS, use AWS's global-bundle.pem."
)
_RIGHTS: Final = frozenset({1044, 1045, 1095, 1142, 1143, 1227, 1370, 1410, 1698})
# An option of the server forbids it: read_only and others; a read-only transaction; read-only mode.
_READ_ONLY: Final = frozenset({1290, 1792, 1836})


def is_refusal(error: pymysql.MySQLError) -> bool:
    """Return whether a failed connection means that these credentials are not accepted."""
    return number(error) in _REFUSALS


def unreachable(where: str, error: Exception, name: str) -> StepError:
    """Return what a failed connection means when it was not about the credentials."""
    cause = _CONNECTING.get(number(error))
    if cause is not None:
        filled = (text.format(name=name) for text in (cause.text, cause.hint))
        text, hint = filled
        return cause.kind(f"{where} {text}: {brief(error)}", hint=hint, safety=cause.safety)
    # PyMySQL keeps what the socket said beside its own error.
    met: object = getattr(error, "original_exception", None) or error
    if isinstance(met, ssl.SSLError):
        return _tls(where, met)
    if isinstance(error, pymysql.MySQLError | OSError):
        return Transient(f"{where} is unreachable: {brief(error)}")
    return Unavailable(
        f"{where} does not speak the protocol of MariaDB and MySQL.",
        hint="Check `host` and `port` of the target: another service listens there.",
    )


def rejected_admin(where: str, target: str, name: str, code: int) -> Unavailable:
    """Return what it means that the admin's own login is rejected: no secret of the target can be rotated."""
    if code in EXPIRED:
        why, hint = (
            ": its password has expired",
            "Set a new one: ALTER USER ... IDENTIFIED BY '...';",
        )
    elif code in LOCKED:
        why, hint = ": its account is locked", "ALTER USER ... ACCOUNT UNLOCK;"
    else:
        why = ": wrong password, no account for this address, or TLS required"
        hint = (
            "Check the password, and check that an account for this address exists. If TLS is"
            " required: `sslmode: require`; if a certificate is required: `sslcert`."
        )
    return Unavailable(
        f"{where} rejects the admin login {name!r}{why}.",
        hint=f"Check `admin` of target {target!r}. {hint}",
        safety="Nothing was changed.",
    )


@contextmanager
def translated(
    where: str,
    doing: str,
    explain: Callable[[int], tuple[type[StepError], str] | None] | None = None,
) -> Generator[None]:
    """Turn PyMySQL's errors inside into ours. `doing` says in a few words what was being done.

    `explain` looks up what a number means on this server, as kind and hint, by its catalog.
    """
    try:
        yield
    except pymysql.MySQLError as error:
        code = number(error)
        what = f"{where}: {doing}: {brief(error)}"
        if code in _RIGHTS | _READ_ONLY:
            kind, hint = (explain(code) if explain else None) or (Denied, "")
            raise kind(what, hint=hint) from error
        # No number: the connection broke, and whether the statement got through is not known.
        kind = _MEANING.get(code, Denied) if code else Unknown
        raise kind(what) from error
    except OSError as error:
        raise Unknown(f"{where}: {doing}: {brief(error)}") from error


def is_about_rights(code: int) -> bool:
    """Return whether an error number means that the admin lacks a right."""
    return code in _RIGHTS


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


def _tls(where: str, error: ssl.SSLError) -> StepError:
    what = f"the TLS connection to {where} failed: {scrub(str(error.reason or error))[:200]}"
    code = error.verify_code if isinstance(error, ssl.SSLCertVerificationError) else 0
    if code in _WRONG_NAME:
        hint = (
            "The certificate is not valid for this name: set `host` to a name in the"
            " certificate; or set sslmode: verify-ca, which does not compare names."
        )
        return Unavailable(f"{what} (the certificate's name)", hint=hint)
    if code in _EXPIRED_CERTIFICATE:
        return Unavailable(
            f"{what} (the certificate's dates)", hint="Renew the server's certificate."
        )
    if code:
        return Unavailable(f"{what} (the certificate's authority)", hint=_AUTHORITY)
    return Unavailable(
        what,
        hint="Check that the server accepts this TLS version and the client certificate in `sslcert`.",
    )
