"""The audit journal in memory: leases, fences, folds and a hash chain as the real one has them."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from rotator.core.errors import Busy, JournalError, LeaseLost
from rotator.core.history import RotationRecord, SecretRecord, fold_rotation, fold_secret
from rotator.core.model import Event, Kind, Lease
from rotator.core.secret import scrub

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

    from rotator.core.model import NewEvent
    from rotator.core.ports import Clock


@dataclass(slots=True)
class _Book:
    """Everything about one secret."""

    record: SecretRecord
    events: list[Event] = field(default_factory=list[Event])
    fence: int = 0
    lease: Lease | None = None


class MemoryJournal:
    """The journal port in memory. It outlives the engines of a test as a database outlives ours.

    `violations` collects what must never be asked of a journal: a secret in an event.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        actor: str = "test",
        is_dead: Callable[[str], bool] = lambda _holder: False,
    ) -> None:
        self._clock: Clock = clock
        self._actor: str = actor
        self._is_dead: Callable[[str], bool] = is_dead
        self._books: dict[str, _Book] = {}
        self._rotations: dict[str, RotationRecord] = {}
        self._guard: threading.RLock = threading.RLock()
        self.violations: list[str] = []

    def acquire(self, secret: str, holder: str, ttl: timedelta) -> Lease:
        """Take the lease, or raise `Busy`."""
        now = self._clock.now()
        with self._guard:
            book = self._books.setdefault(secret, _Book(record=SecretRecord(name=secret)))
            held = book.lease
            if held is not None and held.expires > now and not self._is_dead(held.holder):
                raise Busy(f"another rotator is at work on it (until {held.expires:%H:%M:%S} UTC).")
            book.fence += 1
            book.lease = Lease(secret=secret, holder=holder, fence=book.fence, expires=now + ttl)
            return book.lease

    def release(self, lease: Lease) -> None:
        """Give the lease back."""
        with self._guard:
            book = self._books.get(lease.secret)
            if book is not None and _holds(book, lease):
                book.lease = None

    def append(self, lease: Lease, events: Sequence[NewEvent], ttl: timedelta) -> list[Event]:
        """Write all the events or none, fold them into the records, renew the lease."""
        with self._guard:
            book = self._books.get(lease.secret)
            if book is None or not _holds(book, lease):
                raise LeaseLost("another rotator has taken over.")
            record, rotations, written = book.record, dict(self._rotations), list[Event]()
            for new in events:
                event = self._event(lease, new, record)
                if event.rotation_id is not None:
                    self._check_request(event, record, rotations.get(event.rotation_id))
                    folded = fold_rotation(rotations.get(event.rotation_id), event)
                    if folded is not None:
                        rotations[event.rotation_id] = folded
                record = fold_secret(record, event)
                written.append(event)
            self._look_for_secrets(written)
            book.events += written
            book.record, self._rotations = record, rotations
            book.lease = replace(lease, expires=self._clock.now() + ttl)
            return written

    def secret(self, secret: str) -> SecretRecord | None:
        """Return what the events of this secret add up to."""
        with self._guard:
            book = self._books.get(secret)
            return book.record if book is not None and book.events else None

    def secrets(self) -> list[SecretRecord]:
        """Return every secret that has events, by name."""
        with self._guard:
            return [book.record for _, book in sorted(self._books.items()) if book.events]

    def open_rotation(self, secret: str) -> RotationRecord | None:
        """Return the rotation that has not ended."""
        return next((one for one in self._of(secret) if one.ended_at is None), None)

    def rotation(self, rotation_id: str) -> RotationRecord | None:
        """Return one rotation."""
        with self._guard:
            return self._rotations.get(rotation_id)

    def rotations(self, secret: str, limit: int = 50) -> list[RotationRecord]:
        """Return the newest rotations, newest first."""
        return self._of(secret)[::-1][:limit]

    def history(self, rotation_id: str) -> list[Event]:
        """Return the events of one rotation."""
        with self._guard:
            record = self._rotations.get(rotation_id)
            found = self._books[record.secret].events if record is not None else []
            return [event for event in found if event.rotation_id == rotation_id]

    def events(self, secret: str, limit: int | None = None) -> list[Event]:
        """Return the newest events of a secret, oldest first."""
        with self._guard:
            found = self._books[secret].events if secret in self._books else []
            return found[-limit:] if limit else list(found)

    def _of(self, secret: str) -> list[RotationRecord]:
        with self._guard:
            return [one for one in self._rotations.values() if one.secret == secret]

    def _look_for_secrets(self, events: list[Event]) -> None:
        said = str([dict(event.data) for event in events])
        if scrub(said) != said:
            kinds = ", ".join(event.kind.value for event in events)
            self.violations.append(f"P6: a secret was written into the journal ({kinds}).")

    @staticmethod
    def _check_request(event: Event, record: SecretRecord, known: RotationRecord | None) -> None:
        if event.kind is not Kind.REQUESTED:
            return
        if known is not None:
            raise JournalError(f"the journal already holds rotation {event.rotation_id}.")
        if record.open_rotation is not None:
            raise Busy("another rotation of it is open already.")

    def _event(self, lease: Lease, new: NewEvent, record: SecretRecord) -> Event:
        data = json.dumps(dict(new.data), sort_keys=True)
        event = Event(
            secret=lease.secret,
            seq=record.seq + 1,
            at=self._clock.now(),
            actor=self._actor,
            fence=lease.fence,
            kind=new.kind,
            rotation_id=new.rotation_id,
            step=new.step,
            data=json.loads(data),
            prev_hash=record.head,
            hash="",
        )
        parts = (event.secret, event.seq, str(event.at), event.actor, event.fence, event.kind.value)
        rest = (event.rotation_id, event.step and event.step.value, data, event.prev_hash)
        return replace(event, hash=hashlib.sha256(json.dumps([*parts, *rest]).encode()).hexdigest())


def _holds(book: _Book, lease: Lease) -> bool:
    held = book.lease
    return held is not None and (held.holder, held.fence) == (lease.holder, lease.fence)
