"""The four strategies: which credential comes next, how it overlaps with the old one, how that goes."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, Final

import pymysql

from rotations.mysql import accounts
from rotations.mysql.accounts import NATIVE, Account, Mark, find_mark, look, sessions
from rotations.mysql.failures import brief, translated
from rotations.mysql.options import check_name
from rotations.mysql.server import native_hash
from rotator.api import (
    MASK,
    Check,
    Conflict,
    Credential,
    Denied,
    Evidence,
    Finding,
    InUse,
    Planned,
    Refused,
    Secret,
    Step,
    UsageError,
    successor,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    from rotations.mysql.options import SecretOptions
    from rotations.mysql.server import Connection, Server
    from rotator.api import Session, StepContext

_PAIR: Final = 2
_POLL_SECONDS: Final = 0.02
_DEFINED: Final = """
SELECT count(*) FROM (
    SELECT DEFINER FROM information_schema.ROUTINES UNION ALL
    SELECT DEFINER FROM information_schema.VIEWS UNION ALL
    SELECT DEFINER FROM information_schema.TRIGGERS UNION ALL
    SELECT DEFINER FROM information_schema.EVENTS
) AS defined WHERE DEFINER = %s
"""


class _Login:
    """What the strategies share. Satisfies `Rotation`, `CountsSessions`, `Explains`, `Examines`."""

    summary: ClassVar[str] = ""
    overlapping: ClassVar[bool] = True

    def __init__(self, server: Server, options: SecretOptions) -> None:
        """`options` are checked for what this strategy needs; nothing is connected."""
        self._server: Server = server
        self._options: SecretOptions = options
        self._check(options)

    @property
    def overlaps(self) -> bool:
        """Whether old and new are valid together."""
        return self.overlapping

    def probe(self, credential: Credential, ctx: StepContext) -> bool:
        """Log in once and hang up."""
        _ = ctx
        connection = self._server.login(credential)
        if connection is None:
            return False
        connection.close()
        return True

    def verify(self, new: Credential, ctx: StepContext) -> Evidence:
        """Log in as `new`, try its work, compare its grants with the current login's."""
        connection = self._server.login(new)
        if connection is None:
            raise Refused(f"{self._server.where} refuses the new login {new.username!r}.")
        old = ctx.current.username if ctx.current else None
        try:
            checks = [*self._who(connection, new), *self._work(connection)]
        finally:
            connection.close()
        if old is not None and old != new.username:
            with self._server.admin("comparing the new login with the old one") as admin:
                checks += _alike(admin, look(admin, new.username), look(admin, old))
        failed = [check for check in checks if not check.ok]
        if failed:
            raise Refused(
                f"the new login {new.username!r} could not do the work of the old one: "
                + "; ".join(f"{check.name}: {check.detail}" for check in failed),
                hint="Give it what is missing, or change the options, and rotate again.",
            )
        return Evidence(checks=tuple(checks))

    def sessions(self, login: str, ctx: StepContext) -> list[Session]:
        """Return who is still logged in as `login`."""
        _ = ctx
        with self._server.admin(f"looking for sessions of {login!r}") as admin:
            return [session for _, session in sessions(admin, login)]

    def explain(self, current: Credential | None, ctx: StepContext) -> list[Planned]:
        """Return the statements that a rotation would send, in words where they depend on it."""
        new = self.propose(current, ctx)
        planned = [Planned(step=Step.CREATE, text=one) for one in self._plan(new, current)]
        planned.append(Planned(step=Step.VERIFY, text=f"log in as {new.username!r}"))
        planned += [
            Planned(step=Step.VERIFY, text=f"as {new.username!r}: {probe}")
            for probe in self._options.probes
        ]
        if current is not None:
            planned += [
                Planned(step=Step.REVOKE, text=text) for text in self._farewell(current.username)
            ]
        return planned

    def examine(self, current: Credential | None, ctx: StepContext) -> list[Finding]:
        """Look whether the admin can do what this strategy needs."""
        _ = ctx
        from rotations.mysql import examine  # noqa: PLC0415 # only `doctor` needs it

        return examine.findings(self._server, current.username if current else None)

    # -- what a strategy says ------------------------------------------------------------------

    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:
        """Return the next credential."""
        raise NotImplementedError

    def _check(self, options: SecretOptions) -> None:
        raise NotImplementedError

    def _plan(self, new: Credential, current: Credential | None) -> list[str]:
        raise NotImplementedError

    def _farewell(self, old: str) -> list[str]:
        raise NotImplementedError

    # -- what they have in common --------------------------------------------------------------

    @contextmanager
    def _writing(self, doing: str) -> Generator[Connection]:
        with self._server.admin(doing) as admin:
            if admin.run("SELECT @@global.read_only")[0][0]:
                raise Denied(
                    f"{self._server.where} is read-only, as a replica is.",
                    hint="Name the primary as `host`.",
                    safety="Nothing was changed.",
                )
            yield admin

    def _who(self, connection: Connection, new: Credential) -> list[Check]:
        """Whose account the server took the login for: an anonymous one may stand before it."""
        with translated(self._server.where, "asking who the new login is"):
            acting = str(connection.run("SELECT CURRENT_USER()")[0][0])
        ok = acting.rpartition("@")[0] == new.username
        return [
            Check(name="login", ok=True, detail=f"{new.username!r} logs in"),
            Check(name="acts as", ok=ok, detail=acting),
        ]

    def _work(self, connection: Connection) -> list[Check]:
        """Use the database that the options name, and run the user's own queries."""
        found: list[Check] = []
        if self._options.login_dbname is not None:
            name = f"database {self._options.login_dbname}"
            found.append(_tried(name, lambda: connection.use(self._options.login_dbname or "")))
        for number, probe in enumerate(self._options.probes, start=1):
            found.append(_tried(f"probe {number}", lambda probe=probe: _asked(connection, probe)))
        return found

    def _require_ours(self, mark: Mark | None, name: str, ctx: StepContext) -> None:
        """P9: what rotator did not create or adopt is not touched."""
        if mark is None and name not in ctx.adopted:
            raise Conflict(
                f"login {name!r} exists and was not made by rotator, so it was left alone.",
                hint="Choose another name, or drop that account yourself if nobody needs it.",
            )

    def _set_ways(
        self, admin: Connection, account: Account, hashes: Sequence[str], ctx: StepContext
    ) -> None:
        """Let exactly these passwords in, and whoever comes by another plugin as before."""
        others = [one for one in account.ways if one[0] != NATIVE]
        wanted = [*((NATIVE, one) for one in hashes), *others]
        if tuple(wanted) == account.ways:
            return
        if not account.hashes:
            plugins = ", ".join(plugin for plugin, _ in account.ways) or "no password"
            raise Denied(
                f"account {account.name!r}@{account.host!r} logs in by {plugins}, and not by a password that can be rotated.",
                hint=f"ALTER USER ... IDENTIFIED VIA {NATIVE}, or take another account.",
            )
        ways: list[str] = []
        values: list[str] = []
        for plugin, kept in wanted:
            ways.append(f"{plugin} USING %s" if kept else plugin)
            values += [kept] if kept else []
        ctx.require_time()
        _ = admin.run(f"ALTER USER {account.sql} IDENTIFIED VIA {' OR '.join(ways)}", values)

    def _make(self, admin: Connection, new: Credential, like: str | None, ctx: StepContext) -> None:
        """Make a login like another one. What logs in is whole: it is let in last."""
        sources = look(admin, like) if like is not None else []
        if not sources:
            raise Denied(
                f"there is no account {like!r} whose grants a new login could get.",
                hint="Name one in the secret's option `like`.",
            )
        mark, made = find_mark(admin, ctx.secret, new.username), look(admin, new.username)
        if made:
            self._require_ours(mark, new.username, ctx)
        elif mark is None:
            mark = Mark.make(ctx.secret, new.username, ctx.rotation_id)
            ctx.require_time()
            _ = admin.run(f"CREATE ROLE IF NOT EXISTS {accounts.quoted(mark.role)}")
        existing = {one.host: one for one in made}
        for source in sources:
            name = accounts.quoted_account(new.username, source.host)
            target = existing.get(source.host)
            if target is None:
                ctx.require_time()
                _ = admin.run(
                    f"CREATE USER IF NOT EXISTS {name} IDENTIFIED VIA {NATIVE} USING %s"
                    f"{source.tail} ACCOUNT LOCK",
                    [_dead(ctx)],
                )
            elif target.tail != source.tail and source.tail:
                ctx.require_time()
                _ = admin.run(f"ALTER USER {name}{source.tail}")
            _copy_grants(admin, source, look_one(admin, new.username, source.host), ctx)
        for source in sources:
            name = accounts.quoted_account(new.username, source.host)
            ctx.require_time()
            _ = admin.run(
                f"ALTER USER {name} IDENTIFIED VIA {NATIVE} USING %s ACCOUNT UNLOCK",
                [native_hash(new.password)],
            )

    def _close(self, admin: Connection, name: str, ctx: StepContext, *, end_sessions: bool) -> None:
        """Let nobody in as `name` any more, and return once nobody is. Raises `InUse`."""
        for account in look(admin, name):
            if not account.locked:
                ctx.require_time()
                _ = admin.run(
                    f"ALTER USER {account.sql} IDENTIFIED VIA {NATIVE} USING %s ACCOUNT LOCK",
                    [_dead(ctx)],
                )
        while left := sessions(admin, name):
            if not end_sessions:
                raise InUse(
                    f"login {name!r} still has {len(left)} open session(s); new logins are refused already.",
                    sessions=[session for _, session in left],
                )
            ctx.require_time()
            for number, _ in left:
                _kill(admin, number)
            ctx.clock.sleep(_POLL_SECONDS)

    def _drop(self, admin: Connection, name: str, mark: Mark | None, ctx: StepContext) -> None:
        """Drop a login that is closed. What defines views or routines stays, locked, so that they work."""
        kept = False
        for account in look(admin, name):
            definer = f"{account.name}@{account.host}"
            if admin.run(_DEFINED, [definer])[0][0]:
                ctx.log.warning("kept", login=definer, why="views or routines are defined by it")
                kept = True
                continue
            ctx.require_time()
            _ = admin.run(f"DROP USER IF EXISTS {account.sql}")
        if mark is not None and not kept:
            ctx.require_time()
            _ = admin.run(f"DROP ROLE IF EXISTS {accounts.quoted(mark.role)}")


class DualPassword(_Login):
    """One login with two passwords."""

    summary: ClassVar[str] = "one login that accepts two passwords for a while"

    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:
        """Return the same login with another password."""
        return _same_login(current, self._options.username, ctx)

    def create(self, new: Credential, ctx: StepContext) -> None:
        """Let the new password in beside the current one."""
        _require_password(new)
        with self._writing(f"setting a password of {new.username!r}") as admin:
            found = look(admin, new.username)
            mark = find_mark(admin, ctx.secret, new.username)
            if ctx.current is None and (not found or mark is not None):
                self._make(admin, new, self._options.like, ctx)
                return
            self._require_found(found, new.username)
            self._require_ours(mark, new.username, ctx)
            for account in found:
                self._set_ways(admin, account, self._wanted(account, new, ctx.current), ctx)

    def revoke(self, old: Credential, ctx: StepContext) -> None:
        """Let in by the current password only. Sessions stay: they are of the login, not of a password."""
        with self._writing(f"ending an old password of {old.username!r}") as admin:
            self._only_current(admin, old.username, ctx)

    def withdraw(self, new: Credential, ctx: StepContext) -> None:
        """Let in by the current password only; drop the login when this rotation made it."""
        with self._writing(f"withdrawing a password of {new.username!r}") as admin:
            mark = find_mark(admin, ctx.secret, new.username)
            if ctx.current is not None:
                if ctx.current.username == new.username:
                    self._only_current(admin, new.username, ctx)
            elif mark == Mark.make(ctx.secret, new.username, ctx.rotation_id):
                self._close(admin, new.username, ctx, end_sessions=True)
                self._drop(admin, new.username, mark, ctx)

    def _wanted(self, account: Account, new: Credential, current: Credential | None) -> list[str]:
        old = native_hash(current.password) if current else None
        if old is None or old not in account.hashes:
            raise Conflict(
                f"account {account.name!r}@{account.host!r} does not accept the current password, so nothing was set beside it.",
                safety="The application is NOT safe there: what the backend serves does not log in.",
                hint="Set the password that the backend serves, or write the right one into the backend.",
            )
        return list(dict.fromkeys((native_hash(new.password), old)))

    def _only_current(self, admin: Connection, name: str, ctx: StepContext) -> None:
        found = look(admin, name)
        if not found or ctx.current is None or ctx.current.username != name:
            return
        self._require_ours(find_mark(admin, ctx.secret, name), name, ctx)
        kept = native_hash(ctx.current.password)
        for account in found:
            self._set_ways(admin, account, [kept], ctx)

    @staticmethod
    def _require_found(found: list[Account], name: str) -> None:
        if not found:
            raise Conflict(
                f"the server has no account {name!r}.",
                hint="Was it dropped? Create it again with the password that the backend serves.",
            )

    def _check(self, options: SecretOptions) -> None:
        _ = options

    def _plan(self, new: Credential, current: Credential | None) -> list[str]:
        name = accounts.quoted(new.username)
        old = f" OR {NATIVE} USING '(the old hash)'" if current and self.overlapping else ""
        return [f"ALTER USER {name}@... IDENTIFIED VIA {NATIVE} USING '{MASK}'{old}"]

    def _farewell(self, old: str) -> list[str]:
        return [f"ALTER USER {accounts.quoted(old)}@... IDENTIFIED VIA {NATIVE} USING '{MASK}'"]


class SingleUser(DualPassword):
    """One login whose password changes in place."""

    summary: ClassVar[str] = "one login, its password changed in place (no overlap)"
    overlapping: ClassVar[bool] = False

    def create(self, new: Credential, ctx: StepContext) -> None:
        """Set the new password in the place of the current one."""
        if not self._set_own(new, ctx):
            super().create(new, ctx)

    def withdraw(self, new: Credential, ctx: StepContext) -> None:
        """Set the current password again."""
        if ctx.current is None or not self._set_own(ctx.current, ctx):
            super().withdraw(new, ctx)

    def _set_own(self, wanted: Credential, ctx: StepContext) -> bool:
        """Where the admin is the login itself, which may change its own password and nothing else."""
        _require_password(wanted)
        with self._writing(f"setting the password of {wanted.username!r}") as admin:
            if admin.user != wanted.username:
                return False
            self._require_ours(None, wanted.username, ctx)
            ctx.require_time()
            _ = admin.run("SET PASSWORD = %s", [native_hash(wanted.password)])
        return True

    def _wanted(self, account: Account, new: Credential, current: Credential | None) -> list[str]:
        _ = account, current
        return [native_hash(new.password)]

    def revoke(self, old: Credential, ctx: StepContext) -> None:
        """Nothing: the old password stopped working when the new one was set."""

    def _farewell(self, old: str) -> list[str]:
        return [f"(nothing: the old password of {old!r} stopped working at create)"]


class AlternatingUsers(_Login):
    """Two fixed logins that take turns."""

    summary: ClassVar[str] = "two fixed logins that take turns"

    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:
        """Return the other of the two."""
        first, second = self._options.users
        name = second if current is not None and current.username == first else first
        return Credential(
            username=name,
            password=ctx.new_password(),
            fields=dict(current.fields) if current else {},
        )

    def create(self, new: Credential, ctx: StepContext) -> None:
        """Bring the other login up to the current one's rights, then let it in."""
        _require_password(new)
        like = ctx.current.username if ctx.current else self._options.like
        with self._writing(f"creating login {new.username!r}") as admin:
            self._make(admin, new, like, ctx)

    def revoke(self, old: Credential, ctx: StepContext) -> None:
        """Take its password and lock it; it waits for its next turn."""
        with self._writing(f"revoking login {old.username!r}") as admin:
            if not look(admin, old.username):
                return
            self._require_ours(find_mark(admin, ctx.secret, old.username), old.username, ctx)
            _require_not_current(old.username, ctx)
            self._close(admin, old.username, ctx, end_sessions=ctx.end_sessions)

    def withdraw(self, new: Credential, ctx: StepContext) -> None:
        """Put the other login back to waiting; drop it when this rotation made it."""
        with self._writing(f"withdrawing login {new.username!r}") as admin:
            mark = find_mark(admin, ctx.secret, new.username)
            if ctx.current is not None and ctx.current.username == new.username:
                return
            if mark is None and new.username not in ctx.adopted:
                return
            self._close(admin, new.username, ctx, end_sessions=True)
            if mark == Mark.make(ctx.secret, new.username, ctx.rotation_id):
                self._drop(admin, new.username, mark, ctx)

    def _check(self, options: SecretOptions) -> None:
        if len(options.users) != _PAIR or len(set(options.users)) != _PAIR:
            raise UsageError("strategy alternating-users needs `users`: two different login names.")

    def _plan(self, new: Credential, current: Credential | None) -> list[str]:
        name = accounts.quoted(new.username)
        like = current.username if current else self._options.like
        return [
            f"CREATE USER IF NOT EXISTS {name}@... ACCOUNT LOCK, with the limits of {like!r}",
            f"GRANT what {like!r} has, its roles and default role too; REVOKE what it has not",
            f"ALTER USER {name}@... IDENTIFIED VIA {NATIVE} USING '{MASK}' ACCOUNT UNLOCK",
        ]

    def _farewell(self, old: str) -> list[str]:
        return [f"ALTER USER {accounts.quoted(old)}@... ACCOUNT LOCK, with a password nobody knows"]


class NewUser(AlternatingUsers):
    """A fresh login per rotation, with everything that the one before was granted."""

    summary: ClassVar[str] = "a fresh login per rotation, with all grants of the one before"

    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:
        """Draw a login name that is free."""
        with self._server.admin("drawing a login name") as admin:
            while True:
                name = successor(self._options.prefix or "", ctx.entropy)
                if not look(admin, name):
                    break
        return Credential(
            username=name,
            password=ctx.new_password(),
            fields=dict(current.fields) if current else {},
        )

    def revoke(self, old: Credential, ctx: StepContext) -> None:
        """Refuse new logins, wait for the sessions, drop it."""
        with self._writing(f"revoking login {old.username!r}") as admin:
            mark = find_mark(admin, ctx.secret, old.username)
            if not look(admin, old.username):
                self._drop(admin, old.username, mark, ctx)
                return
            self._require_ours(mark, old.username, ctx)
            _require_not_current(old.username, ctx)
            self._close(admin, old.username, ctx, end_sessions=ctx.end_sessions)
            self._drop(admin, old.username, mark, ctx)

    def withdraw(self, new: Credential, ctx: StepContext) -> None:
        """Drop the login that this rotation made, if it did."""
        with self._writing(f"withdrawing login {new.username!r}") as admin:
            mark = find_mark(admin, ctx.secret, new.username)
            if mark != Mark.make(ctx.secret, new.username, ctx.rotation_id):
                return
            _require_not_current(new.username, ctx)
            self._close(admin, new.username, ctx, end_sessions=True)
            self._drop(admin, new.username, mark, ctx)

    def _check(self, options: SecretOptions) -> None:
        if options.prefix is None:
            raise UsageError("strategy new-user needs `prefix`: what login names start with.")
        check_name(f"{options.prefix}_{'x' * 11}")

    def _farewell(self, old: str) -> list[str]:
        name = accounts.quoted(old)
        return [
            f"ALTER USER {name}@... ACCOUNT LOCK, with a password nobody knows",
            f"DROP USER {name}@...",
        ]


STRATEGIES: Final[dict[str, type[DualPassword | AlternatingUsers]]] = {
    "dual-password": DualPassword,
    "new-user": NewUser,
    "alternating-users": AlternatingUsers,
    "single-user": SingleUser,
}


def look_one(admin: Connection, name: str, host: str) -> Account:
    """Return one account that must be there."""
    for account in look(admin, name):
        if account.host == host:
            return account
    raise Conflict(f"account {name!r}@{host!r} went away meanwhile.")


def _copy_grants(admin: Connection, source: Account, target: Account, ctx: StepContext) -> None:
    """Give what is missing, take back what is too much: both have the same then."""
    wanted, has = accounts.grants(admin, source), accounts.grants(admin, target)
    for one in wanted:
        if one not in has:
            ctx.require_time()
            _ = admin.run(accounts.granted(one, target.sql))
    for one in has:
        if one not in wanted and one.removesuffix(" WITH GRANT OPTION") not in wanted:
            ctx.require_time()
            _ = admin.run(accounts.taken_back(one, target.sql))


def _alike(admin: Connection, new: Iterable[Account], old: Iterable[Account]) -> list[Check]:
    by_host = {one.host: one for one in new}
    missing: list[str] = []
    unlike: list[str] = []
    for account in old:
        other = by_host.get(account.host)
        if other is None:
            missing.append(f"no account for host {account.host!r}")
            continue
        has = set(accounts.grants(admin, other))
        missing += [
            one.replace("{}", "it") for one in accounts.grants(admin, account) if one not in has
        ]
        if other.tail != account.tail:
            unlike.append(f"{other.tail.strip() or 'none'}, not {account.tail.strip() or 'none'}")
    return [
        Check(name="grants", ok=not missing, detail="; ".join(missing) or "none is missing"),
        Check(name="limits", ok=not unlike, detail="; ".join(unlike) or "the same"),
    ]


def _same_login(current: Credential | None, username: str | None, ctx: StepContext) -> Credential:
    name = current.username if current else username
    if name is None:
        raise Denied(
            "nothing is published yet, so the login's name is not known.",
            hint="Set `username` in the secret's options.",
        )
    check_name(name)
    return Credential(
        username=name,
        password=ctx.new_password(),
        fields=dict(current.fields) if current else {},
    )


def _require_password(new: Credential) -> None:
    if not new.password.reveal():
        raise Refused("a password is not empty.")


def _require_not_current(name: str, ctx: StepContext) -> None:
    if ctx.current is not None and ctx.current.username == name:
        raise Conflict(
            f"login {name!r} is the one that the backend serves, so it was left alone.",
            safety="The application is safe: what the backend serves logs in.",
        )


def _dead(ctx: StepContext) -> str:
    """Return the hash of a password that nobody knows."""
    return native_hash(Secret(ctx.entropy.token(32).hex()))


def _tried(name: str, work: Callable[[], None]) -> Check:
    try:
        work()
    except pymysql.MySQLError as error:
        return Check(name=name, ok=False, detail=brief(error))
    return Check(name=name, ok=True, detail="works")


def _asked(connection: Connection, probe: str) -> None:
    _ = connection.run("SET TRANSACTION READ ONLY")
    connection.begin()
    try:
        _ = connection.run(probe.replace("%", "%%"))
    finally:
        connection.rollback()


def _kill(admin: Connection, number: int) -> None:
    try:
        _ = admin.run("KILL CONNECTION %s", [number])
    except pymysql.MySQLError as error:
        if error.args[0] != 1094:  # noqa: PLR2004 # it is gone already
            raise
