"""A report reads the journal on each kind of database."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from rotator.journal import tables
from rotator.report.model import Period
from rotator.report.report import build
from tests.journal.attacker import drop_triggers
from tests.journal.conftest import NOW, rotate

if TYPE_CHECKING:
    from rotator.journal.sql import SqlJournal

_PERIOD = Period(since=NOW - timedelta(days=30), until=NOW)


def test_the_report_shows_the_rotations_of_the_journal(journal: SqlJournal):
    rotate(journal, "web", 2)
    rotate(journal, "web", 3)
    with build(journal, _PERIOD) as made:
        (entry,) = made.secrets()
        totals = made.head["totals"]
    assert made.is_intact
    assert [one["id"] for one in entry["rotations"]] == ["web-2", "web-3"]
    assert (totals["rotations"], totals["old_rejected"]) == (2, 2)


def test_the_report_of_a_damaged_journal_states_the_damage(journal: SqlJournal):
    """It is made all the same, and names the place."""
    rotate(journal, "web", 2)
    drop_triggers(journal)
    with journal.writing() as db:
        _ = db.execute(sa.update(tables.events).where(tables.events.c.seq == 2).values(actor="x"))
    with build(journal, _PERIOD) as made:
        places = [one["where"] for one in made.head["journal"]["damage"]]
        assert [one["secret"] for one in made.secrets()] == ["web"]
    assert not made.is_intact
    assert any("web" in place and "2" in place for place in places)
