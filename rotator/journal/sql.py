"""The journal port over SQLAlchemy Core, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy import event as hooks
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from rotator import trusted_files
from rotator.core.errors import Busy, JournalBroken, JournalError, LockLost, UsageError
from rotator.core.history import RotationRecord, SecretRecord, fold_rotation, fold_secret
from rotator.core.lease_chain import is_secret, secret_of
from rotator.core.leases import fold_lease
from rotator.core.model import LONGEST_LOCK, Event, Kind, Lock
from rotator.journal import migrate, rows, tables
from rotator.journal.chain import START, canonical, event_hash
from rotator.journal.current_key import current_key
from rotator.journal.dialects import insert
from rotator.journal.errors import is_without_room, translated
from rotator.journal.event_key import KEYED, broken, introducing, newest_id, require_chain
from rotator.journal.leases import SqlLeases
from rotator.journal.statements import Statements, execute, statements

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from datetime import datetime, timedelta

    from sqlalchemy import Connection, Table
    from sqlalchemy.engine import URL
    from sqlalchemy.engine import Engine as Database

    from rotator.core.leases import LeaseRecord
    from rotator.core.model import NewEvent
    from rotator.core.ports import Clock
    from rotator.core.secret import Secret
    from rotator.journal.event_key import EventKey

# So many rows are not authenticated again while they stay as they are.
_REMEMBERED: Final = 10_000
_SQLITE_WAIT_MS: Final = 30_000
_CONNECTING: Final[Mapping[str, Any]] = {
    "connect_timeout": 10,
    "application_name": "rotator",
    # A database that is cut off is noticed well before a lock ends, not after the quarter of an
    # hour that the kernel would wait. Milliseconds, then seconds.
    "tcp_user_timeout": 20_000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
}

# What the history of a rotation or a lease begins with.
_FIRST: Final = (Kind.REQUESTED.value, Kind.LEASE_REQUESTED.value)

_events, _secrets, _rotations = tables.events, tables.secrets, tables.rotations


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """What the holder of a lock knows without asking: nobody else may write there meanwhile."""

    record: SecretRecord
    # Of its row.
    seal: str
    rotations: Mapping[str, RotationRecord] = field(default_factory=dict[str, RotationRecord])


class SqlJournal:
    """The audit journal in an SQL database. Safe between threads, processes and machines."""

    def __init__(
        self,
        url: str,
        *,
        clock: Clock,
        actor: str,
        password: Secret | None = None,
        is_dead: Callable[[str], bool] = lambda _holder: False,
        base: Path | None = None,
        upgrade: bool = False,
        check: bool = True,
        alone: bool = False,
        longest_lock: timedelta = LONGEST_LOCK,
        key: Callable[[SqlJournal], EventKey] | None = None,
    ) -> None:
        """Open the journal at an SQLAlchemy URL; a fresh SQLite file is set up automatically.

        `check` False opens a database whatever its version, only to ask for that.
        `is_dead` returns whether the holder of a lock is known to be gone. `base`: the folder that
        a relative SQLite path starts from. `alone`: one connection only, which is tried before each
        use and replaced if it is gone; for a process that is frozen between its uses.
        `longest_lock`: no holder takes a lock for longer. `key` returns what authenticates events and
        records; it is called once, before the first lock. Raises
        `JournalError` when the database cannot be reached, is older (run `rotator db upgrade`) or
        newer than this program.
        """
        self._clock: Clock = clock
        self._actor: str = actor
        self._is_dead: Callable[[str], bool] = is_dead
        self._longest_lock: timedelta = longest_lock
        self._find_key: Callable[[SqlJournal], EventKey] | None = key
        # What authenticates events and records, once it is loaded, and the checkpoint that introduced it.
        self.key: EventKey | None = None
        self._key_seen: int = 0
        self._loading: threading.RLock = threading.RLock()
        # How long each chain is that this process has written to: it never gets shorter.
        self._lengths: dict[str, int] = {}
        # Rows that were found authentic, or written here, by their seal.
        self._authentic: dict[object, rows.Row] = {}
        self.url: URL = _url(url, password, base or Path())
        self.place: str = self.url.render_as_string(hide_password=True)
        self._sqlite: bool = self.url.get_backend_name() == "sqlite"
        self._add_secret: Any = insert(
            _secrets, self.url.get_backend_name()
        ).on_conflict_do_nothing()
        self._introducing: Any = introducing()
        self._held: dict[str, tuple[Lock, _Held]] = {}
        self._guard: threading.Lock = threading.Lock()
        # SQLite has one writer, and lets whoever comes second sleep for up to a tenth of a second;
        # threads of one process queue here instead, and go on at once.
        self._turn: AbstractContextManager[object] = (
            threading.Lock() if self._sqlite else nullcontext()
        )
        fresh = _create_private(self.url) if self._sqlite else False
        self.database: Database = _database(self.url, alone=alone)
        self._say: Statements = statements(self.database.dialect)
        self.leases: SqlLeases = SqlLeases(self, self._say.lease)
        self.upgraded_from: str | None = migrate.HEAD
        try:
            with translated(self.place):
                if upgrade or fresh:
                    self.upgraded_from, _ = migrate.upgrade(self.database)
                elif check:
                    migrate.check(self.database, self.place)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give back the connections."""
        self.database.dispose()

    def revision(self) -> str | None:
        """Return the version of the schema; None when it is not set up."""
        with translated(self.place):
            return migrate.revision(self.database)

    # -- the contract --------------------------------------------------------------------------

    def authenticate(self) -> EventKey | None:
        """Load the key, where there is one; from now on what is read is authenticated."""
        if self.key is None and self._find_key is not None:
            with self._loading:
                if self.key is None:
                    self._key_seen = self._newest_key()
                    found = self._find_key(self)
                    # It may just have been introduced.
                    self._key_seen = self._key_seen or self._newest_key()
                    self.key = found
        return self.key

    def reload_key(self) -> bool:
        """Load the key anew; return whether another one may have replaced it."""
        before, seen = self.key, self._key_seen
        if before is None or self._find_key is None:
            return False
        with self._loading:
            now = self.key
            if now is before and self._key_seen == seen:
                self._key_seen = self._newest_key()
                now = self.key = self._find_key(self)
                self._authentic.clear()
            return now is None or now.raw != before.raw or self._key_seen != seen

    def require_newest_key(self, db: Connection) -> None:
        """Raise `JournalBroken` where a key has been introduced since this process loaded its own.

        For what is new in the journal, after it was written in this transaction: for all that was there
        before, the seal of a record does the same.
        """
        if self.key is not None and newest_id(db, self._key_seen) is not None:
            raise JournalBroken(
                "the signing key of the journal was replaced meanwhile.",
                safety="Nothing was written.",
                hint="Try again. If this persists: rotator audit verify",
            )

    def _newest_key(self) -> int:
        with self.reading() as db:
            found = newest_id(db)
        return 0 if found is None else found[0]

    def key_id(self) -> str | None:
        """Return the id of the key that the newest checkpoint of a key introduces; it is not verified."""
        with self.reading() as db:
            found = newest_id(db)
        return None if found is None else found[1]

    def require_introduced(self) -> None:
        """Raise `JournalError` unless a checkpoint says that events are authenticated.

        For a process that reads no anchor, and so cannot introduce the key.
        """
        if not self.has_key():
            raise JournalError(
                "the journal does not have the writers' key yet.",
                safety="Nothing was done.",
                hint="On a machine with the same signing key: rotator db upgrade",
            )

    def has_key(self) -> bool:
        """Return whether events of this journal are authenticated, by whatever key."""
        with self.reading() as db:
            return db.execute(self._introducing).scalar() is not None

    @current_key
    def acquire(self, secret: str, holder: str, ttl: timedelta) -> Lock:
        """Take the lock, or raise `Busy`."""
        key, now = self.authenticate(), self._clock.now()
        with self._leasing() as db:
            row = self._say.secret_locked.first(db, {"name_": secret})
            if key is None:
                self._require_keyless(db, row)
            if row is None:
                blank = rows.secret_row(SecretRecord(name=secret))
                blank |= {"lease_holder": None, "lease_fence": 0, "lease_expires": None}
                # Two processes may meet a new secret at once: on both databases one row comes of it.
                _ = db.execute(self._add_secret, self._sealed(_secrets, blank))
                self.require_newest_key(db)
                row = self._say.secret_locked.first(db, {"name_": secret})
            if row is None:
                raise JournalError(f"the journal {self.place} does not store what rotator writes.")
            last_fence = row.pop("last_fence")
            self.require(_secrets, row)
            taken = row["lease_holder"]
            if taken is not None:
                until = rows.lock_end(row)
                # What ends later than any lock can was not written by a rotator: it holds nothing.
                lives = until is not None and now < until <= self.lock_horizon()
                if until is not None and lives and not self._is_dead(taken):
                    raise Busy(
                        f"another rotator holds its lock (until {until:%H:%M:%S} UTC at the"
                        " latest).",
                        hint="Wait for it, then check: rotator status",
                    )
            expires = now + ttl
            lock = Lock(
                secret=secret, holder=holder, fence=_fence(row, last_fence) + 1, expires=expires
            )
            changed = {"lease_holder": holder, "lease_fence": lock.fence}
            row = row | changed | {"lease_expires": rows.stamp(expires)}
            row = self._sealed(_secrets, row)
            _ = self._say.take_lock.run(db, row | {"name_": secret})
            record = rows.secret_from(row)
        with self._guard:
            self._held[secret] = (lock, _Held(record=record, seal=row["seal"]))
        return lock

    def require_lock(self, db: Connection, lock: Lock) -> None:
        """Raise `LockLost` unless this lock is held, as this transaction sees it."""
        row = self._say.secret_locked.first(db, {"name_": lock.secret})
        if row is None or not _holds(row, lock):
            raise _lock_lost()

    def lock_horizon(self) -> datetime:
        """Return when every lock of now has ended."""
        return self._clock.now() + self._longest_lock

    @current_key
    def release(self, lock: Lock) -> None:
        """Give the lock back."""
        held = self._known(lock)
        self._forget(lock)
        with self._leasing() as db:
            if held is None:
                row = self._say.secret_locked.first(db, {"name_": lock.secret})
                if row is None or not _holds(row, lock):
                    return
                self.require(_secrets, row)
                held = _Held(record=rows.secret_from(row), seal=row["seal"])
            _ = self._save(db, lock, held, held.record, holder=None, expires=None)

    @current_key
    def append(self, lock: Lock, events: Sequence[NewEvent], ttl: timedelta) -> list[Event]:
        """Write the events, fold them into the records, renew the lock: one transaction."""
        held, now = self._known(lock), self._clock.now()
        # Forgotten until it is known to be committed: after a failure the database is asked again.
        self._forget(lock)
        with self.writing() as db:
            key = self.key
            if held is None:
                row = self._say.secret_locked.first(db, {"name_": lock.secret})
                if row is None or not _holds(row, lock):
                    raise _lock_lost()
                self.require(_secrets, row)
                held = _Held(record=rows.secret_from(row), seal=row["seal"])
            written, new = self._next(lock, events, held.record, now)
            record = held.record
            for event in written:
                record = fold_secret(record, event)
            expires = rows.stamp(now + ttl)
            seal = self._save(db, lock, held, record, lock.holder, expires)
            if seal is None:
                raise _lock_lost()
            if self.key is not key:
                raise broken("its key was replaced while it was written", lock.secret)
            if new:
                self._say.add_events.run_many(db, new)
            rotations = self._fold_rotations(db, written, held.rotations)
            if secret_of(lock.secret) is not None:
                self._fold_leases(db, written)
        with self._guard:
            new_held = _Held(record=record, seal=seal, rotations=rotations)
            self._held[lock.secret] = (lock, new_held)
            self._lengths[lock.secret] = record.seq
        return written

    @current_key
    def secret(self, secret: str) -> SecretRecord | None:
        """Return what the events of this secret add up to."""
        with self.reading() as db:
            row = self._secret_row(db, secret)
        return None if row is None or row["seq"] == 0 else rows.secret_from(row)

    def secrets(self) -> list[SecretRecord]:
        """Return every secret that has events, by name."""
        query = sa.select(_secrets).where(_secrets.c.seq > 0).order_by(_secrets.c.name)
        with self.reading() as db:
            found = db.execute(query).mappings()
            return [rows.secret_from(row) for row in found if is_secret(row["name"])]

    @current_key
    def open_rotation(self, secret: str) -> RotationRecord | None:
        """Return the rotation that has not ended."""
        with self.reading() as db:
            row = self._say.open_rotation.first(db, {"name_": secret})
            if self.key is not None:
                self._require_open(db, secret, row)
        return None if row is None else rows.rotation_from(row)

    @current_key
    def rotation(self, rotation_id: str) -> RotationRecord | None:
        """Return one rotation."""
        with self.reading() as db:
            row = self._say.rotation.first(db, {"id_": rotation_id})
        if row is not None:
            self.require(_rotations, row)
        return None if row is None else rows.rotation_from(row)

    def rotations(self, secret: str, limit: int = 50) -> list[RotationRecord]:
        """Return the newest rotations, newest first."""
        query = (
            sa.select(_rotations)
            .where(_rotations.c.secret == secret)
            .order_by(_rotations.c.started_at.desc())
            .limit(limit)
        )
        with self.reading() as db:
            return [rows.rotation_from(row) for row in db.execute(query).mappings()]

    @current_key
    def history(self, rotation_id: str) -> list[Event]:
        """Return the events of one rotation."""
        with self.reading() as db:
            found = self._say.history.all(db, {"id_": rotation_id})
            if self.key is not None and found:
                found = self._authentic_history(db, self.key, rotation_id, found)
        return [rows.event_from(row) for row in found]

    @current_key
    def events(self, secret: str, limit: int | None = None) -> list[Event]:
        """Return the newest events of a secret, oldest first."""
        query = sa.select(_events).where(_events.c.secret == secret).order_by(_events.c.seq.desc())
        with self.reading() as db:
            record = self._secret_row(db, secret) if self.key is not None else None
            if record is not None:
                query = query.where(_events.c.seq <= record["seq"])
            found = [dict(row) for row in db.execute(query.limit(limit)).mappings()][::-1]
        if record is not None:
            wanted = min(record["seq"], limit or record["seq"])
            first = record["seq"] - wanted + 1
            self._require_events(found, secret, first, record["seq"], record["head"])
        return [rows.event_from(row) for row in found]

    def connecting(self) -> Mapping[str, Any] | None:
        """Return what psycopg needs to reach the same database; None when it is in a file."""
        if self._sqlite:
            return None
        url = self.database.url
        return {**self.database.dialect.create_connect_args(url)[1], **_CONNECTING}

    # -- below the contract --------------------------------------------------------------------

    def _next(
        self, lock: Lock, events: Sequence[NewEvent], record: SecretRecord, now: datetime
    ) -> tuple[list[Event], list[rows.Row]]:
        """Return the events as they follow on the chain, as values and as rows."""
        at = rows.stamp(now)
        seq, prev = record.seq, record.head if record.seq else START
        written: list[Event] = []
        new: list[rows.Row] = []
        for event in events:
            seq += 1
            kind, step = event.kind.value, event.step.value if event.step else None
            data = canonical(event.data)
            place = (lock.secret, seq, at, self._actor, lock.fence, kind, event.rotation_id)
            values = (*place, step, data, prev)
            hashed = event_hash(*values)
            mac = None if self.key is None else self.key.mac(hashed)
            new.append(dict(zip(rows.EVENT_COLUMNS, (*values, hashed, mac), strict=True)))
            written.append(
                Event(
                    secret=lock.secret,
                    seq=seq,
                    at=now,
                    actor=self._actor,
                    fence=lock.fence,
                    kind=event.kind,
                    rotation_id=event.rotation_id,
                    step=event.step,
                    data=event.data,
                    prev_hash=prev,
                    hash=hashed,
                )
            )
            prev = hashed
        return written, new

    def _fold_rotations(
        self, db: Connection, written: list[Event], known: Mapping[str, RotationRecord]
    ) -> dict[str, RotationRecord]:
        """Save what the rotations add up to now; return those that are still open."""
        touched: dict[str, RotationRecord | None] = dict(known)
        stored, changed = set(known), dict[str, RotationRecord]()
        for event in written:
            name = event.rotation_id
            if name is None:
                continue
            if name not in touched:
                begins = event.kind is Kind.REQUESTED
                row = None if begins else self._say.rotation.first(db, {"id_": name})
                if row is not None:
                    self.require(_rotations, row)
                    stored.add(name)
                touched[name] = None if row is None else rows.rotation_from(row)
            before = touched[name]
            record = touched[name] = fold_rotation(before, event)
            if record is not None and record is not before:
                changed[name] = record
        for name, record in changed.items():
            row = self._sealed(_rotations, rows.rotation_row(record))
            if name in stored:
                _ = self._say.save_rotation.run(db, row | {"id_": name})
            else:
                _ = self._say.add_rotation.run(db, row)
        return {
            name: record
            for name, record in touched.items()
            if record is not None and record.ended_at is None
        }

    def _fold_leases(self, db: Connection, written: list[Event]) -> None:
        """Save what the leases add up to now."""
        touched: dict[str, tuple[bool, LeaseRecord | None]] = {}
        for event in written:
            if event.rotation_id is None:
                continue
            if event.rotation_id not in touched:
                begins = event.kind is Kind.LEASE_REQUESTED
                known = None if begins else self.leases.within(db, event.rotation_id)
                touched[event.rotation_id] = (known is not None, known)
            stored, record = touched[event.rotation_id]
            touched[event.rotation_id] = (stored, fold_lease(record, event))
        for stored, record in touched.values():
            if record is not None:
                row = self._sealed(tables.leases, rows.lease_row(record))
                save = self._say.save_lease if stored else self._say.add_lease
                _ = save.run(db, row | {"id_": record.id})

    def _save(
        self,
        db: Connection,
        lock: Lock,
        held: _Held,
        record: SecretRecord,
        holder: str | None,
        expires: str | None,
    ) -> str | None:
        """Save a secret's row and return its seal; None if the lock is not ours, or its chain went on."""
        row = rows.secret_row(record)
        row |= {"lease_holder": holder, "lease_fence": lock.fence, "lease_expires": expires}
        guards = {
            "name_": lock.secret,
            "fence_": lock.fence,
            "holder_": lock.holder,
            "seq_": held.record.seq,
            "seal_": held.seal,
        }
        sealed = self._sealed(_secrets, row)
        if self._say.save_secret.run(db, sealed | guards) == 1:
            return sealed["seal"]
        found = self._say.secret_locked.first(db, {"name_": lock.secret})
        if found is not None and _holds(found, lock):
            # Our lock, but not our row: sealed by another key, or by nobody of ours.
            _ = found.pop("last_fence")
            self.require(_secrets, found)
            if rows.secret_from(found) == held.record:
                # The same, sealed by the key that this process has loaded since.
                guards["seal_"] = found["seal"]
                if self._say.save_secret.run(db, sealed | guards) == 1:
                    return sealed["seal"]
        return None

    # -- what a holder of the key has written -----------------------------------------------------

    def _sealed(self, table: Table, row: rows.Row) -> rows.Row:
        if self.key is None:
            return rows.sealed(table, row)
        new = self.key.sealed(table, row)
        self._trust(new)
        return new

    def require(self, table: Table, row: rows.Row) -> None:
        """Raise `JournalBroken` where there is a key and its holder did not write the row."""
        if self.key is not None and self._authentic.get(row["seal"]) != row:
            self.key.require(table, row)
            self._trust(row)

    def _trust(self, row: rows.Row) -> None:
        """Remember a row that is authentic: most are read again before they change."""
        if len(self._authentic) >= _REMEMBERED:
            self._authentic.clear()
        self._authentic[row["seal"]] = row

    def _require_keyless(self, db: Connection, row: rows.Row | None) -> None:
        """Refuse to write without a key where others have one."""
        if row is not None:
            has_key = str(row["seal"]).startswith(KEYED)
        else:
            has_key = db.execute(self._introducing).scalar() is not None
        if has_key:
            raise JournalError(
                "the events of this journal are authenticated, but this process has no key for"
                " that.",
                safety="Nothing was done.",
                hint="Set the signing key: journal.signing_key, or ROTATOR_JOURNAL_SIGNING_KEY of a"
                " rotation function.",
            )

    def _secret_row(self, db: Connection, secret: str) -> rows.Row | None:
        """Return the row of a secret, authenticated where the key is loaded."""
        known = self._lengths.get(secret, 0)
        row = self._say.secret.first(db, {"name_": secret})
        if self.key is None:
            return row
        if row is not None:
            self.require(_secrets, row)
        if (0 if row is None else row["seq"]) < known:
            raise broken(f"it was restored to a state before event {known}", secret)
        return row

    def _require_open(self, db: Connection, secret: str, row: rows.Row | None) -> None:
        """Raise `JournalBroken` unless this is the rotation that the secret's events leave open."""
        if row is not None:
            self.require(_rotations, row)
        found = None if row is None else row["id"]
        with self._guard:
            held = self._held.get(secret)
        if held is not None and found == held[1].record.open_rotation:
            return
        record = self._secret_row(db, secret)
        opened = None if record is None else record["open_rotation"]
        if found == opened:
            return
        # It may have begun or ended between the two looks.
        again = self._say.open_rotation.first(db, {"name_": secret})
        if (None if again is None else again["id"]) != opened:
            raise broken(f"its open rotation is {opened or 'none'} according to its events", secret)

    def _authentic_history(
        self, db: Connection, key: EventKey, rotation_id: str, found: list[rows.Row]
    ) -> list[rows.Row]:
        """Return the events of a rotation, after making sure that they are ours and complete."""
        secret, first = str(found[0]["secret"]), found[0]["seq"]
        record = self._secret_row(db, secret)
        if record is None or found[0]["kind"] not in _FIRST:
            raise broken(f"the history of rotation {rotation_id} has no beginning", secret)
        is_open = record["open_rotation"] == rotation_id
        last = record["seq"] if is_open else found[-1]["seq"]
        chained = found
        if len(found) != last - first + 1:
            chained = self._range(db, secret, first, last)
        require_chain(chained, secret, seq=first)
        end = chained[-1]
        if end["seq"] != last or not (
            end["hash"] == record["head"] or key.made(end["hash"], end["mac"])
        ):
            # Written before there was a key: what came after it speaks for it.
            rest = self._range(db, secret, first, record["seq"])
            self._require_events(rest, secret, first, record["seq"], record["head"])
        kept = [row for row in chained if row["rotation_id"] == rotation_id]
        if {row["hash"] for row in found} - {row["hash"] for row in kept}:
            raise broken(f"the history of rotation {rotation_id} was changed", secret)
        return kept

    def _range(self, db: Connection, secret: str, first: int, last: int) -> list[rows.Row]:
        query = (
            sa.select(_events)
            .where(_events.c.secret == secret, _events.c.seq.between(first, last))
            .order_by(_events.c.seq)
        )
        return [dict(row) for row in db.execute(query).mappings()]

    @staticmethod
    def _require_events(
        found: list[rows.Row], secret: str, first: int, last: int, head: str
    ) -> None:
        require_chain(found, secret, seq=first)
        if len(found) != last - first + 1 or (found and found[-1]["hash"] != head):
            raise broken(f"events up to {last} are missing or were replaced", secret)

    def _known(self, lock: Lock) -> _Held | None:
        with self._guard:
            found = self._held.get(lock.secret)
        return found[1] if found is not None and _same(found[0], lock) else None

    def _forget(self, lock: Lock) -> None:
        with self._guard:
            _ = self._held.pop(lock.secret, None)

    @contextmanager
    def reading(self) -> Generator[Connection]:
        """Read; errors come out as `JournalError`."""
        with translated(self.place), self.database.connect() as db:
            yield db

    @contextmanager
    def snapshot(self) -> Generator[Connection]:
        """Read one state of the journal, whatever others write meanwhile."""
        with translated(self.place), self.database.connect() as db:
            if self._sqlite:
                _ = db.exec_driver_sql("BEGIN")
            else:
                _ = db.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield db

    @contextmanager
    def writing(self) -> Generator[Connection]:
        """Write in one durable transaction; errors come out as `JournalError`."""
        with translated(self.place), self._turn, self.database.begin() as db:
            if self._sqlite:
                _ = execute(db, "BEGIN IMMEDIATE")
            yield db

    @contextmanager
    def signing(self) -> Generator[Connection]:
        """Write observations, without waiting for the disk: what a power cut loses is seen again."""
        with self._leasing() as db:
            yield db

    @contextmanager
    def _leasing(self) -> Generator[Connection]:
        """Write a lock, without waiting for the disk.

        A lock that a power cut loses is one that nobody holds: the next durable append brings it
        to the disk, or finds another holder's and stops.
        """
        with translated(self.place), self._turn, self.database.connect() as db:
            # Outside any transaction, which SQLAlchemy would begin.
            driver: Any = db.connection.driver_connection
            if self._sqlite:
                driver.execute("PRAGMA synchronous = NORMAL")
            try:
                with db.begin():
                    lazy = (
                        "BEGIN IMMEDIATE" if self._sqlite else "SET LOCAL synchronous_commit = off"
                    )
                    _ = execute(db, lazy)
                    yield db
            finally:
                if self._sqlite:
                    driver.execute("PRAGMA synchronous = FULL")


def _same(one: Lock, other: Lock) -> bool:
    return one.fence == other.fence and one.holder == other.holder


def _lock_lost() -> LockLost:
    return LockLost(
        "another rotator has taken over.",
        safety="rotator did nothing more here.",
        hint="To see what it does: rotator status",
    )


def _fence(row: rows.Row, last_fence: int | None) -> int:
    """Return the fence that the next lock exceeds, also where somebody else changed the row's."""
    fence, last = row["lease_fence"], last_fence or 0
    plausible = isinstance(fence, int) and last <= fence < rows.FENCE_LIMIT
    return fence if plausible else last


def _holds(row: rows.Row, lock: Lock) -> bool:
    return row["lease_fence"] == lock.fence and row["lease_holder"] == lock.holder


def _url(text: str, password: Secret | None, base: Path) -> URL:
    try:
        url = make_url(text)
    except SQLAlchemyError as error:
        raise UsageError(
            "the journal's url is not a database URL.",
            hint="Examples: sqlite:///rotator.db or postgresql://rotator@db.example.org/rotator",
        ) from error
    match url.get_backend_name():
        case "sqlite":
            if not url.database or url.database == ":memory:":
                raise UsageError(
                    "the journal must be in a file: a record in memory proves nothing."
                )
            return url.set(drivername="sqlite", database=str((base / url.database).absolute()))
        case "postgresql":
            url = url.set(drivername="postgresql+psycopg")
            return url if password is None else url.set(password=password.reveal())
        case other:
            raise UsageError(f"a journal must be in SQLite or PostgreSQL, not in {other!r}.")


def _create_private(url: URL) -> bool:
    """Make a missing SQLite file, readable by its owner only; return whether it was missing."""
    file = Path(url.database or "")
    try:
        # SQLite gives its -wal and -shm files the mode of the database.
        return trusted_files.create(file, "the journal", secret=False) or not file.stat().st_size
    except OSError as error:
        raise JournalError(
            f"cannot open the journal {file} ({error.strerror}).",
            hint="Check the folder's owner and mode, and the free disk space.",
            safety="Nothing was changed: rotator makes no change without a journal.",
        ) from error


def _database(url: URL, *, alone: bool) -> Database:
    size, more = (1, 0) if alone else (16, 16)
    if url.get_backend_name() == "postgresql":
        return sa.create_engine(
            url,
            isolation_level="READ COMMITTED",
            pool_size=size,
            max_overflow=more,
            pool_pre_ping=alone,
            connect_args=dict(_CONNECTING),
        )
    database = sa.create_engine(url, pool_size=size, max_overflow=more)

    def connect(dialect: Any, _record: object, given: Any, options: Any) -> Any:
        try:
            return _prepared(dialect.connect(*given, **options))
        except sqlite3.OperationalError as error:
            if not is_without_room(error):
                raise
        # The index of SQLite's log finds no room on the disk, and is kept in memory instead: so the
        # journal can be read. What writes to it fails.
        return _prepared(dialect.connect(*given, **options), "locking_mode = EXCLUSIVE")

    hooks.listen(database, "do_connect", connect)

    return database


def _prepared(connection: Any, *first: str) -> Any:
    # We say BEGIN ourselves: pysqlite's own idea of a transaction begins too late.
    connection.isolation_level = None
    pragmas = (
        *first,
        f"busy_timeout = {_SQLITE_WAIT_MS}",
        "journal_mode = WAL",
        "synchronous = FULL",
    )
    try:
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()
        raise
    return connection
