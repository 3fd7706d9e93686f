"""The signs of a journal in an SQL database."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from rotator.core.signs import Sign, SignKind
from rotator.journal import rows, tables
from rotator.journal.chain import canonical

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from rotator.journal.sql import SqlJournal

_signs = tables.signs


class SqlSigns:
    """Keeps signs beside the chain."""

    def __init__(self, journal: SqlJournal) -> None:
        """Nothing is asked yet."""
        self._journal: SqlJournal = journal

    def put(self, sign: Sign) -> bool:
        """Write a sign in the place of the one before it; return whether there was none."""
        with self._journal.signing() as db:
            return _put(db, sign)

    def remove(self, kind: SignKind, subject: str) -> Sign | None:
        """Forget a sign and return it."""
        gone = sa.delete(_signs).where(_is(kind), _signs.c.subject == subject)
        with self._journal.signing() as db:
            row = db.execute(gone.returning(*_signs.c)).mappings().first()
            return None if row is None else _sign(row)

    def replace(self, kind: SignKind, prefix: str, signs: Sequence[Sign]) -> None:
        """Put `signs` in the place of all of this kind whose subject begins with `prefix`."""
        begins = _signs.c.subject.startswith(prefix, autoescape=True)
        with self._journal.signing() as db:
            _ = db.execute(sa.delete(_signs).where(_is(kind), begins))
            for sign in signs:
                _put(db, sign)

    def all(self, kind: SignKind) -> list[Sign]:
        """Return the signs of a kind, by subject."""
        query = sa.select(_signs).where(_is(kind)).order_by(_signs.c.subject)
        with self._journal.reading() as db:
            return [_sign(row) for row in db.execute(query).mappings()]


def _sign(row: rows.Read) -> Sign:
    return Sign(
        kind=SignKind(row["kind"]),
        subject=row["subject"],
        at=datetime.fromisoformat(row["at"]),
        until=rows.moment(row["until"]),
        data=json.loads(row["data"]),
    )


def _is(kind: SignKind) -> sa.ColumnElement[bool]:
    return _signs.c.kind == kind.value


def _put(db: Connection, sign: Sign) -> bool:
    values = {
        "at": rows.stamp(sign.at),
        "until": None if sign.until is None else rows.stamp(sign.until),
        "data": canonical(sign.data),
    }
    dialect = sqlite if db.dialect.name == "sqlite" else postgresql
    whole = {"kind": sign.kind.value, "subject": sign.subject, **values}
    if db.execute(dialect.insert(_signs).values(whole).on_conflict_do_nothing()).rowcount == 1:
        return True
    key = (_is(sign.kind), _signs.c.subject == sign.subject)
    _ = db.execute(sa.update(_signs).where(*key).values(values))
    return False
