"""`audit verify`: does the journal still say what was once written into it?

Everything is computed again from the texts in the tables: each event's hash and its place in its
chain, the records that are folds of the events, the seals of the mutable rows, the checkpoints
with their signatures, and what was kept outside the database.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from rotator.core.history import RotationRecord, SecretRecord, fold_rotation, fold_secret
from rotator.core.model import Kind, Step
from rotator.journal import chain, rows, tables

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy import Connection

    from rotator.journal.checkpoints import Anchor
    from rotator.journal.sql import SqlJournal

_BATCH: Final = 10_000
_SEQ, _FENCE, _KIND, _ROTATION, _STEP, _DATA, _PREV, _HASH = 1, 4, 5, 6, 7, 8, 9, 10
# Step events, and those of them that say more than how far a rotation has got.
_STEP_EVENTS: Final = frozenset({"started", "finished", "failed", "waiting"})
_TELLING: Final = frozenset(
    {
        ("finished", "stage"),
        ("finished", "publish"),
        ("finished", "revoke"),
        ("finished", "restore"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """One place where the journal does not say what was written. `where` names it exactly."""

    where: str
    what: str


@dataclass(slots=True, kw_only=True)
class AuditReport:
    """What a verification found. `signatures`: whether they were checked against a public key."""

    events: int = 0
    secrets: int = 0
    rotations: int = 0
    checkpoints: int = 0
    signatures: bool = False
    unsigned_events: int = 0
    damage: list[Damage] = field(default_factory=list[Damage])

    @property
    def ok(self) -> bool:
        """Whether nothing is amiss."""
        return not self.damage

    def add(self, where: str, what: str) -> None:
        """Note one place."""
        self.damage.append(Damage(where=where, what=what))


def verify(
    journal: SqlJournal,
    *,
    public_key: str | None = None,
    anchor: Anchor | None = None,
    seen: Mapping[str, set[str]] | None = None,
) -> AuditReport:
    """Check the whole journal.

    `public_key` (PEM) checks the signatures; without it chains and folds are still checked.
    `anchor`: the newest checkpoint as it was kept outside. `seen`: for each secret the rotation
    ids that its backend holds; one that the journal does not know shows that the database was put
    back to an older state.
    """
    report = AuditReport(signatures=public_key is not None)
    with journal.snapshot() as db:
        heads = _Heads(db, report, public_key, anchor)
        folded = _events(db, report, heads)
        _secrets(db, report, folded.secrets)
        _rotations(db, report, folded.rotations)
    heads.missing(report, {name for name, record in folded.secrets.items() if record.seq})
    for secret, ids in (seen or {}).items():
        for unknown in sorted(ids - folded.ids):
            report.add(
                f"secret {secret}",
                f"its backend holds rotation {unknown}, which the journal does not know: "
                "was the database put back to an older state?",
            )
    return report


class _Heads:
    """The checkpoints: what the chains are known, by signature, to have looked like."""

    def __init__(
        self, db: Connection, report: AuditReport, public_key: str | None, anchor: Anchor | None
    ) -> None:
        # (secret, seq) -> hash, of every head that a checkpoint speaks for.
        self.at: dict[tuple[str, int], tuple[str, int]] = {}
        self.newest: dict[str, tuple[int, int]] = {}
        expected, prev = 1, chain.START
        by_number: dict[int, str] = {}
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
                report.add(where, "its content was changed: the hash is another")
            if public_key is not None:
                if row["key_id"] != chain.key_id(public_key):
                    report.add(where, f"was signed with another key ({row['key_id']})")
                if not chain.signed(public_key, row["hash"], row["signature"]):
                    report.add(where, "its signature is not valid")
            self._take(row["heads"], number, where, report)
            by_number[number] = row["hash"]
            expected, prev = number + 1, row["hash"]
        report.checkpoints = len(by_number)
        if anchor is not None and by_number.get(anchor.number) != anchor.hash:
            report.add(
                f"checkpoint {anchor.number}",
                "is not the one whose number and hash were kept beside the signing key: "
                "the journal was cut or put back to an older state",
            )

    def _take(self, text: str, number: int, where: str, report: AuditReport) -> None:
        try:
            for name, (seq, head) in json.loads(text).items():
                self.at[name, seq] = (head, number)
                self.newest[name] = (seq, number)
        except (ValueError, TypeError, AttributeError):
            report.add(where, "its content cannot be read")

    def signed_up_to(self, secret: str) -> int:
        return self.newest.get(secret, (0, 0))[0]

    def missing(self, report: AuditReport, present: set[str]) -> None:
        for name, (seq, number) in self.newest.items():
            if name not in present:
                report.add(
                    f"secret {name}",
                    f"was dropped: checkpoint {number} speaks for {seq} events of it, and none is left",
                )


class _Folds:
    """The records that the events add up to, computed again.

    Most events only move a rotation's newest step along, so only those that say more are turned
    into values; that is what makes a million events a matter of seconds.
    """

    def __init__(self, report: AuditReport) -> None:
        self.secrets: dict[str, SecretRecord] = {}
        self.rotations: dict[str, RotationRecord] = {}
        self.ids: set[str] = set()
        self._newest_step: dict[str, tuple[str, str]] = {}
        self._report: AuditReport = report

    def add(self, row: tuple[Any, ...], record: SecretRecord) -> SecretRecord:
        """Return the secret's record after the event in `row`."""
        kind, rotation_id, step, data = row[_KIND], row[_ROTATION], row[_STEP], row[_DATA]
        if rotation_id is not None:
            self.ids.add(rotation_id)
            if step is not None:
                self._newest_step[rotation_id] = (step, kind)
        if kind in _STEP_EVENTS and (kind, step) not in _TELLING and '"next_due"' not in data:
            return record
        try:
            event = rows.event_from(dict(zip(rows.EVENT_COLUMNS, row, strict=True)))
            if rotation_id is not None:
                rotation = fold_rotation(self.rotations.get(rotation_id), event)
                if rotation is not None:
                    self.rotations[rotation_id] = rotation
            return fold_secret(record, event)
        except (ValueError, TypeError, KeyError, AttributeError):
            self._report.add(f"secret {row[0]}, event {row[_SEQ]}", "cannot be read")
            return record

    def finish(self) -> None:
        """Catch up on the newest steps, which `add` only noted."""
        for rotation_id, (step, kind) in self._newest_step.items():
            record = self.rotations.get(rotation_id)
            if record is not None:
                try:
                    moved = replace(record, step=Step(step), phase=Kind(kind))
                except ValueError:
                    self._report.add(f"rotation {rotation_id}", "has a step that cannot be read")
                else:
                    self.rotations[rotation_id] = moved


def _events(db: Connection, report: AuditReport, heads: _Heads) -> _Folds:
    """Check every chain; return what the events add up to."""
    folds = _Folds(report)
    for secret, chained in groupby(_stream(db), key=itemgetter(0)):
        record = SecretRecord(name=secret)
        prev, expected, fence = chain.START, 1, 0
        for row in chained:
            seq, hashed = row[_SEQ], row[_HASH]
            where = f"secret {secret}, event {seq}"
            if seq != expected:
                report.add(f"secret {secret}, {_span(expected, seq - 1)}", "missing")
            if chain.event_hash(*row[:_HASH]) != hashed:
                report.add(where, "was changed: its hash is another")
            if row[_PREV] != prev:
                report.add(where, "does not follow the event before it")
            if row[_FENCE] < fence:
                report.add(where, "carries an older fence than the event before it")
            signed = heads.at.get((secret, seq))
            if signed is not None and signed[0] != hashed:
                report.add(where, f"is not the one that checkpoint {signed[1]} signed")
            prev, expected, fence = hashed, seq + 1, row[_FENCE]
            report.events += 1
            record = folds.add(row, record)
        last = expected - 1
        signed_up_to = heads.signed_up_to(secret)
        if last < signed_up_to:
            report.add(
                f"secret {secret}, {_span(last + 1, signed_up_to)}",
                f"missing: checkpoint {heads.newest[secret][1]} speaks for them",
            )
        report.unsigned_events += max(0, last - signed_up_to)
        folds.secrets[secret] = replace(record, seq=last, head=prev)
    folds.finish()
    report.secrets, report.rotations = len(folds.secrets), len(folds.rotations)
    return folds


def _span(first: int, last: int) -> str:
    return f"event {first}" if first >= last else f"events {first} to {last}"


def _stream(db: Connection) -> Iterator[tuple[Any, ...]]:
    query = sa.select(tables.events).order_by(tables.events.c.secret, tables.events.c.seq)
    statement = str(query.compile(db.engine))
    # The driver's own rows: the columns are texts and numbers, and there may be millions.
    driver: Any = db.connection.driver_connection
    # On PostgreSQL only a cursor with a name leaves the rows on the server.
    cursor: Any = driver.cursor() if db.dialect.name == "sqlite" else driver.cursor("events")
    try:
        cursor.execute(statement)
        while batch := cursor.fetchmany(_BATCH):
            yield from batch
    finally:
        cursor.close()


def _secrets(db: Connection, report: AuditReport, folded: Mapping[str, SecretRecord]) -> None:
    held: set[str] = set()
    for row in db.execute(sa.select(tables.secrets)).mappings():
        name = row["name"]
        held.add(name)
        where = f"secrets, row {name}"
        if rows.sealed(tables.secrets, dict(row))["seal"] != row["seal"]:
            report.add(where, "was changed: its seal is another")
        expected = rows.secret_row(folded.get(name, SecretRecord(name=name)))
        _compare(report, where, expected, row)
    for name in folded:
        if name not in held:
            report.add(f"secrets, row {name}", "missing, though there are events of it")


def _rotations(db: Connection, report: AuditReport, folded: Mapping[str, RotationRecord]) -> None:
    held: set[str] = set()
    for row in db.execute(sa.select(tables.rotations)).mappings():
        name = row["id"]
        held.add(name)
        where = f"rotations, row {name}"
        if rows.sealed(tables.rotations, dict(row))["seal"] != row["seal"]:
            report.add(where, "was changed: its seal is another")
        record = folded.get(name)
        if record is None:
            report.add(where, "there are no events of this rotation")
        else:
            _compare(report, where, rows.rotation_row(record), row)
    for name in folded:
        if name not in held:
            report.add(f"rotations, row {name}", "missing, though there are events of it")


def _compare(report: AuditReport, where: str, expected: rows.Row, row: rows.Read) -> None:
    for column, value in expected.items():
        if row[column] != value:
            report.add(f"{where}, column {column}", "does not follow from the events")
