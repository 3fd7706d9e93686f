"""What `doctor` asks of a MariaDB target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rotations.mysql.accounts import NATIVE, look
from rotator.api import Finding, Severity, StepError

if TYPE_CHECKING:
    from rotations.mysql.server import Connection, Server

_NEEDED: Final = ("CREATE USER", "PROCESS", "CONNECTION ADMIN")


def findings(server: Server, login: str | None) -> list[Finding]:
    """Look at the server with the admin's eyes. Nothing is changed."""
    subject = f"target {server.name}"
    found: list[Finding] = []
    if not server.options.is_local and server.options.tls != "verify-full":
        message = f"sslmode is {server.options.tls}: whoever sits between could pose as the server"
        found.append(_finding(Severity.WARNING, subject, message, "Set sslmode: verify-full."))
    try:
        with server.admin("examining") as admin:
            found.append(_finding(Severity.OK, subject, f"the admin logs in ({server.where})"))
            found += _rights(admin, subject)
            found += _state(admin, subject)
            found += _accounts(admin, subject, login)
    except StepError as error:
        found.append(_finding(Severity.ERROR, subject, error.what, error.hint))
    return found


def _rights(admin: Connection, subject: str) -> list[Finding]:
    said = " ".join(str(row[0]) for row in admin.run("SHOW GRANTS"))
    if "ALL PRIVILEGES ON *.*" in said or " SUPER" in said:
        return [_finding(Severity.OK, subject, "the admin may do everything")]
    missing = [one for one in _NEEDED if one not in said]
    if not missing:
        return [_finding(Severity.OK, subject, "the admin has the rights that it needs")]
    return [
        _finding(
            Severity.ERROR,
            subject,
            f"the admin {admin.user!r} lacks: {', '.join(missing)}",
            f"As root: GRANT {', '.join(missing)} ON *.* TO it, and SELECT ON mysql.*",
        )
    ]


def _state(admin: Connection, subject: str) -> list[Finding]:
    found: list[Finding] = []
    if admin.run("SELECT @@global.read_only")[0][0]:
        found.append(
            _finding(
                Severity.ERROR,
                subject,
                "the server is read-only, as a replica is",
                "Name the primary as `host`.",
            )
        )
    return found


def _accounts(admin: Connection, subject: str, login: str | None) -> list[Finding]:
    found: list[Finding] = []
    rows = admin.run("SELECT Host FROM mysql.user WHERE User = '' AND is_role = 'N'")
    if rows:
        hosts = ", ".join(repr(str(row[0])) for row in rows)
        message = f"there are anonymous accounts for {hosts}: from there they stand before accounts of '%'"
        remedy = "DROP USER ''@... for each of them; mariadb-secure-installation does."
        found.append(_finding(Severity.WARNING, subject, message, remedy))
    for account in look(admin, login) if login else ():
        name = f"{account.name!r}@{account.host!r}"
        if account.locked:
            found.append(_finding(Severity.ERROR, subject, f"account {name} is locked"))
        if not account.hashes:
            ways = ", ".join(plugin for plugin, _ in account.ways) or "nothing"
            message = f"account {name} logs in by {ways}: no password that can be rotated"
            remedy = f"ALTER USER ... IDENTIFIED VIA {NATIVE} USING ..."
            found.append(_finding(Severity.ERROR, subject, message, remedy))
    return found


def _finding(severity: Severity, subject: str, message: str, remedy: str = "") -> Finding:
    return Finding(severity=severity, subject=subject, message=message, remedy=remedy)
