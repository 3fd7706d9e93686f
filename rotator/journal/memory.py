"""The audit journal in memory: leases, fences, folds and the same hash chain as in a database."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from rotator.core.errors import Busy, JournalError, LockLost
from rotator.core.history import RotationRecord, SecretRecord, fold_rotation, fold_secret
from rotator.core.lease_chain import chain_of, is_secret
from rotator.core.leases import KINDS, OPEN_STATES, LeaseRecord, fold_lease
from rotator.core.model import Event, Kind, Lock
from rotator.core.worklist import Counts, DueEntry, OpenRotation, WatchedSecret
from rotator.journal.chain import canonical, event_hash, stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime, timedelta

    from rotator.core.model import NewEvent
    from rotator.core.ports import Clock


@dataclass(slots=True)
class Book:
    """Everything about one secret."""

    record: SecretRecord
    events: list[Event] = field(default_factory=list[Event])
    rotations: list[str] = field(default_factory=list[str])
    fence: int = 0
    lock: Lock | None = None


class MemoryLeases:
    """The leases of a journal in memory."""

    def __init__(self) -> None:
        self._records: dict[str, LeaseRecord] = {}

    def fold(self, written: list[Event]) -> None:
        """Take in events; what is not of a lease is left out."""
        for event in written:
            if event.kind in KINDS and event.rotation_id is not None:
                folded = fold_lease(self._records.get(event.rotation_id), event)
                if folded is not None:
                    self._records[folded.id] = folded

    def get(self, lease: str) -> LeaseRecord | None:
        """Return one lease by its id."""
        return self._records.get(lease)

    def open(self, secret: str | None = None) -> list[LeaseRecord]:
        """Return the leases that have not ended, by their end."""
        found = [
            one
            for one in self._records.values()
            if one.next_at is not None and secret in (None, one.secret)
        ]
        return sorted(found, key=lambda one: one.ends_at)

    def count(self, secret: str) -> int:
        """Return how many leases of a secret have not ended."""
        return len(self.open(secret))

    def due(self, now: datetime, limit: int, secret: str | None = None) -> list[LeaseRecord]:
        """Return the leases about which there is something to do, longest first."""
        found = [(one.next_at, one.id) for one in self.open(secret) if one.next_at is not None]
        return [self._records[name] for at, name in sorted(found)[:limit] if at <= now]

    def counts(self) -> dict[str, int]:
        """Return how many leases are in which state: those that have not ended."""
        found: dict[str, int] = dict.fromkeys(OPEN_STATES, 0)
        for one in self.open():
            found[one.state.value] += 1
            found["stranded"] += one.is_stranded
        return found

    def recent(self, limit: int, secret: str | None = None) -> list[LeaseRecord]:
        """Return the newest leases, ended or not, newest first."""
        found = [one for one in self._records.values() if secret in (None, one.secret)]
        return sorted(found, key=lambda one: one.requested_at, reverse=True)[:limit]


class MemoryJournal:
    """The journal port in memory. It is gone with its process."""

    def __init__(
        self,
        *,
        clock: Clock,
        actor: str,
        is_dead: Callable[[str], bool] = lambda _holder: False,
    ) -> None:
        """`actor` names who writes; `is_dead` returns whether the holder of a lock is gone."""
        self._clock: Clock = clock
        self._actor: str = actor
        self._is_dead: Callable[[str], bool] = is_dead
        self.books: dict[str, Book] = {}
        self._rotations: dict[str, RotationRecord] = {}
        self.leases: MemoryLeases = MemoryLeases()
        self._guard: threading.RLock = threading.RLock()

    def acquire(self, secret: str, holder: str, ttl: timedelta) -> Lock:
        """Take the lock, or raise `Busy`."""
        now = self._clock.now()
        with self._guard:
            book = self.books.setdefault(secret, Book(record=SecretRecord(name=secret)))
            held = book.lock
            if held is not None and held.expires > now and not self._is_dead(held.holder):
                raise Busy(f"another rotator holds its lock (until {held.expires:%H:%M:%S} UTC).")
            book.fence += 1
            book.lock = Lock(secret=secret, holder=holder, fence=book.fence, expires=now + ttl)
            return book.lock

    def release(self, lock: Lock) -> None:
        """Give the lock back."""
        with self._guard:
            book = self.books.get(lock.secret)
            if book is not None and _holds(book, lock):
                book.lock = None

    def append(self, lock: Lock, events: Sequence[NewEvent], ttl: timedelta) -> list[Event]:
        """Write all the events or none, fold them into the records, renew the lock."""
        with self._guard:
            book = self.books.get(lock.secret)
            if book is None or not _holds(book, lock):
                raise LockLost("another rotator has taken over.")
            record, written = book.record, list[Event]()
            rotations = dict[str, RotationRecord]()
            for new in events:
                event = self._event(lock, new, record)
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
            self._write(written)
            book.events += written
            book.record = record
            book.rotations += [name for name in rotations if name not in self._rotations]
            self._rotations |= rotations
            self.leases.fold(written)
            book.lock = replace(lock, expires=self._clock.now() + ttl)
            return written

    def secret(self, secret: str) -> SecretRecord | None:
        """Return what the events of this secret add up to."""
        with self._guard:
            book = self.books.get(secret)
            return book.record if book is not None and book.events else None

    def secrets(self) -> list[SecretRecord]:
        """Return every secret that has events, by name."""
        with self._guard:
            known = sorted(self.books.items())
            return [one.record for name, one in known if one.events and is_secret(name)]

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
            record, lease = self._rotations.get(rotation_id), self.leases.get(rotation_id)
            if lease is not None:
                events = self.books[chain_of(lease.secret)].events
                return [one for one in events if one.rotation_id == rotation_id]
            if record is None:
                return []
            found, events = list[Event](), self.books[record.secret].events
            for event in reversed(events):
                if event.rotation_id == rotation_id:
                    found.append(event)
                    if event.kind is Kind.REQUESTED:
                        break
            return found[::-1]

    def events(self, secret: str, limit: int | None = None) -> list[Event]:
        """Return the newest events of a secret, oldest first."""
        with self._guard:
            found = self.books[secret].events if secret in self.books else []
            return found[-limit:] if limit else list(found)

    # -- the agenda ----------------------------------------------------------------------------

    def due(self, now: datetime, limit: int, after: datetime | None = None) -> list[DueEntry]:
        """Return what is due, longest first."""
        with self._guard:
            records = [book.record for book in self.books.values()]
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

    def opened(self) -> list[OpenRotation]:
        """Return the rotations that are open, but for parked ones."""
        return [
            OpenRotation(secret=one.name, rotation_id=one.open_rotation, seq=one.seq)
            for one in self.secrets()
            if one.open_rotation is not None and one.parked is None
        ]

    def watched(self) -> list[WatchedSecret]:
        """Return the secrets in an incident that is not closed, but for parked ones."""
        return [
            WatchedSecret(secret=one.name, at=one.prove_at)
            for one in self.secrets()
            if one.incident is not None and one.prove_at is not None and one.parked is None
        ]

    def leaked(self, limit: int) -> list[str]:
        """Return the secrets with a reported leak, the newest report first."""
        newest: dict[str, datetime] = {}
        with self._guard:
            for name, book in self.books.items():
                for event in book.events:
                    if event.kind is Kind.LEAKED and event.rotation_id is None:
                        newest[name] = event.at
        return sorted(newest, key=lambda name: (-newest[name].timestamp(), name))[:limit]

    def reckoned(self) -> list[DueEntry]:
        """Go through every secret."""
        return [_reckoned(one) for one in self.secrets()]

    def counts(self, now: datetime, overdue: datetime) -> Counts:
        """Return how many secrets are in which state."""
        records = self.secrets()
        with self._guard:
            locked = sum(book.lock is not None for book in self.books.values())
        return Counts(
            known=len(records),
            due=sum(_was_due(one, now) for one in records),
            overdue=sum(_was_due(one, overdue) for one in records),
            parked=sum(one.parked is not None for one in records),
            opened=sum(one.open_rotation is not None for one in records),
            locked=locked,
            oldest=min((one.since for one in records if one.since is not None), default=None),
        )

    def _of(self, secret: str) -> list[RotationRecord]:
        with self._guard:
            book = self.books.get(secret)
            return [self._rotations[name] for name in book.rotations] if book is not None else []

    def _write(self, events: list[Event]) -> None:
        """Write them wherever else they go; what is raised here leaves the journal as it was."""

    @staticmethod
    def _check_request(event: Event, record: SecretRecord, known: RotationRecord | None) -> None:
        if event.kind is not Kind.REQUESTED:
            return
        if known is not None:
            raise JournalError(f"the journal already contains rotation {event.rotation_id}.")
        if record.open_rotation is not None:
            raise Busy("another rotation of it is already open.")

    def _event(self, lock: Lock, new: NewEvent, record: SecretRecord) -> Event:
        data, now, seq = canonical(new.data), self._clock.now(), record.seq + 1
        step = new.step.value if new.step else None
        place = (lock.secret, seq, stamp(now), self._actor, lock.fence, new.kind.value)
        return Event(
            secret=lock.secret,
            seq=seq,
            at=now,
            actor=self._actor,
            fence=lock.fence,
            kind=new.kind,
            rotation_id=new.rotation_id,
            step=new.step,
            data=json.loads(data),
            prev_hash=record.head,
            hash=event_hash(*place, new.rotation_id, step, data, record.head),
        )


def _was_due(record: SecretRecord, by: datetime) -> bool:
    return record.parked is None and record.due is not None and record.due <= by


def _reckoned(record: SecretRecord) -> DueEntry:
    return DueEntry(
        name=record.name,
        next_due=record.next_due,
        since=record.since,
        rotated_at=record.rotated_at,
        timing=record.timing,
        parked=record.parked is not None,
        due=record.due,
    )


def _holds(book: Book, lock: Lock) -> bool:
    held = book.lock
    return held is not None and (held.holder, held.fence) == (lock.holder, lock.fence)
