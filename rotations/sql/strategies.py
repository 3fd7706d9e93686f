"""Three strategies over statements of an operator's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from rotations.sql import server as sql
from rotations.sql.statements import LOGIN, MARK, PASSWORD
from rotator.api import (
    Check,
    Credential,
    Denied,
    Evidence,
    InUse,
    Refused,
    Session,
    UsageError,
    candidate,
    next_of_pair,
    not_ours,
    passed,
    password_of_nobody,
    require_not_current,
    require_pair,
    same_login,
    successor,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rotations.sql.options import SecretOptions
    from rotator.api import Secret, StepContext

_MARK: Final = "rotator:"


class SqlLogin:
    """What all strategies have in common."""

    overlaps: bool = True
    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]

    def __init__(self, server: sql.Server, options: SecretOptions) -> None:
        self._server: sql.Server = server
        self._options: SecretOptions = options
        self._require_statements()
        self._check(options)

    def create(self, new: Credential, ctx: StepContext) -> None:
        """Create the login, or update one of ours that exists."""
        self._set(new, new.password, ctx)

    def verify(self, new: Credential, ctx: StepContext) -> Evidence:
        """Log in and run the probes."""
        why = self._server.log_in(new, self._options.probes, ctx)
        if why == "":
            raise Refused(f"{self._server} rejects login {new.username!r}.")
        checks = [Check(name="logs in", ok=True)]
        if self._options.probes:
            checks.append(Check(name="probes", ok=why is None, detail=why or ""))
        return passed(new.username, checks)

    def probe(self, credential: Credential, ctx: StepContext) -> bool:
        """Log in once."""
        return self._server.log_in(credential, (), ctx) is None

    def revoke(self, old: Credential, ctx: StepContext) -> None:
        """Run the statements of `revoke`, once no session is open."""
        require_not_current(old.username, ctx)
        self._end(old.username, "revoke", ctx)

    def withdraw(self, new: Credential, ctx: StepContext) -> None:
        """Run the statements of `withdraw`, or else those of `revoke`."""
        require_not_current(new.username, ctx)
        self._end(new.username, "withdraw", ctx)

    def _set(self, new: Credential, password: Secret, ctx: StepContext) -> None:
        values = self._values(new.username, ctx) | {PASSWORD: password.reveal()}

        def act(session: sql.Session) -> None:
            exists = self._exists(session, new.username, ctx)
            if exists and not self._statements("update"):
                # Half of a creation that was cut off: nobody has this login yet.
                require_not_current(new.username, ctx)
                session.run(self._statements("withdraw") or self._statements("revoke"), values)
                exists = False
            if not exists and not self._statements("create"):
                raise Denied(
                    f"{self._server} has no login {new.username!r}, and there are no statements that"
                    " create one.",
                    hint="Create it by hand, or add `create` to the target.",
                )
            session.run(self._statements("update" if exists else "create"), values)

        self._server.act(act, ctx, changes=True, doing=f"setting login {new.username!r}")

    def _end(self, name: str, key: str, ctx: StepContext) -> None:
        values = self._values(name, ctx)

        def act(session: sql.Session) -> None:
            if not self._exists(session, name, ctx):
                return
            if ctx.end_sessions or key == "withdraw":
                session.run(self._statements("end_sessions"), values)
            elif found := self._sessions(session, name, ctx):
                raise InUse(f"login {name!r} still has open sessions.", sessions=found)
            session.run(self._statements(key) or self._statements("revoke"), values)

        self._server.act(act, ctx, changes=True, doing=f"revoking login {name!r}")

    def _exists(self, session: sql.Session, name: str, ctx: StepContext) -> bool:
        """Return whether a login exists. Raises `Conflict` where it is somebody else's."""
        query = self._server.options.query("owner")
        assert query is not None  # noqa: S101 # the option has no default
        rows = session.rows(query, self._values(name, ctx))
        if not rows:
            return False
        marks = {f"{_MARK}{one}" for one in ctx.names}
        mark = rows[0][0] if rows[0] else None
        if mark not in marks and name not in ctx.adopted:
            owner = mark.removeprefix(_MARK) if isinstance(mark, str) and _MARK in mark else None
            what = f"login {name!r} on {self._server}"
            raise not_ours(what, name, ctx, pair=self._options.users, owner=owner)
        return True

    def _sessions(self, session: sql.Session, name: str, ctx: StepContext) -> list[Session]:
        query = self._server.options.query("sessions")
        if query is None:
            return []
        return [
            Session(
                login=name,
                client=_text(row[0] if row else None),
                application=_text(row[1]) if len(row) > 1 else "",
            )
            for row in session.rows(query, self._values(name, ctx))
        ]

    def _values(self, name: str, ctx: StepContext) -> dict[str, str]:
        return {**self._options.identifiers, LOGIN: name, MARK: f"{_MARK}{ctx.secret}"}

    def _statements(self, key: str) -> Any:
        return self._server.options.statements(key)

    def _require_statements(self) -> None:
        """Refuse a target without the statements of this strategy, or with unknown placeholders."""
        options = self._server.options
        for key in self.needs:
            if not self._statements(key):
                raise UsageError(
                    f"strategy {self.name} requires `{key}`, and the target has no such statements."
                )
        known = {LOGIN, PASSWORD, MARK, *self._options.identifiers}
        keys = ("create", "update", "revoke", "withdraw", "end_sessions")
        queries = (options.query("owner"), options.query("sessions"))
        for one in (*(one for key in keys for one in self._statements(key)), *queries):
            if one is not None and (unknown := one.names - known):
                raise UsageError(
                    f"`{one.where}` has the unknown placeholder {{{min(unknown)}}}.",
                    hint=f"Known: {', '.join(sorted(known))}. Add others to `identifiers` of the"
                    " secret's options.",
                )

    def _check(self, options: SecretOptions) -> None:
        """Raise `UsageError` for options that do not fit the strategy."""


class NewUser(SqlLogin):
    """A fresh login per rotation."""

    name = "new-user"
    needs = ("create", "revoke")

    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:
        """Draw a login name."""
        base = self._options.prefix or ctx.secret
        name = successor(base, ctx.entropy, limit=self._options.longest_name)
        return candidate(name, current, ctx)


class AlternatingUsers(SqlLogin):
    """Two fixed logins that take turns."""

    name = "alternating-users"
    needs = ("update", "revoke")

    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:
        """Return the other of the two."""
        return candidate(next_of_pair(self._options.users, current), current, ctx)

    def _check(self, options: SecretOptions) -> None:
        require_pair(options.users)


class SingleUser(SqlLogin):
    """One login whose password changes in place (no overlap)."""

    overlaps: bool = False
    name = "single-user"
    needs = ("update",)

    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:
        """Return the same login with another password."""
        return candidate(same_login(current, self._options.username), current, ctx)

    def revoke(self, old: Credential, ctx: StepContext) -> None:
        """Do nothing for the same login: its old password became invalid when the new one was set."""
        ctx.require_time()
        if ctx.current is None or ctx.current.username != old.username:
            super().revoke(old, ctx)

    def withdraw(self, new: Credential, ctx: StepContext) -> None:
        """Set the served password again; without one, drop or disable the login as the target does."""
        if ctx.current is not None and ctx.current.username == new.username and not ctx.fenced:
            self._set(new, ctx.current.password, ctx)
            return
        if ctx.current is None and self._statements("revoke"):
            self._end(new.username, "withdraw", ctx)
            return

        def act(session: sql.Session) -> bool:
            return self._exists(session, new.username, ctx)

        doing = f"checking login {new.username!r}"
        if self._server.act(act, ctx, changes=False, doing=doing):
            self._set(new, password_of_nobody(ctx), ctx)


class _Counts:
    """Counts sessions, where the target has a query for them."""

    _server: sql.Server

    def sessions(self, login: str, ctx: StepContext) -> list[Session]:
        """Return the open sessions of a login."""

        def act(session: sql.Session) -> list[Session]:
            return self._sessions(session, login, ctx)  # pyright: ignore[reportAttributeAccessIssue]

        doing = f"listing sessions of {login!r}"
        return self._server.act(act, ctx, changes=False, doing=doing)


class _CountingNewUser(_Counts, NewUser):
    __doc__ = NewUser.__doc__


class _CountingAlternatingUsers(_Counts, AlternatingUsers):
    __doc__ = AlternatingUsers.__doc__


class _CountingSingleUser(_Counts, SingleUser):
    __doc__ = SingleUser.__doc__


STRATEGIES: Final[Mapping[str, type[SqlLogin]]] = {
    one.name: one for one in (NewUser, AlternatingUsers, SingleUser)
}
COUNTING: Final[Mapping[str, type[SqlLogin]]] = {
    one.name: one for one in (_CountingNewUser, _CountingAlternatingUsers, _CountingSingleUser)
}


def _text(given: object) -> str:
    shown = "" if given is None else str(given)
    return "".join(one if one.isprintable() else "?" for one in shown)[:200]
