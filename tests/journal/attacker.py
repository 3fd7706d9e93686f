"""What somebody can do who may write to the journal's database, and how a finding names it."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

from rotator.core.history import SecretRecord, fold_rotation, fold_secret
from rotator.core.secret import Secret
from rotator.journal import audit, chain, rows, tables
from rotator.journal.checkpoints import Anchor
from rotator.journal.key_ring import KeyRing
from rotator.journal.requests import SqlRequests, Writer
from rotator.journal.sql import SqlJournal
from rotator.testing.fakes import ManualClock

KEYS = {table.name: [c.name for c in table.primary_key] for table in tables.AUDITED}


def drop_triggers(journal: SqlJournal) -> None:
    """Whoever can write to the database can drop its triggers first."""
    with journal.writing() as db:
        if db.dialect.name == "sqlite":
            found = db.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'")
            for (name,) in found.fetchall():
                db.exec_driver_sql(f"DROP TRIGGER {name}")
        else:
            for name in tables.APPEND_ONLY:
                db.exec_driver_sql(f"DROP TRIGGER {name}_append_only ON {name}")


def places(journal: SqlJournal, key: Secret, anchor: Anchor | None = None) -> list[str]:
    """Return what is found, but for the triggers: the journals that are attacked have none."""
    trusts = request_log(journal, key).trusts
    report = audit.verify(journal, public_key=chain.public_key(key), anchor=anchor, trusts=trusts)
    found = [one for one in report.damage if not one.where.startswith("trigger ")]
    return [f"{one.where}: {one.what}" for one in found]


def request_log(
    journal: SqlJournal, key: Secret, *, own: bool = False, own_key: Secret | None = None
) -> SqlRequests:
    """Return the requests of engines; with `own`, of a console, whose own key is the same here.

    `own_key`: where the key of engines was replaced, and that of the console was not.
    """
    event_key = KeyRing.parse(key).key(None)
    key = own_key or key
    return SqlRequests(
        journal,
        ManualClock(),
        own=lambda: Writer(name="console", key=key) if own else None,
        writers={"console": chain.public_key(key)},
        event_key=lambda: event_key,
    )


def newest_checkpoint(journal: SqlJournal) -> Anchor:
    """Return what the application keeps outside the database."""
    newest = rows_of(journal, tables.checkpoints)[-1]
    return Anchor(number=newest["number"], hash=newest["hash"])


def undone(
    journal: SqlJournal, act: Callable[[sa.Connection], object], look: Callable[[], list[str]]
) -> list[str]:
    """Return what `look` finds after `act`; then put everything back."""
    kept: dict[str, list[dict]] = {}
    with journal.writing() as db:
        for table in tables.AUDITED:
            kept[table.name] = [dict(row) for row in db.execute(sa.select(table)).mappings()]
        act(db)
    found = look()
    with journal.writing() as db:
        for table in tables.AUDITED:
            db.execute(sa.delete(table))
            if kept[table.name]:
                db.execute(sa.insert(table), kept[table.name])
    return found


def changed(value: object) -> list[object]:
    """Return other values than this one, of the kind that the column takes."""
    if isinstance(value, int):
        # Far from its neighbours, so that the change of a key is a change and not a clash.
        return [value + 1000, value - 1000]
    if value is None:
        return ["", "x"]
    text = str(value)
    flipped = ("0" if text[-1:] != "0" else "1") if text else "x"
    return [text + " ", text[:-1] + flipped]


def rows_of(journal: SqlJournal, table: sa.Table) -> list[dict]:
    query = sa.select(table).order_by(*table.primary_key)
    with journal.snapshot() as db:
        return [dict(row) for row in db.execute(query).mappings()]


def at(table: sa.Table, row: dict) -> sa.ColumnElement[bool]:
    return sa.and_(*(table.c[name] == row[name] for name in KEYS[table.name]))


def place_of(table: sa.Table, row: dict) -> str:
    """Return how a finding names this row."""
    if table is tables.events:
        return f"secret {row['secret']}, event {row['seq']}"
    if table is tables.requests:
        return f"requests of writer {row['writer']}, entry {row['seq']}"
    if table is tables.checkpoints:
        return f"checkpoint {row['number']}"
    return f"{table.name}, row {row[KEYS[table.name][0]]}"


def named(place: str, found: list[str]) -> bool:
    """Whether a finding is of exactly this place: event 1 is not event 13."""
    return any(one.startswith((f"{place}:", f"{place},")) for one in found)


def rewrite(db: sa.Connection, secret: str, keep: int) -> None:
    """Cut the tail of a chain, and make everything that is derived agree: a careful attacker."""
    events = tables.events
    db.execute(sa.delete(events).where(events.c.secret == secret, events.c.seq > keep))
    db.execute(sa.delete(tables.rotations).where(tables.rotations.c.secret == secret))
    record, rotations = SecretRecord(name=secret), {}
    query = sa.select(events).where(events.c.secret == secret).order_by(events.c.seq)
    for row in db.execute(query).mappings():
        event = rows.event_from(dict(row))
        record = fold_secret(record, event)
        rotations[event.rotation_id] = fold_rotation(rotations.get(event.rotation_id), event)
    for one in rotations.values():
        db.execute(
            sa.insert(tables.rotations), rows.sealed(tables.rotations, rows.rotation_row(one))
        )
    lock = {"lease_holder": None, "lease_fence": 9, "lease_expires": None}
    row = rows.sealed(tables.secrets, rows.secret_row(record) | lock)
    db.execute(sa.update(tables.secrets).where(tables.secrets.c.name == secret).values(row))
