"""The engine's own login on a database: its password is drawn, set and kept by the engine, unseen.

Nobody is shown that password, so what can be proven is that the engine gets in with it, that a wrong
one does not, and that the one from before the first rotation, where it is known, does not any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rotations.vault_database.engine import LockedOut
from rotations.vault_database.roles import admin_in_the_way
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
    Version,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from rotations.vault_database.engine import Engine
    from rotations.vault_database.options import SecretOptions
    from rotator.api import StepContext

SUMMARY: Final = "the engine changes the password of its own login, and reveals it to nobody"
_APPLICATIONS: Final = (
    "Applications are safe: the passwords of static roles are still valid. Until then this"
    " connection can rotate nothing and create no dynamic logins."
)


class RootLogins(DelegatedBackend):
    """The logins of connections. The engine tells no version of them: each keeps one, without an end."""

    def __init__(self, engine: Engine, options: SecretOptions) -> None:
        """Nothing is connected yet."""
        self._engine: Engine = engine
        self._options: SecretOptions = options

    def current(self, path: str) -> Version | None:
        """Return the login; its password is empty, as only the engine knows it."""
        login = self._engine.root_login(path)
        credential = Credential(username=login, password=Secret(""))
        return Version(id=f"{path}/{login}", credential=credential)

    def request_rotation(self, path: str, rotation_id: str, *, expect: str | None) -> str:
        """Have it changed. Asked again it is changed again, which nobody notices."""
        _ = rotation_id, expect
        login = self._engine.root_login(path)
        problem = self._in_the_way(path, login)
        if problem is not None:
            raise problem
        try:
            self._engine.rotate_root(path)
        except LockedOut as error:
            error.safety = _APPLICATIONS
            raise
        return f"{path}/{login}"

    def examine(self, paths: Mapping[str, timedelta | None]) -> list[Finding]:
        """Look at rights, and at who else uses this login."""
        found: list[Finding] = []
        for path in paths:
            subject = f"target {self._engine.name}, connection {path}"
            wanted = {one.path: one.capabilities for one in self._wanted(path)}
            for place, lacks in self._engine.missing(wanted):
                message = f"the token lacks {' and '.join(lacks)} on {place}"
                remedy = (
                    "Grant it the policy that this command prints: rotator policy"
                    f" {self._engine.through}"
                )
                found.append(_finding(Severity.ERROR, subject, message, remedy))
            login = self._engine.root_login(path)
            problem = self._in_the_way(path, login)
            if problem is not None:
                found.append(_finding(Severity.ERROR, subject, problem.what, problem.hint))
            if all(one.severity is Severity.OK for one in found):
                message = f"uses login {login!r}"
                found.append(_finding(Severity.OK, subject, message))
        return found

    def _wanted(self, path: str) -> tuple[Right, ...]:
        return rights(self._engine.mount, path, recover=self._options.recover)

    def _in_the_way(self, path: str, login: str) -> Denied | None:
        for name in self._engine.roles():
            role = self._engine.role(name)
            if role.login == login and role.connection == path:
                return Denied(
                    f"the root login {login!r} of connection {path!r} is also a static role"
                    f" ({name!r}): each rotation of one breaks the other.",
                    hint=f"Remove the static role first: bao delete {self._engine.mount}/static-roles/{name}",
                    safety="Nothing was changed.",
                )
        return admin_in_the_way(self._engine, self._options.logs_in_on, login)


class Root(DelegatedRotation):
    """How a password is tried that nobody is shown: by the engine itself."""

    def __init__(self, engine: Engine, options: SecretOptions) -> None:
        """Nothing is connected yet."""
        self._engine: Engine = engine
        self._options: SecretOptions = options

    def verify(self, new: Credential, ctx: StepContext) -> Evidence:
        """Have the engine connect anew, and try the password from before the first rotation."""
        if not self.probe(new, ctx):
            raise Refused(
                f"the engine cannot log in as {new.username!r} with the password that it stores."
            )
        checks = [Check(name=f"the engine connects as {new.username}", ok=True)]
        if self._options.initial is not None:
            password = self._engine.others.resolve(self._options.initial)
            first = Credential(username=new.username, password=password)
            refused = not self.probe(first, ctx)
            checks.append(
                Check(
                    name=f"its first password is refused on {self._options.logs_in_on}",
                    ok=refused,
                    detail="" if refused else "it is still accepted",
                )
            )
        return Evidence(checks=tuple(checks))

    def probe(self, credential: Credential, ctx: StepContext) -> bool:
        """Log in on the database; with the engine's own password the engine does."""
        if credential.password.reveal():
            return self._engine.logins(self._options.logs_in_on).probe(credential, ctx)
        try:
            self._engine.connects(ctx.path)
        except LockedOut:
            return False
        return True

    def repair(self, current: Credential, ctx: StepContext) -> None:
        """Give the engine and its login one password again, where the options allow it.

        The engine keeps it first, and the database hears of it then: cut off between the two, the
        engine is locked out as before, and the next try draws another one.
        """
        if not self._options.recover:
            return
        database = self._engine.others.passwords(self._options.logs_in_on)
        new = Credential(username=current.username, password=ctx.new_password())
        ctx.log.warning("locked out", secret=ctx.secret, login=current.username)
        ctx.require_time()
        self._engine.keep(ctx.path, new.password)
        database.set_password(new, ctx)

    def explain(self, current: Credential | None, ctx: StepContext) -> list[Planned]:
        """Say what the engine is asked."""
        login = f" {current.username!r}" if current else ""
        text = (
            f"POST {self._engine.mount}/rotate-root/{ctx.path}: the engine generates a"
            f" password, sets it for its own login{login} and stores it"
        )
        tried = "have the engine reconnect with the password that it stores"
        old = (
            (
                f"log in on {self._options.logs_in_on} with its first password and require that it"
                " is rejected"
            )
            if self._options.initial is not None
            else "nothing: only the engine knows the previous password"
        )
        return [
            Planned(step=Step.REQUEST, text=text),
            Planned(step=Step.PROVE, text=tried),
            Planned(step=Step.REVOKE, text=old),
        ]


def rights(mount: str, connection: str, *, recover: bool) -> tuple[Right, ...]:
    """Return what rotating the root login of a connection needs."""
    return (
        Right(
            path=f"{mount}/config/{connection}",
            capabilities=("read", "update") if recover else ("read",),
            why="the engine's own login"
            + (", and setting its password in the engine after a lockout" if recover else ""),
        ),
        Right(
            path=f"{mount}/rotate-root/{connection}",
            capabilities=("update",),
            why="rotates it",
        ),
        Right(
            path=f"{mount}/reset/{connection}",
            capabilities=("update",),
            why="makes the engine reconnect, to verify its login",
        ),
        Right(
            path=f"{mount}/static-roles",
            capabilities=("list",),
            why="a root login must not be a static role",
        ),
        Right(path=f"{mount}/static-roles/+", capabilities=("read",), why="as above"),
    )


def _finding(severity: Severity, subject: str, message: str, remedy: str = "") -> Finding:
    return Finding(severity=severity, subject=subject, message=message, remedy=remedy)
