"""Counted reads in the journal's database, beside the chain, and how far each log was read."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from rotator.core.reads import KEPT, CountedReads, Holder, Publication
from rotator.journal import rows, tables
from rotator.journal.dialects import insert

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sqlalchemy import Connection

    from rotator.core.ports import Clock
    from rotator.journal.sql import SqlJournal

_reads, _logs = tables.reads, tables.read_logs
_KEY: Final = (_reads.c.secret, _reads.c.version, _reads.c.identity, _reads.c.address)


class SqlReads:
    """Keeps counted reads."""

    def __init__(self, journal: SqlJournal, clock: Clock) -> None:
        """Nothing is asked yet."""
        self._journal: SqlJournal = journal
        self._clock: Clock = clock

    def position(self, log: str) -> int:
        """Return how far a log was read; 0 for one that was never read."""
        query = sa.select(_logs.c.position).where(_logs.c.log == log)
        with self._journal.reading() as db:
            return db.execute(query).scalar() or 0

    def add(
        self, reads: Collection[CountedReads], *, log: str | None, before: int, after: int
    ) -> bool:
        """Add reads and note the new position of their log, in one transaction.

        False, and nothing is written, when another process has read this part of the log meanwhile.
        """
        now = self._clock.now()
        with self._journal.writing() as db:
            if log is not None and not _move(db, log, before, after, rows.stamp(now)):
                return False
            _add(db, reads)
        return True

    def prune(self) -> int:
        """Forget reads, and positions of logs, that are older than `KEPT`; return the number of rows."""
        limit = rows.stamp(self._clock.now() - KEPT)
        with self._journal.signing() as db:
            gone = db.execute(sa.delete(_reads).where(_reads.c.last < limit)).rowcount
            _ = db.execute(sa.delete(_logs).where(_logs.c.at < limit))
            return gone

    def of(self, secrets: Sequence[str], since: datetime | None = None) -> list[CountedReads]:
        """Return the reads of a secret, given with its former names, whose last one is not before `since`."""
        query = sa.select(_reads).where(_reads.c.secret.in_(secrets)).order_by(*_KEY)
        if since is not None:
            query = query.where(_reads.c.last >= rows.stamp(since))
        with self._journal.reading() as db:
            return [_counted(row) for row in db.execute(query).mappings()]

    def publications(self, secrets: Sequence[str]) -> list[Publication]:
        """Return the versions that a secret has served, in the order of time."""
        rotations = tables.rotations
        query = (
            sa.select(
                rotations.c.old_version,
                rotations.c.new_version,
                rotations.c.published_at,
                rotations.c.ended_at,
            )
            .where(rotations.c.secret.in_(secrets))
            .order_by(sa.func.coalesce(rotations.c.published_at, rotations.c.started_at))
        )
        serving = sa.select(tables.secrets.c.version).where(tables.secrets.c.name == secrets[0])
        with self._journal.reading() as db:
            found = db.execute(query).all()
            current = db.execute(serving).scalar()
        served: list[Publication] = []
        ended: str | None = None
        for old, new, at, end in found:
            if not served and old is not None:
                served.append(Publication(version=old, at=None))
            if new is not None and at is not None:
                served.append(Publication(version=new, at=datetime.fromisoformat(at)))
                ended = end
        if current is not None and (not served or served[-1].version != current):
            # Adopted, or rolled back: then the former value has a version of its own.
            back = datetime.fromisoformat(ended) if served and ended is not None else None
            served.append(Publication(version=current, at=back))
        return served

    def holders(self, login: str, at: datetime, secrets: Collection[str] = ()) -> list[Holder]:
        """Return who had read a login by a time: one query over rotations, adopted versions and reads.

        `secrets`: only of these.
        """
        rotations, managed = tables.rotations, tables.secrets
        versions = sa.union(
            sa.select(rotations.c.secret, rotations.c.new_version.label("version")).where(
                rotations.c.new_login == login, rotations.c.new_version.is_not(None)
            ),
            sa.select(rotations.c.secret, rotations.c.old_version.label("version")).where(
                rotations.c.old_login == login, rotations.c.old_version.is_not(None)
            ),
            sa.select(managed.c.name.label("secret"), managed.c.version).where(
                managed.c.login == login, managed.c.version.is_not(None)
            ),
        ).subquery()
        query = (
            sa.select(_reads)
            .join(
                versions,
                sa.and_(
                    versions.c.secret == _reads.c.secret, versions.c.version == _reads.c.version
                ),
            )
            .where(_reads.c.first <= rows.stamp(at))
            .order_by(_reads.c.first, *_KEY)
        )
        if secrets:
            query = query.where(_reads.c.secret.in_(secrets))
        with self._journal.reading() as db:
            return [
                Holder(
                    secret=one.secret,
                    login=login,
                    version=one.version,
                    identity=one.identity,
                    address=one.address,
                    first=one.first,
                    last=one.last,
                    count=one.count,
                )
                for one in map(_counted, db.execute(query).mappings())
            ]


def _move(db: Connection, log: str, before: int, after: int, at: str) -> bool:
    """Note a new position, unless another process has moved it since; return whether it was noted."""
    moved = (
        sa.update(_logs)
        .where(_logs.c.log == log, _logs.c.position == before)
        .values(position=after, at=at)
    )
    if db.execute(moved).rowcount == 1:
        return True
    if before:
        return False
    new = (
        insert(_logs, db.dialect.name)
        .values(log=log, position=after, at=at)
        .on_conflict_do_nothing()
    )
    return db.execute(new.returning(_logs.c.log)).first() is not None


def _add(db: Connection, reads: Collection[CountedReads]) -> None:
    if not reads:
        return
    is_sqlite = db.dialect.name == "sqlite"
    least, greatest = (sa.func.min, sa.func.max) if is_sqlite else (sa.func.least, sa.func.greatest)
    adding = insert(_reads, db.dialect.name)
    new = adding.excluded
    statement = adding.on_conflict_do_update(
        index_elements=[column.name for column in _KEY],
        set_={
            "first": least(_reads.c.first, new["first"]),
            "last": greatest(_reads.c.last, new["last"]),
            "count": _reads.c.count + new["count"],
        },
    )
    # In one order: two processes that add the same rows do not wait for each other in a circle.
    ordered = sorted(reads, key=lambda one: (one.secret, one.version, one.identity, one.address))
    _ = db.execute(statement, [_row(one) for one in ordered])


def _row(one: CountedReads) -> dict[str, object]:
    return {
        "secret": one.secret,
        "version": one.version,
        "identity": one.identity,
        "address": one.address,
        "first": rows.stamp(one.first),
        "last": rows.stamp(one.last),
        "count": one.count,
    }


def _counted(row: rows.Read) -> CountedReads:
    return CountedReads(
        secret=row["secret"],
        version=row["version"],
        identity=row["identity"],
        address=row["address"],
        first=datetime.fromisoformat(row["first"]),
        last=datetime.fromisoformat(row["last"]),
        count=row["count"],
    )
