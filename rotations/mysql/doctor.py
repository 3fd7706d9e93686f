"""What `doctor` asks of a MariaDB or MySQL target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rotations.mysql import readers
from rotator.api import Finding, Severity, StepError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rotations.mysql.accounts import Accounts
    from rotations.mysql.profile import Obstacle
    from rotations.mysql.server import Server
    from rotator.api import Credential, StepContext

_LAGS: Final = "Has its replication stopped, or does it lag? On MySQL: SHOW REPLICA STATUS; on MariaDB: SHOW SLAVE STATUS"


def findings(
    server: Server,
    login: str | None,
    obstacles: Callable[[Accounts], Sequence[Obstacle]],
    *,
    drops: bool,
) -> list[Finding]:
    """Look at the server with the admin's eyes. Nothing is changed.

    `obstacles` are the strategy's own; `drops`: whether it drops logins.
    """
    subject = f"target {server.name}"
    found: list[Finding] = []
    if not server.options.is_local and server.options.tls != "verify-full":
        message = f"sslmode is {server.options.tls}: whoever sits between could pose as the server"
        found.append(_finding(Severity.WARNING, subject, message, "Set sslmode: verify-full."))
    try:
        with server.admin("examining") as accounts:
            message = f"the admin logs in ({server.where}, {accounts.product})"
            found.append(_finding(Severity.OK, subject, message))
            found += _rights(accounts, subject)
            found += _state(accounts, subject)
            found += _accounts(accounts, subject, login)
            found += [
                _finding(Severity.ERROR, subject, one.cause, one.remedy)
                for one in obstacles(accounts)
            ]
            found += _visibility(accounts, subject) if drops else []
    except StepError as error:
        found.append(_finding(Severity.ERROR, subject, error.what, error.hint))
    return found


def of_reader(
    reader: Server, primary: Server, current: Credential | None, ctx: StepContext
) -> Finding:
    """Look whether a replica accepts the login that is served; one that lags is not tried."""
    subject = f"reader {reader.address}"
    try:
        with reader.admin("examining", ctx):
            pass
        if current is not None and (
            readers.lags(reader, primary, current.username, ctx)
            or not readers.accepts(reader, current, ctx)
        ):
            message = f"it rejects the login {current.username!r} that is served"
            return _finding(Severity.ERROR, subject, message, _LAGS)
    except StepError as error:
        return _finding(Severity.ERROR, subject, error.what, error.hint)
    return _finding(Severity.OK, subject, "it accepts the login that is served")


def _rights(accounts: Accounts, subject: str) -> list[Finding]:
    granted = accounts.own_rights()
    if "ALL PRIVILEGES" in granted:
        return [_finding(Severity.OK, subject, "the admin may do everything")]
    missing = [one for one in accounts.needs if one not in granted]
    if missing == [accounts.needs[-1]] and accounts.ends_sessions_by_rds():
        missing = []
    if not missing:
        return [_finding(Severity.OK, subject, "the admin has the rights that it needs")]
    return [
        _finding(
            Severity.ERROR,
            subject,
            f"the admin {accounts.admin.user!r} lacks: {', '.join(missing)}",
            f"As root: GRANT {', '.join(missing)} ON *.* TO {accounts.whoami()}; GRANT SELECT ON mysql.* TO {accounts.whoami()};",
        )
    ]


def _visibility(accounts: Accounts, subject: str) -> list[Finding]:
    """Look whether the admin sees whose objects an account defines."""
    unseen = accounts.unseen()
    if not unseen:
        return []
    message = f"without {', '.join(unseen)} the admin does not see which objects a login defines: old logins stay locked instead of being dropped"
    remedy = f"As root: GRANT {', '.join(one.partition(' or ')[0] for one in unseen)} ON *.* TO {accounts.whoami()};"
    return [_finding(Severity.WARNING, subject, message, remedy)]


def _state(accounts: Accounts, subject: str) -> list[Finding]:
    found: list[Finding] = []
    if accounts.is_read_only():
        message = "the server is read-only, as a replica is"
        found.append(_finding(Severity.ERROR, subject, message, "Name the primary as `host`."))
    elif primary := accounts.primary():
        message = f"the server copies from {primary}: what is set here is not set there"
        remedy = "Name the primary as `host`, unless each of the two copies from the other."
        found.append(_finding(Severity.WARNING, subject, message, remedy))
    if statement := accounts.runs_at_login():
        message = f"init_connect runs in the admin's sessions too: {statement}"
        remedy = f"As root: GRANT {accounts.needs[-1]} ON *.* TO {accounts.whoami()}; or see that it calls nothing that an application may change."
        found.append(_finding(Severity.WARNING, subject, message, remedy))
    return found


def _accounts(accounts: Accounts, subject: str, login: str | None) -> list[Finding]:
    found: list[Finding] = []
    hosts = ", ".join(repr(host) for host in accounts.anonymous_hosts())
    if hosts:
        message = f"there are anonymous accounts for {hosts}: from there they stand before accounts of '%'"
        remedy = "DROP USER ''@... for each of them; mariadb-secure-installation and mysql_secure_installation do."
        found.append(_finding(Severity.WARNING, subject, message, remedy))
    for account in accounts.look(login) if login else ():
        if account.locked:
            found.append(_finding(Severity.ERROR, subject, f"account {account} is locked"))
        if account.is_touchy:
            message = f"account {account} is blocked after {account.tries} wrong password(s)"
            remedy = "The proof that an old password is refused takes one: allow 3 or more."
            found.append(_finding(Severity.ERROR, subject, message, remedy))
        if not account.hashes:
            ways = ", ".join(plugin for plugin, _ in account.ways) or "nothing"
            message = f"account {account} logs in by {ways}: no password that can be rotated"
            found.append(_finding(Severity.ERROR, subject, message, accounts.remedy))
    return found


def _finding(severity: Severity, subject: str, message: str, remedy: str = "") -> Finding:
    return Finding(severity=severity, subject=subject, message=message, remedy=remedy)
