"""What `doctor` asks of a PostgreSQL target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rotations.postgresql.roles import look
from rotator.api import Finding, Severity, StepError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rotations.postgresql.options import SecretOptions
    from rotations.postgresql.server import Connection, Server

_OLDEST: Final = 120_000
_ADMIN_OPTION_NEEDED: Final = 160_000


def findings(server: Server, options: SecretOptions, names: Sequence[str]) -> list[Finding]:
    """Look at the server with the admin's eyes. Nothing is changed."""
    subject = f"target {server.name}"
    found = list(_tls(server, subject))
    try:
        with server.admin("examining") as admin:
            found.append(_ok(subject, f"the admin logs in ({server.where})"))
            found += _version(admin, subject)
            found += _rights(admin, subject, options)
            found += _roles(admin, subject, options, names)
    except StepError as error:
        found.append(
            Finding(severity=Severity.ERROR, subject=subject, message=error.what, remedy=error.hint)
        )
    return found


def _tls(server: Server, subject: str) -> list[Finding]:
    mode, _ = server.options.tls()
    if server.options.is_local or mode == "verify-full":
        return []
    return [
        Finding(
            severity=Severity.WARNING,
            subject=subject,
            message=f"sslmode is {mode}: whoever sits between could pose as the server",
            remedy="Set sslmode: verify-full, and sslrootcert where the authority is your own.",
        )
    ]


def _version(admin: Connection, subject: str) -> list[Finding]:
    version = admin.info.server_version
    if version >= _OLDEST:
        return []
    return [
        Finding(
            severity=Severity.ERROR,
            subject=subject,
            message=f"the server is PostgreSQL {version // 10_000}; rotator is made for 12 and newer",
            remedy="Upgrade the server.",
        )
    ]


def _rights(admin: Connection, subject: str, options: SecretOptions) -> list[Finding]:
    row = admin.execute(
        "SELECT rolsuper, rolcreaterole, rolname FROM pg_roles WHERE rolname = current_user"
    ).fetchone()
    if row is None or row[0]:
        return [_ok(subject, "the admin is a superuser")]
    name = row[2]
    if not row[1]:
        return [
            Finding(
                severity=Severity.ERROR,
                subject=subject,
                message=f"the admin {name!r} may not create roles",
                remedy=f'As a superuser: ALTER ROLE "{name}" CREATEROLE',
            )
        ]
    found = [_ok(subject, f"the admin {name!r} has CREATEROLE")]
    if options.group and admin.info.server_version >= _ADMIN_OPTION_NEEDED:
        may = admin.execute(
            "SELECT 1 FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid"
            " JOIN pg_roles u ON u.oid = m.member"
            " WHERE g.rolname = %s AND u.rolname = current_user AND m.admin_option",
            [options.group],
        ).fetchone()
        if may is None:
            found.append(
                Finding(
                    severity=Severity.ERROR,
                    subject=subject,
                    message=f"the admin {name!r} may not grant {options.group!r} to a new login",
                    remedy=f'As a superuser: GRANT "{options.group}" TO "{name}" WITH ADMIN OPTION',
                )
            )
    return found


def _roles(
    admin: Connection, subject: str, options: SecretOptions, names: Sequence[str]
) -> list[Finding]:
    roles = look(admin, names)
    found: list[Finding] = []
    if options.group is not None and options.group not in roles:
        found.append(
            Finding(
                severity=Severity.ERROR,
                subject=subject,
                message=f"the group role {options.group!r} does not exist",
                remedy=f'Make it the owner of the application\'s objects: CREATE ROLE "{options.group}" NOLOGIN',
            )
        )
    elif (
        options.group is not None
        and roles[options.group].can_login
        and options.group not in names[1:2]
    ):
        found.append(
            Finding(
                severity=Severity.WARNING,
                subject=subject,
                message=f"the group role {options.group!r} can log in by itself",
                remedy="Once nobody logs in as it, rotator's first revoke closes it.",
            )
        )
    return found


def _ok(subject: str, message: str) -> Finding:
    return Finding(severity=Severity.OK, subject=subject, message=message)
