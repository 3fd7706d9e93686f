"""The three strategies: which login comes next, and how the old one goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from psycopg import sql

from rotations.postgresql import ending, parity
from rotations.postgresql.options import check_name, parse_privileges
from rotations.postgresql.roles import Mark, Role, look, sessions, set_setting
from rotator.api import (
    MASK,
    Conflict,
    Credential,
    Denied,
    Evidence,
    Finding,
    Planned,
    Refused,
    Secret,
    Step,
    UsageError,
    candidate,
    next_of_pair,
    passed,
    require_not_current,
    require_pair,
    same_login,
    successor,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rotations.postgresql.options import SecretOptions
    from rotations.postgresql.server import Server
    from rotator.api import Session, StepContext


class _Login:
    """What the strategies share. Satisfies `Rotation`, `CountsSessions`, `Explains`, `Examines`."""

    overlaps: bool = True

    def __init__(self, server: Server, options: SecretOptions) -> None:
        """`options` are checked for what this strategy needs; nothing is connected."""
        self._server: Server = server
        self._options: SecretOptions = options
        self._privileges = parse_privileges(options.privileges)
        self._check(options)

    def probe(self, credential: Credential, ctx: StepContext) -> bool:
        """Log in once and hang up."""
        _ = ctx
        connection = self._server.login(credential, self._options.login_dbname)
        if connection is None:
            return False
        connection.close()
        return True

    def verify(self, new: Credential, ctx: StepContext) -> Evidence:
        """Log in as `new`, try its work, compare it with the current login."""
        connection = self._server.login(new, self._options.login_dbname)
        if connection is None:
            raise Refused(f"{self._server.where} refuses the new login {new.username!r}.")
        old = ctx.current.username if ctx.current else None
        try:
            with self._server.admin("comparing the new login with the old one") as admin:
                checks = parity.compare(
                    admin,
                    connection,
                    new=new.username,
                    old=old if old != new.username else None,
                    group=self._options.group,
                )
            checks += parity.try_work(
                connection, self._server.where, self._privileges, self._options.probes
            )
        finally:
            connection.close()
        return passed(new.username, checks)

    def sessions(self, login: str, ctx: StepContext) -> list[Session]:
        """Return who is still logged in as `login`."""
        _ = ctx
        with self._server.admin(f"looking for sessions of {login!r}") as admin:
            return [session for _, session in sessions(admin, login)]

    def explain(self, current: Credential | None, ctx: StepContext) -> list[Planned]:
        """Return the statements that a rotation would send, passwords masked."""
        new = self.propose(current, ctx)
        old = current.username if current else None
        with self._server.admin("planning") as admin:
            roles = look(admin, self._names(new.username, old))
            create = self._statements(roles, new.username, old, Secret(MASK), ctx)
            planned = [Planned(step=Step.CREATE, text=one.as_string(admin)) for one in create]
        planned.append(
            Planned(step=Step.VERIFY, text=f"log in as {new.username!r}, compare it with {old!r}")
        )
        planned += [
            Planned(step=Step.VERIFY, text=f"as {new.username!r}: {probe}")
            for probe in self._options.probes
        ]
        if old is not None:
            planned += [Planned(step=Step.REVOKE, text=text) for text in self._farewell(old)]
        return planned

    def examine(self, current: Credential | None, ctx: StepContext) -> list[Finding]:
        """Look whether the admin can do what this strategy needs."""
        _ = ctx
        from rotations.postgresql import examine  # noqa: PLC0415 # only `doctor` needs it

        names = self._names("", current.username if current else None)
        return examine.findings(self._server, self._options, names)

    # -- what a strategy says ------------------------------------------------------------------

    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:
        """Return the next credential."""
        raise NotImplementedError

    def _check(self, options: SecretOptions) -> None:
        raise NotImplementedError

    def _statements(
        self,
        roles: Mapping[str, Role],
        new: str,
        old: str | None,
        verifier: Secret,
        ctx: StepContext,
    ) -> list[sql.Composed]:
        raise NotImplementedError

    def _farewell(self, old: str) -> list[str]:
        raise NotImplementedError

    # -- what they have in common --------------------------------------------------------------

    def create(self, new: Credential, ctx: StepContext) -> None:
        """Make the login accept the new password: one transaction."""
        if "\0" in new.password.reveal() or not new.password.reveal():
            raise Refused("a PostgreSQL password is not empty and holds no NUL.")
        old = ctx.current.username if ctx.current else None
        with self._server.admin(f"creating login {new.username!r}") as admin:
            roles = look(admin, self._names(new.username, old))
            statements = self._statements(
                roles, new.username, old, self._server.verifier(admin, new), ctx
            )
            ctx.require_time()
            # One round trip for all of them; they take effect together or not at all.
            with admin.pipeline(), admin.transaction():
                for statement in statements:
                    _ = admin.execute(statement)

    def _names(self, new: str, old: str | None) -> list[str]:
        return [name for name in (new, old, self._options.group) if name]

    def _require_ours(self, role: Role, ctx: StepContext) -> None:
        """P9: what rotator did not create or adopt is not touched."""
        if role.mark is not None and role.mark.secret == ctx.secret:
            return
        if role.name in ctx.adopted:
            return
        whose = (
            f"belongs to secret {role.mark.secret!r}" if role.mark else "was not made by rotator"
        )
        raise Conflict(
            f"role {role.name!r} exists and {whose}, so it was left alone.",
            hint="Choose another name, or drop that role yourself if nobody needs it.",
        )

    def _copied(self, roles: Mapping[str, Role], new: str, old: str | None) -> list[sql.Composed]:
        """Return the statements that make `new` like `old`: groups, settings, limit."""
        group, source, target = self._options.group, roles.get(old or ""), roles.get(new)
        if group is not None and group not in roles:
            raise Denied(
                f"the group role {group!r} does not exist.",
                hint=f"Make it the owner of the application's objects: CREATE ROLE {group} NOLOGIN",
            )
        has = set(target.groups) if target else set[str]()
        wanted = (set(source.groups) if source else set[str]()) | ({group} if group else set())
        name = sql.Identifier(new)
        statements = [
            sql.SQL("GRANT {} TO {}").format(sql.Identifier(one), name)
            for one in sorted(wanted - has - {new})
        ]
        settings = [one for one in (source.settings if source else ()) if one.name != "role"]
        statements += [
            set_setting(new, one) for one in settings if not target or one not in target.settings
        ]
        if group is not None:
            # What the application creates belongs to the group, not to a login that will go.
            statements.append(
                sql.SQL("ALTER ROLE {} SET role TO {}").format(name, sql.Literal(group))
            )
        if source is not None and source.name != new:
            statements.append(
                sql.SQL("ALTER ROLE {} CONNECTION LIMIT {}").format(
                    name, sql.Literal(source.connection_limit)
                )
            )
        return statements


class NewUser(_Login):
    """A fresh login per rotation, member of a group role that owns everything."""

    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:
        """Draw a login name that is free."""
        with self._server.admin("drawing a login name") as admin:
            while True:
                base = self._options.prefix or self._options.group or ""
                name = successor(base, ctx.entropy)
                if not look(admin, [name]):
                    break
        return candidate(name, current, ctx)

    def revoke(self, old: Credential, ctx: StepContext) -> None:
        """Refuse new logins, wait for the sessions, hand over what it owns, drop it."""
        with self._server.admin(f"revoking login {old.username!r}") as admin:
            role = look(admin, [old.username]).get(old.username)
            if role is None:
                return
            self._require_ours(role, ctx)
            require_not_current(role.name, ctx)
            ending.close(self._server, admin, role, ctx, end_sessions=ctx.end_sessions)
            if role.name != self._options.group:
                ending.drop(self._server, admin, role, ctx, heir=self._options.group)

    def withdraw(self, new: Credential, ctx: StepContext) -> None:
        """Drop the login that this rotation made, if it did."""
        with self._server.admin(f"withdrawing login {new.username!r}") as admin:
            role = look(admin, [new.username]).get(new.username)
            if role is None or role.mark != Mark(secret=ctx.secret, rotation=ctx.rotation_id):
                return
            require_not_current(role.name, ctx)
            ending.close(self._server, admin, role, ctx, end_sessions=True)
            ending.drop(self._server, admin, role, ctx, heir=self._options.group)

    def _check(self, options: SecretOptions) -> None:
        if options.group is None:
            raise UsageError(
                "strategy new-user needs `group`: the role that owns the objects and holds the grants.",
                hint="An existing login can become it: name that login, and adopt the secret.",
            )

    def _statements(
        self,
        roles: Mapping[str, Role],
        new: str,
        old: str | None,
        verifier: Secret,
        ctx: StepContext,
    ) -> list[sql.Composed]:
        mark = Mark(secret=ctx.secret, rotation=ctx.rotation_id)
        existing = roles.get(new)
        if existing is not None and existing.mark != mark:
            self._require_ours(existing, ctx)
        return [
            _set_password(new, verifier, exists=existing is not None),
            _comment(new, mark),
            *self._copied(roles, new, old if old != self._options.group else None),
        ]

    def _farewell(self, old: str) -> list[str]:
        name = sql.Identifier(old).as_string(None)
        close = f"ALTER ROLE {name} NOLOGIN PASSWORD NULL"
        if old == self._options.group:
            return [close, f"(role {name} stays, as the group)"]
        heir = sql.Identifier(self._options.group or "").as_string(None)
        hand_over = f"REASSIGN OWNED BY {name} TO {heir}; DROP OWNED BY {name}"
        return [
            close,
            f"in every database where it owns something: {hand_over}",
            f"DROP ROLE {name}",
        ]


class AlternatingUsers(_Login):
    """Two fixed logins that take turns."""

    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:
        """Return the other of the two."""
        return candidate(next_of_pair(self._options.users, current), current, ctx)

    def revoke(self, old: Credential, ctx: StepContext) -> None:
        """Take its password and its right to log in; the role waits for its next turn."""
        with self._server.admin(f"revoking login {old.username!r}") as admin:
            role = look(admin, [old.username]).get(old.username)
            if role is None:
                return
            self._require_ours(role, ctx)
            require_not_current(role.name, ctx)
            ending.close(self._server, admin, role, ctx, end_sessions=ctx.end_sessions)

    def withdraw(self, new: Credential, ctx: StepContext) -> None:
        """Put the other login back to waiting; drop it when this rotation made it."""
        with self._server.admin(f"withdrawing login {new.username!r}") as admin:
            role = look(admin, [new.username]).get(new.username)
            ours = role is not None and (
                role.name in ctx.adopted
                or (role.mark is not None and role.mark.secret == ctx.secret)
            )
            if role is None or not ours or (ctx.current and ctx.current.username == role.name):
                return
            ending.close(self._server, admin, role, ctx, end_sessions=True)
            if role.mark == Mark(secret=ctx.secret, rotation=ctx.rotation_id):
                heir = self._options.group or (ctx.current.username if ctx.current else None)
                ending.drop(self._server, admin, role, ctx, heir=heir)

    def _check(self, options: SecretOptions) -> None:
        require_pair(options.users)

    def _statements(
        self,
        roles: Mapping[str, Role],
        new: str,
        old: str | None,
        verifier: Secret,
        ctx: StepContext,
    ) -> list[sql.Composed]:
        existing = roles.get(new)
        statements = [_set_password(new, verifier, exists=existing is not None)]
        if existing is None:
            statements.append(_comment(new, Mark(secret=ctx.secret, rotation=ctx.rotation_id)))
        else:
            self._require_ours(existing, ctx)
        return [*statements, *self._copied(roles, new, old)]

    def _farewell(self, old: str) -> list[str]:
        return [f"ALTER ROLE {sql.Identifier(old).as_string(None)} NOLOGIN PASSWORD NULL"]


class SingleUser(_Login):
    """One login whose password changes in place (no overlap)."""

    overlaps: bool = False

    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:
        """Return the same login with another password."""
        name = same_login(current, self._options.username)
        check_name(name)
        return candidate(name, current, ctx)

    def revoke(self, old: Credential, ctx: StepContext) -> None:
        """Nothing: the old password stopped working when the new one was set."""

    def withdraw(self, new: Credential, ctx: StepContext) -> None:
        """Set the current password again; drop the login when this rotation made it."""
        current = ctx.current
        with self._server.admin(f"withdrawing login {new.username!r}") as admin:
            role = look(admin, [new.username]).get(new.username)
            if role is None:
                return
            if current is not None:
                if current.username == role.name:
                    self._require_ours(role, ctx)
                    verifier = self._server.verifier(admin, current)
                    ctx.require_time()
                    _ = admin.execute(
                        _set_password(role.name, verifier, exists=True, may_log_in=role.can_login)
                    )
            elif role.mark == Mark(secret=ctx.secret, rotation=ctx.rotation_id):
                ending.close(self._server, admin, role, ctx, end_sessions=True)
                ending.drop(self._server, admin, role, ctx, heir=self._options.group)

    def _check(self, options: SecretOptions) -> None:
        _ = options

    def _statements(
        self,
        roles: Mapping[str, Role],
        new: str,
        old: str | None,
        verifier: Secret,
        ctx: StepContext,
    ) -> list[sql.Composed]:
        existing = roles.get(new)
        if existing is not None:
            self._require_ours(existing, ctx)
            return [_set_password(new, verifier, exists=True, may_log_in=existing.can_login)]
        if new == old:
            # Made anew it would have none of its rights, and nothing to compare it with.
            raise Conflict(
                f"{self._server.where} has no login {new!r}.",
                hint="Was it dropped? Create it again with its rights and the password that the backend serves.",
            )
        statements = [_set_password(new, verifier, exists=False)]
        mark = Mark(secret=ctx.secret, rotation=ctx.rotation_id)
        return [*statements, _comment(new, mark), *self._copied(roles, new, old)]

    def _farewell(self, old: str) -> list[str]:
        return [f"(nothing: the old password of {old!r} stopped working at create)"]


STRATEGIES: Final[dict[str, type[NewUser | AlternatingUsers | SingleUser]]] = {
    "new-user": NewUser,
    "alternating-users": AlternatingUsers,
    "single-user": SingleUser,
}


def _set_password(
    name: str, verifier: Secret, *, exists: bool, may_log_in: bool = False
) -> sql.Composed:
    # A verifier instead of the password: nothing that could be used to log in is ever in the
    # statement, so neither pg_stat_activity nor the server's log can show it. A login may change
    # its own password, but not say that it may log in.
    return sql.SQL("{} ROLE {} WITH {}PASSWORD {}").format(
        sql.SQL("ALTER" if exists else "CREATE"),
        sql.Identifier(name),
        sql.SQL("" if may_log_in else "LOGIN "),
        sql.Literal(verifier.reveal()),
    )


def _comment(name: str, mark: Mark) -> sql.Composed:
    return sql.SQL("COMMENT ON ROLE {} IS {}").format(
        sql.Identifier(name), sql.Literal(mark.text())
    )
