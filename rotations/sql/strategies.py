"""Three strategies over statements of an operator's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from rotations.sql import server as sql
from rotations.sql.options import SecretOptions
from rotations.sql.statements import LOGIN, MARK, PASSWORD
from rotator.api import (
    AlternatingLogins,
    Check,
    Credential,
    Denied,
    Evidence,
    InUse,
    LoginStrategy,
    NewLogin,
    PasswordInPlace,
    Refused,
    Session,
    UsageError,
    not_ours,
    passed,
    require_not_current,
)

if TYPE_CHECKING:
    from rotator.api import EndStep, StepContext

_MARK: Final = "rotator:"


class SqlLogin(LoginStrategy[SecretOptions]):
    """What all strategies have in common."""

    needs: ClassVar[tuple[str, ...]]

    def __init__(self, server: sql.Server, options: SecretOptions) -> None:
        super().__init__(options)
        self._server: sql.Server = server
        self._require_statements()

    def create(self, new: Credential, ctx: StepContext) -> None:
        """Create the login, or update one of ours that exists."""
        self._set(new, ctx)

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

    def _set(self, login: Credential, ctx: StepContext) -> None:
        name = login.username
        values = self._values(name, ctx) | {PASSWORD: login.password.reveal()}

        def act(session: sql.Session) -> None:
            exists = self._is_ours(session, name, ctx)
            if exists and not self._statements("update"):
                # Half of a creation that was cut off: nobody has this login yet.
                require_not_current(name, ctx)
                session.run(self._statements("withdraw") or self._statements("revoke"), values)
                exists = False
            if not exists and not self._statements("create"):
                raise Denied(
                    f"{self._server} has no login {name!r}, and there are no statements that"
                    " create one.",
                    hint="Create it by hand, or add `create` to the target.",
                )
            session.run(self._statements("update" if exists else "create"), values)

        self._server.act(act, ctx, changes=True, doing=f"setting login {name!r}")

    def _end(self, login: Credential, step: EndStep, ctx: StepContext) -> None:
        name = login.username
        values = self._values(name, ctx)

        def act(session: sql.Session) -> None:
            if not self._is_ours(session, name, ctx):
                return
            if ctx.end_sessions or step == "withdraw":
                session.run(self._statements("end_sessions"), values)
            elif found := self._sessions(session, name, ctx):
                raise InUse(f"login {name!r} still has open sessions.", sessions=found)
            session.run(self._statements(step) or self._statements("revoke"), values)

        self._server.act(act, ctx, changes=True, doing=f"revoking login {name!r}")

    def _exists(self, name: str, ctx: StepContext) -> bool:
        def act(session: sql.Session) -> bool:
            return self._is_ours(session, name, ctx)

        return self._server.act(act, ctx, changes=False, doing=f"checking login {name!r}")

    def _is_ours(self, session: sql.Session, name: str, ctx: StepContext) -> bool:
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


class NewUser(NewLogin[SecretOptions], SqlLogin):
    """A fresh login per rotation."""

    needs = ("create", "revoke")


class AlternatingUsers(AlternatingLogins[SecretOptions], SqlLogin):
    """Two fixed logins that take turns."""

    needs = ("update", "revoke")


class SingleUser(SqlLogin, PasswordInPlace[SecretOptions]):
    """One login whose password changes in place (no overlap)."""

    needs = ("update",)

    @property
    def _can_end(self) -> bool:
        return bool(self._statements("revoke"))


class _Counts:
    """Counts sessions, where the target has a query for them."""

    _server: sql.Server

    def sessions(self, login: str, ctx: StepContext) -> list[Session]:
        """Return the open sessions of a login."""

        def act(session: sql.Session) -> list[Session]:
            return self._sessions(session, login, ctx)  # pyright: ignore[reportAttributeAccessIssue]

        doing = f"listing sessions of {login!r}"
        return self._server.act(act, ctx, changes=False, doing=doing)


STRATEGIES: Final[dict[str, type[SqlLogin]]] = {
    one.name: one for one in (NewUser, AlternatingUsers, SingleUser)
}
COUNTING: Final[dict[str, type]] = {
    name: type(f"Counting{one.__name__}", (_Counts, one), {}) for name, one in STRATEGIES.items()
}


def _text(given: object) -> str:
    shown = "" if given is None else str(given)
    return "".join(one if one.isprintable() else "?" for one in shown)[:200]
