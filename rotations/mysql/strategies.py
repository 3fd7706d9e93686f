"""The four strategies: which credential comes next, how it overlaps with the old one, how that goes."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import pymysql

from rotations.mysql import containment, preconditions, readers
from rotations.mysql.accounts import Mark, quoted
from rotations.mysql.errors import brief, translated
from rotations.mysql.failure_causes import rejection
from rotations.mysql.options import check_name
from rotations.mysql.profile import KINDS
from rotations.mysql.server import AtLimit
from rotator.api import (
    UNEXPLAINED,
    Check,
    Conflict,
    Credential,
    Denied,
    Evidence,
    Finding,
    InUse,
    Planned,
    Refused,
    Step,
    Unavailable,
    UsageError,
    candidate,
    counted_rights,
    next_of_pair,
    not_ours,
    own_login,
    passed,
    require_not_current,
    require_pair,
    same_login,
    successor,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from rotations.mysql.accounts import Account, Accounts
    from rotations.mysql.options import SecretOptions
    from rotations.mysql.profile import Obstacle
    from rotations.mysql.server import Connection, Server
    from rotator.api import Entrance, Rejection, Secret, Session, StepContext

_POLL_SECONDS: Final = 0.02


class _Login:
    """What the strategies share. Satisfies `Rotation`, `CountsSessions`, `Explains`, `Examines`."""

    overlaps: bool = True
    # Whether revoke drops the old login.
    drops: bool = False

    def __init__(self, server: Server, options: SecretOptions) -> None:
        """`options` are checked for what this strategy needs; nothing is connected."""
        self._server: Server = server
        self._options: SecretOptions = options
        self._check(options)

    def probe(self, credential: Credential, ctx: StepContext) -> bool:
        """Log in once and hang up. Who has too many connections already was authenticated first."""
        accepted = readers.accepts(self._server, credential, ctx)
        for reader in self._server.readers:
            readers.follow(reader, self._server, credential, ctx, wanted=accepted)
        return accepted

    def rejection(self, credential: Credential, ctx: StepContext) -> Rejection | None:
        """Ask the catalog, by what the server has just answered: another try could lock the account."""
        code = self._server.rejected_with(credential.username)
        with self._server.admin(
            f"checking why {credential.username!r} is rejected", ctx
        ) as accounts:
            return rejection(accounts, self._server.options, credential, code)

    def may_lock(self, login: str, ctx: StepContext) -> bool:
        """Look whether the account counts wrong passwords; so it may where that cannot be seen."""
        try:
            with self._server.admin(f"reading the limits of {login!r}", ctx) as accounts:
                return any(account.tries for account in accounts.look(login))
        except Denied:
            return True
        except Unavailable:
            # A login that changes its own password may have no other right.
            if self._server.admin_name() != login:
                raise
            return True

    def verify(self, new: Credential, ctx: StepContext) -> Evidence:
        """Log in as `new`, try its work, compare its grants with the current login's."""
        evidence = self._proof(new, ctx)
        for reader in self._server.readers:
            readers.follow(reader, self._server, new, ctx, wanted=True)
        on_readers = [
            Check(name=f"login at {reader.address}", ok=True, detail="authenticated")
            for reader in self._server.readers
        ]
        return Evidence(checks=(*evidence.checks, *on_readers))

    def _proof(self, new: Credential, ctx: StepContext) -> Evidence:
        old = ctx.current.username if ctx.current else None
        try:
            connection = self._server.login(new, ctx)
        except AtLimit as reached:
            if old != new.username:
                raise
            # The account is the same, and so is what it may do.
            check = Check(name="login", ok=True, detail=f"authenticated; then: {reached.what}")
            return passed(new.username, [check])
        if connection is None:
            why = self.rejection(new, ctx) or UNEXPLAINED
            raise Refused(
                f"{self._server.where} rejects the new login {new.username!r}{why.because}.",
                hint=why.hint,
            )
        try:
            checks = [*self._who(connection, new), *self._work(connection)]
        finally:
            connection.close()
        # The first login of a secret has what the one has that operators name.
        bound = old if old is not None else self._options.like
        if bound is not None and bound != new.username:
            with self._server.admin("comparing the new login with the old one", ctx) as accounts:
                checks += _alike(accounts, new.username, bound)
        return passed(new.username, checks)

    def sessions(self, login: str, ctx: StepContext) -> list[Session]:
        """Return who is still logged in as `login`."""
        found: list[Session] = []
        for server in (self._server, *self._server.readers):
            with server.admin(f"reading the sessions of {login!r}", ctx) as accounts:
                found += [session for _, session in accounts.sessions(login)]
        return found

    def explain(self, current: Credential | None, ctx: StepContext) -> list[Planned]:
        """Return the statements that a rotation would send, in words where they depend on it."""
        new = self.propose(current, ctx)
        with self._server.admin("planning", ctx) as accounts:
            preconditions.require_none(self._foreseen(accounts, new.username, current))
            created = self._plan(accounts, new, current)
            revoked = self._farewell(accounts, current.username) if current else []
        planned = [Planned(step=Step.CREATE, text=one) for one in created]
        planned.append(Planned(step=Step.VERIFY, text=f"log in as {new.username!r}"))
        planned += [
            Planned(step=Step.VERIFY, text=f"as {new.username!r}: {probe}")
            for probe in self._options.probes
        ]
        return planned + [Planned(step=Step.REVOKE, text=one) for one in revoked]

    def examine(self, current: Credential | None, ctx: StepContext) -> list[Finding]:
        """Look whether the admin can do what this strategy needs."""
        from rotations.mysql import doctor  # noqa: PLC0415 # only `doctor` needs it

        def look(accounts: Accounts) -> list[Obstacle]:
            return self._foreseen(accounts, None, current)

        login = current.username if current else None
        found = doctor.findings(self._server, login, look, drops=self.drops)
        return found + [
            doctor.of_reader(one, self._server, current, ctx) for one in self._server.readers
        ]

    def moment(self, ctx: StepContext) -> str:
        """Return the newest connection of the server and of each replica."""
        login = ctx.current.username if ctx.current is not None else None
        return containment.moment(self._server, login, ctx)

    def fence(self, leaked: Credential, ctx: StepContext) -> str:
        """Replace every password by one that nobody knows; the accounts stay as they are otherwise."""
        name = leaked.username
        with self._writing(f"fencing login {name!r}", ctx) as accounts:
            if accounts.look(name):
                self._require_ours(_own_mark(accounts, name, ctx), name, ctx)
                if name == accounts.admin.user:
                    raise own_login(self._server.where, self._server.name, name)
                containment.fence(accounts, name, ctx)
        return containment.moment(self._server, name, ctx)

    def end_sessions(self, login: str, before: str, ctx: StepContext) -> list[Session]:
        """End the sessions of `login` whose connection has a number up to that moment's."""
        return containment.end_sessions(self._server, login, before, ctx)

    def entrances(
        self, leaked: Credential, current: Credential | None, ctx: StepContext
    ) -> list[Entrance]:
        """Try the passwords at the server, its replicas and the further addresses."""
        logins = {leaked.username, (current or leaked).username}
        may_lock = any(self.may_lock(login, ctx) for login in sorted(logins))
        return containment.entrances(self._server, leaked, current, ctx, may_lock=may_lock)

    # -- what a strategy says ------------------------------------------------------------------

    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:
        """Return the next credential."""
        raise NotImplementedError

    def _check(self, options: SecretOptions) -> None:
        raise NotImplementedError

    def _obstacles(
        self, accounts: Accounts, new: str | None, current: Credential | None
    ) -> list[Obstacle]:
        """Return what is known to be in the way; `new` is None where no name is drawn yet."""
        raise NotImplementedError

    def _foreseen(
        self, accounts: Accounts, new: str | None, current: Credential | None
    ) -> list[Obstacle]:
        """Return the same for who only looks, and does not know the next password."""
        return self._obstacles(accounts, new, current)

    def _plan(self, accounts: Accounts, new: Credential, current: Credential | None) -> list[str]:
        raise NotImplementedError

    def _farewell(self, accounts: Accounts, old: str) -> list[str]:
        raise NotImplementedError

    # -- what they have in common --------------------------------------------------------------

    @contextmanager
    def _writing(self, doing: str, ctx: StepContext) -> Generator[Accounts]:
        with self._server.step(doing, ctx) as accounts:
            if accounts.is_read_only():
                raise Unavailable(
                    f"{self._server.where} is read-only, like a replica, or like a primary"
                    " during a failover.",
                    hint="Set `host` to the primary, unless it is read-only only for a moment.",
                )
            yield accounts

    def _who(self, connection: Connection, new: Credential) -> list[Check]:
        """Whose account the server took the login for: an anonymous one may stand before it."""
        with translated(self._server.where, "reading the new login's identity"):
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

    def close_login(self, login: Credential, ctx: StepContext) -> None:
        """Let nobody in as `login` any more. The account stays, locked: it may define views."""
        with self._writing(f"ending login {login.username!r}", ctx) as accounts:
            if accounts.look(login.username):
                mark = _own_mark(accounts, login.username, ctx)
                self._require_ours(mark, login.username, ctx)
                self._close(accounts, login.username, ctx, end_sessions=ctx.end_sessions)

    def _require_ours(self, mark: Mark | None, name: str, ctx: StepContext) -> None:
        """P9: what rotator did not create or adopt is not touched."""
        if mark is None and name not in ctx.adopted:
            raise not_ours(f"login {name!r}", name, ctx, pair=self._options.users)

    def _make(
        self, accounts: Accounts, new: Credential, like: str | None, ctx: StepContext
    ) -> None:
        """Make a login like another one. What logs in is whole: it is let in last."""
        sources = accounts.look(like) if like is not None else []
        if not sources:
            raise Denied(
                f"account {like!r}, whose grants the new login should receive, does not exist.",
                hint="Set the secret's option `like` to an existing account.",
            )
        if like is not None and ctx.current is not None and ctx.current.username == like:
            # A writer of the backend could name any account there, and get its grants.
            self._require_ours(_own_mark(accounts, like, ctx), like, ctx)
        mark, made = _own_mark(accounts, new.username, ctx), accounts.look(new.username)
        if made:
            self._require_ours(mark, new.username, ctx)
        closes = ctx.current is not None and ctx.current.username == like
        found = preconditions.to_another(accounts, like or "", new.username, closes=closes)
        # Whoever locked a login that leaked wants another one all the same.
        preconditions.require_none(
            [one for one in found if not (ctx.fenced and one.kind == "closed")]
        )
        mark = mark or Mark.make(ctx.secret, new.username, ctx.rotation_id)
        hosts = {one.host for one in made}
        for source in sources:
            if source.host not in hosts:
                accounts.create(new.username, source, mark, ctx)
        targets = {one.host: one for one in accounts.look(new.username)}
        for source in sources:
            target = _found(targets, new.username, source.host)
            accounts.limit(target, source, ctx)
            accounts.copy_grants(source, target, ctx)
        for source in sources:
            accounts.open(targets[source.host], new.password, ctx)

    def _close(
        self, accounts: Accounts, name: str, ctx: StepContext, *, end_sessions: bool
    ) -> None:
        """Let nobody in as `name` any more, and return once nobody is. Raises `InUse`."""
        for account in accounts.look(name):
            if not account.locked:
                accounts.close(account, ctx)
        while left := accounts.sessions(name):
            if not end_sessions:
                raise InUse(
                    f"login {name!r} still has {len(left)} open session(s); it already rejects"
                    " new logins.",
                    sessions=[session for _, session in left],
                )
            ctx.require_time()
            for number, _ in left:
                accounts.end(number)
            ctx.clock.sleep(_POLL_SECONDS)

    def _drop(
        self,
        accounts: Accounts,
        name: str,
        mark: Mark | None,
        ctx: StepContext,
        *,
        used: bool = True,
    ) -> None:
        """Drop a login that is closed. What others' objects and rights depend on stays, locked.

        So does, where it was `used`, one whose objects the admin cannot see.
        """
        unseen = accounts.unseen() if used else []
        kept = False
        for account in accounts.look(name):
            reasons = accounts.dependents(account)
            if unseen and not reasons:
                lacks = ", ".join(unseen)
                reasons = [f"rotator cannot see whether it defines objects without {lacks} ON *.*"]
            if not reasons and not accounts.drop(account, ctx):
                reasons = ["the server reports objects that need it"]
            if reasons:
                ctx.log.warning("kept", login=str(account), why="; ".join(reasons))
                kept = True
        if mark is not None and not kept:
            accounts.forget(mark, ctx)


def _own_mark(accounts: Accounts, name: str, ctx: StepContext) -> Mark | None:
    """Return the mark of this secret's account, under today's name of the secret or a former one."""
    found = (accounts.find_mark(one, name) for one in sorted(ctx.names))
    return next((mark for mark in found if mark is not None), None)


class DualPassword(_Login):
    """One login that accepts two passwords for a while."""

    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:
        """Return the same login with another password."""
        name = same_login(current, self._options.username)
        check_name(name)
        return candidate(name, current, ctx)

    def create(self, new: Credential, ctx: StepContext) -> None:
        """Let the new password in beside the current one."""
        _require_password(new)
        with self._writing(f"setting a password of {new.username!r}", ctx) as accounts:
            found = accounts.look(new.username)
            mark = _own_mark(accounts, new.username, ctx)
            if ctx.current is None and (not found or mark is not None):
                self._make(accounts, new, self._options.like, ctx)
                return
            self._require_found(found, new.username)
            self._require_ours(mark, new.username, ctx)
            preconditions.require_none(
                [
                    *self._obstacles(accounts, new.username, ctx.current),
                    *preconditions.second_passwords(accounts, found, ctx.current, new),
                ]
            )
            for account in found:
                self._let_in(accounts, account, new, ctx)

    def revoke(self, old: Credential, ctx: StepContext) -> None:
        """Let in by the current password only. Sessions stay: they are of the login, not of a password."""
        with self._writing(f"ending an old password of {old.username!r}", ctx) as accounts:
            self._only_current(accounts, old.username, ctx)

    def withdraw(self, new: Credential, ctx: StepContext) -> None:
        """Let in by the current password only; drop the login when this rotation made it."""
        with self._writing(f"withdrawing a password of {new.username!r}", ctx) as accounts:
            mark = _own_mark(accounts, new.username, ctx)
            if ctx.current is not None:
                if ctx.current.username == new.username:
                    self._only_current(accounts, new.username, ctx, where=new.password)
            elif mark == Mark.make(ctx.secret, new.username, ctx.rotation_id):
                self._close(accounts, new.username, ctx, end_sessions=True)
                self._drop(accounts, new.username, mark, ctx, used=False)

    def _let_in(
        self, accounts: Accounts, account: Account, new: Credential, ctx: StepContext
    ) -> None:
        current = ctx.current
        if ctx.fenced:
            accounts.let_in_only(account, new.password, ctx)
            return
        if current is None or not accounts.lets_in(account, current.password):
            raise Conflict(
                f"account {account} does not accept the current password, so rotator added no"
                " second one.",
                safety="The application is NOT safe there: the server rejects the credential that the"
                " backend serves.",
                hint="Set the password that the backend serves, or store the valid one in the"
                " backend.",
            )
        accounts.let_in(account, new.password, current.password, ctx)

    def _only_current(
        self, accounts: Accounts, name: str, ctx: StepContext, *, where: Secret | None = None
    ) -> None:
        """Let in by the current password only. `where`: only accounts that accept this one, if it is known."""
        found = accounts.look(name)
        if where is not None and where.reveal():
            # What does not accept the new password is as it was, or somebody has mended it by hand.
            found = [one for one in found if accounts.lets_in(one, where)]
        if not found or ctx.current is None or ctx.current.username != name:
            return
        self._require_ours(_own_mark(accounts, name, ctx), name, ctx)
        for account in found:
            if ctx.fenced:
                accounts.fence(account, ctx)
            else:
                accounts.let_in_only(account, ctx.current.password, ctx)

    @staticmethod
    def _require_found(found: list[Account], name: str) -> None:
        if not found:
            raise Conflict(
                f"the server has no account {name!r}.",
                hint="If it was dropped, create it again with the password that the backend serves.",
            )
        for account in found:
            if account.is_touchy:
                raise Denied(
                    f"account {account} is blocked after {account.tries} wrong password(s):"
                    " verifying that the server rejects the old password would block the"
                    " application too.",
                    safety="The application is safe: nothing was changed.",
                    hint="Allow 3 or more: FAILED_LOGIN_ATTEMPTS of the account (MySQL), max_password_errors of the server (MariaDB).",
                )

    def _check(self, options: SecretOptions) -> None:
        _ = options

    def _obstacles(
        self, accounts: Accounts, new: str | None, current: Credential | None
    ) -> list[Obstacle]:
        name = new or (current.username if current else self._options.username)
        if not name:
            return []
        return preconditions.in_place(accounts, name)

    def _foreseen(
        self, accounts: Accounts, new: str | None, current: Credential | None
    ) -> list[Obstacle]:
        found = self._obstacles(accounts, new, current)
        name = new or (current.username if current else None)
        if name is None or name == accounts.admin.user:
            return found
        return [
            *found,
            *preconditions.second_passwords(accounts, accounts.look(name), current, None),
        ]

    def _plan(self, accounts: Accounts, new: Credential, current: Credential | None) -> list[str]:
        doing = "beside" if current and self.overlaps else "only"
        return [accounts.said(doing, new.username)]

    def _farewell(self, accounts: Accounts, old: str) -> list[str]:
        return [accounts.said("only", old)]


class SingleUser(DualPassword):
    """One login whose password changes in place (no overlap)."""

    overlaps: bool = False

    def create(self, new: Credential, ctx: StepContext) -> None:
        """Set the new password in the place of the current one, once the proof is known to work."""
        _require_password(new)
        if self._is_own(new.username):
            self._set_own(new, ctx)
        else:
            super().create(new, ctx)

    def withdraw(self, new: Credential, ctx: StepContext) -> None:
        """Set the current password again, if the new one was set."""
        if ctx.current is None or not self._is_own(new.username):
            super().withdraw(new, ctx)
            return
        if ctx.fenced:
            raise own_login(self._server.where, self._server.name, new.username)
        # Logged in by the new password, if it is known: the admin's was replaced by it.
        acting = new if new.password.reveal() else None
        if acting is not None and not self.probe(acting, ctx):
            return
        doing = f"withdrawing a password of {new.username!r}"
        with self._server.step(doing, ctx, acting) as accounts:
            accounts.set_own(ctx.current.password, ctx)

    def _is_own(self, name: str) -> bool:
        """Whether the admin is the login itself, which may change its own password and nothing else."""
        return self._server.admin_name() == name

    def _set_own(self, new: Credential, ctx: StepContext) -> None:
        try:
            with self._writing(f"setting the password of {new.username!r}", ctx) as accounts:
                self._require_ours(None, new.username, ctx)
                preconditions.require_none(preconditions.own(accounts))
                self._require_provable(ctx)
                accounts.set_own(new.password, ctx)
        except Unavailable:
            # The admin's password is the one that an interrupted attempt has replaced already.
            if not self.probe(new, ctx):
                raise

    def _require_provable(self, ctx: StepContext) -> None:
        """Do with the current password all that `verify` will do with the new one: nothing else changes."""
        if ctx.current is None or ctx.fenced:
            return
        try:
            connection = self._server.login(ctx.current, ctx)
        except AtLimit:
            return
        if connection is None:
            return
        try:
            failed = [one for one in self._work(connection) if not one.ok]
        finally:
            connection.close()
        if failed:
            raise Denied(
                f"the new password could not be verified: {failed[0].name} already fails with"
                f" the current one: {failed[0].detail}",
                hint="Correct the probe, or the login's privileges.",
                safety="The application is safe: nothing was changed, and its current password logs in.",
            )

    def _let_in(
        self, accounts: Accounts, account: Account, new: Credential, ctx: StepContext
    ) -> None:
        self._require_provable(ctx)
        accounts.let_in_only(account, new.password, ctx)

    def revoke(self, old: Credential, ctx: StepContext) -> None:
        """Nothing: the old password stopped working when the new one was set."""

    def _obstacles(
        self, accounts: Accounts, new: str | None, current: Credential | None
    ) -> list[Obstacle]:
        name = new or (current.username if current else self._options.username)
        if name == accounts.admin.user:
            return preconditions.own(accounts)
        return super()._obstacles(accounts, new, current)

    def _farewell(self, accounts: Accounts, old: str) -> list[str]:
        _ = accounts
        return [f"(nothing: the old password of {old!r} stopped working at create)"]


class AlternatingUsers(_Login):
    """Two fixed logins that take turns."""

    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:
        """Return the other of the two."""
        return candidate(next_of_pair(self._options.users, current), current, ctx)

    def unmanaged(self, current: Credential, ctx: StepContext) -> str | None:
        """Return the other login, where it exists and is not ours."""
        other = next_of_pair(self._options.users, current)
        if other in ctx.adopted:
            return None
        with self._server.admin(f"checking login {other!r}", ctx) as accounts:
            ours = _own_mark(accounts, other, ctx) is not None or not accounts.look(other)
        return None if ours else other

    def create(self, new: Credential, ctx: StepContext) -> None:
        """Bring the other login up to the current one's rights, then let it in."""
        _require_password(new)
        like = ctx.current.username if ctx.current else self._options.like
        with self._writing(f"creating login {new.username!r}", ctx) as accounts:
            self._make(accounts, new, like, ctx)

    def revoke(self, old: Credential, ctx: StepContext) -> None:
        """Take its password and lock it; it waits for its next turn."""
        with self._writing(f"revoking login {old.username!r}", ctx) as accounts:
            if not accounts.look(old.username):
                return
            self._require_ours(_own_mark(accounts, old.username, ctx), old.username, ctx)
            require_not_current(old.username, ctx)
            self._close(accounts, old.username, ctx, end_sessions=ctx.end_sessions)

    def withdraw(self, new: Credential, ctx: StepContext) -> None:
        """Put the other login back to waiting; drop it when this rotation made it."""
        with self._writing(f"withdrawing login {new.username!r}", ctx) as accounts:
            mark = _own_mark(accounts, new.username, ctx)
            if ctx.current is not None and ctx.current.username == new.username:
                return
            if mark is None and new.username not in ctx.adopted:
                return
            self._close(accounts, new.username, ctx, end_sessions=True)
            if mark == Mark.make(ctx.secret, new.username, ctx.rotation_id):
                self._drop(accounts, new.username, mark, ctx, used=False)

    def _check(self, options: SecretOptions) -> None:
        require_pair(options.users)

    def _obstacles(
        self, accounts: Accounts, new: str | None, current: Credential | None
    ) -> list[Obstacle]:
        like = current.username if current else self._options.like
        if like is None:
            return []
        closes = current is not None
        return preconditions.to_another(accounts, like, new or self._next(current), closes=closes)

    def _next(self, current: Credential | None) -> str:
        return next_of_pair(self._options.users, current)

    def _plan(self, accounts: Accounts, new: Credential, current: Credential | None) -> list[str]:
        name = quoted(new.username)
        like = current.username if current else self._options.like
        return [
            f"CREATE USER {name}@... ACCOUNT LOCK, with the limits of {like!r}",
            f"GRANT what {like!r} has, its roles and default role too; REVOKE what it has not",
            accounts.said("open", new.username),
        ]

    def _farewell(self, accounts: Accounts, old: str) -> list[str]:
        _ = accounts
        return [f"ALTER USER {quoted(old)}@... ACCOUNT LOCK, with a password nobody knows"]


class NewUser(AlternatingUsers):
    """A fresh login per rotation, with all grants of the one before."""

    drops: bool = True
    unmanaged = None  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride] # it has no second login

    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:
        """Draw a login name that is free."""
        with self._server.admin("generating a login name", ctx) as accounts:
            while True:
                name = successor(self._options.prefix or "", ctx.entropy)
                if not accounts.look(name):
                    break
        return candidate(name, current, ctx)

    def close_login(self, login: Credential, ctx: StepContext) -> None:
        """End it as a revoke would: it is dropped."""
        self.revoke(login, ctx)

    def revoke(self, old: Credential, ctx: StepContext) -> None:
        """Refuse new logins, wait for the sessions, drop it."""
        with self._writing(f"revoking login {old.username!r}", ctx) as accounts:
            mark = _own_mark(accounts, old.username, ctx)
            if not accounts.look(old.username):
                self._drop(accounts, old.username, mark, ctx)
                return
            self._require_ours(mark, old.username, ctx)
            require_not_current(old.username, ctx)
            self._close(accounts, old.username, ctx, end_sessions=ctx.end_sessions)
            self._drop(accounts, old.username, mark, ctx)

    def withdraw(self, new: Credential, ctx: StepContext) -> None:
        """Drop the login that this rotation made, if it did."""
        with self._writing(f"withdrawing login {new.username!r}", ctx) as accounts:
            mark = _own_mark(accounts, new.username, ctx)
            if mark != Mark.make(ctx.secret, new.username, ctx.rotation_id):
                return
            require_not_current(new.username, ctx)
            self._close(accounts, new.username, ctx, end_sessions=True)
            self._drop(accounts, new.username, mark, ctx, used=False)

    def _next(self, current: Credential | None) -> str:
        _ = current
        return f"{self._options.prefix}_{'x' * 11}"

    def _check(self, options: SecretOptions) -> None:
        if options.prefix is None:
            raise UsageError("strategy new-user requires `prefix`: the prefix of the login names.")
        check_name(f"{options.prefix}_{'x' * 11}")

    def _farewell(self, accounts: Accounts, old: str) -> list[str]:
        _ = accounts
        name = quoted(old)
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


def _found(targets: dict[str, Account], name: str, host: str) -> Account:
    if host not in targets:
        raise Conflict(f"account {name!r}@{host!r} disappeared during the step.")
    return targets[host]


def _alike(accounts: Accounts, new: str, old: str) -> list[Check]:
    """Compare two logins host by host: nothing is missing, and nothing is too much.

    Of the grants, how many there are and a digest of them are kept as evidence.
    """
    rights: list[tuple[str, str, str]] = []
    by_host = {one.host: one for one in accounts.look(new)}
    found: dict[str, list[str]] = {"grants": [], "limits": []}
    for account in accounts.look(old):
        other = by_host.pop(account.host, None)
        if other is None:
            found["grants"].append(f"no account for host {account.host!r}")
            continue
        wanted, has = accounts.profile(account), accounts.profile(other)
        for group in found:
            found[group] += has.differences(wanted, group)
        rights += [
            (kind.name, account.host, fact)
            for kind in KINDS
            if kind.group == "grants"
            for fact in has.facts.get(kind.name, ())
        ]
    found["grants"] += [f"too much: an account for host {host!r}" for host in by_host]
    return [
        Check(name=group, ok=not differences, detail="; ".join(differences) or same)
        for (group, differences), same in zip(
            found.items(), (f"the same: {counted_rights(rights)}", "the same"), strict=True
        )
    ]


def _require_password(new: Credential) -> None:
    if not new.password.reveal():
        raise Refused("a password must not be empty.")


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
