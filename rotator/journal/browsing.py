"""What the web console asks the journal for: what has changed, and events a page at a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from rotator.core.errors import JournalBroken
from rotator.journal import rows, tables
from rotator.journal.chain import START
from rotator.journal.event_key import require_chain

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rotator.core.history import SecretRecord
    from rotator.core.model import Event
    from rotator.journal.sql import SqlJournal

_events, _secrets = tables.events, tables.secrets
# How many records one query returns, and how many blocks of PostgreSQL's table a page reads.
_AT_ONCE: Final = 500
_BLOCKS: Final = 16
_BLOCK_SIZE: Final = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Events, newest first. `older`: what the next page begins at; None where there is none.

    `damage`: where the hashes of these events do not follow from each other.
    """

    events: Sequence[Event]
    older: int | None = None
    damage: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedUntil:
    """The newest checkpoint."""

    number: int
    at: datetime
    key_id: str


class Browser:
    """Reads a journal without its key: it checks hashes, and cannot authenticate who wrote them."""

    def __init__(self, journal: SqlJournal) -> None:
        """Nothing is asked yet."""
        self._journal: SqlJournal = journal
        self._sqlite: bool = journal.database.dialect.name == "sqlite"

    def mark(self) -> tuple[int, int]:
        """Return a mark that is another one after each append: the sequence numbers only grow."""
        query = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(_secrets.c.seq), 0))
        with self._journal.reading() as db:
            count, total = db.execute(query).one()
        return int(count), int(total)

    def sequences(self) -> dict[str, int]:
        """Return the newest sequence number of each secret that has events."""
        query = sa.select(_secrets.c.name, _secrets.c.seq).where(_secrets.c.seq > 0)
        with self._journal.reading() as db:
            return {row[0]: row[1] for row in db.execute(query)}

    def records(self, names: Iterable[str]) -> dict[str, SecretRecord]:
        """Return the records of these secrets; unknown ones are left out."""
        wanted, found = list(names), dict[str, Any]()
        with self._journal.reading() as db:
            for start in range(0, len(wanted), _AT_ONCE):
                part = wanted[start : start + _AT_ONCE]
                query = sa.select(_secrets).where(_secrets.c.name.in_(part), _secrets.c.seq > 0)
                for row in db.execute(query).mappings():
                    found[row["name"]] = rows.secret_from(row)
        return found

    def of_secret(self, secret: str, limit: int, before: int | None = None) -> Page:
        """Return the newest events of a secret, or those below the sequence number `before`."""
        query = sa.select(_events).where(_events.c.secret == secret)
        if before is not None:
            query = query.where(_events.c.seq < before)
        query = query.order_by(_events.c.seq.desc()).limit(limit)
        with self._journal.reading() as db:
            found = [dict(row) for row in db.execute(query).mappings()]
        if not found:
            return Page(events=())
        first = found[-1]["seq"]
        return Page(
            events=[rows.event_from(row) for row in found],
            older=first if first > 1 else None,
            damage=_damage(found[::-1], secret),
        )

    def newest(self, limit: int, before: int | None = None) -> Page:
        """Return the newest events of all secrets, or those before a place that a page has named.

        The table only grows, so its own order is that of time: by SQLite's rowid, by PostgreSQL's block.
        """
        return self._by_rowid(limit, before) if self._sqlite else self._by_block(limit, before)

    def checkpoint(self) -> SignedUntil | None:
        """Return the newest checkpoint; None where there is none."""
        points = tables.checkpoints
        query = sa.select(points.c.number, points.c.at, points.c.key_id)
        with self._journal.reading() as db:
            row = db.execute(query.order_by(points.c.number.desc()).limit(1)).first()
        if row is None:
            return None
        return SignedUntil(number=row[0], at=datetime.fromisoformat(row[1]), key_id=row[2])

    def _by_rowid(self, limit: int, before: int | None) -> Page:
        rowid = sa.literal_column("events.rowid")
        query = sa.select(rowid.label("place"), _events)
        if before is not None:
            query = query.where(rowid < before)
        with self._journal.reading() as db:
            found = list(db.execute(query.order_by(rowid.desc()).limit(limit)).mappings())
        older = found[-1]["place"] if len(found) == limit and found[-1]["place"] > 1 else None
        return Page(events=[rows.event_from(row) for row in found], older=older)

    def _by_block(self, limit: int, before: int | None) -> Page:
        size = sa.text("SELECT pg_relation_size('events') / :size")
        with self._journal.reading() as db:
            end = int(db.execute(size, {"size": _BLOCK_SIZE}).scalar() or 0)
            end = end if before is None else min(before, end)
            found, at = list[Any](), end
            while len(found) < limit and at > 0:
                start = max(0, at - _BLOCKS)
                part = sa.text("ctid >= CAST(:start AS tid) AND ctid < CAST(:stop AS tid)")
                query = sa.select(_events).where(part).order_by(_events.c.at.desc())
                given = {"start": f"({start},0)", "stop": f"({at},0)"}
                found += list(db.execute(query, given).mappings())
                at = start
        return Page(events=[rows.event_from(row) for row in found], older=at or None)


def _damage(found: list[rows.Row], secret: str) -> str | None:
    first = found[0]
    try:
        require_chain(found, secret, seq=first["seq"])
    except JournalBroken as error:
        return error.what
    if first["seq"] == 1 and first["prev_hash"] != START:
        return "its first event names one before it."
    return None
