"""What a daemon asks the journal for again and again: each query costs by what it finds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from rotator.core.worklist import Counts, DueEntry, OpenRotation, WatchedSecret
from rotator.journal import rows, tables

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from rotator.journal.sql import SqlJournal

_secrets, _rotations = tables.secrets, tables.rotations
# What is no secret has a chain too: the journal as a whole, and leases.
_SECRET = _secrets.c.name.not_like("(%")
_IDLE = sa.and_(_secrets.c.parked.is_(None), _secrets.c.open_rotation.is_(None))
_PAGE = 1_000


class SqlWorklist:
    """The agenda of a journal in an SQL database."""

    def __init__(self, journal: SqlJournal) -> None:
        """Nothing is asked yet."""
        self._journal: SqlJournal = journal
        now, after, limit = sa.bindparam("now"), sa.bindparam("after"), sa.bindparam("limit")
        self._due = (
            sa.select(_secrets)
            .where(_IDLE, _secrets.c.next_due <= now, _secrets.c.next_due > after)
            .order_by(_secrets.c.next_due)
            .limit(limit)
        )

    def due(self, now: datetime, limit: int, after: datetime | None = None) -> list[DueEntry]:
        """Return what is due, longest first: nothing that is parked or has a rotation open."""
        since = rows.stamp(after) if after is not None else ""
        given = {"now": rows.stamp(now), "after": since, "limit": limit}
        with self._journal.reading() as db:
            found = db.execute(self._due, given).mappings()
            return [_reckoned(row) for row in found]

    def soonest(self) -> DueEntry | None:
        """Return what is due next, or is due already; None where nothing has a date."""
        query = sa.select(_secrets).where(_IDLE, _secrets.c.next_due.is_not(None))
        with self._journal.reading() as db:
            row = db.execute(query.order_by(_secrets.c.next_due).limit(1)).mappings().first()
        return None if row is None else _reckoned(row)

    def opened(self) -> list[OpenRotation]:
        """Return the rotations that are open, but for parked ones."""
        query = sa.select(_secrets.c.name, _secrets.c.open_rotation, _secrets.c.seq).where(
            _secrets.c.open_rotation.is_not(None), _secrets.c.parked.is_(None)
        )
        with self._journal.reading() as db:
            return [
                OpenRotation(secret=name, rotation_id=rotation, seq=seq)
                for name, rotation, seq in db.execute(query)
            ]

    def watched(self) -> list[WatchedSecret]:
        """Return the secrets in an incident that is not closed, but for parked ones."""
        query = sa.select(_secrets).where(tables.IN_INCIDENT, _secrets.c.parked.is_(None))
        with self._journal.reading() as db:
            records = [rows.secret_from(row) for row in db.execute(query).mappings()]
        return [
            WatchedSecret(secret=one.name, at=one.prove_at)
            for one in records
            if one.prove_at is not None
        ]

    def leaked(self, limit: int) -> list[str]:
        """Return the secrets with a reported leak, the newest report first."""
        events = tables.events
        newest = sa.func.max(events.c.at)
        query = (
            sa.select(events.c.secret)
            .where(tables.REPORTS_LEAK)
            .group_by(events.c.secret)
            .order_by(newest.desc(), events.c.secret)
            .limit(limit)
        )
        with self._journal.reading() as db:
            return list(db.execute(query).scalars())

    def reckoned(self) -> Iterator[DueEntry]:
        """Go through every secret that the journal knows, by name, a page at a time."""
        after = ""
        while True:
            query = (
                sa.select(_secrets)
                .where(_secrets.c.name > after, _secrets.c.seq > 0, _SECRET)
                .order_by(_secrets.c.name)
                .limit(_PAGE)
            )
            with self._journal.reading() as db:
                page = [_reckoned(row) for row in db.execute(query).mappings()]
            yield from page
            if len(page) < _PAGE:
                return
            after = page[-1].name

    def counts(self, now: datetime, overdue: datetime) -> Counts:
        """Return how many secrets are in which state. `overdue`: due since before that."""
        count, known = sa.func.count(), sa.and_(_secrets.c.seq > 0, _SECRET)
        # Also while a rotation is open that has published nothing yet, as of a host that is away.
        due, unparked = self._due_since(), _secrets.c.parked.is_(None)
        query = sa.select(
            count.filter(known),
            count.filter(unparked, due <= rows.stamp(now)),
            count.filter(unparked, due <= rows.stamp(overdue)),
            count.filter(_secrets.c.parked.is_not(None)),
            count.filter(_secrets.c.open_rotation.is_not(None)),
            count.filter(_secrets.c.lease_holder.is_not(None)),
            sa.func.min(_secrets.c.since).filter(known),
        )
        with self._journal.reading() as db:
            row = db.execute(query).one()
        return Counts(
            known=row[0],
            due=row[1],
            overdue=row[2],
            parked=row[3],
            opened=row[4],
            locked=row[5],
            oldest=None if row[6] is None else rows.moment(row[6]),
        )

    def _due_since(self) -> sa.ColumnElement[str]:
        """Return when a secret is, or was, due: its next try is later where a failure moved it."""
        details = _secrets.c.details
        if self._journal.database.dialect.name == "sqlite":
            moved: sa.ColumnElement[str] = sa.func.json_extract(details, "$.due_since")
        else:
            from sqlalchemy.dialects import postgresql  # noqa: PLC0415 # as in `dialects`

            moved = sa.cast(details, postgresql.JSON)["due_since"].astext
        return sa.func.coalesce(moved, _secrets.c.next_due)


def _reckoned(row: rows.Read) -> DueEntry:
    record = rows.secret_from(row)
    return DueEntry(
        name=record.name,
        next_due=record.next_due,
        since=record.since,
        rotated_at=record.rotated_at,
        timing=record.timing,
        parked=record.parked is not None,
        due=record.due,
    )
