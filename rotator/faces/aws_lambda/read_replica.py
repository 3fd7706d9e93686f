"""An application that reads from a replica: its login is changed where writes go, and tried where it works."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from rotator.core.contracts.rotation import (
    CountsSessions,
    ExplainsRejections,
    LocksAccounts,
    Rotation,
)
from rotator.core.errors import InUse, Transient
from rotator.core.model import Evidence
from rotator.core.replicas import agree_within

if TYPE_CHECKING:
    from rotator.core.contracts.rotation import StepContext
    from rotator.core.model import Credential, Rejection
    from rotator.core.session import Session


class OnReader(Rotation):
    """A rotation whose login is used on a reader, a moment behind the writer on which it is changed."""

    def __init__(self, writer: Rotation, reader: Rotation, host: str) -> None:
        """Both are of one plugin and strategy. `host` is the reader's name."""
        self._writer: Rotation = writer
        self._reader: Rotation = reader
        self._host: str = host

    @property
    def overlaps(self) -> bool:
        """As on the writer."""
        return self._writer.overlaps

    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:
        """As on the writer."""
        return self._writer.propose(current, ctx)

    def create(self, new: Credential, ctx: StepContext) -> None:
        """Make it on the writer; the reader follows."""
        self._writer.create(new, ctx)

    def verify(self, new: Credential, ctx: StepContext) -> Evidence:
        """Try it on both: nothing is published before the reader has it."""
        first = self._writer.verify(new, ctx)
        self._follow(new, ctx, wanted=True)
        then = self._reader.verify(new, ctx)
        there = tuple(replace(one, name=f"{one.name}, at {self._host}") for one in then.checks)
        return Evidence(checks=first.checks + there)

    def probe(self, credential: Credential, ctx: StepContext) -> bool:
        """Log in to the writer, and to the reader until it says the same. Raises `Transient` if it does not."""
        wanted = self._writer.probe(credential, ctx)
        self._follow(credential, ctx, wanted=wanted)
        return wanted

    def _follow(self, credential: Credential, ctx: StepContext, *, wanted: bool) -> None:
        """Wait until the reader says what the writer says."""
        agree_within(
            lambda: self._reader.probe(credential, ctx),
            credential.username,
            self._host,
            ctx,
            wanted=wanted,
        )

    def revoke(self, old: Credential, ctx: StepContext) -> None:
        """Close it on the writer, once nobody is logged in with it on the reader."""
        if ctx.current is None or ctx.current.username != old.username:
            left = self._sessions(self._reader, old.username, ctx)
            said = f"login {old.username!r} has {len(left)} open session(s) on {self._host}"
            if left and ctx.end_sessions:
                raise Transient(
                    f"{said}, which cannot be ended from the host that it follows.",
                    hint="End them there; for PostgreSQL: SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = ...",
                )
            if left:
                raise InUse(f"{said}.", sessions=left)
        self._writer.revoke(old, ctx)

    def withdraw(self, new: Credential, ctx: StepContext) -> None:
        """As on the writer."""
        self._writer.withdraw(new, ctx)

    def rejection(self, credential: Credential, ctx: StepContext) -> Rejection | None:
        """Ask the writer, whose catalog the reader has."""
        writer = self._writer
        explains = isinstance(writer, ExplainsRejections)
        return writer.rejection(credential, ctx) if explains else None

    def may_lock(self, login: str, ctx: StepContext) -> bool:
        """Ask the writer, whose catalog the reader has."""
        writer = self._writer
        return isinstance(writer, LocksAccounts) and writer.may_lock(login, ctx)

    @staticmethod
    def _sessions(rotation: Rotation, login: str, ctx: StepContext) -> list[Session]:
        return rotation.sessions(login, ctx) if isinstance(rotation, CountsSessions) else []


class CountingOnReader(OnReader):
    """As `OnReader`, where the plugin counts sessions."""

    def sessions(self, login: str, ctx: StepContext) -> list[Session]:
        """Return who is logged in on either."""
        both = (self._writer, self._reader)
        return [one for rotation in both for one in self._sessions(rotation, login, ctx)]


def on_reader(writer: Rotation, reader: Rotation, host: str) -> Rotation:
    """Return the rotation of a login that is used on `host`."""
    kind = CountingOnReader if isinstance(writer, CountsSessions) else OnReader
    return kind(writer, reader, host)
