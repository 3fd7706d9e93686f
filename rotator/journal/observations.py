"""The observations of a journal in an SQL database."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING

import sqlalchemy as sa

from rotator.core.observations import Observation, ObservationKind
from rotator.journal import rows, tables
from rotator.journal.chain import canonical
from rotator.journal.dialects import insert

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from rotator.journal.sql import SqlJournal

_observations = tables.observations


class SqlObservations:
    """Keeps observations beside the chain."""

    def __init__(self, journal: SqlJournal) -> None:
        """Nothing is asked yet."""
        self._journal: SqlJournal = journal

    def put(self, observation: Observation) -> bool:
        """Write an observation in the place of the one before it; return whether there was none."""
        with self._journal.signing() as db:
            return _put(db, observation)

    def remove(self, kind: ObservationKind, subject: str) -> Observation | None:
        """Forget an observation and return it."""
        gone = sa.delete(_observations).where(_is(kind), _observations.c.subject == subject)
        with self._journal.signing() as db:
            row = db.execute(gone.returning(*_observations.c)).mappings().first()
            return None if row is None else _observation(row)

    def replace(
        self, kind: ObservationKind, prefix: str, observations: Sequence[Observation]
    ) -> None:
        """Put `observations` in the place of all of this kind whose subject begins with `prefix`."""
        begins = _observations.c.subject.startswith(prefix, autoescape=True)
        with self._journal.signing() as db:
            _ = db.execute(sa.delete(_observations).where(_is(kind), begins))
            for observation in observations:
                _put(db, observation)

    def all(self, kind: ObservationKind) -> list[Observation]:
        """Return the observations of a kind, by subject."""
        query = sa.select(_observations).where(_is(kind)).order_by(_observations.c.subject)
        with self._journal.reading() as db:
            return [_observation(row) for row in db.execute(query).mappings()]


def _observation(row: rows.Read) -> Observation:
    return Observation(
        kind=ObservationKind(row["kind"]),
        subject=row["subject"],
        at=datetime.fromisoformat(row["at"]),
        until=rows.moment(row["until"]),
        data=json.loads(row["data"]),
    )


def _is(kind: ObservationKind) -> sa.ColumnElement[bool]:
    return _observations.c.kind == kind.value


def _put(db: Connection, observation: Observation) -> bool:
    values = {
        "at": rows.stamp(observation.at),
        "until": None if observation.until is None else rows.stamp(observation.until),
        "data": canonical(observation.data),
    }
    new = insert(_observations, db.dialect.name)
    whole = {"kind": observation.kind.value, "subject": observation.subject, **values}
    if db.execute(new.values(whole).on_conflict_do_nothing()).rowcount == 1:
        return True
    key = (_is(observation.kind), _observations.c.subject == observation.subject)
    _ = db.execute(sa.update(_observations).where(*key).values(values))
    return False
