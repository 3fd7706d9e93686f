"""What `doctor` asks of a PostgreSQL target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from psycopg import sql

from rotations.postgresql import containment, login_check, preflight
from rotations.postgresql.drop_role import workers
from rotations.postgresql.roles import look
from rotator.api import Finding, Severity, StepError

if TYPE_CHECKING:
    from rotations.postgresql.connection import BoundedConnection
    from rotations.postgresql.options import SecretOptions
    from rotations.postgresql.server import Server
    from rotator.api import Credential, StepContext

_OLDEST: Final = 120_000


def findings(
    server: Server,
    options: SecretOptions,
    current: Credential | None,
    ctx: StepContext,
    *,
    in_place: str | None,
) -> list[Finding]:
    """Look at the server with the admin's eyes. Nothing is changed.

    `in_place`: the login whose password changes while applications use it.
    """
    subject = f"target {server.name}"
    found = list(_tls(server, subject))
    try:
        with server.admin("examining", ctx) as admin:
            found.append(_ok(subject, f"the admin login authenticated ({server.where})"))
            found += _version(admin, subject)
            found += _rights(admin, subject)
            found += _ready(server, admin, subject, options, in_place)
            found += _group(server, admin, subject, options, current)
    except StepError as error:
        found.append(_error(subject, error.what, error.hint))
        return found
    for reader in server.readers:
        found.append(_reader(reader, options, current, ctx))
    return found


def _tls(server: Server, subject: str) -> list[Finding]:
    mode, _ = server.options.tls()
    if server.options.is_local or mode == "verify-full":
        return []
    return [
        Finding(
            severity=Severity.WARNING,
            subject=subject,
            message=f"sslmode is {mode}: another host on the network could impersonate the server",
            remedy="Set sslmode: verify-full. For your own certificate authority, also set sslrootcert.",
        )
    ]


def _version(admin: BoundedConnection, subject: str) -> list[Finding]:
    version = admin.info.server_version
    if version >= _OLDEST:
        return []
    what = f"the server is PostgreSQL {version // 10_000}; rotator supports 12 and newer"
    return [_error(subject, what, "Upgrade the server.")]


def _rights(admin: BoundedConnection, subject: str) -> list[Finding]:
    row = admin.execute(
        "SELECT rolsuper, rolcreaterole, rolname FROM pg_catalog.pg_roles WHERE rolname = current_user"
    ).fetchone()
    if row is None or row[0]:
        return [_ok(subject, "the admin is a superuser")]
    name = row[2]
    if not row[1]:
        return []  # preflight has it
    return [_ok(subject, f"the admin {name!r} has CREATEROLE"), *_for_incidents(admin, subject)]


def _for_incidents(admin: BoundedConnection, subject: str) -> list[Finding]:
    """Check whether the admin could end the sessions of a leaked password, on replicas too."""
    lacks = [
        right
        for right in containment.RIGHTS
        if admin.execute(
            "SELECT WHERE pg_catalog.pg_has_role(current_user, %s, 'USAGE')", [right]
        ).rowcount
        == 0
    ]
    if not lacks:
        return []
    name = sql.Identifier(admin.info.user).as_string(None)
    return [
        Finding(
            severity=Severity.WARNING,
            subject=subject,
            message=f"the admin lacks {' and '.join(lacks)}, so in an incident rotator may be"
            " unable to end the sessions of a leaked password",
            remedy=f"GRANT {', '.join(lacks)} TO {name}",
        )
    ]


def _ready(
    server: Server,
    admin: BoundedConnection,
    subject: str,
    options: SecretOptions,
    in_place: str | None,
) -> list[Finding]:
    return [
        _error(subject, error.what, error.hint)
        for error in preflight.hindrances(server, admin, in_place, dbname=options.login_dbname)
    ]


def _group(
    server: Server,
    admin: BoundedConnection,
    subject: str,
    options: SecretOptions,
    current: Credential | None,
) -> list[Finding]:
    group = options.group
    # While nothing is published, an application may use the group as its login.
    if group is None or current is None or current.username == group:
        return []
    role = look(admin, [group]).get(group)
    if role is None or not role.can_login:
        return []
    runs = bool(workers(server, admin, role))
    if runs and admin.info.parameter_status("is_superuser") == "on":
        found = admin.execute(
            "SELECT rolpassword FROM pg_catalog.pg_authid WHERE oid = %s", [role.oid]
        ).fetchone()
        if found == (None,):
            return []  # it keeps LOGIN for what the server runs as it
    return [
        Finding(
            severity=Severity.WARNING,
            subject=subject,
            message=f"the group role {group!r} can log in, but no secret serves its password",
            remedy=f'ALTER ROLE "{group}" {"" if runs else "NOLOGIN "}PASSWORD NULL',
        )
    ]


def _reader(
    reader: Server, options: SecretOptions, current: Credential | None, ctx: StepContext
) -> Finding:
    place = f"{reader.options.host}:{reader.options.port}"
    subject = f"reader {place}"
    try:
        with reader.admin("examining", ctx) as admin:
            lag = admin.execute(
                "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.now() - pg_catalog.pg_last_xact_replay_timestamp()"
            ).fetchone()
        behind = f", last change replayed {lag[1]} ago" if lag is not None and lag[1] else ""
        if current is not None and not login_check.accepts(reader, current, options, ctx):
            return _error(
                subject,
                f"it rejects the current login {current.username!r}{behind}",
                "Check whether its replication has stopped or lags: SELECT now() -"
                " pg_last_xact_replay_timestamp()",
            )
    except StepError as error:
        return _error(subject, error.what, error.hint)
    return _ok(subject, f"it accepts the current login{behind}")


def _error(subject: str, message: str, remedy: str) -> Finding:
    return Finding(severity=Severity.ERROR, subject=subject, message=message, remedy=remedy)


def _ok(subject: str, message: str) -> Finding:
    return Finding(severity=Severity.OK, subject=subject, message=message)
