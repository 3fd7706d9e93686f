"""The audit journal in memory: leases, fences, folds and a hash chain as the real one has them."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from rotator.core.agenda import Counts, Opened, Reckoned
from rotator.core.errors import Busy, JournalError, LeaseLost
from rotator.core.history import RotationRecord, SecretRecord, fold_rotation, fold_secret
from rotator.core.model import Event, Kind, Lease
from rotator.core.secret import scrub

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime, timedelta

    from rotator.core.model import NewEvent
    from rotator.core.ports import Clock


@dataclass(slots=True)
class _Book:
    """Everything about one secret."""

    record: SecretRecord
    events: list[Event] = field(default_factory=list[Event])
    rotations: list[str] = field(default_factory=list[str])
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
        watchful: bool = True,
    ) -> None:
        """`watchful`: look for secrets in every event; slow where there are thousands of them."""
        self._watchful: bool = watchful
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
            record, written = book.record, list[Event]()
            rotations = dict[str, RotationRecord]()
            for new in events:
                event = self._event(lease, new, record)
                if event.rotation_id is not None:
                    known = rotations.get(event.rotation_id) or self._rotations.get(
                        event.rotation_id
                    )
                    self._check_request(event, record, known)
                    folded = fold_rotation(known, event)
                    if folded is not None:
                        rotations[event.rotation_id] = folded
                record = fold_secret(record, event)
                written.append(event)
            if self._watchful:
                self._look_for_secrets(written)
            book.events += written
            book.record = record
            book.rotations += [name for name in rotations if name not in self._rotations]
            self._rotations |= rotations
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
            if record is None:
                return []
            found, events = list[Event](), self._books[record.secret].events
            for event in reversed(events):
                if event.rotation_id == rotation_id:
                    found.append(event)
                    if event.kind is Kind.REQUESTED:
                        break
            return found[::-1]

    def events(self, secret: str, limit: int | None = None) -> list[Event]:
        """Return the newest events of a secret, oldest first."""
        with self._guard:
            found = self._books[secret].events if secret in self._books else []
            return found[-limit:] if limit else list(found)

    # -- the agenda ----------------------------------------------------------------------------

    def due(self, now: datetime, limit: int, after: datetime | None = None) -> list[Reckoned]:
        """Return what is due, longest first."""
        with self._guard:
            records = [book.record for book in self._books.values()]
        found = [
            (one.next_due, one.name, one)
            for one in records
            if one.next_due is not None
            and one.next_due <= now
            and (after is None or one.next_due > after)
            and one.parked is None
            and one.open_rotation is None
        ]
        return [_reckoned(one) for _, _, one in sorted(found)[:limit]]

    def opened(self) -> list[Opened]:
        """Return the rotations that are open, but for parked ones."""
        return [
            Opened(secret=one.name, rotation_id=one.open_rotation, seq=one.seq)
            for one in self.secrets()
            if one.open_rotation is not None and one.parked is None
        ]

    def reckoned(self) -> list[Reckoned]:
        """Go through every secret."""
        return [_reckoned(one) for one in self.secrets()]

    def counts(self, now: datetime, overdue: datetime) -> Counts:
        """Return how many secrets are in which state."""
        records = self.secrets()
        with self._guard:
            leased = sum(book.lease is not None for book in self._books.values())
        return Counts(
            known=len(records),
            due=len(self.due(now, len(records))),
            overdue=len(self.due(overdue, len(records))),
            parked=sum(one.parked is not None for one in records),
            opened=sum(one.open_rotation is not None for one in records),
            leased=leased,
            oldest=min((one.since for one in records if one.since is not None), default=None),
        )

    def _of(self, secret: str) -> list[RotationRecord]:
        with self._guard:
            book = self._books.get(secret)
            return [self._rotations[name] for name in book.rotations] if book is not None else []

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


def _reckoned(record: SecretRecord) -> Reckoned:
    return Reckoned(
        name=record.name,
        next_due=record.next_due,
        since=record.since,
        rotated_at=record.rotated_at,
        timing=record.timing,
        parked=record.parked is not None,
    )


def _holds(book: _Book, lease: Lease) -> bool:
    held = book.lease
    return held is not None and (held.holder, held.fence) == (lease.holder, lease.fence)
