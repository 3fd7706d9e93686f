"""Why a login is rejected: by the number of the server's answer, and by the catalog, never by text.

Servers answer 1045 for a wrong password, an unknown login, another host and a missing certificate alike.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

from rotations.mysql.errors import EXPIRED, LOCKED
from rotator.api import Rejection

if TYPE_CHECKING:
    from rotations.mysql.accounts import Account, Accounts
    from rotations.mysql.options import TargetOptions
    from rotator.api import Credential


def rejection(
    accounts: Accounts, options: TargetOptions, credential: Credential, code: int
) -> Rejection | None:
    """Return why the server rejected this login with this number; None where nothing shows it."""
    name = credential.username
    if options.tls == "disable" and accounts.wants_tls():
        return Rejection(
            cause="tls",
            text="the server accepts connections with TLS only (require_secure_transport)",
            hint="Set `sslmode: require` (or verify-full, with `sslrootcert`) in the options of the target.",
        )
    address = accounts.address()
    found = accounts.look(name)
    here = [one for one in found if is_for(one.host, address)]
    if not found:
        return Rejection(
            cause="login",
            text=f"the server has no account {name!r}",
            hint="Correct the name, or create the account again with its password and grants.",
        )
    if not here:
        hosts = ", ".join(repr(one.host) for one in found)
        return Rejection(
            cause="host",
            text=f"its account is for {hosts}, but rotator connects from {address!r}",
            hint="Run rotator on a host that the account allows, or add an account with the same"
            f" password and grants: CREATE USER {_quoted(name, address)} IDENTIFIED BY '...';",
        )
    # The server takes the account whose host part is the most exact.
    account = min(here, key=lambda one: _exactness(one.host))
    for host in accounts.anonymous_hosts():
        if is_for(host, address) and _exactness(host) < _exactness(account.host):
            return Rejection(
                cause="anonymous",
                text=f"the anonymous account ''@{host!r} takes precedence over {account}",
                hint=f"DROP USER {_quoted('', host)};",
            )
    return _of(accounts, options, credential, account, code)


def _of(
    accounts: Accounts, options: TargetOptions, credential: Credential, account: Account, code: int
) -> Rejection | None:
    sql = account.sql.replace("%%", "%")
    if account.locked or code in LOCKED:
        return Rejection(
            cause="locked",
            text=f"account {account} is locked",
            hint=f"To allow it again: ALTER USER {sql} ACCOUNT UNLOCK;",
        )
    if account.expired or code in EXPIRED:
        return Rejection(
            cause="expired",
            text=f"the password of account {account} has expired",
            hint=f"Set another password, then use that one: ALTER USER {sql} IDENTIFIED BY '...';",
        )
    if account.tls and options.tls == "disable":
        return Rejection(
            cause="tls",
            text=f"account {account} requires {_required(account)}, but rotator connects without TLS",
            hint="Set `sslmode: require` (or verify-full, with `sslrootcert`) in the options of the target"
            f"{'' if account.tls == 'SSL' else ', and `sslcert` and `sslkey`'}.",
        )
    if account.tls not in ("", "SSL") and options.sslcert is None:
        return Rejection(
            cause="certificate",
            text=f"account {account} requires {_required(account)}, but rotator sends no certificate",
            hint="Set `sslcert` and `sslkey` in the options of the target.",
        )
    if not account.hashes:
        plugins = ", ".join(plugin for plugin, _ in account.ways) or "no password"
        return Rejection(
            cause="plugin",
            text=f"account {account} authenticates by {plugins}, without a password that rotator"
            " can rotate",
            hint=f"{accounts.remedy}, or choose another account.",
        )
    if not accounts.lets_in(account, credential.password):
        return Rejection(
            cause="password",
            text="the password is wrong",
            hint=f"Provide the valid password, or set this one: ALTER USER {sql} IDENTIFIED BY '...';",
        )
    if account.tls == "certificate":
        return Rejection(
            cause="certificate",
            text=f"account {account} requires {_required(account)}, which the certificate in"
            " `sslcert` does not satisfy",
            hint="Set `sslcert` and `sslkey` to the certificate that the account requires.",
        )
    return None


def _exactness(host: str) -> tuple[bool, int]:
    return "%" in host or "_" in host, -len(host)


def is_for(host: str, address: str) -> bool:
    """Return whether a host part takes this address, as the server compares them.

    Reference manual, "Specifying Account Names": names and patterns, networks with a mask, CIDR.
    """
    base, slash, mask = host.partition("/")
    if slash:
        try:
            return ipaddress.ip_address(address) in ipaddress.ip_network(
                f"{base}/{mask}", strict=False
            )
        except ValueError:
            return False
    pattern = re.escape(host).replace("%", ".*").replace("_", ".")
    return re.fullmatch(pattern, address, re.IGNORECASE | re.DOTALL) is not None


def _required(account: Account) -> str:
    clause = dict(account.options).get("TLS requirement", "REQUIRE TLS")
    return clause.partition(" ")[2] or "TLS"


def _quoted(name: str, address: str) -> str:
    return f"{_one(name)}@{_one(address)}"


def _one(text: str) -> str:
    return "`" + text.replace("`", "``") + "`"
