"""MySQL's accounts, 8.0.14 and newer.

An account has a primary and a secondary password (RETAIN CURRENT PASSWORD, DISCARD OLD PASSWORD; reference
manual 8.0, "Password Management"). The mark of an account of ours is its ATTRIBUTE, set in the statement
that creates it. What statements mean is from that manual; it was not run on a real server.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar, Final

import pymysql.converters

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
from rotations.mysql.passwords import CACHING, NATIVE, caching_hash, is_hash_of, native_hash
from rotator.api import MASK, Denied

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rotator.api import Secret, StepContext

_ATTRIBUTE: Final = "rotator"
# CREATE USER ... ATTRIBUTE; release notes of 8.0.21.
_ATTRIBUTES_SINCE: Final = (8, 0, 21)
# The new word's first, and the old one's last is 8.3.
_REPLICA_SINCE: Final = (8, 0, 22)
# Reference manual, "Account User Names"; MariaDB's are longer.
_NAME_CHARACTERS: Final = 32
_ACCOUNTS: Final = """
SELECT Host, plugin, authentication_string, account_locked, User_attributes,
    ssl_type, ssl_cipher, x509_issuer, x509_subject,
    max_questions, max_updates, max_connections, max_user_connections,
    password_lifetime, Password_reuse_history, Password_reuse_time, Password_require_current
FROM mysql.user WHERE User = %s ORDER BY Host
"""
_SAID: Final = {
    "beside": f"AS '{MASK}' RETAIN CURRENT PASSWORD",
    "only": f"AS '{MASK}', and DISCARD OLD PASSWORD",
    "open": f"AS '{MASK}' ACCOUNT UNLOCK",
}


class MySqlAccounts(Accounts):
    """The first of an account's hashes is its primary password's."""

    product: ClassVar[str] = "MySQL"
    rights: ClassVar[Sequence[str]] = ("CREATE USER", "PROCESS", "CONNECTION_ADMIN")
    remedy: ClassVar[str] = f"ALTER USER ... IDENTIFIED WITH {CACHING} BY ..."

    def look(self, name: str) -> list[Account]:
        """Return the accounts of this name."""
        return [_account(name, row) for row in self.admin.run(_ACCOUNTS, [name])]

    def grants(self, account: Account) -> list[str]:
        """Return what SHOW GRANTS says, partial revokes behind the grants; then each role."""
        mine = account.sql.replace("%%", "%")
        given: list[str] = []
        taken: list[str] = []
        for (text,) in self.admin.run(f"SHOW GRANTS FOR {account.sql}"):
            said = str(text)
            if said.startswith("REVOKE "):
                taken.append(said.removesuffix(mine) + "{}")
            # What begins with a quote is a role, or several of them.
            elif not said.startswith("GRANT `"):
                head, _, option = said.rpartition(f" TO {mine}")
                given.append(f"{ordered(head)} TO {{}}{option}")
        given = [one for one in given if one != "GRANT USAGE ON *.* TO {}"]
        return [*given, *taken, *self._roles(account)]

    def find_mark(self, secret: str, name: str) -> Mark | None:
        """Look at the attributes: all accounts of the name must bear the mark."""
        rows = self.admin.run("SELECT User_attributes FROM mysql.user WHERE User = %s", [name])
        marks = {_mark(_attributes(row[0])) for row in rows}
        found = marks.pop() if len(marks) == 1 else None
        return found if found is not None and found.of == digest_of(secret, name) else None

    def own_grants(self) -> str:
        """Ask for the active roles' rights too: SHOW GRANTS alone names the roles only."""
        roles = str(self.admin.run("SELECT CURRENT_ROLE()")[0][0])
        using = "" if roles == "NONE" else f" USING {roles.replace('%', '%%')}"
        rows = self.admin.run(f"SHOW GRANTS FOR CURRENT_USER(){using}")
        return " ".join(str(row[0]) for row in rows)

    def anonymous_hosts(self) -> list[str]:
        """Return the host parts of accounts without a name."""
        return [
            str(host) for (host,) in self.admin.run("SELECT Host FROM mysql.user WHERE User = ''")
        ]

    def lets_in(self, account: Account, password: Secret) -> bool:
        """Hash it with the salt of each."""
        return any(is_hash_of(one, password) for one in account.hashes)

    def create(self, name: str, like: Account, mark: Mark, ctx: StepContext) -> None:
        """Make the account with its mark, in one statement."""
        if self._version < _ATTRIBUTES_SINCE:
            raise Denied(
                f"MySQL {_dotted(self._version)} is too old for rotator to create logins that it can tell from others': that needs {_dotted(_ATTRIBUTES_SINCE)}.",
                hint="dual-password and single-user rotate a login that is there already (rotator adopt).",
            )
        if len(name) > _NAME_CHARACTERS:
            raise Denied(
                f"login name {name!r} has {len(name)} characters, and MySQL takes {_NAME_CHARACTERS}.",
                hint="Choose a shorter `prefix`, or shorter `users`.",
            )
        plugin = NATIVE if like.ways and like.ways[0][0] == NATIVE else CACHING
        attribute = {_ATTRIBUTE: {"of": mark.of, "rotation": mark.rotation}}
        self._send(
            ctx,
            f"CREATE USER {quoted_account(name, like.host)} IDENTIFIED WITH {plugin} AS %s"
            f"{like.tail} ACCOUNT LOCK ATTRIBUTE %s",
            [_hashed(plugin, dead(ctx), ctx), json.dumps(attribute)],
        )

    def forget(self, mark: Mark, ctx: StepContext) -> None:
        """Nothing is left: the mark was the account's."""

    def let_in(self, account: Account, new: Secret, beside: Secret, ctx: StepContext) -> None:
        """Make `new` the primary password and `beside` the secondary one, by what they are now."""
        first, second = _pair(account)
        if is_hash_of(first, new) and is_hash_of(second, beside):
            return
        # RETAIN makes the primary password the secondary one: once more, and it would retain the
        # new one and lose the old.
        retain = " RETAIN CURRENT PASSWORD" if is_hash_of(first, beside) else ""
        self._set(account, new, ctx, retain)

    def let_in_only(self, account: Account, password: Secret, ctx: StepContext) -> None:
        """Make it the primary password, if it is not; then discard the secondary one."""
        first, second = _pair(account)
        if not is_hash_of(first, password):
            self._set(account, password, ctx)
        if second:
            self._discard(account, ctx)

    def open(self, account: Account, password: Secret, ctx: StepContext) -> None:
        """Discard a secondary password first: it would be let in too."""
        if _pair(account)[1]:
            self._discard(account, ctx)
        self._set(account, password, ctx, " ACCOUNT UNLOCK")

    def close(self, account: Account, ctx: StepContext) -> None:
        """Lock it, then discard a secondary password."""
        self._set(account, dead(ctx), ctx, " ACCOUNT LOCK")
        if _pair(account)[1]:
            self._discard(account, ctx)

    def set_own(self, password: Secret) -> None:
        """In words, which the server keeps out of its logs; it wants the one before, if it is so set."""
        _ = self.admin.run(
            "ALTER USER USER() IDENTIFIED BY %s REPLACE %s",
            [password.reveal(), self.admin.password.reveal()],
        )
        self.admin.password = password

    def said(self, doing: str, name: str) -> str:
        """Return ALTER USER without hashes."""
        return f"ALTER USER {quoted(name)}@... IDENTIFIED WITH (its plugin) {_SAID[doing]}"

    def _replication(self) -> str:
        new = self._version >= _REPLICA_SINCE
        return "SHOW REPLICA STATUS" if new else super()._replication()

    def _set(self, account: Account, password: Secret, ctx: StepContext, behind: str = "") -> None:
        self._require_password(account)
        plugin = account.ways[0][0]
        self._send(
            ctx,
            f"ALTER USER {account.sql} IDENTIFIED WITH {plugin} AS %s{behind}",
            [_hashed(plugin, password, ctx)],
        )

    def _discard(self, account: Account, ctx: StepContext) -> None:
        self._send(ctx, f"ALTER USER {account.sql} DISCARD OLD PASSWORD")

    def _roles(self, account: Account) -> Iterable[str]:
        values = [account.name, account.host]
        rows = self.admin.run(
            "SELECT FROM_USER, FROM_HOST, WITH_ADMIN_OPTION FROM mysql.role_edges"
            " WHERE TO_USER = %s AND TO_HOST = %s ORDER BY FROM_USER, FROM_HOST",
            values,
        )
        for name, host, admin in rows:
            option = " WITH ADMIN OPTION" if admin == "Y" else ""
            yield f"GRANT {_plain(name, host)} TO {{}}{option}"
        rows = self.admin.run(
            "SELECT DEFAULT_ROLE_USER, DEFAULT_ROLE_HOST FROM mysql.default_roles"
            " WHERE USER = %s AND HOST = %s ORDER BY DEFAULT_ROLE_USER, DEFAULT_ROLE_HOST",
            values,
        )
        if rows:
            yield f"SET DEFAULT ROLE {', '.join(_plain(*row) for row in rows)} TO {{}}"


def _account(name: str, row: tuple[Any, ...]) -> Account:
    host, plugin, kept, locked, said, *limits = row
    attributes = _attributes(said)
    ways = [(str(plugin), str(kept or ""))]
    ways += [(str(plugin), str(one)) for one in [attributes.get("additional_password")] if one]
    # A second factor is nothing that we could log in with.
    factors = attributes.get("multi_factor_authentication") or ()
    ways += [(f"{one.get('plugin', 'something')} as a second factor", "") for one in factors]
    known = plugin in {NATIVE, CACHING} and not factors
    locking = attributes.get("Password_locking") or {}
    return Account(
        name=name,
        host=str(host),
        ways=tuple(ways),
        hashes=tuple(kept for _, kept in ways if kept) if known else (),
        tail=_tail(limits, locking).replace("%", "%%"),
        locked=locked == "Y",
        tries=int(locking.get("failed_login_attempts") or 0),
    )


def _tail(limits: Sequence[Any], locking: dict[str, Any]) -> str:
    """Return the options of CREATE USER in their order, each with its value."""
    kind, cipher, issuer, subject, *rest = limits
    questions, updates, connections, together, lifetime, history, interval, current = rest
    wanted = [("ISSUER", issuer), ("SUBJECT", subject), ("CIPHER", cipher)]
    specified = " AND ".join(f"{word} {_literal(value)}" for word, value in wanted if value)
    tls = {"": "NONE", "ANY": "SSL", "X509": "X509"}.get(str(kind), specified)
    days = {None: "DEFAULT", 0: "NEVER"}.get(lifetime, f"INTERVAL {lifetime} DAY")
    again = "DEFAULT" if interval is None else f"{interval} DAY"
    requires = {"Y": "", "N": " OPTIONAL"}.get(current, " DEFAULT")
    text = (
        f" REQUIRE {tls}"
        f" WITH MAX_QUERIES_PER_HOUR {questions} MAX_UPDATES_PER_HOUR {updates}"
        f" MAX_CONNECTIONS_PER_HOUR {connections} MAX_USER_CONNECTIONS {together}"
        f" PASSWORD EXPIRE {days}"
        f" PASSWORD HISTORY {'DEFAULT' if history is None else history}"
        f" PASSWORD REUSE INTERVAL {again}"
        f" PASSWORD REQUIRE CURRENT{requires}"
    )
    if locking:
        time = int(locking.get("password_lock_time_days") or 0)
        text += f" FAILED_LOGIN_ATTEMPTS {int(locking.get('failed_login_attempts') or 0)}"
        text += f" PASSWORD_LOCK_TIME {'UNBOUNDED' if time < 0 else time}"
    return text


def _attributes(said: object) -> dict[str, Any]:
    found: Any = json.loads(said) if isinstance(said, str | bytes) and said else {}
    return found if isinstance(found, dict) else {}


def _mark(attributes: dict[str, Any]) -> Mark | None:
    said: Any = (attributes.get("metadata") or {}).get(_ATTRIBUTE)
    if not isinstance(said, dict) or not {"of", "rotation"} <= said.keys():
        return None
    return Mark(of=str(said["of"]), rotation=str(said["rotation"]))


def _pair(account: Account) -> tuple[str, str]:
    """Return the hashes of the primary and of the secondary password, empty where there is none."""
    first, second, *_ = (*account.hashes, "", "")
    return first, second


def _hashed(plugin: str, password: Secret, ctx: StepContext) -> str:
    return native_hash(password) if plugin == NATIVE else caching_hash(password, ctx.entropy)


def _literal(value: object) -> str:
    text = value.decode() if isinstance(value, bytes) else str(value)
    return f"'{pymysql.converters.escape_string(text)}'"


def _plain(name: object, host: object) -> str:
    return quoted_account(str(name), str(host)).replace("%%", "%")


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(str(one) for one in version)
