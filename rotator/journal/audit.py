"""`audit verify`: does the journal still say what was once written into it?

Everything is computed again from the texts in the tables: each event's hash and its place in its
chain, the records that are folds of the events, the seals of the mutable rows, the checkpoints
with their signatures, and what was kept outside the database.
"""

from __future__ import annotations

import re
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import itemgetter
from sqlite3 import Cursor
from sqlite3 import OperationalError as UndecodableText
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from rotator.core.history import RotationFold, SecretFold, SecretRecord, text, texts
from rotator.core.leases import KINDS as LEASE_KINDS
from rotator.core.leases import LeaseRecord, fold_lease
from rotator.core.model import Kind
from rotator.journal import chain, definitions, requests, rows, tables
from rotator.journal.event_key import KEYED
from rotator.journal.handovers import Signers, first_of
from rotator.journal.report import AuditReport
from rotator.journal.signed_heads import PREVIOUS, UNREADABLE, SignedHeads, place

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection, Table

    from rotator.core.model import Event
    from rotator.journal.checkpoints import Anchor
    from rotator.journal.event_key import EventKey
    from rotator.journal.sql import SqlJournal

# The chain of what is about the journal as a whole. No secret can be called so.
JOURNAL: Final = "(journal)"
# How many rows are fetched at once, from a server and from a file: there more of them no longer fit into
# a processor's cache, and take a third longer.
_BATCH: Final = 10_000
_BATCH_OF_FILE: Final = 1_000
_FOREVER: Final = sys.maxsize
# Step events, and those of them that say more than how far a rotation has got.
_STEP_EVENTS: Final = frozenset({"started", "finished", "failed", "waiting"})
_TELLING_ROTATION: Final = frozenset(
    {("finished", "stage"), ("finished", "publish"), ("finished", "prove"), ("finished", "revoke")}
)
_TELLING_SECRET: Final = frozenset(
    {
        ("finished", "publish"),
        ("finished", "prove"),
        ("finished", "restore"),
        ("finished", "revoke"),
    }
)
# Facts that make any event of a step change its secret's record.
_TELLING_FACTS: Final = re.compile('"(?:next_due|next_try|current_accepted|moment)"').search
_STEP_KINDS: Final = frozenset(map(Kind, _STEP_EVENTS))
_LENIENT: Final = partial(str, encoding="utf-8", errors="surrogateescape")


@dataclass(frozen=True, slots=True, kw_only=True)
class PutBack:
    """A backend that serves a version, or none, which the journal knows to be superseded by `recorded`."""

    backend: str
    path: str
    served: str | None
    recorded: str

    @property
    def where(self) -> str:
        """The place, as a report names it."""
        return f"backend {self.backend}, {self.path}"

    def __str__(self) -> str:
        served = "nothing" if self.served is None else f"version {self.served}"
        return (
            f"it serves {served}, but the journal recorded version {self.recorded} after that:"
            " an older copy of the backend was restored"
        )


def verify(
    journal: SqlJournal,
    *,
    public_key: str | None = None,
    anchor: Anchor | None = None,
    seen: Mapping[str, set[str]] | None = None,
    key: EventKey | None = None,
    witnessed: Sequence[Anchor] = (),
    put_back: Sequence[PutBack] = (),
    trusts: Callable[[rows.Read, str | None], bool] | None = None,
) -> AuditReport:
    """Check the whole journal.

    `public_key` (PEM) checks the signatures; without it chains and folds are still checked.
    `anchor`: the newest checkpoint as it was kept outside. `seen`: for each secret the rotation
    ids that its backend holds; one that the journal does not know shows that the database was put
    back to an older state. `key` authenticates events and records; without it, what no checkpoint
    covers may have been written by anybody who can write to the database. `witnessed`: checkpoints
    that somebody else saw. `trusts` returns whether the writer of a request has signed it; without it
    only the chains of requests are checked.
    """
    report = AuditReport(signatures=public_key is not None)
    with journal.snapshot() as db, lenient(db):
        heads, held = _checkpoints(db, report, public_key, anchor)
        for seen_one in witnessed:
            if held.get(seen_one.number) != seen_one.hash:
                report.add(
                    f"checkpoint {seen_one.number}",
                    "differs from the one that the witness saw: the journal was truncated or"
                    " restored to an older state",
                    restore=f"checkpoint {seen_one.number} {seen_one.hash}",
                )
        if anchor is not None and anchor.key is not None and anchor.key not in heads.introduced():
            report.add(
                "checkpoints",
                f"none of them introduces the writers' key ({anchor.key}), which is stored"
                " beside the signing key",
                restore=f"key {anchor.key}",
            )
        seals = _Seals(key if heads.key is not None else None, is_keyed=heads.key is not None)
        report.authenticated = heads.key is None or key is not None
        if key is not None and heads.key not in (None, key.id):
            report.add("checkpoints", f"they introduce another writers' key ({heads.key})")
        folded = _events(db, report, heads, seals.key)
        _secrets(db, report, folded, journal.lock_horizon(), seals)
        rotations = {
            name: rows.rotation_row(one.record()) for name, one in folded.rotations.items()
        }
        _folded(db, report, tables.rotations, rotations, seals)
        leases = {name: rows.lease_row(one) for name, one in folded.leases.items()}
        _folded(db, report, tables.leases, leases, seals)
        asked = requests.check(db, report, heads, trusts)
        definitions.check(db, report)
    heads.check_missing(asked | {name for name, record in folded.secrets.items() if record.seq})
    for secret, ids in (seen or {}).items():
        for unknown in sorted(ids - folded.ids):
            report.add(
                f"secret {secret}",
                f"its backend contains rotation {unknown}, which the journal does not know:"
                " the database may have been restored to an older state",
                restore=f"rotation {secret} {unknown}",
            )
    for one in put_back:
        report.add(one.where, str(one), restore=f"{one.where}, version {one.recorded}")
    signed = None if public_key is None else heads.signed(JOURNAL)
    report.acknowledge(folded.acknowledged(signed))
    return report


def verify_records(journal: SqlJournal, key: EventKey | None) -> AuditReport:
    """Check what costs little: definitions, and the seal and lock of each record; no event is read.

    A daemon does this between its checkpoints, each of which verifies the events since the last one.
    """
    report = AuditReport()
    seals = _Seals(key, is_keyed=False)
    horizon = journal.lock_horizon()
    with journal.snapshot() as db, lenient(db):
        for table in (tables.secrets, tables.rotations, tables.leases):
            # What has ended is decided on by nobody.
            query = sa.select(table)
            if table is not tables.secrets:
                query = query.where(table.c.ended_at.is_(None))
            for row in _rows(db, query):
                where = f"{table.name}, row {row[next(iter(table.primary_key)).name]}"
                seals.check(report, where, table, row)
                if table is tables.secrets:
                    _check_lock(report, where, row, 0, horizon)
        definitions.check(db, report)
    return report


def _checkpoints(
    db: Connection, report: AuditReport, public_key: str | None, anchor: Anchor | None
) -> tuple[SignedHeads, dict[int, str]]:
    """Check the chain of checkpoints; return what they speak for, and the hash of each."""
    heads = SignedHeads(report)
    expected, prev = 1, chain.START
    by_number: dict[int, str] = {}
    signers = None if public_key is None else _signers(db, public_key)
    query = sa.select(tables.checkpoints).order_by(tables.checkpoints.c.number)
    for row in db.execute(query).mappings():
        number = row["number"]
        where = f"checkpoint {number}"
        if number != expected:
            report.add(f"checkpoint {expected}", "is missing")
        if row["prev_hash"] != prev:
            report.add(where, "does not follow the checkpoint before it")
        hashed = chain.checkpoint_hash(number, row["at"], row["heads"], row["prev_hash"])
        if hashed != row["hash"]:
            report.add(where, "its content was changed: the hash does not match")
        if signers is not None:
            signers.check(report, row)
        heads.take(number, row["heads"])
        by_number[number] = row["hash"]
        expected, prev = number + 1, row["hash"]
    report.checkpoints = len(by_number)
    if signers is not None:
        signers.end(report)
        report.handovers = signers.handovers
    if anchor is not None and by_number.get(anchor.number) != anchor.hash:
        report.add(
            f"checkpoint {anchor.number}",
            "differs from the number and hash that are stored beside the signing key: the"
            " journal was truncated or restored to an older state",
            restore=f"checkpoint {anchor.number} {anchor.hash}",
        )
    return heads, by_number


def _signers(db: Connection, public_key: str) -> Signers:
    checkpoints = tables.checkpoints.c
    named = checkpoints.heads.contains(f'"{PREVIOUS}":')
    query = sa.select(checkpoints.heads).where(named).order_by(checkpoints.number)
    return Signers(public_key, first_of(db.execute(query).scalars()))


class _Seals:
    """The seals of mutable rows: made with the key since it was introduced."""

    def __init__(self, key: EventKey | None, *, is_keyed: bool) -> None:
        self.key: EventKey | None = key
        self._is_keyed: bool = is_keyed

    def check(self, report: AuditReport, where: str, table: Table, row: rows.Row) -> None:
        if self.key is not None:
            expected = self.key.seal(table, row)
        elif not self._is_keyed:
            expected = rows.plain_seal(table, row)
        elif str(row["seal"]).startswith(KEYED):
            # Only a holder of the key could tell.
            return
        else:
            expected = None
        if expected != row["seal"]:
            report.add(where, "was changed: its seal does not match")


class _Folds:
    """The records that the events add up to, computed again.

    Most events change no record, so only those that may are turned into values; that is what
    makes a million events a matter of seconds.
    """

    def __init__(self) -> None:
        self.secrets: dict[str, SecretRecord] = {}
        self.rotations: dict[str, RotationFold] = {}
        self.leases: dict[str, LeaseRecord] = {}
        self.ids: set[str] = set()
        # For each secret the fence of its last event.
        self.fences: dict[str, int] = {}
        # Acknowledgements of restores: the event's number, what is acknowledged, and why.
        self._acknowledged: list[tuple[int, tuple[str, ...], str]] = []
        # For each secret that goes on under another name: the end of the chain that it follows.
        self.follows: dict[str, tuple[str, int, str]] = {}

    def fold(self, event: Event, record: SecretFold, *, of_rotation: bool, of_secret: bool) -> None:
        """Take in an event; `record`: that of its secret."""
        rotation_id = event.rotation_id
        if event.kind not in _STEP_KINDS:
            self._note(event)
        if rotation_id is not None and event.kind in LEASE_KINDS:
            lease = fold_lease(self.leases.get(rotation_id), event)
            if lease is not None:
                self.leases[rotation_id] = lease
        elif rotation_id is not None and of_rotation:
            rotation = self.rotations.get(rotation_id) or RotationFold()
            if rotation.add(event):
                self.rotations[rotation_id] = rotation
        if of_secret:
            record.add(event)

    def _note(self, event: Event) -> None:
        data = event.data
        if event.kind is Kind.ACKNOWLEDGED and event.secret == JOURNAL:
            why = text(data, "reason") or ""
            self._acknowledged.append((event.seq, texts(data, "restores"), why))
        if event.kind is Kind.RENAMED and "from" in data:
            end = str(data["from"]), int(str(data["from_seq"])), str(data["from_hash"])
            self.follows[event.secret] = end

    def acknowledged(self, signed: int | None) -> dict[str, str]:
        """Return what was acknowledged, and why. `signed`: only what is signed up to there counts."""
        return {
            restore: why
            for seq, restores, why in self._acknowledged
            if signed is None or seq <= signed
            for restore in restores
        }


def _events(
    db: Connection, report: AuditReport, heads: SignedHeads, key: EventKey | None
) -> _Folds:
    """Check every chain; return what the events add up to."""
    folds = _Folds()
    keys = {} if key is None else key.by_id()
    for secret, chained in groupby(stream(db), key=itemgetter(0)):
        one = _Chain(secret, report, heads, keys, folds)
        for row in chained:
            one.take(row)
        one.end()
    for secret, (before, seq, hashed) in folds.follows.items():
        events = tables.events.c
        query = sa.select(events.hash).where(events.secret == before, events.seq == seq)
        if db.execute(query).scalar() != hashed:
            report.add(
                f"secret {secret}",
                f"does not follow event {seq} of {before}, which it names as its predecessor",
            )
    report.secrets, report.rotations = len(folds.secrets), len(folds.rotations)
    return folds


class _Chain:
    """The chain of one secret as far as it has been checked, and what it adds up to."""

    __slots__: tuple[str, ...] = (
        *("_eras", "_fence", "_folds", "_hash", "_head", "_heads", "_keys", "_made"),
        *("_name", "_next", "_record", "_report", "_signed", "_until", "_wants"),
    )

    def __init__(
        self,
        name: str,
        report: AuditReport,
        heads: SignedHeads,
        keys: Mapping[str, EventKey],
        folds: _Folds,
    ) -> None:
        """`keys`: of events, by their id."""
        self._name: str = name
        self._report: AuditReport = report
        self._heads: SignedHeads = heads
        self._keys: Mapping[str, EventKey] = keys
        self._folds: _Folds = folds
        self._hash: Callable[..., str] = chain.ChainHash(name).of
        self._signed: Collection[int] = heads.entries(name)
        # Up to which event which key authenticated them, None for no key; and the one of this event.
        self._eras: Iterator[tuple[int, str | None]] = iter(
            [*heads.eras(name), (_FOREVER, heads.key)]
        )
        self._until: int = 0
        self._made: Callable[[str, object], bool] | None = None
        self._wants: bool = False
        self._record: SecretFold = SecretFold(name)
        self._next: int = 1
        self._head: str = chain.START
        self._fence: int = 0

    def take(self, row: tuple[Any, ...]) -> None:
        """Check the event that comes next, step onto it, and fold it."""
        _, seq, at, actor, fence, kind, rotation_id, step, data, prev, hashed, mac = row
        report = self._report
        report.events += 1
        try:
            if self._hash(seq, at, actor, fence, kind, rotation_id, step, data, prev) != hashed:
                self._add(seq, "was changed: its hash does not match")
            if seq != self._next:
                report.add(place(self._name, self._next, seq - 1), "missing")
            if prev != self._head:
                self._add(seq, "does not follow the event before it")
            if fence < self._fence:
                self._add(seq, "has an older fence than the event before it")
            if self._wants or mac is not None or seq > self._until:
                self._check_code(seq, hashed, mac)
            if seq in self._signed:
                self._heads.check_entry(self._name, seq, hashed)
            self._next, self._head, self._fence = seq + 1, hashed, fence
        except UNREADABLE:
            self._add(seq, "is unreadable")
            self._next += 1
        folds = self._folds
        if rotation_id is not None:
            folds.ids.add(rotation_id)
        try:
            of_rotation = of_secret = True
            if kind in _STEP_EVENTS:
                # Where the target draws the key, `create` finds the login.
                of_rotation = (kind, step) in _TELLING_ROTATION or (
                    step == "create" and '"login"' in data
                )
                of_secret = (kind, step) in _TELLING_SECRET or (
                    data != "{}" and _TELLING_FACTS(data) is not None
                )
                if not of_rotation and not of_secret:
                    return
            event = rows.read_event(row)
            folds.fold(event, self._record, of_rotation=of_rotation, of_secret=of_secret)
        except UNREADABLE:
            self._add(seq, "is unreadable")

    def end(self) -> None:
        """Check that nothing is missing at its end, and keep what it adds up to."""
        name, last = self._name, self._next - 1
        self._report.unsigned_events += self._heads.check_end(name, last)
        self._folds.secrets[name] = self._record.record(seq=last, head=self._head)
        self._folds.fences[name] = self._fence

    def _check_code(self, seq: int, hashed: str, mac: object) -> None:
        if seq > self._until:
            self._enter(seq)
        if self._made is not None:
            if not self._made(hashed, mac):
                self._add(seq, "was not written by rotator: its code does not match the key")
        elif (mac is None) == self._wants:
            self._add(seq, "its code is missing, or precedes the introduction of any key")

    def _enter(self, seq: int) -> None:
        """Go on to the key that authenticates this event."""
        while seq > self._until:
            self._until, id_ = next(self._eras)
            key = None if id_ is None else self._keys.get(id_)
            self._made = None if key is None else key.made
            self._wants = id_ is not None

    def _add(self, seq: object, what: str) -> None:
        self._report.add(f"secret {self._name}, event {seq}", what)


def stream(db: Connection) -> Iterator[tuple[Any, ...]]:
    """Yield every event as the database holds it, one secret after the other, each in its order."""
    # The driver's own rows: the columns are texts and numbers, and there may be millions.
    driver: Any = db.connection.driver_connection
    table = tables.events
    query = sa.select(table).order_by(table.c.secret, table.c.seq)
    if db.dialect.name != "sqlite":
        # Only a cursor with a name leaves the rows on the server.
        yield from _fetch(driver.cursor("events"), str(query.compile(db.engine)))
        return
    last: tuple[Any, ...] | None = None
    driver.text_factory = str
    try:
        for row in _fetch(driver.cursor(), str(query.compile(db.engine))):
            last = row
            yield row
    except UndecodableText as error:
        # Bytes that are no text, where we have only ever written text: read on from there as well
        # as can be, so that the place can be named.
        if "decode" not in str(error):
            raise
        driver.text_factory = _LENIENT
        rest = "SELECT * FROM events WHERE ? OR (secret, seq) > (?, ?) ORDER BY secret, seq"
        yield from _fetch(driver.cursor(), rest, (last is None, *(last or (None, None))[:2]))
    finally:
        driver.text_factory = _LENIENT


def _fetch(cursor: Any, statement: str, values: tuple[object, ...] = ()) -> Iterator[Any]:
    try:
        cursor.execute(statement, values)
        size = _BATCH_OF_FILE if isinstance(cursor, Cursor) else _BATCH
        while batch := cursor.fetchmany(size):
            yield from batch
    finally:
        cursor.close()


@contextmanager
def lenient(db: Connection) -> Generator[None]:
    """Read also bytes that are no text: SQLite takes them, and an attacker may have put them there."""
    driver: Any = db.connection.driver_connection
    if db.dialect.name != "sqlite":
        yield
        return
    driver.text_factory = _LENIENT
    try:
        yield
    finally:
        driver.text_factory = str


def _secrets(
    db: Connection, report: AuditReport, folds: _Folds, horizon: datetime, seals: _Seals
) -> None:
    held: set[str] = set()
    folded = folds.secrets
    for row in _rows(db, sa.select(tables.secrets)):
        name = row["name"]
        held.add(name)
        where = f"secrets, row {name}"
        seals.check(report, where, tables.secrets, row)
        expected = rows.secret_row(folded.get(name, SecretRecord(name=name)))
        _compare(report, where, expected, row)
        _check_lock(report, where, row, folds.fences.get(name, 0), horizon)
    for name in folded:
        if name not in held:
            report.add(f"secrets, row {name}", "missing, although the journal has events of it")


def _check_lock(
    report: AuditReport, where: str, row: rows.Read, last: int, horizon: datetime
) -> None:
    """Check what of a lock can be known: no event says who holds one."""
    fence = row["lease_fence"]
    if not isinstance(fence, int) or not last <= fence < rows.FENCE_LIMIT:
        what = f"rotator issued no lock with this number; the last event has {last}"
        report.add(f"{where}, column lease_fence", what)
    if (row["lease_holder"] is None) != (row["lease_expires"] is None):
        report.add(
            f"{where}, column lease_holder",
            "a lock must have both a holder and an end, or neither",
        )
    elif row["lease_expires"] is not None:
        end = rows.lock_end(row)
        if end is None or end > horizon:
            report.add(f"{where}, column lease_expires", "longer than any lock of rotator")


def _folded(
    db: Connection,
    report: AuditReport,
    table: Table,
    folded: Mapping[str, rows.Row],
    seals: _Seals,
) -> None:
    """Check the rows of rotations or leases against what their events add up to."""
    noun, held = table.name.removesuffix("s"), set[str]()
    for row in _rows(db, sa.select(table)):
        name = row["id"]
        held.add(name)
        where = f"{table.name}, row {name}"
        seals.check(report, where, table, row)
        expected = folded.get(name)
        if expected is None:
            report.add(where, f"the journal has no events of this {noun}")
        else:
            _compare(report, where, expected, row)
    for name in folded:
        if name not in held:
            report.add(
                f"{table.name}, row {name}", "missing, although the journal has events of it"
            )


def _rows(db: Connection, query: sa.Select[Any]) -> Iterator[rows.Row]:
    """Yield the rows of a table as the driver has them: there may be millions."""
    names = [column.name for column in query.selected_columns]
    driver: Any = db.connection.driver_connection
    for row in _fetch(driver.cursor(), str(query.compile(db.engine))):
        yield dict(zip(names, row, strict=True))


def _compare(report: AuditReport, where: str, expected: rows.Row, row: rows.Row) -> None:
    if row == row | expected:
        return
    for column, value in expected.items():
        if row[column] != value:
            report.add(f"{where}, column {column}", "does not match the events")
