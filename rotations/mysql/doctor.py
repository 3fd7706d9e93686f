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

_LAGS: Final = (
    "Check whether its replication has stopped or lags. On MySQL: SHOW REPLICA STATUS; on"
    " MariaDB: SHOW SLAVE STATUS"
)


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
        message = (
            f"sslmode is {server.options.tls}: another host on the network could impersonate"
            " the server"
        )
        found.append(_finding(Severity.WARNING, subject, message, "Set sslmode: verify-full."))
    try:
        with server.admin("examining") as accounts:
            message = f"the admin login authenticated ({server.where}, {accounts.product})"
            found.append(_finding(Severity.OK, subject, message))
            found += _rights(accounts, subject)
            found += _state(accounts, subject)
            found.append(_marks(accounts, subject))
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
            message = f"it rejects the current login {current.username!r}"
            return _finding(Severity.ERROR, subject, message, _LAGS)
    except StepError as error:
        return _finding(Severity.ERROR, subject, error.what, error.hint)
    return _finding(Severity.OK, subject, "it accepts the current login")


def _rights(accounts: Accounts, subject: str) -> list[Finding]:
    granted = accounts.own_rights()
    if "ALL PRIVILEGES" in granted:
        return [_finding(Severity.OK, subject, "the admin has all privileges")]
    missing = [one for one in accounts.needs if one not in granted]
    if missing == [accounts.needs[-1]] and accounts.ends_sessions_by_rds():
        missing = []
    if not missing:
        return [_finding(Severity.OK, subject, "the admin has the required privileges")]
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
    message = (
        f"without {', '.join(unseen)} the admin cannot see which objects a login defines:"
        " rotator locks old logins instead of dropping them"
    )
    remedy = f"As root: GRANT {', '.join(one.partition(' or ')[0] for one in unseen)} ON *.* TO {accounts.whoami()};"
    return [_finding(Severity.WARNING, subject, message, remedy)]


def _marks(accounts: Accounts, subject: str) -> Finding:
    """Say whether sessions show which version of a secret they use. Without it, applications report."""
    why = accounts.hides_programs()
    message = (
        f"its sessions show no version marks ({why}): only reports show which version an"
        " application uses"
        if why
        else "its sessions show the version marks of applications"
    )
    return _finding(Severity.OK, subject, message)


def _state(accounts: Accounts, subject: str) -> list[Finding]:
    found: list[Finding] = []
    if accounts.is_read_only():
        message = "the server is read-only, like a replica"
        found.append(_finding(Severity.ERROR, subject, message, "Set `host` to the primary."))
    elif primary := accounts.primary():
        message = f"the server replicates from {primary}: a change here does not reach that server"
        remedy = (
            "Set `host` to the primary, unless each of the two servers replicates from the other."
        )
        found.append(_finding(Severity.WARNING, subject, message, remedy))
    if statement := accounts.runs_at_login():
        message = f"init_connect runs in the admin's sessions too: {statement}"
        remedy = (
            f"As root: GRANT {accounts.needs[-1]} ON *.* TO {accounts.whoami()}; or check that"
            " it calls nothing that an application may change."
        )
        found.append(_finding(Severity.WARNING, subject, message, remedy))
    return found


def _accounts(accounts: Accounts, subject: str, login: str | None) -> list[Finding]:
    found: list[Finding] = []
    hosts = ", ".join(repr(host) for host in accounts.anonymous_hosts())
    if hosts:
        message = (
            f"anonymous accounts exist for {hosts}: for these hosts they take precedence over"
            " accounts for '%'"
        )
        remedy = (
            "Drop each of them: DROP USER ''@... The scripts mariadb-secure-installation and"
            " mysql_secure_installation do this."
        )
        found.append(_finding(Severity.WARNING, subject, message, remedy))
    for account in accounts.look(login) if login else ():
        if account.is_touchy:
            message = f"account {account} is blocked after {account.tries} wrong password(s)"
            remedy = (
                "rotator uses one attempt to verify that an old password is rejected: allow 3"
                " or more."
            )
            found.append(_finding(Severity.ERROR, subject, message, remedy))
        if not account.hashes:
            ways = ", ".join(plugin for plugin, _ in account.ways) or "nothing"
            message = (
                f"account {account} authenticates by {ways}, without a password that rotator"
                " can rotate"
            )
            found.append(_finding(Severity.ERROR, subject, message, accounts.remedy))
    return found


def _finding(severity: Severity, subject: str, message: str, remedy: str = "") -> Finding:
    return Finding(severity=severity, subject=subject, message=message, remedy=remedy)
