"""What would make a rotation fail, or change what a login is: looked at before anything is sent.

`create` calls `require_none`, `plan` too, and `doctor` shows the same as findings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rotations.mysql.passwords import CACHING, KEEP_PASSWORDS, NATIVE, is_hash_of, is_known
from rotations.mysql.profile import Obstacle, not_grantable
from rotator.api import Conflict, Denied, Unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rotations.mysql.accounts import Account, Accounts
    from rotator.api import Credential

_SYSTEM_USER: Final = "SYSTEM_USER"


def require_none(obstacles: Sequence[Obstacle]) -> None:
    """Raise `Denied` with every cause and every remedy, or what the first of them says it is."""
    if obstacles:
        kind = next((one.error for one in obstacles if one.error is not None), Denied)
        raise kind(
            "; ".join(one.cause for one in obstacles),
            hint=" ".join(one.remedy for one in obstacles),
            safety="Nothing was changed.",
        )


def in_place(accounts: Accounts, name: str) -> list[Obstacle]:
    """Return what keeps a login's own password from being replaced."""
    found = _validation(accounts)
    for account in accounts.look(name):
        found += _password(accounts, account)
        found += _closed(account)
        for plugin, kept in account.ways:
            if plugin in KEEP_PASSWORDS and kept:
                found.append(
                    Obstacle(
                        kind="authentication",
                        cause=f"account {account} also accepts a password by {plugin}, which would"
                        " stay valid",
                        remedy=f"Allow only one plugin: {accounts.remedy}",
                    )
                )
        found += _system_user(accounts, account)
    return found


def to_another(
    accounts: Accounts, source: str, target: str | None, *, closes: bool = True
) -> list[Obstacle]:
    """Return what `target`, or a login that is still to be named, would not have of `source`."""
    found = _validation(accounts)
    sources = accounts.look(source)
    for account in sources:
        # A model has no password that anybody logs in by; a current login is closed in the end.
        found += [*_password(accounts, account), *_closed(account)] if closes else []
        others = {plugin for plugin, _ in account.ways} - {CACHING, NATIVE}
        if account.hashes and others:
            found.append(
                Obstacle(
                    kind="authentication",
                    cause=f"account {account} also authenticates by {', '.join(sorted(others))},"
                    " which rotator cannot give to another login",
                    remedy="Choose strategy dual-password, which keeps it, or allow only one plugin:"
                    f" {accounts.remedy}",
                )
            )
        if account.unknown:
            found.append(
                Obstacle(
                    kind="unknown attribute",
                    cause=f"account {account} has {', '.join(account.unknown)}, which this version of rotator cannot give to another login",
                    remedy="Choose strategy dual-password, which keeps the account.",
                )
            )
        found += _system_user(accounts, account)
    found += [*_no_accounts(accounts), *_rights(accounts, sources)]
    if target is None:
        return found
    if len(target) > accounts.name_characters:
        found.append(
            Obstacle(
                kind="name",
                cause=f"login name {target!r} has {len(target)} characters, but {accounts.product}"
                f" allows at most {accounts.name_characters}",
                remedy="Choose a shorter `prefix`, or shorter `users`.",
            )
        )
    hosts = {one.host for one in sources}
    for other in accounts.look(target):
        if hosts and other.host not in hosts:
            found.append(
                Obstacle(
                    kind="host part",
                    cause=f"account {other} has no counterpart: {source!r} has accounts only for"
                    f" {', '.join(sorted(hosts))}",
                    remedy=f"If the account is unused: DROP USER {_plain(other)}; otherwise create"
                    f" {source!r} for that host too.",
                )
            )
    return found


def own(accounts: Accounts) -> list[Obstacle]:
    """Return what keeps a login from changing its own password back, as the undo does."""
    found = _validation(accounts)
    for text in accounts.own_history():
        found.append(
            Obstacle(
                kind="password history",
                cause=f"login {accounts.admin.user!r} changes its own password, and may not reuse"
                f" the previous one ({text}): a failed rotation could not be undone",
                remedy="Set the target's `admin` to another login, to whose hashes this rule does"
                f" not apply; or as root: ALTER USER {accounts.whoami()} PASSWORD HISTORY 0"
                " PASSWORD REUSE INTERVAL 0 DAY;",
            )
        )
    return found


def second_passwords(
    accounts: Accounts, found: Sequence[Account], current: Credential | None, new: Credential | None
) -> list[Obstacle]:
    """Return the accounts with a password that is neither of these: somebody set it, and may use it.

    Without `new` only those for which the current password is not the first: the other one may be of
    the rotation before, in its grace period.
    """
    if current is None:
        return []
    ours = [one.password for one in (current, new) if one is not None]
    obstacles: list[Obstacle] = []
    for account in found:
        others = [one for one in account.hashes if not any(is_hash_of(one, own) for own in ours)]
        known = any(is_hash_of(one, current.password) for one in account.hashes)
        if others and known and (new is not None or others[0] == account.hashes[0]):
            obstacles.append(
                Obstacle(
                    kind="second password",
                    cause=f"account {account} accepts a second password that "
                    + ("rotator did not set" if new else "was set later")
                    + ", and a rotation would end it",
                    remedy="Make its clients use the password that the backend serves; then as root:"
                    f" {accounts.ends_others(account)}",
                    error=Conflict,
                )
            )
    return obstacles


def _validation(accounts: Accounts) -> list[Obstacle]:
    """MariaDB: a plugin that checks passwords refuses hashes, which say nothing of a password."""
    plugins = accounts.refuse_hashes()
    if not plugins:
        return []
    return [
        Obstacle(
            kind="password validation",
            cause=f"{accounts.product} validates passwords by {', '.join(plugins)}, and"
            " strict_password_validation rejects the hashes that rotator sends instead of"
            " passwords",
            remedy="As root: SET GLOBAL strict_password_validation = OFF; and the same in the"
            " server's option file. rotator's password policy generates passwords that satisfy"
            " the plugin.",
            error=Unavailable,
        )
    ]


def _password(accounts: Accounts, account: Account) -> list[Obstacle]:
    """Return why an account's own password cannot be proven or replaced."""
    ways = ", ".join(plugin for plugin, _ in account.ways) or "no password"
    unknown = [one for one in account.hashes if not is_known(one)]
    lost = [
        one for one, kept in account.ways if kept and one == NATIVE and not accounts.is_active(one)
    ]
    if not account.hashes:
        cause = (
            f"account {account} authenticates by {ways}, without a password that rotator can rotate"
        )
    elif unknown:
        cause = (
            f"account {account} stores its password in a format ({unknown[0][:3]}...) that"
            " this version of rotator does not know"
        )
    elif lost:
        cause = f"account {account} authenticates by {lost[0]}, which this server has not loaded"
    else:
        return []
    return [
        Obstacle(
            kind="authentication",
            cause=cause,
            remedy=f"{accounts.remedy}, or choose another account.",
        )
    ]


def _closed(account: Account) -> list[Obstacle]:
    """An account that somebody has locked: the next one would be open."""
    if not account.locked:
        return []
    return [
        Obstacle(
            kind="closed",
            cause=f"account {account} is locked, and the next one would let its clients in again",
            remedy=f"If that is intended: ALTER USER {_plain(account)} ACCOUNT UNLOCK; if nobody"
            f" needs it: DROP USER {_plain(account)};",
        )
    ]


def _system_user(accounts: Accounts, account: Account) -> list[Obstacle]:
    """MySQL: an account with SYSTEM_USER is altered by such an account only."""
    if (
        _SYSTEM_USER not in accounts.rights(account).dynamic
        or _SYSTEM_USER in accounts.own().dynamic
    ):
        return []
    return [
        Obstacle(
            kind="rights",
            cause=f"account {account} has {_SYSTEM_USER}, but the admin {accounts.admin.user!r} does"
            " not",
            remedy=f"As root: GRANT {_SYSTEM_USER} ON *.* TO {accounts.whoami()};",
        )
    ]


def _no_accounts(accounts: Accounts) -> list[Obstacle]:
    """Return that the admin may make no account at all: then every secret of the target waits."""
    if accounts.own_rights() & {"CREATE USER", "ALL PRIVILEGES"}:
        return []
    return [
        Obstacle(
            kind="rights",
            cause=f"the admin {accounts.admin.user!r} lacks the right to create accounts",
            remedy=f"As root: GRANT CREATE USER ON *.* TO {accounts.whoami()};",
            error=Unavailable,
        )
    ]


def _rights(accounts: Accounts, sources: Sequence[Account]) -> list[Obstacle]:
    own = accounts.own()
    lacks = dict.fromkeys(
        one for account in sources for one in not_grantable(accounts.rights(account), own)
    )
    if not lacks:
        return []
    admin = accounts.whoami()
    grants = [
        f"GRANT {what} TO {admin} WITH {option};"
        for what, _, option in (one.rpartition(" WITH ") for one in lacks)
    ]
    return [
        Obstacle(
            kind="rights",
            cause=f"the admin {accounts.admin.user!r} lacks the right to grant the login's"
            f" privileges: {', '.join(lacks)}",
            remedy=f"As root: {' '.join(grants)}",
        )
    ]


def _plain(account: Account) -> str:
    return account.sql.replace("%%", "%")
