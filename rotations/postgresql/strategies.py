"""The three strategies: which login comes next, and how the old one goes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg import sql

from rotations.postgresql import (
    comparison,
    containment,
    drop_role,
    effective_rights,
    login_check,
    login_pair,
    passwords,
    preflight,
    profile,
    profile_transfer,
)
from rotations.postgresql.connection import BoundedConnection, NotConnected
from rotations.postgresql.errors import brief
from rotations.postgresql.options import check_name, parse_privileges
from rotations.postgresql.preconditions import require_none
from rotations.postgresql.roles import Mark, look, sessions
from rotations.postgresql.server import NO_STANDBY, Lost
from rotator.api import (
    MASK,
    Check,
    Conflict,
    Credential,
    Evidence,
    Finding,
    Planned,
    Refused,
    Secret,
    Severity,
    Step,
    StepError,
    Transient,
    Unavailable,
    Unknown,
    UsageError,
    candidate,
    next_of_pair,
    not_ours,
    own_login,
    passed,
    password_of_nobody,
    require_not_current,
    require_pair,
    same_login,
    successor,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from rotations.postgresql.options import SecretOptions
    from rotations.postgresql.preconditions import Obstacle
    from rotations.postgresql.profile import Profile
    from rotations.postgresql.profile_transfer import LoginPair
    from rotations.postgresql.roles import Role
    from rotations.postgresql.server import Connection, Server
    from rotator.api import Entrance, Rejection, Session, StepContext


class _Login:
    """What the strategies share. Satisfies `Rotation`, `CountsSessions`, `Explains`, `Examines`."""

    overlaps: bool = True
    # Whether the role of an old login is kept.
    stays: bool = False

    def __init__(self, server: Server, options: SecretOptions) -> None:
        """`options` are checked for what this strategy needs; nothing is connected."""
        self._server: Server = server
        self._options: SecretOptions = options
        self._privileges = parse_privileges(options.privileges)
        self._check(options)

    def probe(self, credential: Credential, ctx: StepContext) -> bool:
        """Log in once and hang up."""
        accepted = login_check.accepts(self._server, credential, self._options, ctx)
        for reader in self._server.readers:
            login_check.follow(reader, credential, self._options, ctx, wanted=accepted)
        return accepted

    def rejection(self, credential: Credential, ctx: StepContext) -> Rejection | None:
        """Return why the server rejects a login, by its answer and its catalog."""
        return login_check.rejection(self._server, credential, self._options, ctx)

    def verify(self, new: Credential, ctx: StepContext) -> Evidence:
        """Log in as `new`, try its work, compare it with the current login."""
        evidence = self._proof(new, ctx)
        for reader in self._server.readers:
            login_check.follow(reader, new, self._options, ctx, wanted=True)
        on_readers = [
            Check(name=f"login at {reader.options.host}", ok=True, detail="authenticated")
            for reader in self._server.readers
        ]
        return Evidence(checks=(*evidence.checks, *on_readers))

    def _proof(self, new: Credential, ctx: StepContext) -> Evidence:
        connection = login_check.log_in(self._server, new, self._options, ctx)
        old = ctx.current.username if ctx.current else None
        try:
            with self._server.admin("comparing the new login with the old one", ctx) as admin:
                case = self._case(admin, new.username, old, lent=ctx.lasts is not None)
                kind = passwords.wanted(self._options, case.old)
                names = [one for one in (new.username, old, self._options.group) if one]
                rights = effective_rights.proof(
                    case,
                    effective_rights.read(admin, names),
                    handed_over=new.username in ctx.adopted,
                )
                checks = comparison.compare(connection, case, kind, rights)
            checks += comparison.try_work(
                connection, self._server.where, self._privileges, self._options.probes
            )
        finally:
            connection.close()
        return passed(new.username, checks)

    def sessions(self, login: str, ctx: StepContext) -> list[Session]:
        """Return who is still logged in as `login`."""
        found: list[Session] = []
        for server in (self._server, *self._server.readers):
            with server.admin(f"reading the sessions of {login!r}", ctx) as admin:
                found += [session for _, session in sessions(admin, login)]
        return found

    def explain(self, current: Credential | None, ctx: StepContext) -> list[Planned]:
        """Return the statements that a rotation would send, passwords masked."""
        new = self.propose(current, ctx)
        old = current.username if current else None
        with self._server.admin("planning", ctx) as admin:
            self._require_ready(admin, new)
            case = self._case(admin, new.username, old)
            require_none(self._server.where, self._obstacles(case))
            create = self._statements(case, Secret(MASK), ctx)
            planned = [Planned(step=Step.CREATE, text=one.as_string(admin)) for one in create]
            planned += [
                Planned(
                    step=Step.CREATE,
                    text=f"in database {one.database}: {one.statement.as_string(admin)}",
                )
                for one in profile_transfer.changes(case)
                if one.database is not None
            ]
            rehashed = passwords.change(self._options, case.old)
            if rehashed is not None:
                planned.append(Planned(step=Step.CREATE, text=f"({rehashed})"))
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
        from rotations.postgresql import doctor  # noqa: PLC0415 # only `doctor` needs it

        login = None if self.overlaps or current is None else current.username
        return [
            *doctor.findings(self._server, self._options, current, ctx, in_place=login),
            *self._foreseen(current, ctx),
        ]

    def _foreseen(self, current: Credential | None, ctx: StepContext) -> list[Finding]:
        """Return what would refuse the next rotation, and what it would change."""
        subject = f"login {current.username!r}" if current else f"target {self._server.name}"
        try:
            new = self.propose(current, ctx)
            with self._server.admin("comparing logins", ctx) as admin:
                case = self._case(admin, new.username, current.username if current else None)
        except StepError:
            return []  # examine.findings has it
        rehashed = passwords.change(self._options, case.old)
        return [
            *(
                Finding(
                    severity=Severity.ERROR,
                    subject=subject,
                    message=f"{one.kind}: {one.cause}",
                    remedy=one.remedy,
                )
                for one in self._obstacles(case)
            ),
            *(
                [Finding(severity=Severity.WARNING, subject=subject, message=rehashed)]
                if rehashed is not None
                else []
            ),
        ]

    def close_login(self, login: Credential, ctx: StepContext) -> None:
        """Let nobody in as `login` any more. The role stays: it may own objects."""
        with self._server.admin(f"ending login {login.username!r}") as admin:
            role = look(admin, [login.username]).get(login.username)
            if role is None:
                return
            self._require_ours(role, ctx)
            drop_role.close(
                self._server, admin, role, ctx, end_sessions=ctx.end_sessions, stays=True
            )

    def moment(self, ctx: StepContext) -> str:
        """Return now by the clocks of the server and its replicas."""
        return containment.moment(self._server, ctx)

    def fence(self, leaked: Credential, ctx: StepContext) -> str:
        """Replace the password by one that nobody knows; the role stays as it is otherwise."""
        return containment.fence(self._server, self._options, leaked, ctx, self._require_ours)

    def end_sessions(self, login: str, before: str, ctx: StepContext) -> list[Session]:
        """End the sessions of `login` whose server process began before that moment."""
        return containment.end_sessions(self._server, login, before, ctx)

    def entrances(
        self, leaked: Credential, current: Credential | None, ctx: StepContext
    ) -> list[Entrance]:
        """Try the passwords at the server, its replicas and the further addresses."""
        return containment.entrances(self._server, self._options, leaked, current, ctx)

    # -- what a strategy says ------------------------------------------------------------------

    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:
        """Return the next credential."""
        raise NotImplementedError

    def _check(self, options: SecretOptions) -> None:
        raise NotImplementedError

    def _statements(
        self, case: LoginPair, verifier: Secret, ctx: StepContext
    ) -> list[sql.Composed]:
        raise NotImplementedError

    def _farewell(self, old: str) -> list[str]:
        raise NotImplementedError

    # -- what they have in common --------------------------------------------------------------

    def create(self, new: Credential, ctx: StepContext) -> None:
        """Make the login accept the new password: one transaction."""
        if "\0" in new.password.reveal() or not new.password.reveal():
            raise Refused("a PostgreSQL password must not be empty or contain NUL.")
        old = ctx.current.username if ctx.current else None
        doing = f"creating login {new.username!r}"
        with self._server.step(doing, ctx) as admin:
            self._require_ready(admin, new)
            case = self._case(admin, new.username, old, lent=ctx.lasts is not None)
            self._require_ours(case.new, ctx)
            # A writer of the backend could name any role there, and get its rights.
            self._require_ours(case.source, ctx)
            # Whoever closed a login that leaked wants another one all the same.
            replaces = ctx.fenced and self.overlaps
            found = [
                one for one in self._obstacles(case) if not (replaces and one.kind == "closed")
            ]
            require_none(self._server.where, found)
            kind = passwords.wanted(self._options, case.old)
            statements = self._statements(case, passwords.verifier(admin, new, kind), ctx)
            if ctx.lasts is not None:
                statements.append(_expires(admin, new.username, ctx.lasts))
            ctx.require_time()
            self._change(admin, statements, case, new, ctx)
            inside = [one for one in profile_transfer.changes(case) if one.database is not None]
            login_pair.carry(self._server, admin, inside, ctx, doing)

    def _change(
        self,
        admin: BoundedConnection,
        statements: Sequence[sql.Composed],
        case: LoginPair,
        new: Credential,
        ctx: StepContext,
    ) -> None:
        """Send the statements in one message: they take effect together or not at all."""
        _ = case, new, ctx
        _ = admin.execute(sql.SQL("; ").join(statements))

    def _require_ready(self, admin: BoundedConnection, new: Credential) -> None:
        in_place = None if self.overlaps else new.username
        preflight.require_ready(self._server, admin, in_place, dbname=self._options.login_dbname)

    def _case(
        self, admin: Connection, new: str, old: str | None, *, lent: bool = False
    ) -> LoginPair:
        return login_pair.read(
            self._server,
            admin,
            name=new,
            old=old,
            group=self._options.group,
            stays=self.stays,
            overlaps=self.overlaps,
            new_expiry=lent or self._options.valid_days is not None,
        )

    def _obstacles(self, case: LoginPair) -> list[Obstacle]:
        """Return what keeps a rotation from ending well, known before its first statement."""
        return [*profile_transfer.closed(case), *profile_transfer.obstacles(case)]

    def _require_ours(self, role: Role | Profile | None, ctx: StepContext) -> None:
        """P9: what rotator did not create or adopt is not touched."""
        if role is not None and not self._is_ours(role, ctx):
            raise not_ours(f"role {role.name!r}", role.name, ctx, pair=self._options.users)

    def _is_ours(self, role: Role | Profile, ctx: StepContext) -> bool:
        """Return whether rotator made or adopted a role for this secret; raise for another secret's."""
        if (role.mark is not None and role.mark.secret in ctx.names) or role.name in ctx.adopted:
            return True
        if role.mark is not None:
            raise not_ours(f"role {role.name!r}", role.name, ctx, owner=role.mark.secret)
        return False

    def _inherited(self, case: LoginPair) -> list[sql.Composed]:
        """Return the statements that make the next login equal the old one, in the cluster as a whole."""
        return [one.statement for one in profile_transfer.changes(case) if one.database is None]

    def _password(
        self, case: LoginPair, verifier: Secret, ctx: StepContext, *, may_log_in: bool = False
    ) -> sql.Composed:
        days = self._options.valid_days
        return _set_password(
            case.name,
            verifier,
            exists=case.new is not None,
            may_log_in=may_log_in,
            until=ctx.clock.now() + timedelta(days=days) if days is not None else None,
        )

    def _mark(self, case: LoginPair, ctx: StepContext) -> sql.Composed:
        note = case.source.note if case.source is not None else None
        mark = Mark(secret=ctx.secret, rotation=ctx.rotation_id, note=note)
        return _comment(case.name, mark)

    def _end(self, admin: Connection, old: Role, ctx: StepContext) -> None:
        """Drop an old login. What others have through it they have through the current one from then on."""
        current, group = ctx.current.username if ctx.current else None, self._options.group
        if current is not None:
            case = self._case(admin, current, old.name)
            if case.new is not None:
                kept = profile_transfer.to_others(case)
                login_pair.carry(self._server, admin, kept, ctx, f"revoking login {old.name!r}")
        drop_role.drop(self._server, admin, old, ctx, heir=group)


class NewUser(_Login):
    """A fresh login per rotation, member of a group role that owns everything."""

    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:
        """Draw a login name that is free."""
        with self._server.admin("generating a login name", ctx) as admin:
            while True:
                base = self._options.prefix or self._options.group or ""
                name = successor(base, ctx.entropy)
                if not look(admin, [name]):
                    break
        return candidate(name, current, ctx)

    def close_login(self, login: Credential, ctx: StepContext) -> None:
        """End it as a revoke would: the group inherits what it owns."""
        self.revoke(login, ctx)

    def expire(self, login: Credential, ctx: StepContext) -> None:
        """Let the server reject the login from then on, by its own clock."""
        with self._server.step(f"moving the end of login {login.username!r}", ctx) as admin:
            role = look(admin, [login.username]).get(login.username)
            if role is None:
                raise Conflict(f"{self._server.where} no longer has login {login.username!r}.")
            self._require_ours(role, ctx)
            if ctx.lasts is not None:
                ctx.require_time()
                _ = admin.execute(_expires(admin, role.name, ctx.lasts))

    def revoke(self, old: Credential, ctx: StepContext) -> None:
        """Refuse new logins, wait for the sessions, hand over what it owns, drop it."""
        with self._server.step(f"revoking login {old.username!r}", ctx) as admin:
            role = look(admin, [old.username]).get(old.username)
            if role is None:
                return
            self._require_ours(role, ctx)
            require_not_current(role.name, ctx)
            # The file may name another group by now: the one that is served acts through its own.
            stays = role.name == self._options.group or _is_member(admin, ctx.current, role)
            drop_role.close(
                self._server, admin, role, ctx, end_sessions=ctx.end_sessions, stays=stays
            )
            if not stays:
                self._end(admin, role, ctx)

    def withdraw(self, new: Credential, ctx: StepContext) -> None:
        """Drop the login that this rotation made, if it did."""
        with self._server.step(f"withdrawing login {new.username!r}", ctx) as admin:
            role = look(admin, [new.username]).get(new.username)
            if role is None or role.mark != Mark(secret=ctx.secret, rotation=ctx.rotation_id):
                return
            require_not_current(role.name, ctx)
            drop_role.close(self._server, admin, role, ctx, end_sessions=True, stays=False)
            drop_role.drop(self._server, admin, role, ctx, heir=self._options.group)

    def _check(self, options: SecretOptions) -> None:
        if options.group is None:
            raise UsageError(
                "strategy new-user requires `group`: the role that owns the objects and holds"
                " the grants.",
                hint="An existing login can become the group: set `group` to that login, and adopt"
                " the secret.",
            )

    def _statements(
        self, case: LoginPair, verifier: Secret, ctx: StepContext
    ) -> list[sql.Composed]:
        return [
            self._password(case, verifier, ctx),
            self._mark(case, ctx),
            *self._inherited(case),
        ]

    def _farewell(self, old: str) -> list[str]:
        name = sql.Identifier(old).as_string(None)
        close = f"ALTER ROLE {name} NOLOGIN PASSWORD NULL"
        if old == self._options.group:
            return [close, f"(role {name} remains, as the group)"]
        heir = sql.Identifier(self._options.group or "").as_string(None)
        hand_over = f"REASSIGN OWNED BY {name} TO {heir}; DROP OWNED BY {name}"
        return [
            close,
            f"in every database where it owns something: {hand_over}",
            f"DROP ROLE {name}",
        ]


class AlternatingUsers(_Login):
    """Two fixed logins that take turns."""

    stays: bool = True

    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:
        """Return the other of the two."""
        return candidate(next_of_pair(self._options.users, current), current, ctx)

    def unmanaged(self, current: Credential, ctx: StepContext) -> str | None:
        """Return the other login, where it exists and is not ours."""
        other = next_of_pair(self._options.users, current)
        with self._server.admin(f"checking login {other!r}") as admin:
            role = look(admin, [other]).get(other)
        return None if role is None or self._is_ours(role, ctx) else other

    def revoke(self, old: Credential, ctx: StepContext) -> None:
        """Take its password and its right to log in; the role waits for its next turn."""
        with self._server.step(f"revoking login {old.username!r}", ctx) as admin:
            role = look(admin, [old.username]).get(old.username)
            if role is None:
                return
            self._require_ours(role, ctx)
            require_not_current(role.name, ctx)
            drop_role.close(
                self._server, admin, role, ctx, end_sessions=ctx.end_sessions, stays=True
            )

    def withdraw(self, new: Credential, ctx: StepContext) -> None:
        """Put the other login back to waiting; drop it when this rotation made it."""
        with self._server.step(f"withdrawing login {new.username!r}", ctx) as admin:
            role = look(admin, [new.username]).get(new.username)
            ours = role is not None and (
                role.name in ctx.adopted
                or (role.mark is not None and role.mark.secret in ctx.names)
            )
            if role is None or not ours or (ctx.current and ctx.current.username == role.name):
                return
            drop_role.close(self._server, admin, role, ctx, end_sessions=True, stays=True)
            if role.mark == Mark(secret=ctx.secret, rotation=ctx.rotation_id):
                heir = self._options.group or (ctx.current.username if ctx.current else None)
                drop_role.drop(self._server, admin, role, ctx, heir=heir)

    def _check(self, options: SecretOptions) -> None:
        require_pair(options.users)

    def _statements(
        self, case: LoginPair, verifier: Secret, ctx: StepContext
    ) -> list[sql.Composed]:
        made = [self._mark(case, ctx)] if case.new is None else []
        return [self._password(case, verifier, ctx), *made, *self._inherited(case)]

    def _farewell(self, old: str) -> list[str]:
        return [f"ALTER ROLE {sql.Identifier(old).as_string(None)} NOLOGIN PASSWORD NULL"]


class SingleUser(_Login):
    """One login whose password changes in place (no overlap)."""

    overlaps: bool = False
    stays: bool = True

    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:
        """Return the same login with another password."""
        name = same_login(current, self._options.username)
        check_name(name)
        return candidate(name, current, ctx)

    def revoke(self, old: Credential, ctx: StepContext) -> None:
        """Nothing: the old password stopped working when the new one was set."""

    def create(self, new: Credential, ctx: StepContext) -> None:
        """Set the new password, and prove it; where it cannot be proven, set the current one again."""
        try:
            super().create(new, ctx)
        except Lost as lost:
            current = ctx.current
            if current is None or current.username != new.username or ctx.fenced:
                raise
            try:
                # It writes only where the current password is rejected.
                self.withdraw(new, ctx)
            except StepError:
                raise lost from None
            what = f"{lost.what} The current password is valid."
            raise Transient(what, hint=lost.hint) from lost

    def _change(
        self,
        admin: BoundedConnection,
        statements: Sequence[sql.Composed],
        case: LoginPair,
        new: Credential,
        ctx: StepContext,
    ) -> None:
        current = ctx.current
        if current is None or current.username != new.username:
            super()._change(admin, statements, case, new, ctx)
            return
        if ctx.fenced:
            current = replace(current, password=password_of_nobody(ctx))
        # Made beforehand: once the new password is set, every moment counts.
        kind = (case.old.password if case.old is not None else None) or passwords.SCRAM
        back = _set_password(
            current.username,
            passwords.verifier(admin, current, kind),
            exists=True,
            may_log_in=True,
        )
        if not ctx.fenced:
            self._require_able(current, ctx)
        super()._change(admin, statements, case, new, ctx)
        unproven = self._unproven(admin, new, ctx)
        if unproven is not None and ctx.fenced and new.username == admin.info.user:
            # A password of nobody would lock rotator out.
            raise unproven
        if unproven is not None:
            # No standby is waited for.
            here = sql.SQL("SET LOCAL synchronous_commit TO local")
            try:
                _ = admin.execute(sql.SQL("; ").join([here, back]))
            except psycopg.Error as error:
                raise Unknown(
                    f"{unproven.what} The current password could not be restored: {brief(error)}",
                    hint=unproven.hint,
                ) from error
            raise unproven

    def _require_able(self, current: Credential, ctx: StepContext) -> None:
        """Try the login's work before its password changes: afterwards a login is all that is tried."""
        connection = self._server.attempt(current, self._options.login_dbname, ctx)
        if isinstance(connection, NotConnected):
            return  # what is served is rejected already: that is why somebody rotates
        try:
            checks = comparison.try_work(
                connection, self._server.where, self._privileges, self._options.probes
            )
        finally:
            connection.close()
        missing = ", ".join(f"{one.name} ({one.detail})" for one in checks if not one.ok)
        if missing:
            raise Refused(
                f"login {current.username!r} fails its checks with the current password too,"
                f" so rotator did not change it: {missing}."
            )

    def _unproven(
        self, admin: BoundedConnection, new: Credential, ctx: StepContext
    ) -> StepError | None:
        """Return why the new password cannot be proven right after it was set; None where it was."""
        if admin.cancelled:
            return Unavailable(
                f"{self._server.where}: no standby confirmed the new password in time.",
                hint=NO_STANDBY,
            )
        try:
            accepted = self._accepts(new, ctx)
        except StepError as error:
            return error
        return None if accepted else Refused(f"{self._server.where} rejects the new password.")

    def _proof(self, new: Credential, ctx: StepContext) -> Evidence:
        """Where only a limit is used up, the password has been accepted: that is the proof."""
        try:
            return super()._proof(new, ctx)
        except Transient:
            if ctx.current is None or not self._accepts(new, ctx):
                raise
        detail = "authenticated; its connection limit is reached, so rotator checked nothing more"
        return passed(new.username, [Check(name="login", ok=True, detail=detail)])

    def _is_of_others(self, new: Credential, ctx: StepContext) -> bool:
        """Return whether the password is known not to be the new one: somebody else has set it.

        The engine passes an empty password where the new one is lost.
        """
        why = self.rejection(new, ctx) if new.password.reveal() else None
        return why is not None and why.cause == "password"

    def _accepts(self, credential: Credential, ctx: StepContext) -> bool:
        return login_check.accepts(self._server, credential, self._options, ctx)

    def withdraw(self, new: Credential, ctx: StepContext) -> None:
        """Set the current password again; drop the login when this rotation made it."""
        current = ctx.current
        with self._server.step(f"withdrawing login {new.username!r}", ctx) as admin:
            role = look(admin, [new.username]).get(new.username)
            if role is None:
                return
            if current is not None:
                if ctx.fenced:
                    if role.name == admin.info.user:
                        raise own_login(self._server.where, self._server.name, role.name)
                    current = replace(current, password=password_of_nobody(ctx))
                if current.username == role.name and not self._accepts(current, ctx):
                    self._require_ours(role, ctx)
                    if not ctx.fenced and self._is_of_others(new, ctx):
                        return
                    profiles = profile.read(admin, [role.name])
                    kind = passwords.wanted(self._options, profiles.get(role.name))
                    verifier = passwords.verifier(admin, current, kind)
                    ctx.require_time()
                    # Whoever made it NOLOGIN has closed it: that stays.
                    _ = admin.execute(
                        _set_password(role.name, verifier, exists=True, may_log_in=True)
                    )
            elif role.mark == Mark(secret=ctx.secret, rotation=ctx.rotation_id):
                drop_role.close(self._server, admin, role, ctx, end_sessions=True, stays=False)
                drop_role.drop(self._server, admin, role, ctx, heir=self._options.group)

    def _check(self, options: SecretOptions) -> None:
        _ = options

    def _statements(
        self, case: LoginPair, verifier: Secret, ctx: StepContext
    ) -> list[sql.Composed]:
        if case.new is not None:
            return [self._password(case, verifier, ctx, may_log_in=case.new.can_login)]
        if ctx.current is not None and ctx.current.username == case.name:
            # Made anew it would have none of its rights, and nothing to compare it with.
            raise Conflict(
                f"{self._server.where} has no login {case.name!r}.",
                hint="If it was dropped, create it again with its rights and the password that the"
                " backend serves.",
            )
        return [
            self._password(case, verifier, ctx),
            self._mark(case, ctx),
            *self._inherited(case),
        ]

    def _farewell(self, old: str) -> list[str]:
        return [f"(nothing: the old password of {old!r} stopped working at create)"]


_GRANTED: Final = """
SELECT FROM pg_catalog.pg_auth_members
WHERE member = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = %s)
  AND roleid = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = %s)
"""
STRATEGIES: Final[dict[str, type[NewUser | AlternatingUsers | SingleUser]]] = {
    "new-user": NewUser,
    "alternating-users": AlternatingUsers,
    "single-user": SingleUser,
}


def _set_password(
    name: str,
    verifier: Secret,
    *,
    exists: bool,
    may_log_in: bool = False,
    until: datetime | None = None,
) -> sql.Composed:
    # A verifier instead of the password: nothing that could be used to log in is ever in the
    # statement, so neither pg_stat_activity nor the server's log can show it. A login may change
    # its own password, but not say that it may log in.
    expiry = sql.SQL(" VALID UNTIL {}").format(sql.Literal(until.isoformat())) if until else None
    return sql.SQL("{} ROLE {} WITH {}PASSWORD {}{}").format(
        sql.SQL("ALTER" if exists else "CREATE"),
        sql.Identifier(name),
        sql.SQL("" if may_log_in else "LOGIN "),
        sql.Literal(verifier.reveal()),
        expiry or sql.SQL(""),
    )


def _is_member(admin: Connection, login: Credential | None, role: Role) -> bool:
    """Return whether a login was granted a role."""
    names = [login.username if login is not None else None, role.name]
    return bool(admin.execute(_GRANTED, names).fetchall())


def _expires(admin: Connection, name: str, lasts: timedelta) -> sql.Composed:
    """Return the statement that ends a login after a time, by the server's clock."""
    row = admin.execute("SELECT pg_catalog.clock_timestamp() + %s", [lasts]).fetchone()
    assert row is not None  # noqa: S101 # a query without FROM returns one row
    until: datetime = row[0]
    return sql.SQL("ALTER ROLE {} VALID UNTIL {}").format(
        sql.Identifier(name), sql.Literal(until.isoformat())
    )


def _comment(name: str, mark: Mark) -> sql.Composed:
    return sql.SQL("COMMENT ON ROLE {} IS {}").format(
        sql.Identifier(name), sql.Literal(mark.text())
    )
