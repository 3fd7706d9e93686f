"""Rotations of one login by the plugin itself: no engine, no backend, so that thousands are cheap."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from rotations.postgresql import PLUGIN
from rotations.postgresql.options import SecretOptions, TargetOptions
from rotator.api import Credential, Secret
from rotator.system import SystemClock, SystemEntropy
from rotator.testing.fakes import step_context

if TYPE_CHECKING:
    from rotator.api import Evidence, Finding, Planned, StepContext
    from rotator.testing.postgres import ScratchPostgres

FIRST: Final = "there-before-us"
_numbers = itertools.count(1)


class Turns:
    """A login that was there before us, adopted, and rotated as often as one likes.

    `current` is what the application has: it changes where the engine would publish.
    """

    def __init__(
        self,
        server: ScratchPostgres,
        strategy: str,
        login: str,
        *,
        dbname: str,
        admin: Credential | None = None,
        password: str = FIRST,
        adopted: frozenset[str] = frozenset(),
        **options: Any,
    ) -> None:
        self.server = server
        self.dbname = dbname
        self.current = Credential(username=login, password=Secret(password))
        self.before: Credential | None = None
        self._adopted = adopted | {login}
        who = admin or Credential(username="postgres", password=Secret(server.superuser_password))
        target = TargetOptions(host=server.host, port=server.port, dbname=dbname)
        self._target = PLUGIN.target("main", target, lambda: who)
        self.rotation = self._target.rotation(strategy, SecretOptions(**options))
        self._ctx = self._next()

    def close(self) -> None:
        self._target.close()

    def propose(self) -> Credential:
        """Begin a rotation."""
        self._ctx = self._next()
        return self.rotation.propose(self.current, self._ctx)

    def create(self, proposed: Credential | None = None, *, fenced: bool = False) -> Credential:
        """Create the next login, a proposed one or one of its own; nothing is published yet."""
        new = proposed or self.propose()
        self._ctx = replace(self._ctx, fenced=fenced)
        self.rotation.create(new, self._ctx)
        return new

    def verify(self, new: Credential) -> Evidence:
        return self.rotation.verify(new, self._ctx)

    def publish(self, new: Credential) -> None:
        self.before, self.current = self.current, new
        self._ctx = self._next(self._ctx.rotation_id)

    def revoke(self, *, end_sessions: bool = True) -> None:
        assert self.before is not None
        ctx = self._next(self._ctx.rotation_id, end_sessions=end_sessions)
        self.rotation.revoke(self.before, ctx)
        if self.rotation.overlaps:
            assert not self.rotation.probe(self.before, ctx), "the old password is accepted"

    def rotate(self, *, revoke: bool = True) -> Evidence:
        new = self.create()
        evidence = self.verify(new)
        self.publish(new)
        if revoke:
            self.revoke()
        return evidence

    def withdraw(self, new: Credential) -> None:
        self.rotation.withdraw(new, self._ctx)

    def explain(self) -> list[Planned]:
        return self.rotation.explain(self.current, self._next())  # pyright: ignore[reportAttributeAccessIssue]

    def examine(self) -> list[Finding]:
        return self.rotation.examine(self.current, self._next())  # pyright: ignore[reportAttributeAccessIssue]

    def connect(self, dbname: str | None = None):
        """Log in as the application does."""
        return self.server.connect(
            dbname or self.dbname, self.current.username, self.current.password.reveal()
        )

    def ask(self, query: str, dbname: str | None = None) -> list[tuple]:
        with self.connect(dbname) as link:
            return link.execute(query.encode()).fetchall()

    def server_state(self) -> list[tuple[Any, ...]]:
        """Return all roles, memberships, settings and dependences: what a refusal leaves alone."""
        with self.server.connect(self.dbname) as admin:
            return [
                row
                for catalog in ("pg_authid", "pg_auth_members", "pg_db_role_setting", "pg_shdepend")
                for row in admin.execute(
                    f"SELECT t::text FROM {catalog} t ORDER BY 1".encode()
                ).fetchall()
            ]

    def ctx(self) -> StepContext:
        return self._next(self._ctx.rotation_id)

    def _next(self, rotation: str | None = None, *, end_sessions: bool = False) -> StepContext:
        return step_context(
            secret="profile",
            rotation_id=rotation or f"00000000-0000-4000-8000-{next(_numbers):012}",
            current=self.current,
            clock=SystemClock(),
            entropy=SystemEntropy(),
            adopted=self._adopted,
            end_sessions=end_sessions,
        )
