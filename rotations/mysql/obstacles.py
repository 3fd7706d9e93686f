"""What would make a rotation fail, or change what a login is: looked at before anything is sent.

`create` calls `require_none`, `plan` too, and `doctor` shows the same as findings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rotations.mysql.passwords import CACHING, NATIVE
from rotations.mysql.profile import Obstacle, not_grantable
from rotator.api import Denied

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rotations.mysql.accounts import Account, Accounts

# Plugins that keep what they compare a password with: one by them would stay valid.
_KEEP_PASSWORDS: Final = frozenset({"ed25519", "parsec", "mysql_old_password"})
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
    found: list[Obstacle] = []
    for account in accounts.look(name):
        for plugin, kept in account.ways:
            if plugin in _KEEP_PASSWORDS and kept:
                found.append(
                    Obstacle(
                        kind="authentication",
                        cause=f"account {account} also accepts a password by {plugin}, which would stay valid",
                        remedy=f"Let it log in by one plugin: {accounts.remedy}",
                    )
                )
        found += _system_user(accounts, account)
    return found


def to_another(accounts: Accounts, source: str, target: str | None) -> list[Obstacle]:
    """Return what `target`, or a login that is still to be named, would not have of `source`."""
    found: list[Obstacle] = []
    sources = accounts.look(source)
    for account in sources:
        others = {plugin for plugin, _ in account.ways} - {CACHING, NATIVE}
        if account.hashes and others:
            found.append(
                Obstacle(
                    kind="authentication",
                    cause=f"account {account} also logs in by {', '.join(sorted(others))}, which another login cannot have",
                    remedy=f"Choose strategy dual-password, which keeps it, or let it log in by one plugin: {accounts.remedy}",
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
    found += _rights(accounts, sources)
    if target is None:
        return found
    if len(target) > accounts.name_characters:
        found.append(
            Obstacle(
                kind="name",
                cause=f"login name {target!r} has {len(target)} characters, and {accounts.product} takes {accounts.name_characters}",
                remedy="Choose a shorter `prefix`, or shorter `users`.",
            )
        )
    hosts = {one.host for one in sources}
    for other in accounts.look(target):
        if hosts and other.host not in hosts:
            found.append(
                Obstacle(
                    kind="host part",
                    cause=f"account {other} has no counterpart: {source!r} has accounts for {', '.join(sorted(hosts))} only",
                    remedy=f"If nobody needs it: DROP USER {_plain(other)}; or create {source!r} for that host too.",
                )
            )
    return found


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
            cause=f"account {account} has {_SYSTEM_USER}, and the admin {accounts.admin.user!r} has not",
            remedy=f"As root: GRANT {_SYSTEM_USER} ON *.* TO {accounts.whoami()};",
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
            cause=f"the admin {accounts.admin.user!r} may not grant what the login has: {', '.join(lacks)}",
            remedy=f"As root: {' '.join(grants)}",
        )
    ]


def _plain(account: Account) -> str:
    return account.sql.replace("%%", "%")
