"""Whatever is changed in the journal behind our back, `audit verify` names the place."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from rotator.core.secret import Secret
from rotator.journal import audit, chain, tables
from rotator.journal.checkpoints import Anchor, checkpoint
from rotator.journal.sql import SqlJournal
from tests.journal.conftest import TTL, rotate

NOW = datetime(2026, 1, 2, tzinfo=UTC)
KEYS = {table.name: [c.name for c in table.primary_key] for table in tables.metadata.sorted_tables}


@pytest.fixture(scope="module")
def signing_key() -> Secret:
    return chain.new_signing_key()


@pytest.fixture
def audited(journal: SqlJournal, signing_key: Secret) -> SqlJournal:
    """A journal of two secrets and four rotations, with two checkpoints and without triggers.

    Whoever can write to the database can drop its triggers first.
    """
    rotate(journal, "web", 2)
    rotate(journal, "batch", 2)
    checkpoint(journal, signing_key, NOW)
    rotate(journal, "web", 3)
    journal.append(journal.acquire("batch", "somebody", TTL), [], TTL)
    checkpoint(journal, signing_key, NOW)
    with journal.writing() as db:
        if db.dialect.name == "sqlite":
            found = db.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'")
            for (name,) in found.fetchall():
                db.exec_driver_sql(f"DROP TRIGGER {name}")
        else:
            for name in tables.APPEND_ONLY:
                db.exec_driver_sql(f"DROP TRIGGER {name}_append_only ON {name}")
    return journal


def places(journal: SqlJournal, key: Secret, anchor: Anchor | None = None) -> list[str]:
    report = audit.verify(journal, public_key=chain.public_key(key), anchor=anchor)
    return [f"{one.where}: {one.what}" for one in report.damage]


def undone(
    journal: SqlJournal, act: Callable[[sa.Connection], object], look: Callable[[], list[str]]
) -> list[str]:
    """Return what `look` finds after `act`; then put everything back."""
    kept: dict[str, list[dict]] = {}
    with journal.writing() as db:
        for table in tables.metadata.sorted_tables:
            kept[table.name] = [dict(row) for row in db.execute(sa.select(table)).mappings()]
        act(db)
    found = look()
    with journal.writing() as db:
        for table in tables.metadata.sorted_tables:
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
    with journal.snapshot() as db:
        return [dict(row) for row in db.execute(sa.select(table)).mappings()]


def at(table: sa.Table, row: dict) -> sa.ColumnElement[bool]:
    return sa.and_(*(table.c[name] == row[name] for name in KEYS[table.name]))


def place_of(table: sa.Table, row: dict) -> str:
    """Return how a finding names this row."""
    if table is tables.events:
        return f"secret {row['secret']}, event {row['seq']}"
    if table is tables.checkpoints:
        return f"checkpoint {row['number']}"
    return f"{table.name}, row {row[KEYS[table.name][0]]}"


def named(place: str, found: list[str]) -> bool:
    """Whether a finding is of exactly this place: event 1 is not event 13."""
    return any(one.startswith((f"{place}:", f"{place},")) for one in found)


def test_an_untouched_journal_is_found_sound(audited: SqlJournal, signing_key: Secret):
    """Nothing is reported where nothing was done, so that the tests below can fail."""
    assert places(audited, signing_key) == []


@pytest.mark.parametrize("table", tables.metadata.sorted_tables, ids=lambda table: table.name)
def test_every_change_of_every_column_is_found(
    audited: SqlJournal, signing_key: Secret, table: sa.Table
):
    """Each column of each row is changed in turn, and the row (or its place) is named."""
    missed = []
    numbers = {c.name for c in table.columns if isinstance(c.type, sa.Integer)}
    for row in rows_of(audited, table):
        for column in row:
            others = [0, 7] if row[column] is None and column in numbers else changed(row[column])
            for value in others:
                found = undone(
                    audited,
                    lambda db, row=row, column=column, value=value: db.execute(
                        sa.update(table).where(at(table, row)).values({column: value})
                    ),
                    lambda: places(audited, signing_key),
                )
                moved = place_of(table, row | {column: value})
                if not (named(place_of(table, row), found) or named(moved, found)):
                    missed.append((place_of(table, row), column, value, found))
    assert missed == []


@pytest.mark.parametrize("table", tables.metadata.sorted_tables, ids=lambda table: table.name)
def test_every_removed_row_is_found(audited: SqlJournal, signing_key: Secret, table: sa.Table):
    """A row that is gone is named by its place."""
    missed = []
    for row in rows_of(audited, table):
        found = undone(
            audited,
            lambda db, row=row: db.execute(sa.delete(table).where(at(table, row))),
            lambda: places(audited, signing_key, anchor(audited)),
        )
        if not named(place_of(table, row), found):
            missed.append((place_of(table, row), found))
    assert missed == []


def anchor(journal: SqlJournal) -> Anchor:
    # As it was before: the fixture writes two.
    return anchors[journal.place]


anchors: dict[str, Anchor] = {}


@pytest.fixture(autouse=True)
def _keep_anchor(request: pytest.FixtureRequest):
    """Keep the newest checkpoint outside, as the application does."""
    if "audited" in request.fixturenames:
        journal: SqlJournal = request.getfixturevalue("audited")
        newest = rows_of(journal, tables.checkpoints)[-1]
        anchors[journal.place] = Anchor(number=newest["number"], hash=newest["hash"])


def test_every_swapped_pair_of_events_is_found(audited: SqlJournal, signing_key: Secret):
    """Two neighbours of a chain that change places are named."""
    events = [row for row in rows_of(audited, tables.events) if row["secret"] == "web"]
    for one, other in itertools.pairwise(events):

        def swap(db: sa.Connection, one: dict = one, other: dict = other) -> None:
            for row in (one, other):
                db.execute(sa.delete(tables.events).where(at(tables.events, row)))
            db.execute(
                sa.insert(tables.events),
                [one | {"seq": other["seq"]}, other | {"seq": one["seq"]}],
            )

        found = undone(audited, swap, lambda: places(audited, signing_key))
        assert any(f"secret web, event {one['seq']}:" in place for place in found)


def rewrite(db: sa.Connection, secret: str, keep: int) -> None:
    """Cut the tail of a chain, and make everything that is derived agree: a careful attacker."""
    from rotator.core.history import SecretRecord, fold_rotation, fold_secret
    from rotator.journal import rows

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
    lease = {"lease_holder": None, "lease_fence": 9, "lease_expires": None}
    row = rows.sealed(tables.secrets, rows.secret_row(record) | lease)
    db.execute(sa.update(tables.secrets).where(tables.secrets.c.name == secret).values(row))


@pytest.mark.parametrize("keep", [1, 13, 14, 15, 27])
def test_a_cut_tail_is_found_by_the_checkpoint_though_all_rows_agree(
    audited: SqlJournal, signing_key: Secret, keep: int
):
    """The attacker makes every derived row fit; only the signature still speaks for the tail."""
    found = undone(
        audited, lambda db: rewrite(db, "web", keep), lambda: places(audited, signing_key)
    )
    assert any(
        f"secret web, event{'s' if keep < 27 else ''} {keep + 1}" in one
        and "missing: checkpoint 2" in one
        for one in found
    )


def test_a_dropped_secret_is_found(audited: SqlJournal, signing_key: Secret):
    """Every row of a secret is removed; the checkpoints still speak for it."""

    def drop(db: sa.Connection) -> None:
        db.execute(sa.delete(tables.events).where(tables.events.c.secret == "batch"))
        db.execute(sa.delete(tables.rotations).where(tables.rotations.c.secret == "batch"))
        db.execute(sa.delete(tables.secrets).where(tables.secrets.c.name == "batch"))

    found = undone(audited, drop, lambda: places(audited, signing_key))
    assert any("secret batch: was dropped: checkpoint 1" in one for one in found)


def test_an_older_state_put_back_is_found_by_what_was_kept_outside(
    audited: SqlJournal, signing_key: Secret
):
    """Checkpoints and events are cut together to a state that once was valid."""

    def put_back(db: sa.Connection) -> None:
        rewrite(db, "web", 14)
        db.execute(sa.delete(tables.checkpoints).where(tables.checkpoints.c.number == 2))

    inside = undone(audited, put_back, lambda: places(audited, signing_key))
    outside = undone(audited, put_back, lambda: places(audited, signing_key, anchor(audited)))
    assert inside == []
    assert any(
        "checkpoint 2: is not the one whose number and hash were kept" in one for one in outside
    )


def test_a_rotation_that_only_the_backend_knows_is_found(audited: SqlJournal):
    """The backend's own memory shows that the journal was put back."""
    report = audit.verify(audited, seen={"web": {"web-2", "web-9"}})
    assert [one.where for one in report.damage] == ["secret web"]
    assert "web-9" in report.damage[0].what


def test_a_checkpoint_signed_with_another_key_is_found(audited: SqlJournal):
    """Somebody else's key does not pass for ours."""
    found = places(audited, chain.new_signing_key())
    assert any("checkpoint 1: was signed with another key" in one for one in found)
    assert any("checkpoint 2: its signature is not valid" in one for one in found)


@pytest.mark.parametrize("statement", ["UPDATE {} SET {} = {}", "DELETE FROM {}"])
@pytest.mark.parametrize(("table", "column"), [("events", "actor"), ("checkpoints", "at")])
def test_the_database_itself_refuses_to_change_what_was_written(
    journal: SqlJournal, signing_key: Secret, statement: str, table: str, column: str
):
    """The triggers stop an honest mistake; the audit finds the rest."""
    rotate(journal, "web", 2)
    checkpoint(journal, signing_key, NOW)
    with pytest.raises(sa.exc.DBAPIError, match="append-only"), journal.database.begin() as db:
        db.exec_driver_sql(statement.format(table, column, "'x'"))


def test_postgresql_refuses_to_truncate(journal: SqlJournal):
    """TRUNCATE would empty a table without touching a row."""
    if journal.url.get_backend_name() == "sqlite":
        pytest.skip("SQLite has no TRUNCATE")
    with pytest.raises(sa.exc.DBAPIError, match="append-only"), journal.database.begin() as db:
        db.exec_driver_sql("TRUNCATE events")
