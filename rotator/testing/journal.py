"""A journal with many events in it, quickly: for measuring."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

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

_STEPS = (Step.STAGE, Step.CREATE, Step.VERIFY, Step.PUBLISH, Step.DRAIN, Step.REVOKE)


def fill(journal: SqlJournal, *, secrets: int, rotations: int) -> int:
    """Write finished rotations as the engine would, in bulk; return the number of events."""
    count = 0
    for number in range(secrets):
        name = f"secret-{number:06}"
        record, prev, seq = SecretRecord(name=name), START, 0
        events: list[rows.Row] = []
        ended: list[rows.Row] = []
        for turn in range(rotations):
            rotation: RotationRecord | None = None
            for kind, step, data in _one(turn):
                seq += 1
                at = rows.stamp(BEGINNING + timedelta(seconds=seq))
                values = (
                    name, seq, at, "fill", turn + 1, kind.value, f"{name}-{turn}",
                    step.value if step else None, canonical(data), prev,
                )  # fmt: skip
                prev = event_hash(*values)
                row = dict(zip(rows.EVENT_COLUMNS, (*values, prev), strict=True))
                events.append(row)
                event = rows.event_from(row)
                record, rotation = fold_secret(record, event), fold_rotation(rotation, event)
            if rotation is not None:
                ended.append(rows.sealed(tables.rotations, rows.rotation_row(rotation)))
        lease = {"lease_holder": None, "lease_fence": rotations, "lease_expires": None}
        held = rows.sealed(tables.secrets, rows.secret_row(record) | lease)
        with journal.database.begin() as db:
            _ = db.execute(sa.insert(tables.secrets), held)
            _ = db.execute(sa.insert(tables.events), events)
            _ = db.execute(sa.insert(tables.rotations), ended)
        count += len(events)
    return count


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
