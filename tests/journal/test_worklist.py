"""What a daemon asks the journal: each database answers as the journal in memory does."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from rotator.core.model import Kind, NewEvent, Outcome, Step
from rotator.core.worklist import OpenRotation, WatchedSecret, Worklist
from rotator.journal import rows, tables
from rotator.journal.worklist import SqlWorklist
from rotator.testing.fake_journal import MemoryJournal
from rotator.testing.fakes import START

if TYPE_CHECKING:
    from rotator.core.ports import Journal
    from rotator.journal.sql import SqlJournal
    from rotator.testing.fakes import ManualClock

_TTL = timedelta(minutes=1)
_DAY = timedelta(days=1)


def _fill(journal: Journal, clock: ManualClock) -> None:
    """Bring secrets into every state that a daemon tells apart."""
    for number, name in enumerate(("late", "later", "ahead", "never", "parked", "open", "begun")):
        clock.at = START + timedelta(hours=number)
        due = {"late": 3 * _DAY, "later": 4 * _DAY, "ahead": 9 * _DAY}.get(name, 2 * _DAY)
        data = {"login": name, "version": "1", "next_due": (START + due).isoformat(), "timing": "t"}
        if name == "never":
            data |= {"next_due": None}
        events = [NewEvent(kind=Kind.ADOPTED, data=data)]
        if name == "parked":
            events.append(NewEvent(kind=Kind.PARKED, data={"reason": "why"}))
        if name in ("open", "begun"):
            asked = NewEvent(kind=Kind.REQUESTED, rotation_id=f"r-{name}", data={"plugin": "p"})
            events.append(asked)
        if name == "begun":
            events.append(NewEvent(kind=Kind.STARTED, rotation_id="r-begun", step=Step.STAGE))
            ended = {"outcome": Outcome.DONE.value}
            events.append(NewEvent(kind=Kind.ENDED, rotation_id="r-begun", data=ended))
        lock = journal.acquire(name, "test", _TTL)
        journal.append(lock, events, _TTL)
        if name != "never":
            journal.release(lock)
    clock.at = START + 5 * _DAY


def _leak(journal: Journal, clock: ManualClock) -> None:
    """Report leaks: one to act on, one that is proven, one that is only recorded, parked and closed ones."""
    for number, name in enumerate(("late", "later", "ahead", "parked", "open")):
        clock.advance(timedelta(minutes=1))
        mode = "map" if name == "ahead" else "kill"
        leak = {"incident": f"I-{number}", "mode": mode, "version": "1", "login": name}
        events = [NewEvent(kind=Kind.LEAKED, data=leak)]
        if name == "later":
            again = {"incident": "I-1", "ok": True, "next": (START + 9 * _DAY).isoformat()}
            events.append(NewEvent(kind=Kind.PROVEN, data=again))
        if name == "open":
            events.append(NewEvent(kind=Kind.INCIDENT_CLOSED, data={"incident": "I-4"}))
        lock = journal.acquire(name, "test", _TTL)
        journal.append(lock, events, _TTL)
        journal.release(lock)


def _answers(agenda: Worklist, clock: ManualClock) -> list[object]:
    now = clock.now()
    return [
        agenda.due(now, 10),
        agenda.due(now, 1),
        agenda.due(now, 10, START + 3 * _DAY),
        agenda.due(START, 10),
        sorted(agenda.opened(), key=lambda one: one.secret),
        sorted(agenda.reckoned(), key=lambda one: one.name),
        agenda.counts(now, now - _DAY),
        agenda.counts(START, START),
    ]


def test_every_answer_is_the_one_of_the_journal_in_memory(journal: SqlJournal, clock: ManualClock):
    """Due, open, reckoned, counted; also from a given moment on."""
    memory = MemoryJournal(clock=clock)
    _fill(memory, clock)
    _fill(journal, clock)
    agenda = SqlWorklist(journal)
    found = _answers(agenda, clock)
    assert found == _answers(memory, clock)
    assert [one.name for one in agenda.due(clock.now(), 10)] == ["begun", "late", "later"]
    assert agenda.opened() == [OpenRotation(secret="open", rotation_id="r-open", seq=2)]


def test_leaks_are_found_as_the_journal_in_memory_finds_them(
    journal: SqlJournal, clock: ManualClock
):
    """Those that need work at once or later, and all that were ever reported."""
    memory = MemoryJournal(clock=clock)
    found: list[list[object]] = []
    for one, agenda in ((memory, memory), (journal, SqlWorklist(journal))):
        _fill(one, clock)
        _leak(one, clock)
        watched = sorted(agenda.watched(), key=lambda row: row.secret)
        found.append([watched, agenda.leaked(10), agenda.leaked(2)])
    assert found[0] == found[1]
    at = START + 5 * _DAY + timedelta(minutes=1)
    assert found[0] == [
        [
            WatchedSecret(secret="late", at=at),
            WatchedSecret(secret="later", at=START + 9 * _DAY),
        ],
        ["open", "parked", "ahead", "later", "late"],
        ["open", "parked"],
    ]


def test_asking_costs_by_what_is_due_and_not_by_what_there_is(journal: SqlJournal):
    """Among 20,000 as among 200, with a plan that reads the index."""
    agenda, spent = SqlWorklist(journal), dict[int, float]()
    for count in (200, 20_000):
        _add(journal, count)
        with journal.database.begin() as db:
            # As autovacuum does in a while: the plan must not rest on statistics of an empty table.
            _ = db.exec_driver_sql("ANALYZE")
        for _ in range(20):
            agenda.due(START, 100)
        # The best of several: others may be at work on this machine.
        spent[count] = min(_asked(agenda) for _ in range(40))
    # A hundred times as many; reading them all would show.
    assert spent[20_000] < 4 * spent[200], spent


def _asked(agenda: Worklist) -> float:
    begun = time.perf_counter()
    for _ in range(20):
        assert agenda.due(START, 100) == []
        assert agenda.opened() == []
        assert agenda.watched() == []
        assert agenda.leaked(10) == []
    return time.perf_counter() - begun


def _add(journal: SqlJournal, count: int) -> None:
    """Write secrets that are due in a year, as the journal would."""
    blank = dict.fromkeys(rows.SECRET_COLUMNS) | {
        "adopted": "[]",
        "failures": 0,
        "seq": 1,
        "head": "0" * 64,
        "lease_fence": 1,
        "seal": "s",
        "next_due": rows.stamp(START + 365 * _DAY),
    }
    with journal.writing() as db:
        db.execute(
            sa.insert(tables.secrets),
            [{**blank, "name": f"{count}-{number}"} for number in range(count)],
        )
