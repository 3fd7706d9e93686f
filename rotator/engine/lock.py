"""One secret under one lock: acquire, append, renew, wait, release."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from math import inf
from typing import TYPE_CHECKING, Final, TypeVar

from rotator.core.errors import AlreadyTaken, Busy, RotatorError
from rotator.core.history import taken_up
from rotator.core.model import Kind, NewEvent
from rotator.engine.context import SecretContext

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from datetime import datetime

    from rotator.core.history import RotationRecord
    from rotator.core.model import Event, Json, Lock
    from rotator.engine.context import EngineContext
    from rotator.engine.steps import ManagedSecret, Steps

_T = TypeVar("_T")
# What somebody decides: these events record who, with the request where there was one.
_DECISIONS: Final = frozenset(
    {
        *(Kind.REQUESTED, Kind.DELEGATED, Kind.ROLLBACK_REQUESTED, Kind.REVOKE_REQUESTED),
        *(Kind.UNPARKED, Kind.ADOPTED, Kind.RETIRE_REQUESTED, Kind.RENAMED),
        *(Kind.LEAKED, Kind.INCIDENT_CLOSED, Kind.REVEALED),
        *(Kind.LEASE_REQUESTED, Kind.LEASE_JOINED, Kind.LEASE_RENEWED, Kind.LEASE_RELEASED),
        Kind.LEASE_ENDING,
    }
)
# Seconds until a lock that another process holds is asked for again.
_LOOK_AGAIN: Final = 0.2
# How long a lock outlives the deadline of the step that renewed it.
_MARGIN: Final = timedelta(seconds=30)


class LockedSecret(SecretContext):
    """A secret that this call alone may write about, until its lock ends."""

    def __init__(
        self,
        engine: EngineContext,
        secret: ManagedSecret,
        lock: Lock,
        *,
        ends: float,
        taken: tuple[float, datetime],
    ) -> None:
        """`ends`: when the call must be over, on the monotonic scale. `taken`: both clocks, read
        before the lock was taken.
        """
        super().__init__(engine, secret)
        self.ends: float = ends
        self.ttl: timedelta = _ttl(secret)
        self.lock: Lock = lock
        # Read before the lock is taken or renewed, so that we stop before it ends.
        self._renewed: tuple[float, datetime] = taken

    def append(self, events: list[NewEvent]) -> list[Event]:
        """Write events, all or none of them, and renew the lock. Nothing happens without events."""
        if not events:
            return []
        events = [self._decided(one) if one.kind in _DECISIONS else one for one in events]
        self._renewed = self.clock.monotonic(), self.clock.now()
        written = self.journal.append(self.lock, events, self.ttl)
        for event in written:
            self.engine.observer(event)
        return written

    def renew(self) -> None:
        """Renew the lock without writing an event. Raises `LockLost`."""
        self._renewed = self.clock.monotonic(), self.clock.now()
        _ = self.journal.append(self.lock, [], self.ttl)

    def wait(self, until: datetime) -> None:
        """Sleep until then or until the call should stop, in pieces short enough to keep the lock."""
        piece = self.ttl.total_seconds() / 3
        while (left := (until - self.clock.now()).total_seconds()) > 0:
            if self.engine.should_stop():
                return
            self.clock.sleep(min(left, piece))
            if left > piece:
                self.renew()

    def pause(self, until: datetime) -> None:
        """Sleep until then or until the call should stop, without the lock: others may work meanwhile."""
        self.engine.journal.release(self.lock)
        piece = self.ttl.total_seconds() / 3
        while (left := (until - self.clock.now()).total_seconds()) > 0:
            if self.engine.should_stop():
                break
            self.clock.sleep(min(left, piece))
        self._renewed = self.clock.monotonic(), self.clock.now()
        self.lock = _taken(self.engine, self.secret, self.ttl)

    def timed_steps(self, rotation_id: str) -> Steps:
        """Return steps that act until their time is up, counted from when the lock was renewed."""
        steps = self.steps(rotation_id, self.record())
        self.allow(steps)
        return steps

    def allow(self, steps: Steps) -> None:
        """Let steps act until their time is up, counted from when the lock was renewed."""
        monotonic, now = self._renewed
        timeout = self.secret.policy.step_timeout.total_seconds()
        steps.allow(deadline=min(monotonic + timeout, self.ends), lease_ends=now + self.ttl)

    def _decided(self, event: NewEvent) -> NewEvent:
        """Return the event with those who decided it. Raises `AlreadyTaken` for a request of before."""
        behalf = self.engine.on_behalf
        if behalf.request is not None and not behalf.begun:
            if taken_up(self.events(), behalf.request) is not None:
                raise AlreadyTaken("this request was carried out before.")
            behalf.begun = True
        return replace(event, data={**event.data, **behalf.data}) if behalf.data else event

    def park(
        self, rotation_id: str | None, reason: str, *, hint: str = "", decided: bool = False
    ) -> list[Event]:
        """Record that an operator must look. `hint`: the remedy, where it is known. `decided`: somebody
        wanted it, and no failure caused it.
        """
        self.log.error("parked", secret=self.name, rotation_id=rotation_id, reason=reason)
        data: dict[str, Json] = {"reason": reason, "what": reason}
        data |= {"hint": hint} if hint else {}
        event = NewEvent(kind=Kind.PARKED, rotation_id=rotation_id, data=data)
        return self.append([self._decided(event) if decided else event])

    def unpark_if_parked(self, opened: RotationRecord, reason: str) -> None:
        """Unpark the secret: an operator's command on a parked rotation counts as a look at it."""
        record = self.record()
        if record is not None and record.parked is not None:
            data: dict[str, Json] = {"reason": reason}
            _ = self.append([NewEvent(kind=Kind.UNPARKED, rotation_id=opened.id, data=data)])


@contextmanager
def locked(
    engine: EngineContext, secret: ManagedSecret, *, ends: float | None = None
) -> Generator[LockedSecret]:
    """Take the lock of a secret, and release it at the end. Raises `Busy` or `JournalError`.

    `ends`: when the call must be over, on the monotonic scale; no step is begun shortly before that.
    """
    try:
        taken = engine.clock.monotonic(), engine.clock.now()
        lock = engine.journal.acquire(secret.name, engine.holder(), _ttl(secret))
        access = LockedSecret(engine, secret, lock, ends=inf if ends is None else ends, taken=taken)
        try:
            yield access
        finally:
            engine.journal.release(access.lock)
    except RotatorError as error:
        error.secret = error.secret or secret.name
        raise


@contextmanager
def locked_in_time(
    engine: EngineContext, secret: ManagedSecret, patience: timedelta
) -> Generator[LockedSecret]:
    """Take the lock of a secret as `locked` does, but wait for it while another process holds it."""
    with ExitStack() as stack:
        yield _once_free(engine, patience, lambda: stack.enter_context(locked(engine, secret)))


def _taken(engine: EngineContext, secret: ManagedSecret, patience: timedelta) -> Lock:
    """Take the lock of a secret again, or wait for it while another process holds it."""
    return _once_free(
        engine,
        patience,
        lambda: engine.journal.acquire(secret.name, engine.holder(), _ttl(secret)),
    )


def _once_free(engine: EngineContext, patience: timedelta, take: Callable[[], _T]) -> _T:
    until = engine.clock.now() + patience
    while True:
        try:
            return take()
        except Busy:
            if engine.clock.now() >= until:
                raise
            engine.clock.sleep(_LOOK_AGAIN)


def _ttl(secret: ManagedSecret) -> timedelta:
    return secret.policy.step_timeout + _MARGIN
