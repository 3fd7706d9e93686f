"""Accounts as the server shows them: their hosts, passwords, grants, limits, and whose they are.

MariaDB's accounts have no comments. An account is ours when there is a role by a name that is made of
the secret's and the account's: it is created before the account and dropped after it.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rotator.api import Denied, Session

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rotations.mysql.server import Connection

NATIVE: Final = "mysql_native_password"
_MARK: Final = "rotator:"
_DIGITS: Final = 24
# CREATE USER `name`@`host` [IDENTIFIED ...] [REQUIRE ...] [WITH ...] [ACCOUNT LOCK] [PASSWORD EXPIRE ...]
_TAIL: Final = re.compile(r" (?:REQUIRE |WITH |ACCOUNT LOCK|PASSWORD EXPIRE).*$", re.DOTALL)
_LOCKED: Final = " ACCOUNT LOCK"
_ONE_WAY: Final = re.compile(r"(\w+)(?: (?:USING|AS) '([^']*)')?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One account. `ways`: its authentication plugins in order, each with what it keeps."""

    name: str
    host: str
    ways: tuple[tuple[str, str], ...]
    # What CREATE USER says behind that: TLS, limits, expiry; without the lock.
    tail: str
    locked: bool

    @property
    def sql(self) -> str:
        """How statements name it."""
        return quoted_account(self.name, self.host)

    @property
    def hashes(self) -> tuple[str, ...]:
        """The password hashes that are valid."""
        return tuple(kept for plugin, kept in self.ways if plugin == NATIVE and kept)


def quoted(name: str) -> str:
    """Return an identifier as statements have it, with per cent signs doubled for the driver."""
    return "`" + name.replace("`", "``").replace("%", "%%") + "`"


def quoted_account(name: str, host: str) -> str:
    """Return an account's name as statements have it."""
    return f"{quoted(name)}@{quoted(host)}"


def look(admin: Connection, name: str) -> list[Account]:
    """Return the accounts of this name, one for each host part that it has."""
    rows = admin.run(
        "SELECT Host FROM mysql.user WHERE User = %s AND is_role = 'N' ORDER BY Host", [name]
    )
    return [_shown(admin, name, str(host)) for (host,) in rows]


def grants(admin: Connection, account: Account) -> list[str]:
    """Return everything that an account was granted, as statements with `{}` where its name was.

    Passwords and limits, which MariaDB puts behind the first grant, are left out.
    """
    mine = f" TO {account.sql.replace('%%', '%')}"
    default = f" FOR {account.sql.replace('%%', '%')}"
    found: list[str] = []
    for (text,) in admin.run(f"SHOW GRANTS FOR {account.sql}"):
        said = str(text)
        if said.startswith("SET DEFAULT ROLE"):
            found.append(said.replace(default, " FOR {}"))
        elif mine in said:
            head, _, behind = said.partition(mine)
            option = next(
                (
                    one
                    for one in (" WITH GRANT OPTION", " WITH ADMIN OPTION")
                    if behind.strip().startswith(one.strip()) or one in behind
                ),
                "",
            )
            found.append(f"{head} TO {{}}{option}")
    return [one for one in found if not one.startswith("GRANT USAGE ON *.* TO {}") or "WITH" in one]


def granted(statement: str, account: str) -> str:
    """Return a statement of `grants` for an account, ready for the driver."""
    head, _, behind = statement.rpartition("{}")
    return f"{head.replace('%', '%%')}{account}{behind}"


def taken_back(statement: str, account: str) -> str:
    """Return the statement that takes one of `grants` back."""
    head, _, _ = statement.rpartition(" TO {}")
    if not head:
        return f"SET DEFAULT ROLE NONE FOR {account}"
    return f"{head.replace('GRANT', 'REVOKE', 1).replace('%', '%%')} FROM {account}"


# -- whose it is -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Whose an account is: a digest of the secret and the account, and one of the rotation."""

    of: str
    rotation: str

    @staticmethod
    def make(secret: str, account: str, rotation: str) -> Mark:
        """Return the mark of an account that this rotation of this secret creates."""
        return Mark(of=_digest(f"{secret}\0{account}"), rotation=_digest(rotation))

    @property
    def role(self) -> str:
        """The role's name."""
        return f"{_MARK}{self.of}:{self.rotation}"


def find_mark(admin: Connection, secret: str, account: str) -> Mark | None:
    """Return the mark of this secret's account; None when we did not make it."""
    of = _digest(f"{secret}\0{account}")
    rows = admin.run(
        "SELECT User FROM mysql.user WHERE is_role = 'Y' AND User LIKE %s", [f"{_MARK}{of}:%"]
    )
    for (name,) in rows:
        return Mark(of=of, rotation=str(name).rpartition(":")[2])
    return None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


# -- who is there ------------------------------------------------------------------------------


def sessions(admin: Connection, name: str) -> list[tuple[int, Session]]:
    """Return the open sessions of a login, ours excepted."""
    rows = admin.run(
        "SELECT p.ID, p.HOST, coalesce(p.DB, '') FROM information_schema.PROCESSLIST p"
        " WHERE p.USER = %s AND p.ID <> CONNECTION_ID() AND p.COMMAND <> 'Killed' ORDER BY p.ID",
        [name],
    )
    return [
        (
            int(number),
            Session(
                login=name,
                client=str(host).rpartition(":")[0] or str(host) or "?",
                application=f"database {database}" if database else "?",
                since=None,
            ),
        )
        for number, host, database in rows
    ]


def _shown(admin: Connection, name: str, host: str) -> Account:
    account = quoted_account(name, host)
    text = str(admin.run(f"SHOW CREATE USER {account}")[0][0])
    head = f"CREATE USER {account.replace('%%', '%')}"
    if not text.startswith(head):
        raise Denied(f"the server describes account {name!r}@{host!r} in a way that is not known.")
    behind = text[len(head) :]
    found = _TAIL.search(behind)
    tail = found[0] if found else ""
    ways = behind[: len(behind) - len(tail)]
    return Account(
        name=name,
        host=host,
        ways=tuple(_ways(ways)),
        tail=tail.replace(_LOCKED, "").replace("%", "%%"),
        locked=_LOCKED in tail,
    )


def _ways(text: str) -> Iterable[tuple[str, str]]:
    said = text.strip()
    if said.startswith("IDENTIFIED BY PASSWORD '"):
        yield NATIVE, said.removeprefix("IDENTIFIED BY PASSWORD '").removesuffix("'")
        return
    said = said.removeprefix("IDENTIFIED VIA ")
    for one in said.split(" OR ") if said else ():
        found = _ONE_WAY.fullmatch(one.strip())
        if found is not None:
            yield found[1], found[2] or ""
