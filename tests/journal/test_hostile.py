"""Values that no rotator ever wrote: `audit verify` names their place and does not stumble."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from rotator.core.secret import Secret
from rotator.journal import tables
from rotator.journal.sql import SqlJournal
from tests.journal.attacker import named, places, rows_of, undone


@pytest.fixture
def on_sqlite(audited: SqlJournal) -> SqlJournal:
    if audited.url.get_backend_name() != "sqlite":
        pytest.skip("PostgreSQL keeps no value of another type than its column's")
    return audited


@pytest.mark.parametrize("value", ["x'ff00fe'", "CAST(x'6162ff' AS TEXT)", "1.5", "''"])
@pytest.mark.parametrize("table", tables.AUDITED, ids=lambda table: table.name)
def test_values_of_another_type_are_found(
    on_sqlite: SqlJournal, signing_key: Secret, table: sa.Table, value: str
):
    """SQLite keeps what it is given: bytes, bytes that are no text, fractions, texts for numbers."""
    missed = []
    key = [column.name for column in table.primary_key]
    row = rows_of(on_sqlite, table)[-1]
    where = " AND ".join(f"{name} = :{name}" for name in key)
    given = {name: row[name] for name in key}
    for column in table.columns:
        if table is tables.checkpoints and column.name == "number":
            continue  # a rowid: SQLite itself refuses anything but a whole number
        statement = sa.text(f"UPDATE {table.name} SET {column.name} = {value} WHERE {where}")
        found = undone(
            on_sqlite,
            lambda db, statement=statement: db.execute(statement, given),
            lambda: places(on_sqlite, signing_key),
        )
        if not found:
            missed.append(column.name)
    assert missed == []


def test_events_behind_unreadable_bytes_are_still_checked(
    on_sqlite: SqlJournal, signing_key: Secret
):
    """Both places are named, and nothing else."""

    def spoil(db: sa.Connection) -> None:
        db.exec_driver_sql(
            "UPDATE events SET actor = CAST(x'61ff' AS TEXT) WHERE secret = 'batch' AND seq = 3"
        )
        db.exec_driver_sql("UPDATE events SET actor = 'x' WHERE secret = 'web' AND seq = 20")

    found = undone(on_sqlite, spoil, lambda: places(on_sqlite, signing_key))
    assert found == [
        "secret batch, event 3: was changed: its hash does not match",
        "secret web, event 20: was changed: its hash does not match",
    ]


@pytest.mark.parametrize(
    "heads",
    [
        "",
        "[]",
        "{",
        '{"web": 5}',
        '{"web": ["x", "y"]}',
        '{"web": [null, null]}',
        '{"web": [99, null]}',
        "[" * 100_000,
    ],
)
def test_a_checkpoint_that_cannot_be_read_is_found(
    audited: SqlJournal, signing_key: Secret, heads: str
):
    """Whatever stands in it."""
    found = undone(
        audited,
        lambda db: db.execute(
            sa.update(tables.checkpoints)
            .where(tables.checkpoints.c.number == 2)
            .values(heads=heads)
        ),
        lambda: places(audited, signing_key),
    )
    assert named("checkpoint 2", found)


@pytest.mark.parametrize("data", ["", "[]", "5", "{", '{"outcome": "?"}', "[" * 100_000])
def test_an_event_that_cannot_be_read_is_found(audited: SqlJournal, signing_key: Secret, data: str):
    """Here the one that ends a rotation, which the folds must read."""
    events = tables.events
    found = undone(
        audited,
        lambda db: db.execute(
            sa.update(events).where(events.c.kind == "ended", events.c.seq == 28).values(data=data)
        ),
        lambda: places(audited, signing_key),
    )
    assert named("secret web, event 28", found)


def test_a_finding_cannot_steer_the_terminal(audited: SqlJournal, signing_key: Secret):
    """Control characters of a forged name are shown as what they are."""
    secrets = tables.secrets
    found = undone(
        audited,
        lambda db: db.execute(
            sa.update(secrets).where(secrets.c.name == "web").values(name="\x1b[2Jweb")
        ),
        lambda: places(audited, signing_key),
    )
    assert named("secrets, row \\x1b[2Jweb", found)
