"""Static roles: the engine draws, sets and serves the password of one login."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from rotator.api import (
    Check,
    Credential,
    DelegatedBackend,
    DelegatedRotation,
    Denied,
    Evidence,
    Finding,
    Planned,
    Refused,
    Right,
    Secret,
    Severity,
    Step,
    Unknown,
    Version,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rotations.vault_database.engine import Engine, Role
    from rotations.vault_database.options import SecretOptions
    from rotator.api import StepContext

SUMMARY: Final = (
    "the engine changes the password of a static role's login in place, and serves the new one"
)


class StaticRoles(DelegatedBackend):
    """What the engine serves. A version is told by the moment of its rotation, to the nanosecond."""

    def __init__(self, engine: Engine, options: SecretOptions) -> None:
        """Nothing is connected yet."""
        self._engine: Engine = engine
        self._options: SecretOptions = options

    def current(self, path: str) -> Version | None:
        """Return what consumers read now."""
        found = self._engine.credentials(path)
        password = found.get("password")
        if not isinstance(password, str):
            raise Denied(
                f"static role {path!r} serves no password.",
                hint="rotator can rotate only roles with `credential_type` password here.",
                safety="Nothing was changed.",
            )
        stamp = str(found.get("last_vault_rotation"))
        credential = Credential(username=str(found.get("username")), password=Secret(password))
        return Version(id=stamp, credential=credential, created=_moment(stamp))

    def request_rotation(self, path: str, rotation_id: str, *, expect: str | None) -> str:
        """Have it rotated, unless that has happened since `expect` was served."""
        _ = rotation_id
        before = self.current(path)
        if before is not None and before.id != expect:
            return before.id
        problem = self._in_the_way(self._engine.role(path))
        if problem is not None:
            raise problem
        self._engine.rotate_role(path)
        after = self.current(path)
        if after is None or after.id == expect:
            # A standby may answer with what it had before.
            raise Unknown(
                f"static role {path!r} was rotated, but the engine still serves the previous"
                " password.",
                hint="The answer may come from a standby that lags behind. Set `address` to the"
                " active server.",
            )
        return after.id

    def examine(self, paths: Mapping[str, timedelta | None]) -> list[Finding]:
        """Look at rights, at whose login it is, and at who else rotates it."""
        found: list[Finding] = []
        for path, every in paths.items():
            subject = f"target {self._engine.name}, static role {path}"
            wanted = {one.path: one.capabilities for one in rights(self._engine.mount, path)}
            for place, lacks in self._engine.missing(wanted):
                message = f"the token lacks {' and '.join(lacks)} on {place}"
                remedy = (
                    "Grant it the policy that this command prints: rotator policy"
                    f" {self._engine.through}"
                )
                found.append(_finding(Severity.ERROR, subject, message, remedy))
            role = self._engine.role(path)
            problem = self._in_the_way(role)
            if problem is not None:
                found.append(_finding(Severity.ERROR, subject, problem.what, problem.hint))
            found += self._examine_schedule(subject, role, every)
            if all(one.severity is Severity.OK for one in found):
                message = f"serves login {role.login!r} of connection {role.connection!r}"
                found.append(_finding(Severity.OK, subject, message))
        return found

    def _examine_schedule(self, subject: str, role: Role, every: timedelta | None) -> list[Finding]:
        """Tell of two who rotate one login: the engine by its period, and rotator by its policy."""
        place = f"{self._engine.mount}/static-roles/{role.name}"
        keys = f"username={role.login} db_name={role.connection}"
        if role.schedule is not None:
            message = (
                f"the engine also rotates it, on its own schedule {role.schedule!r}: without"
                " rotator's windows and checks"
            )
            remedy = f"Set a long period instead: bao write {place} {keys} rotation_period=87600h"
            return [_finding(Severity.WARNING, subject, message, remedy)]
        if role.period is None or (every is not None and role.period > every.total_seconds()):
            return []
        own = _span(timedelta(seconds=role.period))
        ours = (
            f"before rotator's schedule does ({_span(every)})"
            if every
            else "and rotator's schedule never does"
        )
        message = (
            f"the engine rotates it automatically every {own}, {ours}: without rotator's"
            " windows and checks"
        )
        longer = int(2 * every.total_seconds() / 3600) + 1 if every else 87600
        remedy = f"Set a longer period: bao write {place} {keys} rotation_period={longer}h"
        return [_finding(Severity.WARNING, subject, message, remedy)]

    def _in_the_way(self, role: Role) -> Denied | None:
        """Return why this login must not be rotated as a static role."""
        login = role.login
        if login == self._engine.root_login(role.connection):
            return Denied(
                f"static role {role.name!r} has the login {login!r}, which the engine itself"
                f" uses for connection {role.connection!r}: rotating it would lock the engine"
                " out of every role there.",
                hint="Remove the static role, and rotate that login with strategy `root`: bao"
                f" delete {self._engine.mount}/static-roles/{role.name}",
                safety="Nothing was changed.",
            )
        return admin_in_the_way(self._engine, self._options.logs_in_on, login)


class StaticRole(DelegatedRotation):
    """How what a static role serves is tried: by a login on its database."""

    def __init__(self, engine: Engine, options: SecretOptions) -> None:
        """Nothing is connected yet."""
        self._engine: Engine = engine
        self._options: SecretOptions = options

    def verify(self, new: Credential, ctx: StepContext) -> Evidence:
        """Log in on the database with what is served."""
        name = f"logs in on {self._options.logs_in_on}"
        if not self.probe(new, ctx):
            raise Refused(f"{self._options.logs_in_on} rejects login {new.username!r}.")
        return Evidence(checks=(Check(name=name, ok=True),))

    def probe(self, credential: Credential, ctx: StepContext) -> bool:
        """Log in once."""
        return self._engine.logins(self._options.logs_in_on).probe(credential, ctx)

    def explain(self, current: Credential | None, ctx: StepContext) -> list[Planned]:
        """Say what the engine is asked."""
        login = f" login {current.username!r}" if current else ""
        text = (
            f"POST {self._engine.mount}/rotate-role/{ctx.path}: the engine generates a"
            f" password, sets it for{login} and serves it"
        )
        tried = (
            f"log in on {self._options.logs_in_on} with the served password; if it is"
            " rejected, ask again"
        )
        old = (
            f"log in on {self._options.logs_in_on} with the previous password and require that"
            " it is rejected"
        )
        return [
            Planned(step=Step.REQUEST, text=text),
            Planned(step=Step.PROVE, text=tried),
            *([Planned(step=Step.REVOKE, text=old)] if current else []),
        ]


def rights(mount: str, role: str) -> tuple[Right, ...]:
    """Return what rotating a static role needs."""
    return (
        consumers(mount, role),
        Right(path=f"{mount}/rotate-role/{role}", capabilities=("update",), why="rotates it"),
        Right(path=f"{mount}/static-roles/{role}", capabilities=("read",), why="whose login it is"),
        Right(
            path=f"{mount}/config/+",
            capabilities=("read",),
            why="the engine's own login, which must not be a static role",
        ),
    )


def consumers(mount: str, role: str) -> Right:
    """Return what an application needs."""
    return Right(path=f"{mount}/static-creds/{role}", capabilities=("read",), why="the credential")


def admin_in_the_way(engine: Engine, database: str, login: str) -> Denied | None:
    """Return why a login that rotator itself works by must not be rotated by the engine."""
    if login not in engine.others.admins(database):
        return None
    return Denied(
        f"login {login!r} is the admin that rotator itself uses for {database!r} or its"
        " server: the engine would set a password that rotator does not know.",
        hint="Configure a separate admin login for that target.",
        safety="Nothing was changed.",
    )


def _span(span: timedelta) -> str:
    """Return a span of time in days or hours, whichever says it."""
    days, rest = divmod(span, timedelta(days=1))
    return f"{days} d" if days and not rest else f"{span / timedelta(hours=1):g} h"


def _moment(stamp: str) -> datetime | None:
    """Return a time of Go's, which has up to nine digits behind the point."""
    short = re.sub(r"\.(\d{1,6})\d*", lambda found: f".{found[1]:0<6}", stamp)
    try:
        return datetime.fromisoformat(short)
    except ValueError:
        return None


def _finding(severity: Severity, subject: str, message: str, remedy: str = "") -> Finding:
    return Finding(severity=severity, subject=subject, message=message, remedy=remedy)
