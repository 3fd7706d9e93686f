"""Why a login fails: by SQLSTATE, by the server's catalog, or by a look at what listens there."""

from __future__ import annotations

import socket
import ssl
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg import sql

from rotator.api import Rejection, StepError, scrub

if TYPE_CHECKING:
    from rotations.postgresql.connection import BoundedConnection, NotConnected
    from rotations.postgresql.server import Limits, Server
    from rotator.api import StepContext

# The credential itself is rejected: `probe` answers False.
REJECTED: Final = frozenset(
    {"password", "missing", "expired", "nologin", "no password", "wrong certificate"}
)
# A limit that is looked at after the password was accepted.
LIMITED: Final = "limit"
# It may well work later, and nobody has to mend anything.
PASSING: Final = frozenset({"unreachable", "starting", LIMITED})

# libpq's request for TLS (protocol, SSLRequest): length and code.
_TLS_REQUEST: Final = bytes([0, 0, 0, 8, 4, 210, 22, 47])
_HOSTNAME_MISMATCH: Final = 62  # X509_V_ERR_HOSTNAME_MISMATCH
_IP_MISMATCH: Final = 64  # X509_V_ERR_IP_ADDRESS_MISMATCH
_EXPIRED: Final = 10  # X509_V_ERR_CERT_HAS_EXPIRED

_ROLE: Final = """
SELECT rolcanlogin, rolvaliduntil <= pg_catalog.now(), rolvaliduntil::pg_catalog.text, rolconnlimit
FROM pg_catalog.pg_roles WHERE rolname = %s
"""
_HAS_NONE: Final = """
SELECT rolpassword IS NULL FROM pg_catalog.pg_authid WHERE rolname = %s
"""
_MAY_SEE_PASSWORDS: Final = (
    "SELECT pg_catalog.has_column_privilege('pg_catalog.pg_authid', 'rolpassword', 'SELECT')"
)
_RULES: Final = """
SELECT pg_catalog.count(*) FILTER (WHERE auth_method = 'cert' OR options::pg_catalog.text LIKE '%clientcert=%'),
       pg_catalog.count(*) FILTER (WHERE type = 'hostssl')
FROM pg_catalog.pg_hba_file_rules WHERE auth_method IS NOT NULL AND type LIKE 'host%'
"""


def of_failure(  # noqa: PLR0911 # a table: one row for each code
    server: Server, failed: NotConnected, user: str, limits: Limits, *, dbname: str | None = None
) -> Rejection:
    """Return what one failed login shows by itself, without a look at the catalog."""
    if not failed.state:
        return _nobody(server, failed, limits)
    name, words = _quoted(user), scrub(failed.text)
    database = _quoted(dbname or server.options.dbname)
    match failed.state, failed.routine:
        case ("28P01", _):
            return Rejection(
                cause="password",
                text="its password is wrong, or it does not exist, or it has expired",
                hint=f"Compare with the role on the server: \\du {name}",
            )
        case ("28000", "InitializeSessionUserId"):
            return Rejection(
                cause="nologin",
                text="the role has no LOGIN attribute, or does not exist",
                hint=f"ALTER ROLE {name} LOGIN",
            )
        case ("28000", "auth_failed"):
            return Rejection(
                cause="wrong certificate",
                text=f"the server rejected its authentication method ({words})",
                hint="pg_hba.conf requires another method than a password for this login, such as a"
                " client certificate (`sslcert`, `sslkey`) issued to the login's name.",
            )
        case ("28000", _):
            return _not_in_hba(server, failed)
        case ("53300", _):
            return Rejection(
                cause=LIMITED,
                text=f"a connection limit is reached ({words})",
                hint=f"End sessions, or raise the limit of the login, the database or the server: ALTER ROLE {name} CONNECTION LIMIT -1; SHOW max_connections",
            )
        case ("3D000", _):
            return Rejection(
                cause="database",
                text=f"database {database} does not exist",
                hint="Correct the target's `dbname`, or the secret's `login_dbname`.",
            )
        case ("42501", _):
            return Rejection(
                cause="connect",
                text=f"it lacks the right to connect to database {database}",
                hint=f"GRANT CONNECT ON DATABASE {database} TO {name}",
            )
        case ("55000", _):
            return Rejection(
                cause="database",
                text=f"database {database} accepts no connections",
                hint=f"ALTER DATABASE {database} ALLOW_CONNECTIONS true",
            )
        case ("57P03", _):
            return Rejection(cause="starting", text=f"accepts no logins at the moment: {words}")
        case ("F0000", _):
            return Rejection(
                cause="server",
                text=f"the server's own configuration is invalid: {words}",
                hint="SELECT * FROM pg_hba_file_rules WHERE error IS NOT NULL",
            )
        case _:
            # It runs after the password was accepted, and any error of it ends the login.
            return Rejection(
                cause="server",
                text=f"{words} (SQLSTATE {failed.state})",
                hint="A setting of the login or of its database, or a login event trigger, can"
                " reject a login: SELECT setdatabase, setrole::regrole, setconfig FROM"
                " pg_db_role_setting; SELECT evtname, evtfoid::regproc FROM pg_event_trigger WHERE"
                " evtevent = 'login'",
            )


def of_login(
    server: Server, failed: NotConnected, user: str, ctx: StepContext, *, dbname: str | None
) -> Rejection:
    """Return why a login fails, with a look at the catalog by the admin where that knows more."""
    from rotations.postgresql.server import Limits  # noqa: PLC0415 # which imports this module

    cause = of_failure(server, failed, user, Limits.of(ctx), dbname=dbname)
    if cause.cause not in (*REJECTED, LIMITED, "hba"):
        return cause
    try:
        with server.admin(f"checking why {user!r} is rejected", ctx) as admin:
            return _in_catalog(admin, failed, user, cause)
    except StepError:
        return cause


def _in_catalog(  # noqa: PLR0911 # a table: one row for each thing that the catalog may show
    admin: BoundedConnection, failed: NotConnected, user: str, cause: Rejection
) -> Rejection:
    row = admin.execute(_ROLE, [user]).fetchone()
    name = _quoted(user)
    if row is None:
        return Rejection(
            cause="missing",
            text=f"role {name} does not exist",
            hint="Create it again with its rights and the password that the backend serves: CREATE"
            f" ROLE {name} LOGIN",
        )
    can_login, expired, until, limit = row
    if cause.cause == LIMITED:
        if limit >= 0:
            text = f"its connection limit of {limit} is reached"
            return Rejection(
                cause=LIMITED,
                text=text,
                hint=f"End some of its sessions, or run: ALTER ROLE {name} CONNECTION LIMIT -1",
            )
        return cause
    if not can_login:
        return Rejection(
            cause="nologin", text=f"role {name} is NOLOGIN", hint=f"ALTER ROLE {name} LOGIN"
        )
    if cause.cause == "hba":
        return _by_rules(admin, failed, cause)
    if expired:
        return Rejection(
            cause="expired",
            text=f"login {name} expired on {until}",
            hint=f"ALTER ROLE {name} VALID UNTIL 'infinity'",
        )
    seen = admin.execute(_MAY_SEE_PASSWORDS).fetchone()
    if seen is not None and seen[0]:
        none = admin.execute(_HAS_NONE, [user]).fetchone()
        if none is not None and none[0]:
            return Rejection(
                cause="no password",
                text=f"login {name} has no password",
                hint="Set the password that the backend serves: \\password " + name,
            )
    if failed.state == "28P01":
        return Rejection(
            cause="password",
            text="its password is wrong",
            hint=(
                "Store the valid password in the backend, or set the one that the backend"
                " serves: \\password "
            )
            + name,
        )
    return cause


def _not_in_hba(server: Server, failed: NotConnected) -> Rejection:
    words = scrub(failed.text)
    if failed.tls or server.options.tls()[0] == "disable":
        hint = "Add a line for this login, database and client address to pg_hba.conf, then: SELECT pg_reload_conf()"
    else:
        hint = (
            "Add a line to pg_hba.conf, then: SELECT pg_reload_conf(). If its lines are for"
            " TLS only (hostssl), set sslmode: require."
        )
    return Rejection(
        cause="hba", text=f"pg_hba.conf has no entry for it from this address ({words})", hint=hint
    )


def _by_rules(admin: BoundedConnection, failed: NotConnected, cause: Rejection) -> Rejection:
    """Tell a missing client certificate or missing TLS from a missing line, where the admin may look."""
    try:
        row = admin.execute(_RULES).fetchone()
    except psycopg.Error:
        return cause
    certificates, only_tls = row if row is not None else (0, 0)
    if failed.tls and certificates:
        return Rejection(
            cause="certificate",
            text=f"the server requires a client certificate ({scrub(failed.text)})",
            hint="Set `sslcert` and `sslkey`, of the target or of the secret.",
        )
    if not failed.tls and only_tls:
        return Rejection(
            cause="tls",
            text=f"the server requires TLS for it ({scrub(failed.text)})",
            hint="Set sslmode: verify-full (or require) in the target's options.",
        )
    return cause


# -- where no PostgreSQL answered ------------------------------------------------------------------


def _nobody(server: Server, failed: NotConnected, limits: Limits) -> Rejection:
    options = server.options
    away = Rejection(cause="unreachable", text=f"is unreachable: {scrub(failed.text)}")
    if failed.late or options.host.startswith(("/", "@")):
        return away
    try:
        return _looked_at(server, limits.grace * 2) or away
    except OSError:
        return away


def _looked_at(server: Server, seconds: float) -> Rejection | None:
    """Ask for TLS as libpq does, and look what comes back."""
    options = server.options
    mode, _ = options.tls()
    place = f"{options.host}:{options.port}"
    with closing(socket.create_connection((options.host, options.port), seconds)) as plain:
        plain.sendall(_TLS_REQUEST)
        answer = plain.recv(1)
        if answer not in (b"S", b"N", b"E"):
            return Rejection(
                cause="not postgresql",
                text=f"the service at {place} does not speak PostgreSQL's protocol",
                hint="Correct `host` or `port` of the target.",
            )
        if answer != b"S":
            if mode not in ("require", "verify-ca", "verify-full"):
                return None
            return Rejection(
                cause="no tls",
                text=f"the server at {place} has no TLS, and sslmode is {mode}",
                hint="Enable TLS on the server (ssl = on); or, if the network is trusted, set"
                " sslmode: disable.",
            )
        return _shaken_hands(server, plain)


def _shaken_hands(server: Server, plain: socket.socket) -> Rejection | None:
    options = server.options
    mode, authority = options.tls()
    try:
        context = ssl.create_default_context(
            cafile=None if authority in (None, "system") else authority
        )
        context.check_hostname = mode == "verify-full"
        if mode not in ("verify-ca", "verify-full"):
            context.verify_mode = ssl.CERT_NONE
        if options.sslcert is not None and options.sslkey is not None:
            context.load_cert_chain(options.sslcert, options.sslkey)
        with (
            context.wrap_socket(plain, server_hostname=options.host) as shaken,
            suppress(TimeoutError),
        ):
            # With TLS 1.3 a client's certificate is looked at after the handshake.
            shaken.settimeout(0.2)
            _ = shaken.recv(1)
    except ssl.SSLCertVerificationError as error:
        return _untrusted(server, error)
    except ssl.SSLError as error:
        return Rejection(
            cause="certificate",
            text=f"the TLS handshake failed ({error.reason or 'no reason given'})",
            hint="Check `sslcert` and `sslkey`: the server must trust the issuer of the client"
            " certificate, and the certificate must be valid.",
        )
    except OSError as error:
        return Rejection(
            cause="untrusted",
            text=f"cannot read the TLS files: {error.strerror or error}",
            hint="Check `sslrootcert`, `sslcert` and `sslkey`.",
        )
    return None


def _untrusted(server: Server, error: ssl.SSLCertVerificationError) -> Rejection:
    host = server.options.host
    if error.verify_code in (_HOSTNAME_MISMATCH, _IP_MISMATCH):
        return Rejection(
            cause="name",
            text=f"the server's TLS certificate is not valid for {host!r}",
            hint="Set `host` to the name in the certificate; or set sslmode: verify-ca, which"
            " checks only the certificate authority.",
        )
    if error.verify_code == _EXPIRED:
        return Rejection(
            cause="untrusted",
            text="the server's TLS certificate has expired",
            hint="Renew the server's certificate, then: SELECT pg_reload_conf()",
        )
    return Rejection(
        cause="untrusted",
        text=f"the TLS certificate of the server is not trusted ({error.verify_message})",
        hint="Set `sslrootcert` to the server's certificate authority (ROTATOR_SSLROOTCERT of a"
        " Lambda function). For RDS, use AWS's global-bundle.pem.",
    )


def _quoted(name: str) -> str:
    return sql.Identifier(name).as_string(None)
