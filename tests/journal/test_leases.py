"""Leases in the journal: a fold over their events, found by time, authenticated, and verified."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from rotator.core.errors import JournalBroken
from rotator.core.lease_chain import chain_of
from rotator.core.leases import LeaseOutcome, LeaseState
from rotator.core.model import Kind
from rotator.core.secret import Secret
from rotator.journal import tables
from rotator.journal.checkpoints import introduce
from rotator.journal.event_key import EventKey
from rotator.journal.memory import MemoryJournal
from rotator.journal.sql import SqlJournal
from rotator.journal.worklist import SqlWorklist
from rotator.testing.fakes import ManualClock
from tests.journal.conftest import MakeJournal, lend, write_lease

MINUTE = timedelta(minutes=1)


def test_leases_are_found_by_what_is_to_be_done(journal: SqlJournal, clock: ManualClock):
    memory = MemoryJournal(clock=clock, actor="test")
    for one in (journal, memory):
        for id_, minutes in (("late", 9), ("early", 3), ("done", 1)):
            lend(one, "app", id_, clock.now() + minutes * MINUTE)
        again = (clock.now() + MINUTE).isoformat()
        failed = {"kind": "denied", "what": "no", "next_try": again}
        for kind, id_, data in (
            (Kind.LEASE_ENDED, "done", {"outcome": "ended", "refused": True}),
            (Kind.LEASE_JOINED, "late", {"instance": "b"}),
            (Kind.LEASE_ENDING, "early", {}),
            (Kind.LEASE_FAILED, "early", failed),
        ):
            write_lease(one, "app", kind, id_, data)
    sql, other = journal.leases, memory.leases
    assert sql.open() == other.open()
    assert [one.id for one in sql.open("app")] == ["early", "late"]
    assert sql.open("web") == []
    assert sql.count("app") == other.count("app") == 2
    assert {one.id for one in sql.recent(9)} == {"late", "early", "done"}
    for minutes, due in ((0, []), (2, ["early"]), (10, ["early", "late"])):
        now = clock.now() + minutes * MINUTE
        assert [one.id for one in sql.due(now, 9)] == due
        assert sql.due(now, 9) == other.due(now, 9)
    early, late, done = (sql.get(id_) for id_ in ("early", "late", "done"))
    assert early is not None
    assert early.state is LeaseState.ENDING
    assert early.is_stranded
    assert late is not None
    assert late.instances == ("a", "b")
    assert done is not None
    assert done.outcome is LeaseOutcome.ENDED
    assert sql.get("nothing") is None
    assert journal.history("late") == [
        one for one in journal.events(chain_of("app")) if one.rotation_id == "late"
    ]


def test_chain_of_leases_is_no_secret(journal: SqlJournal, clock: ManualClock):
    lend(journal, "app", "one", clock.now() + 3 * MINUTE)
    assert journal.secrets() == []
    agenda = SqlWorklist(journal)
    assert list(agenda.reckoned()) == []
    assert agenda.counts(clock.now(), clock.now()).known == 0


@pytest.mark.parametrize("column", ["ends_at", "next_at"])
def test_lease_that_nobody_with_the_key_wrote_is_not_believed(
    make_journal: MakeJournal, clock: ManualClock, signing_key: Secret, column: str
):
    plain = make_journal()
    lend(plain, "app", "old", clock.now() + 3 * MINUTE)
    introduce(plain, signing_key, clock.now())
    journal = make_journal(key=lambda _journal: EventKey.derive(signing_key))
    lend(journal, "app", "new", clock.now() + 3 * MINUTE)
    again = make_journal(key=lambda _journal: EventKey.derive(signing_key))
    again.authenticate()
    assert [one.id for one in again.leases.open()] == ["old", "new"]
    with journal.writing() as db:
        db.execute(sa.update(tables.leases).values({column: "2099-01-01T00:00:00+00:00"}))
    with pytest.raises(JournalBroken, match="not written by rotator"):
        again.leases.open()
