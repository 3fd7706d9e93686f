"""MariaDB's accounts, 10.4 and newer.

They have no comments: the mark of an account of ours is a role by a name that is made of it, created before
the account and dropped after it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar, Final

from rotations.mysql.accounts import (
    Account,
    Accounts,
    Mark,
    dead,
    digest_of,
    ordered,
    quoted,
    quoted_account,
)
from rotations.mysql.passwords import NATIVE, is_hash_of, native_hash
from rotator.api import MASK, Denied

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rotator.api import Secret, StepContext

_MARK: Final = "rotator:"
# CREATE USER `name`@`host` [IDENTIFIED ...] [REQUIRE ...] [WITH ...] [ACCOUNT LOCK] [PASSWORD EXPIRE ...]
_TAIL: Final = re.compile(r" (?:REQUIRE |WITH |ACCOUNT LOCK|PASSWORD EXPIRE).*$", re.DOTALL)
_LOCKED: Final = " ACCOUNT LOCK"
# max_password_errors, as it is unless somebody sets it.
_UNLIMITED: Final = 2**32 - 1
_ONE_WAY: Final = re.compile(r"(\w+)(?: (?:USING|AS) '([^']*)')?")
_SAID: Final = {
    "beside": f"USING '{MASK}' OR {NATIVE} USING '(the old hash)'",
    "only": f"USING '{MASK}'",
    "open": f"USING '{MASK}' ACCOUNT UNLOCK",
}


class MariaDbAccounts(Accounts):
    """An account has any number of ways in, each a plugin and what it keeps; they are set together."""

    product: ClassVar[str] = "MariaDB"
    rights: ClassVar[Sequence[str]] = ("CREATE USER", "PROCESS", "CONNECTION ADMIN")
    remedy: ClassVar[str] = f"ALTER USER ... IDENTIFIED VIA {NATIVE} USING ..."

    def look(self, name: str) -> list[Account]:
        """Return the accounts of this name, roles excepted."""
        rows = self.admin.run(
            "SELECT Host, @@global.max_password_errors FROM mysql.user"
            " WHERE User = %s AND is_role = 'N' ORDER BY Host",
            [name],
        )
        return [
            self._shown(name, str(host), int(tries) if tries < _UNLIMITED else 0)
            for host, tries in rows
        ]

    def grants(self, account: Account) -> list[str]:
        """Return what SHOW GRANTS says, without the passwords and limits behind the first grant."""
        mine = f" TO {account.sql.replace('%%', '%')}"
        default = f" FOR {account.sql.replace('%%', '%')}"
        found: list[str] = []
        for (text,) in self.admin.run(f"SHOW GRANTS FOR {account.sql}"):
            said = str(text)
            if said.startswith("SET DEFAULT ROLE"):
                found.append(said.replace(default, " FOR {}"))
            elif mine in said:
                head, _, behind = said.partition(mine)
                option = next(
                    (one for one in (" WITH GRANT OPTION", " WITH ADMIN OPTION") if one in behind),
                    "",
                )
                found.append(f"{ordered(head)} TO {{}}{option}")
        return [
            one for one in found if not one.startswith("GRANT USAGE ON *.* TO {}") or "WITH" in one
        ]

    def find_mark(self, secret: str, name: str) -> Mark | None:
        """Look for the role."""
        of = digest_of(secret, name)
        rows = self.admin.run(
            "SELECT User FROM mysql.user WHERE is_role = 'Y' AND User LIKE %s", [f"{_MARK}{of}:%"]
        )
        for (role,) in rows:
            return Mark(of=of, rotation=str(role).rpartition(":")[2])
        return None

    def anonymous_hosts(self) -> list[str]:
        """Return the host parts of accounts without a name."""
        rows = self.admin.run("SELECT Host FROM mysql.user WHERE User = '' AND is_role = 'N'")
        return [str(host) for (host,) in rows]

    def lets_in(self, account: Account, password: Secret) -> bool:
        """Compare hashes: they have no salt."""
        return any(is_hash_of(one, password) for one in account.hashes)

    def create(self, name: str, like: Account, mark: Mark, ctx: StepContext) -> None:
        """Make the role, then the account."""
        self._send(ctx, f"CREATE ROLE IF NOT EXISTS {_role(mark)}")
        self._send(
            ctx,
            f"CREATE USER IF NOT EXISTS {quoted_account(name, like.host)}"
            f" IDENTIFIED VIA {NATIVE} USING %s{like.tail} ACCOUNT LOCK",
            [native_hash(dead(ctx))],
        )

    def forget(self, mark: Mark, ctx: StepContext) -> None:
        """Drop the role."""
        self._send(ctx, f"DROP ROLE IF EXISTS {_role(mark)}")

    def let_in(self, account: Account, new: Secret, beside: Secret, ctx: StepContext) -> None:
        """Set both, the new one first."""
        hashes = dict.fromkeys((native_hash(new), native_hash(beside)))
        self._set_ways(account, list(hashes), ctx)

    def let_in_only(self, account: Account, password: Secret, ctx: StepContext) -> None:
        """Set one."""
        self._set_ways(account, [native_hash(password)], ctx)

    def open(self, account: Account, password: Secret, ctx: StepContext) -> None:
        """In one statement."""
        way = f"IDENTIFIED VIA {NATIVE} USING %s"
        values = [native_hash(password)]
        self._send(ctx, f"ALTER USER {account.sql} {way} ACCOUNT UNLOCK", values)

    def close(self, account: Account, ctx: StepContext) -> None:
        """In one statement."""
        way = f"IDENTIFIED VIA {NATIVE} USING %s"
        values = [native_hash(dead(ctx))]
        self._send(ctx, f"ALTER USER {account.sql} {way} ACCOUNT LOCK", values)

    def set_own(self, password: Secret) -> None:
        """By its hash, as all."""
        _ = self.admin.run("SET PASSWORD = %s", [native_hash(password)])

    def said(self, doing: str, name: str) -> str:
        """Return ALTER USER without hashes."""
        return f"ALTER USER {quoted(name)}@... IDENTIFIED VIA {NATIVE} {_SAID[doing]}"

    def _set_ways(self, account: Account, hashes: Sequence[str], ctx: StepContext) -> None:
        """Let exactly these passwords in, and whoever comes by another plugin as before."""
        others = [one for one in account.ways if one[0] != NATIVE]
        wanted = [*((NATIVE, one) for one in hashes), *others]
        if tuple(wanted) == account.ways:
            return
        self._require_password(account)
        ways: list[str] = []
        values: list[str] = []
        for plugin, kept in wanted:
            ways.append(f"{plugin} USING %s" if kept else plugin)
            values += [kept] if kept else []
        self._send(ctx, f"ALTER USER {account.sql} IDENTIFIED VIA {' OR '.join(ways)}", values)

    def _shown(self, name: str, host: str, tries: int) -> Account:
        account = quoted_account(name, host)
        text = str(self.admin.run(f"SHOW CREATE USER {account}")[0][0])
        head = f"CREATE USER {account.replace('%%', '%')}"
        if not text.startswith(head):
            raise Denied(
                f"the server describes account {name!r}@{host!r} in a way that is not known."
            )
        behind = text[len(head) :]
        found = _TAIL.search(behind)
        tail = found[0] if found else ""
        ways = tuple(_ways(behind[: len(behind) - len(tail)]))
        return Account(
            name=name,
            host=host,
            ways=ways,
            hashes=tuple(kept for plugin, kept in ways if plugin == NATIVE and kept),
            tail=tail.replace(_LOCKED, "").replace("%", "%%"),
            locked=_LOCKED in tail,
            tries=tries,
        )


def _role(mark: Mark) -> str:
    return quoted(f"{_MARK}{mark.of}:{mark.rotation}")


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
