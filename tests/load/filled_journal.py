"""A journal with many events in it, quickly: for measuring."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from rotator.core.history import RotationRecord, SecretRecord, fold_rotation, fold_secret
from rotator.core.model import Kind, Outcome, Step
from rotator.journal import rows, tables
from rotator.journal.chain import START, canonical, event_hash
from rotator.testing.fakes import START as BEGINNING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rotator.core.model import Json
    from rotator.journal.sql import SqlJournal

_STEPS: Final = (Step.STAGE, Step.CREATE, Step.VERIFY, Step.PUBLISH, Step.DRAIN, Step.REVOKE)


def fill(journal: SqlJournal, *, secrets: int, rotations: int) -> int:
    """Write finished rotations as the engine would, in bulk; return the number of events."""
    count = 0
    for number in range(secrets):
        name = f"secret-{number:06}"
        events: list[rows.Row] = []
        ended: list[rows.Row] = []
        for turn in range(rotations):
            first = len(events)
            prev = events[-1]["hash"] if events else START
            for seq, (kind, step, data) in enumerate(_one(turn), start=first + 1):
                at = rows.stamp(BEGINNING + timedelta(seconds=seq))
                place = (name, seq, at, "fill", turn + 1, kind.value, f"{name}-{turn}")
                values = (*place, step.value if step else None, canonical(data), prev)
                prev = event_hash(*values)
                events.append(dict(zip(rows.EVENT_COLUMNS, (*values, prev, None), strict=True)))
            ended.append(_ended(events[first:]))
        with journal.writing() as db:
            _ = db.execute(sa.insert(tables.secrets), _secret(name, rotations, events))
            _ = db.execute(sa.insert(tables.events), events)
            _ = db.execute(sa.insert(tables.rotations), ended)
        count += len(events)
    return count


def _ended(events: list[rows.Row]) -> rows.Row:
    record: RotationRecord | None = None
    for row in events:
        # As `audit verify` does: what changes no record need not become a value.
        if row["kind"] != Kind.STARTED.value:
            record = fold_rotation(record, rows.event_from(row))
    assert record is not None
    return rows.sealed(tables.rotations, rows.rotation_row(record))


def _secret(name: str, rotations: int, events: list[rows.Row]) -> rows.Row:
    record = SecretRecord(name=name)
    for row in events:
        record = fold_secret(record, rows.event_from(row))
    lock = {"lease_holder": None, "lease_fence": rotations, "lease_expires": None}
    return rows.sealed(tables.secrets, rows.secret_row(record) | lock)


def _one(turn: int) -> Iterator[tuple[Kind, Step | None, dict[str, Json]]]:
    requested: dict[str, Json] = {"plugin": "fill", "strategy": "new-user", "reason": "measuring"}
    yield Kind.REQUESTED, None, requested
    for step in _STEPS:
        yield Kind.STARTED, step, {}
        data: dict[str, Json] = {"seconds": 0.0042}
        if step in (Step.STAGE, Step.PUBLISH):
            data |= {"login": f"app_{turn}", "version": str(turn + 1)}
        if step is Step.REVOKE:
            data |= {"refused": True}
        yield Kind.FINISHED, step, data
    yield Kind.ENDED, None, {"outcome": Outcome.DONE.value}
