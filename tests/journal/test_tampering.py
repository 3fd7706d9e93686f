"""Whatever is changed in the journal behind our back, `audit verify` names the place."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from rotator.core.model import Kind, NewEvent, Step
from rotator.core.secret import Secret
from rotator.journal import audit, chain, rows, tables
from rotator.journal.checkpoints import checkpoint
from rotator.journal.sql import SqlJournal
from rotator.testing.fakes import ManualClock
from tests.journal.attacker import (
    at,
    changed,
    named,
    newest_checkpoint,
    place_of,
    places,
    rewrite,
    rows_of,
    undone,
)
from tests.journal.conftest import NOW, TTL, rotate

if TYPE_CHECKING:
    from pathlib import Path


def test_an_untouched_journal_is_found_sound(audited: SqlJournal, signing_key: Secret):
    """Nothing is reported where nothing was done, so that the tests below can fail."""
    assert places(audited, signing_key) == []


@pytest.mark.parametrize("table", tables.AUDITED, ids=lambda table: table.name)
@pytest.mark.parametrize("of", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_every_change_of_every_column_is_found(
    audited: SqlJournal, signing_key: Secret, table: sa.Table, of: int
):
    """Each column of each row is changed in turn, and the row (or its place) is named.

    `of`: one change in so many, along diagonals, so that each column and each row is among them.
    """
    missed = []
    numbers = {c.name for c in table.columns if isinstance(c.type, sa.Integer)}
    for down, row in enumerate(rows_of(audited, table)):
        for across, column in enumerate(row):
            if (down + across) % of:
                continue
            others = [0, 7] if row[column] is None and column in numbers else changed(row[column])
            if row[column] is not None and table.c[column].nullable:
                others.append(None)
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


@pytest.mark.parametrize("table", tables.AUDITED, ids=lambda table: table.name)
def test_every_removed_row_is_found(audited: SqlJournal, signing_key: Secret, table: sa.Table):
    """A row that is gone is named by its place."""
    missed, anchor = [], newest_checkpoint(audited)
    for row in rows_of(audited, table):
        found = undone(
            audited,
            lambda db, row=row: db.execute(sa.delete(table).where(at(table, row))),
            lambda: places(audited, signing_key, anchor),
        )
        if not named(place_of(table, row), found):
            missed.append((place_of(table, row), found))
    assert missed == []


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


@pytest.mark.parametrize("writer", ["console", "rotator"])
def test_cut_requests_are_found_by_the_checkpoint(
    audited: SqlJournal, signing_key: Secret, writer: str
):
    """The newest entry, or all of a writer: the others agree, and a checkpoint speaks for them."""
    asked = tables.requests.c
    for cut, place in ((1, f"requests of writer {writer}, entry 2"), (0, "requests of writer ")):
        found = undone(
            audited,
            lambda db, cut=cut: db.execute(
                sa.delete(tables.requests).where(asked.writer == writer, asked.seq > cut)
            ),
            lambda: places(audited, signing_key),
        )
        assert len(found) == 1
        assert found[0].startswith(place)
        assert "checkpoint 2 covers" in found[0]


def test_swapped_requests_are_found(audited: SqlJournal, signing_key: Secret):
    """Two entries of a writer that change places are both named."""
    one, other = [row for row in rows_of(audited, tables.requests) if row["writer"] == "console"]

    def swap(db: sa.Connection) -> None:
        db.execute(sa.delete(tables.requests).where(tables.requests.c.writer == "console"))
        rows_ = [one | {"seq": other["seq"]}, other | {"seq": one["seq"]}]
        db.execute(sa.insert(tables.requests), rows_)

    found = undone(audited, swap, lambda: places(audited, signing_key))
    for row in (one, other):
        assert named(place_of(tables.requests, row), found)


def test_a_dropped_secret_is_found(audited: SqlJournal, signing_key: Secret):
    """Every row of a secret is removed; the checkpoints still speak for it."""

    def drop(db: sa.Connection) -> None:
        db.execute(sa.delete(tables.events).where(tables.events.c.secret == "batch"))
        db.execute(sa.delete(tables.rotations).where(tables.rotations.c.secret == "batch"))
        db.execute(sa.delete(tables.secrets).where(tables.secrets.c.name == "batch"))

    found = undone(audited, drop, lambda: places(audited, signing_key))
    assert any("secret batch: was deleted: checkpoint 1" in one for one in found)


def test_an_older_state_put_back_is_found_by_what_was_kept_outside(
    audited: SqlJournal, signing_key: Secret
):
    """Checkpoints and events are cut together to a state that once was valid."""

    def put_back(db: sa.Connection) -> None:
        rewrite(db, "web", 14)
        db.execute(sa.delete(tables.checkpoints).where(tables.checkpoints.c.number == 2))

    anchor = newest_checkpoint(audited)
    inside = undone(audited, put_back, lambda: places(audited, signing_key))
    outside = undone(audited, put_back, lambda: places(audited, signing_key, anchor))
    assert inside == []
    assert any(
        "checkpoint 2: differs from the number and hash that are stored" in one for one in outside
    )


def test_a_rotation_that_only_the_backend_knows_is_found(audited: SqlJournal):
    """The backend's own memory shows that the journal was put back."""
    report = audit.verify(audited, seen={"web": {"web-2", "web-9"}})
    (found,) = [one for one in report.damage if not one.where.startswith("trigger ")]
    assert found.where == "secret web"
    assert "web-9" in found.what


_LEASES = {
    "held until 2999": (
        {"lease_holder": "mallory", "lease_expires": "2999-01-01T00:00:00.000000+00:00"},
        "lease_expires",
    ),
    "held until a time without a zone": (
        {"lease_holder": "mallory", "lease_expires": "2999-01-01T00:00:00"},
        "lease_expires",
    ),
    "held until never": ({"lease_holder": "mallory", "lease_expires": "x"}, "lease_expires"),
    "held without an end": ({"lease_holder": "mallory", "lease_expires": None}, "lease_holder"),
    "an end without a holder": (
        {"lease_holder": None, "lease_expires": "2026-01-01T00:00:00.000000+00:00"},
        "lease_holder",
    ),
    "a fence of nothing": ({"lease_fence": 0}, "lease_fence"),
    "a negative fence": ({"lease_fence": -7}, "lease_fence"),
    "the greatest fence": ({"lease_fence": 2**31 - 1}, "lease_fence"),
}


def test_a_lease_that_no_rotator_took_is_found_and_stops_nothing(audited: SqlJournal):
    """The attacker seals the row anew. The next engine takes the lock all the same, with a true fence."""
    missed = []
    for number, (name, (changes, column)) in enumerate(_LEASES.items()):
        row = next(one for one in rows_of(audited, tables.secrets) if one["name"] == "web")
        with audited.writing() as db:
            forged = rows.sealed(tables.secrets, row | changes)
            db.execute(sa.update(tables.secrets).where(at(tables.secrets, row)).values(forged))
        if f"secrets, row web, column {column}" not in _places(audited):
            missed.append(name)
        rotate(audited, "web", 10 + number)
        assert _places(audited) == []
    assert missed == []


def _places(journal: SqlJournal) -> list[str]:
    found = [one.where for one in audit.verify(journal).damage]
    return [one for one in found if not one.startswith("trigger ")]


def test_a_checkpoint_signed_with_another_key_is_found(audited: SqlJournal):
    """Somebody else's key does not pass for ours."""
    found = places(audited, chain.new_signing_key())
    assert any("checkpoint 1: was signed with another key" in one for one in found)
    assert any("checkpoint 2: its signature is invalid" in one for one in found)


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


@pytest.mark.parametrize("step", list(Step))
@pytest.mark.parametrize("kind", [Kind.FINISHED, Kind.FAILED, Kind.WAITING])
def test_what_a_step_records_is_what_the_audit_computes(tmp_path: Path, step: Step, kind: Kind):
    """Events that change no record are left out of the computation: of each kind of step it is known."""
    journal = SqlJournal(
        f"sqlite:///{tmp_path}/journal.db", clock=ManualClock(), actor="test", upgrade=True
    )
    facts = {"version": "2", "login": "app", "refused": True}
    lock = journal.acquire("app", "test", TTL)
    for event in (
        NewEvent(kind=Kind.REQUESTED, rotation_id="r", data={"old_version": "1"}),
        NewEvent(kind=kind, rotation_id="r", step=step, data=facts),
    ):
        journal.append(lock, [event], TTL)
    report = audit.verify(journal)
    journal.close()
    assert report.damage == []
