"""MySQL's accounts, 8.0.14 and newer.

An account has a primary and a secondary password (RETAIN CURRENT PASSWORD, DISCARD OLD PASSWORD; reference
manual 8.0, "Password Management"). The mark of an account of ours is its ATTRIBUTE, set in the statement
that creates it. It is tested on a real 9.7; 8.0 and 8.4 were not run.
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
from rotations.mysql.passwords import (
    CACHING,
    NATIVE,
    PBKDF2,
    ROUNDS,
    SHA256_CRYPT,
    caching_hash,
    is_hash_of,
    native_hash,
    rounds_of,
)
from rotations.mysql.profile import parsed
from rotator.api import MASK, Denied

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rotations.mysql.profile import Rights
    from rotator.api import MarkedLogin, Secret, StepContext

_ATTRIBUTE: Final = "rotator"
# To DISCARD needs APPLICATION_PASSWORD_ADMIN.
_NOT_ITS_OWN: Final = frozenset({1227, 1044, 1142})
_FORMAT: Final = "caching_sha2_password_storage_format"
_DIGEST_ROUNDS: Final = "caching_sha2_password_digest_rounds"
# CREATE USER ... ATTRIBUTE; release notes of 8.0.21.
_ATTRIBUTES_SINCE: Final = (8, 0, 21)
# FAILED_LOGIN_ATTEMPTS; release notes of 8.0.19.
_LOCKING_SINCE: Final = (8, 0, 19)
_LOCKING: Final = ("failed_login_attempts", "password_lock_time_days")
# The keys of User_attributes. `Restrictions` are the partial revokes that SHOW GRANTS has.
_KNOWN: Final = frozenset(
    {
        "additional_password",
        "metadata",
        "multi_factor_authentication",
        "Password_locking",
        "Restrictions",
    }
)
# The new word's first, and the old one's last is 8.3.
_REPLICA_SINCE: Final = (8, 0, 22)
_ACCOUNTS: Final = """
SELECT Host, plugin, authentication_string, account_locked, User_attributes, password_expired,
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
    needs: ClassVar[Sequence[str]] = ("CREATE USER", "PROCESS", "CONNECTION_ADMIN")
    remedy: ClassVar[str] = f"ALTER USER ... IDENTIFIED WITH {CACHING} BY ..."
    name_characters: ClassVar[int] = 32  # reference manual, "Account User Names"
    sees: ClassVar[Sequence[str]] = ("SHOW_ROUTINE or SELECT", "SHOW VIEW", "TRIGGER", "EVENT")

    def look(self, name: str) -> list[Account]:
        """Return the accounts of this name."""
        locks = self._version >= _LOCKING_SINCE
        return [_account(name, row, locks=locks) for row in self.admin.run(_ACCOUNTS, [name])]

    def rights(self, account: Account) -> Rights:
        """Read SHOW GRANTS, and the roles of the catalog."""
        mine = account.sql.replace("%%", "%")
        statements: list[str] = []
        for (text,) in self.admin.run(f"SHOW GRANTS FOR {account.sql}"):
            said = str(text)
            if said.startswith("REVOKE "):
                statements.append(said.removesuffix(mine) + "{}")
            # What begins with a quote is a role, or several of them.
            elif not said.startswith("GRANT `"):
                head, _, option = said.rpartition(f" TO {mine}")
                statements.append(f"{head} TO {{}}{option}")
        values = [account.name, account.host]
        rows = self.admin.run(
            "SELECT FROM_USER, FROM_HOST, WITH_ADMIN_OPTION FROM mysql.role_edges"
            " WHERE TO_USER = %s AND TO_HOST = %s ORDER BY FROM_USER, FROM_HOST",
            values,
        )
        roles = {_plain(name, host): admin == "Y" for name, host, admin in rows}
        rows = self.admin.run(
            "SELECT DEFAULT_ROLE_USER, DEFAULT_ROLE_HOST FROM mysql.default_roles"
            " WHERE USER = %s AND HOST = %s ORDER BY DEFAULT_ROLE_USER, DEFAULT_ROLE_HOST",
            values,
        )
        return parsed(statements, roles, [_plain(*row) for row in rows], self.columns(account))

    def dependents(self, account: Account) -> list[str]:
        """Look whether it is granted to others, as a role is."""
        rows = self.admin.run(
            "SELECT count(*) FROM mysql.role_edges WHERE FROM_USER = %s AND FROM_HOST = %s",
            [account.name, account.host],
        )
        found = [f"{rows[0][0]} accounts to which it is granted"] if rows[0][0] else []
        return [*super().dependents(account), *found]

    def find_mark(self, secret: str, name: str) -> Mark | None:
        """Look at the attributes: all accounts of the name must bear the mark."""
        rows = self.admin.run("SELECT User_attributes FROM mysql.user WHERE User = %s", [name])
        marks = {_mark(_attributes(row[0])) for row in rows}
        found = marks.pop() if len(marks) == 1 else None
        return found if found is not None and found.of == digest_of(secret, name) else None

    def marked(self) -> list[MarkedLogin]:
        """Return the accounts whose attribute is a mark."""
        rows = self.admin.run(
            "SELECT User, Host, account_locked, User_attributes FROM mysql.user"
            " WHERE User_attributes IS NOT NULL"
        )
        marks = [
            (user, host, locked, _mark(_attributes(kept))) for user, host, locked, kept in rows
        ]
        return [
            marked_login(str(user), str(host), frozenset({mark.of}), locked=str(locked) == "Y")
            for user, host, locked, mark in marks
            if mark is not None
        ]

    def own_grants(self) -> list[str]:
        """Ask for the active roles' rights too: SHOW GRANTS alone names the roles only."""
        roles = str(self.admin.run("SELECT CURRENT_ROLE()")[0][0])
        using = "" if roles == "NONE" else f" USING {roles.replace('%', '%%')}"
        rows = self.admin.run(f"SHOW GRANTS FOR CURRENT_USER(){using}")
        return [str(row[0]) for row in rows]

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
                f"MySQL {_dotted(self._version)} cannot mark the logins that rotator creates:"
                f" that requires {_dotted(_ATTRIBUTES_SINCE)}.",
                hint="dual-password and single-user rotate an existing login: adopt it with rotator"
                " adopt SECRET.",
            )
        plugin = self._plugin(like)
        ours = {_ATTRIBUTE: {"of": mark.of, "rotation": mark.rotation}}
        attribute = {**like.attributes, **ours}
        self._send(
            ctx,
            f"CREATE USER {quoted_account(name, like.host)} IDENTIFIED WITH {plugin} AS %s"
            f"{like.tail} ACCOUNT LOCK ATTRIBUTE %s",
            [self._hashed(plugin, dead(ctx), like, ctx), json.dumps(attribute)],
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
        """Lock it, then discard a secondary password. What has no password that we know is only locked."""
        if not account.hashes:
            self._send(ctx, f"ALTER USER {account.sql} ACCOUNT LOCK")
            return
        self._set(account, dead(ctx), ctx, " ACCOUNT LOCK")
        if _pair(account)[1]:
            self._discard(account, ctx)

    def set_own(self, password: Secret, ctx: StepContext) -> None:
        """In words, which the server keeps out of its logs; it wants the one before, if it is so set."""
        self._send(
            ctx,
            "ALTER USER USER() IDENTIFIED BY %s REPLACE %s",
            [password.reveal(), self.admin.password.reveal()],
        )
        self.admin.password = password
        try:
            self._send(ctx, "ALTER USER USER() DISCARD OLD PASSWORD")
        except pymysql.MySQLError as error:
            if error.args[0] not in _NOT_ITS_OWN:
                raise
            why = "without APPLICATION_PASSWORD_ADMIN a second password, if it has one, stays valid"
            ctx.log.warning("kept", login=self.admin.user, why=why)

    def own_history(self) -> list[str]:
        """Read it from what a login may see of itself."""
        text = str(self.admin.run("SHOW CREATE USER CURRENT_USER()")[0][0])
        behind = text.rpartition(" PASSWORD HISTORY ")[2]
        history, interval = self.admin.run(
            "SELECT @@global.password_history, @@global.password_reuse_interval"
        )[0]
        number = behind.partition(" ")[0]
        days = behind.partition(" PASSWORD REUSE INTERVAL ")[2].partition(" ")[0]
        found = {
            "PASSWORD HISTORY": history if number == "DEFAULT" else number,
            "PASSWORD REUSE INTERVAL": interval if days == "DEFAULT" else days,
        }
        return [", ".join(f"{word} {value}" for word, value in found.items())][
            : any(str(value) not in {"0", ""} for value in found.values())
        ]

    def ends_others(self, account: Account) -> str:
        """The primary one is kept."""
        return f"ALTER USER {account.sql.replace('%%', '%')} DISCARD OLD PASSWORD;"

    def said(self, doing: str, name: str) -> str:
        """Return ALTER USER without hashes."""
        return f"ALTER USER {quoted(name)}@... IDENTIFIED WITH (its plugin) {_SAID[doing]}"

    def _replication(self) -> str:
        new = self._version >= _REPLICA_SINCE
        return "SHOW REPLICA STATUS" if new else super()._replication()

    def _set(self, account: Account, password: Secret, ctx: StepContext, behind: str = "") -> None:
        self._require_password(account)
        plugin = self._plugin(account)
        self._send(
            ctx,
            f"ALTER USER {account.sql} IDENTIFIED WITH {plugin} AS %s{behind}",
            [self._hashed(plugin, password, account, ctx)],
        )

    def _plugin(self, like: Account) -> str:
        """Return the plugin of a password: the account's own, where the server has it still."""
        native = bool(like.ways) and like.ways[0][0] == NATIVE
        return NATIVE if native and self.is_active(NATIVE) else CACHING

    def _hashed(self, plugin: str, password: Secret, like: Account, ctx: StepContext) -> str:
        """Return a hash in the server's own format, made with no fewer rounds than the one before."""
        if plugin == NATIVE:
            return native_hash(password)
        rows = self.admin.run("SHOW GLOBAL VARIABLES LIKE 'caching_sha2_password_%%'")
        settings = {str(name): str(value) for name, value in rows}
        form = PBKDF2 if "PBKDF2" in settings.get(_FORMAT, "") else SHA256_CRYPT
        rounds = max(int(settings.get(_DIGEST_ROUNDS, ROUNDS)), *map(rounds_of, (*like.hashes, "")))
        return caching_hash(password, ctx.entropy, form=form, rounds=rounds)

    def _discard(self, account: Account, ctx: StepContext) -> None:
        self._send(ctx, f"ALTER USER {account.sql} DISCARD OLD PASSWORD")

    def _default(self, roles: frozenset[str], account: str) -> str:
        return f"SET DEFAULT ROLE {', '.join(sorted(roles)) or 'NONE'} TO {account}"


def _account(name: str, row: tuple[Any, ...], *, locks: bool) -> Account:
    host, plugin, kept, locked, said, expired, *limits = row
    attributes = _attributes(said)
    ways = [(str(plugin), str(kept or ""))]
    ways += [(str(plugin), str(one)) for one in [attributes.get("additional_password")] if one]
    # A second factor is nothing that we could log in with.
    factors = attributes.get("multi_factor_authentication") or ()
    ways += [(f"{one.get('plugin', 'something')} as a second factor", "") for one in factors]
    known = plugin in {NATIVE, CACHING} and not factors
    locking = attributes.get("Password_locking") or {}
    tries, days = (int(locking.get(one) or 0) for one in _LOCKING)
    metadata = attributes.get("metadata") or {}
    return Account(
        name=name,
        host=str(host),
        ways=tuple(ways),
        hashes=tuple(kept for _, kept in ways if kept) if known else (),
        options=_options(limits, (tries, days) if locks else None),
        locked=locked == "Y",
        tries=tries if days else 0,
        attributes={key: value for key, value in metadata.items() if key != _ATTRIBUTE},
        unknown=tuple(sorted(attributes.keys() - _KNOWN)),
        expired=expired == "Y",
        tls={"ANY": "SSL", "SPECIFIED": "certificate"}.get(str(limits[0]), str(limits[0])),
    )


def _options(limits: Sequence[Any], locking: tuple[int, int] | None) -> tuple[tuple[str, str], ...]:
    """Return the options of CREATE USER in their order, each with its value."""
    kind, cipher, issuer, subject, *rest = limits
    questions, updates, connections, together, lifetime, history, interval, current = rest
    wanted = [("ISSUER", issuer), ("SUBJECT", subject), ("CIPHER", cipher)]
    specified = " AND ".join(f"{word} {_literal(value)}" for word, value in wanted if value)
    tls = {"": "NONE", "ANY": "SSL", "X509": "X509"}.get(str(kind), specified)
    days = {None: "DEFAULT", 0: "NEVER"}.get(lifetime, f"INTERVAL {lifetime} DAY")
    again = "DEFAULT" if interval is None else f"{interval} DAY"
    requires = {"Y": "", "N": " OPTIONAL"}.get(current, " DEFAULT")
    maxima = (
        f"MAX_QUERIES_PER_HOUR {questions} MAX_UPDATES_PER_HOUR {updates}"
        f" MAX_CONNECTIONS_PER_HOUR {connections} MAX_USER_CONNECTIONS {together}"
    )
    options = [
        ("TLS requirement", f"REQUIRE {tls}"),
        ("resource limits", f"WITH {maxima}"),
        ("password expiry", f"PASSWORD EXPIRE {days}"),
        ("password history", f"PASSWORD HISTORY {'DEFAULT' if history is None else history}"),
        ("password reuse", f"PASSWORD REUSE INTERVAL {again}"),
        ("current password", f"PASSWORD REQUIRE CURRENT{requires}"),
    ]
    if locking is not None:
        # ALTER USER keeps what is not named: 0 and 0 remove a lock.
        tries, time = locking
        lock = (
            f"FAILED_LOGIN_ATTEMPTS {tries} PASSWORD_LOCK_TIME {'UNBOUNDED' if time < 0 else time}"
        )
        options.append(("lock after failures", lock))
    return tuple(options)


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


def _literal(value: object) -> str:
    text = value.decode() if isinstance(value, bytes) else str(value)
    return f"'{pymysql.converters.escape_string(text)}'"


def _plain(name: object, host: object) -> str:
    return quoted_account(str(name), str(host)).replace("%%", "%")


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(str(one) for one in version)
