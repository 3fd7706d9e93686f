"""MariaDB's accounts, 10.4 and newer.

They have no comments: the mark of an account of ours is a role by a name that is made of it, created before
the account and dropped after it.
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
    marked_login,
    quoted,
    quoted_account,
)
from rotations.mysql.options import NAME_CHARACTERS
from rotations.mysql.passwords import KEEP_PASSWORDS, NATIVE, is_hash_of, native_hash
from rotations.mysql.profile import parsed
from rotator.api import MASK

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rotations.mysql.profile import Rights
    from rotator.api import MarkedLogin, Secret, StepContext

_MARK: Final = "rotator:"
# What global_priv keeps of an account, and what the clauses of ALTER USER call it.
_LIMITS: Final = (
    ("MAX_QUERIES_PER_HOUR", "max_questions"),
    ("MAX_UPDATES_PER_HOUR", "max_updates"),
    ("MAX_CONNECTIONS_PER_HOUR", "max_connections"),
    ("MAX_USER_CONNECTIONS", "max_user_connections"),
    ("MAX_STATEMENT_TIME", "max_statement_time"),
)
_KNOWN: Final = frozenset(
    {
        *(key for _, key in _LIMITS),
        "access",
        "account_locked",
        "auth_or",
        "authentication_string",
        "default_role",
        "is_role",
        "password_last_changed",
        "password_lifetime",
        "plugin",
        "ssl_cipher",
        "ssl_type",
        "version_id",
        "x509_issuer",
        "x509_subject",
    }
)
_EXPIRY: Final = {-1: "DEFAULT", 0: "NEVER"}
# max_password_errors, as it is unless somebody sets it.
_UNLIMITED: Final = 2**32 - 1
_SAID: Final = {
    "beside": f"USING '{MASK}' OR {NATIVE} USING '(the old hash)'",
    "only": f"USING '{MASK}'",
    "open": f"USING '{MASK}' ACCOUNT UNLOCK",
}


class MariaDbAccounts(Accounts):
    """An account has any number of ways in, each a plugin and what it keeps; they are set together."""

    product: ClassVar[str] = "MariaDB"
    needs: ClassVar[Sequence[str]] = ("CREATE USER", "PROCESS", "CONNECTION ADMIN")
    remedy: ClassVar[str] = f"ALTER USER ... IDENTIFIED VIA {NATIVE} USING ..."
    name_characters: ClassVar[int] = NAME_CHARACTERS
    # Its routines are seen by SELECT on mysql.*, which every admin has.
    sees: ClassVar[Sequence[str]] = ("SHOW VIEW", "TRIGGER", "EVENT")

    def look(self, name: str) -> list[Account]:
        """Return the accounts of this name, roles excepted."""
        rows = self.admin.run(
            "SELECT Host, Priv, @@global.max_password_errors FROM mysql.global_priv"
            " WHERE User = %s AND coalesce(json_value(Priv, '$.is_role'), 0) NOT IN ('1', 'true')"
            " ORDER BY Host",
            [name],
        )
        return [
            _account(
                name, str(host), json.loads(kept), tries=int(tries) if tries < _UNLIMITED else 0
            )
            for host, kept, tries in rows
        ]

    def rights(self, account: Account) -> Rights:
        """Read SHOW GRANTS, without the passwords and limits behind the first grant."""
        mine = f" TO {account.sql.replace('%%', '%')}"
        statements: list[str] = []
        roles: dict[str, bool] = {}
        default: list[str] = []
        for (text,) in self.admin.run(f"SHOW GRANTS FOR {account.sql}"):
            said = str(text)
            if said.startswith("SET DEFAULT ROLE "):
                default.append(said.removeprefix("SET DEFAULT ROLE ").rpartition(" FOR ")[0])
            elif mine in said:
                head, _, behind = said.partition(mine)
                if head.startswith("GRANT `"):
                    roles[head.removeprefix("GRANT ")] = behind.startswith(" WITH ADMIN OPTION")
                else:
                    option = " WITH GRANT OPTION" if " WITH GRANT OPTION" in behind else ""
                    statements.append(f"{head} TO {{}}{option}")
        return parsed(statements, roles, default, self.columns(account))

    def find_mark(self, secret: str, name: str) -> Mark | None:
        """Look for the role."""
        of = digest_of(secret, name)
        rows = self.admin.run(
            "SELECT User FROM mysql.user WHERE is_role = 'Y' AND User LIKE %s", [f"{_MARK}{of}:%"]
        )
        for (role,) in rows:
            return Mark(of=of, rotation=str(role).rpartition(":")[2])
        return None

    def marked(self) -> list[MarkedLogin]:
        """Return all accounts: a mark is a role whose name is a digest of secret and account."""
        rows = self.admin.run(
            "SELECT User FROM mysql.user WHERE is_role = 'Y' AND User LIKE %s", [f"{_MARK}%"]
        )
        marks = frozenset(str(role).split(":")[1] for (role,) in rows if str(role).count(":") > 1)
        if not marks:
            return []
        rows = self.admin.run(
            "SELECT User, Host, coalesce(json_value(Priv, '$.account_locked'), 0) IN ('1', 'true')"
            " FROM mysql.global_priv"
            " WHERE coalesce(json_value(Priv, '$.is_role'), 0) NOT IN ('1', 'true')"
        )
        return [
            marked_login(str(user), str(host), marks, locked=bool(locked))
            for user, host, locked in rows
        ]

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

    def fence(self, account: Account, ctx: StepContext) -> None:
        """Set one that nobody knows, and drop what other plugins keep of a password."""
        keyless = [way for way in account.ways if way[0] not in (NATIVE, *KEEP_PASSWORDS)]
        self._send_ways(account, [(NATIVE, native_hash(dead(ctx))), *keyless], ctx)

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

    def set_own(self, password: Secret, ctx: StepContext) -> None:
        """By its hash, as all."""
        self._send(ctx, "SET PASSWORD = %s", [native_hash(password)])
        self.admin.password = password

    def refuse_hashes(self) -> list[str]:
        """Any such plugin does, while strict_password_validation is ON."""
        rows = self.admin.run(
            "SELECT PLUGIN_NAME FROM information_schema.PLUGINS"
            " WHERE PLUGIN_TYPE = 'PASSWORD VALIDATION' AND PLUGIN_STATUS = 'ACTIVE'"
            " AND @@global.strict_password_validation ORDER BY PLUGIN_NAME"
        )
        return [str(name) for (name,) in rows]

    def ends_others(self, account: Account) -> str:
        """All are named together."""
        return f"ALTER USER {account.sql.replace('%%', '%')} IDENTIFIED BY '(what the backend serves)';"

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
        self._send_ways(account, wanted, ctx)

    def _send_ways(
        self, account: Account, wanted: Sequence[tuple[str, str]], ctx: StepContext
    ) -> None:
        ways: list[str] = []
        values: list[str] = []
        for plugin, kept in wanted:
            ways.append(f"{plugin} USING %s" if kept else plugin)
            values += [kept] if kept else []
        self._send(ctx, f"ALTER USER {account.sql} IDENTIFIED VIA {' OR '.join(ways)}", values)

    def _default(self, roles: frozenset[str], account: str) -> str:
        return f"SET DEFAULT ROLE {', '.join(sorted(roles)) or 'NONE'} FOR {account}"


def _account(name: str, host: str, kept: dict[str, Any], *, tries: int) -> Account:
    ways = tuple(_ways(kept))
    tls = int(kept.get("ssl_type") or 0)
    lifetime = int(kept.get("password_lifetime", -1))
    wanted = (("ISSUER", "x509_issuer"), ("SUBJECT", "x509_subject"), ("CIPHER", "ssl_cipher"))
    specified = " AND ".join(
        f"{word} '{pymysql.converters.escape_string(kept[key])}'"
        for word, key in wanted
        if kept.get(key)
    )
    required = ("NONE", "SSL", "X509", specified)[tls]
    limits = " ".join(f"{word} {kept.get(key) or 0}" for word, key in _LIMITS)
    return Account(
        name=name,
        host=host,
        ways=ways,
        hashes=tuple(kept for plugin, kept in ways if plugin == NATIVE and kept),
        options=(
            ("TLS requirement", f"REQUIRE {required}"),
            ("resource limits", f"WITH {limits}"),
            (
                "password expiry",
                f"PASSWORD EXPIRE {_EXPIRY.get(lifetime, f'INTERVAL {lifetime} DAY')}",
            ),
        ),
        locked=bool(kept.get("account_locked")),
        tries=tries,
        unknown=tuple(sorted(kept.keys() - _KNOWN)),
        expired=kept.get("password_last_changed") == 0,
        tls=("", "SSL", "X509", "certificate")[tls],
    )


def _role(mark: Mark) -> str:
    return quoted(f"{_MARK}{mark.of}:{mark.rotation}")


def _ways(kept: dict[str, Any]) -> Iterable[tuple[str, str]]:
    """Return the plugins by which an account logs in, those of `auth_or` before the last one.

    An empty alternative stands for the outer plugin.
    """
    alternatives: list[dict[str, Any]] = kept.get("auth_or") or [{}]
    for one in alternatives:
        found = one or kept
        plugin = str(found.get("plugin") or "")
        if plugin:
            yield plugin, str(found.get("authentication_string") or "")
