"""The leases of a journal in an SQL database: each question costs by what it finds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from rotator.core.leases import OPEN_STATES
from rotator.journal import rows, tables
from rotator.journal.current_key import current_key

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from sqlalchemy import Connection

    from rotator.core.leases import LeaseRecord
    from rotator.journal.sql import SqlJournal
    from rotator.journal.statements import Prepared

_leases = tables.leases
_OPEN = _leases.c.next_at.is_not(None)


class SqlLeases:
    """Reads leases; they are written with their events."""

    def __init__(self, journal: SqlJournal, by_id: Prepared) -> None:
        """Nothing is asked yet."""
        self.journal: SqlJournal = journal
        self._by_id: Prepared = by_id

    @current_key
    def get(self, lease: str) -> LeaseRecord | None:
        """Return one lease by its id."""
        with self.journal.reading() as db:
            return self.within(db, lease)

    def within(self, db: Connection, lease: str) -> LeaseRecord | None:
        """Return one lease, read in a transaction that goes on."""
        row = self._by_id.first(db, {"id_": lease})
        return None if row is None else self._authentic(row)

    @current_key
    def open(self, secret: str | None = None) -> list[LeaseRecord]:
        """Return the leases that have not ended, by their end."""
        query = sa.select(_leases).where(_OPEN).order_by(_leases.c.ends_at)
        return self._found(query if secret is None else query.where(_leases.c.secret == secret))

    def count(self, secret: str) -> int:
        """Return how many leases of a secret have not ended."""
        query = sa.select(sa.func.count()).where(_leases.c.secret == secret, _OPEN)
        with self.journal.reading() as db:
            return db.execute(query).scalar_one()

    @current_key
    def due(self, now: datetime, limit: int, secret: str | None = None) -> list[LeaseRecord]:
        """Return the leases about which there is something to do, longest first."""
        due = sa.select(_leases).where(_leases.c.next_at <= rows.stamp(now))
        due = due.order_by(_leases.c.next_at).limit(limit)
        return self._found(due if secret is None else due.where(_leases.c.secret == secret))

    def counts(self) -> dict[str, int]:
        """Return how many leases are in which state: those that have not ended."""
        count, stranded = sa.func.count(), sa.func.count().filter(_leases.c.failures > 0)
        query = sa.select(_leases.c.state, count, stranded).where(_OPEN).group_by(_leases.c.state)
        found: dict[str, int] = dict.fromkeys(OPEN_STATES, 0)
        with self.journal.reading() as db:
            for state, number, failing in db.execute(query):
                found[state] = number
                found["stranded"] += failing
        return found

    @current_key
    def recent(self, limit: int, secret: str | None = None) -> list[LeaseRecord]:
        """Return the newest leases, ended or not, newest first."""
        query = sa.select(_leases).order_by(_leases.c.requested_at.desc()).limit(limit)
        return self._found(query if secret is None else query.where(_leases.c.secret == secret))

    def _found(self, query: sa.Select[tuple[object, ...]]) -> list[LeaseRecord]:
        with self.journal.reading() as db:
            found: Iterable[rows.Read] = db.execute(query).mappings()
            return [self._authentic(dict(row)) for row in found]

    def _authentic(self, row: rows.Row) -> LeaseRecord:
        self.journal.require(_leases, row)
        return rows.lease_from(row)
