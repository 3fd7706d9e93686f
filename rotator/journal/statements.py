"""What the journal says to its database: each statement is compiled once in a process."""

from __future__ import annotations

from contextlib import contextmanager
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from rotator.journal import rows, tables

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from sqlalchemy import ClauseElement, Connection, Dialect

_events, _secrets, _rotations = tables.events, tables.secrets, tables.rotations

_NAMED: Final = _secrets.c.name == sa.bindparam("name_")
_LAST_FENCE: Final = (
    sa.select(_events.c.fence)
    .where(_events.c.secret == _secrets.c.name, _events.c.seq == _secrets.c.seq)
    .scalar_subquery()
    .label("last_fence")
)
_leases = tables.leases
_LEASE: Final = _leases.c.id == sa.bindparam("id_")
_WITH_ID: Final = _rotations.c.id == sa.bindparam("id_")
_TAKE: Final = (
    sa.update(_secrets)
    .where(_NAMED)
    .values({name: sa.bindparam(name) for name in (*rows.SECRET_COLUMNS, "seal")})
)


class Prepared:
    """A statement in the driver's own words, run by its own cursor: a rotation runs a few dozen of them."""

    def __init__(self, statement: ClauseElement, dialect: Dialect) -> None:
        self._statement: ClauseElement = statement
        self._dialect: Dialect = dialect

    def run(self, db: Connection, values: rows.Row) -> int:
        """Execute it and return how many rows it changed; values that it does not name are ignored."""
        return execute(db, self._text, self._given(values)).rowcount

    def run_many(self, db: Connection, many: Sequence[rows.Row]) -> None:
        """Execute it for each row."""
        if len(many) == 1:
            _ = self.run(db, many[0])
            return
        with _errors(db, self._text):
            _driver(db).cursor().executemany(self._text, [self._given(one) for one in many])

    def first(self, db: Connection, values: rows.Row) -> rows.Row | None:
        """Execute it and return the first row, if there is one."""
        found = self.all(db, values)
        return found[0] if found else None

    def all(self, db: Connection, values: rows.Row) -> list[rows.Row]:
        """Execute it and return the rows."""
        with _errors(db, self._text):
            cursor = _driver(db).cursor()
            cursor.execute(self._text, self._given(values))
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def _given(self, values: rows.Row) -> Any:
        return values if self._order is None else tuple(values[name] for name in self._order)

    @cached_property
    def _compiled(self) -> Any:
        return self._statement.compile(dialect=self._dialect)

    @cached_property
    def _text(self) -> str:
        return self._compiled.string

    @cached_property
    def _order(self) -> Sequence[str] | None:
        """The order in which a driver without names wants its values."""
        return self._compiled.positiontup


def execute(db: Connection, text: str, values: Any = ()) -> Any:
    """Execute a statement by the driver's own cursor, in the transaction of `db`; return the cursor."""
    with _errors(db, text):
        return _driver(db).cursor().execute(text, values)


def _driver(db: Connection) -> Any:
    return db.connection.driver_connection


@contextmanager
def _errors(db: Connection, text: str) -> Generator[None]:
    """Raise the errors of a driver as SQLAlchemy does; a connection that is lost is not used again."""
    dbapi = db.dialect.loaded_dbapi
    try:
        yield
    except dbapi.Error as error:
        if db.dialect.is_disconnect(error, _driver(db), None):
            db.invalidate(error)
        raise DBAPIError.instance(text, None, error, dbapi.Error) from error


def statements(dialect: Dialect) -> Statements:
    """Return the statements for one kind of database."""
    return _statements(type(dialect), dialect.paramstyle)


@cache
def _statements(kind: type[Dialect], paramstyle: str) -> Statements:
    make: Any = kind
    return Statements(make(paramstyle=paramstyle))


class Statements:
    """Those that a rotation needs, for one kind of database."""

    def __init__(self, dialect: Dialect) -> None:
        def prepared(statement: ClauseElement) -> Prepared:
            return Prepared(statement, dialect)

        self.secret: Prepared = prepared(sa.select(_secrets).where(_NAMED))
        self.secret_locked: Prepared = prepared(
            sa.select(_secrets, _LAST_FENCE).where(_NAMED).with_for_update(of=_secrets)
        )
        self.take_lock: Prepared = prepared(_TAKE)
        # The fence, checked by the write itself: whoever has been overtaken changes no row.
        self.save_secret: Prepared = prepared(
            _TAKE.where(
                _secrets.c.lease_fence == sa.bindparam("fence_"),
                _secrets.c.lease_holder == sa.bindparam("holder_"),
                _secrets.c.seq == sa.bindparam("seq_"),
                # As it was read: a new key seals every row anew, and what the older one wrote after
                # that would not be authentic.
                _secrets.c.seal == sa.bindparam("seal_"),
            )
        )
        self.rotation: Prepared = prepared(sa.select(_rotations).where(_WITH_ID))
        self.open_rotation: Prepared = prepared(
            sa.select(_rotations).where(
                _rotations.c.secret == sa.bindparam("name_"), _rotations.c.ended_at.is_(None)
            )
        )
        self.add_rotation: Prepared = prepared(sa.insert(_rotations))
        self.save_rotation: Prepared = prepared(
            sa.update(_rotations)
            .where(_WITH_ID)
            .values({name: sa.bindparam(name) for name in (*rows.ROTATION_COLUMNS, "seal")})
        )
        self.lease: Prepared = prepared(sa.select(_leases).where(_LEASE))
        self.add_lease: Prepared = prepared(sa.insert(_leases))
        self.save_lease: Prepared = prepared(
            sa.update(_leases)
            .where(_LEASE)
            .values({name: sa.bindparam(name) for name in (*rows.LEASE_COLUMNS, "seal")})
        )
        self.add_events: Prepared = prepared(sa.insert(_events))
        self.history: Prepared = prepared(
            sa.select(_events)
            .where(_events.c.rotation_id == sa.bindparam("id_"))
            .order_by(_events.c.secret, _events.c.seq)
        )
