"""The journal in memory behaves as the real one: each test runs over both."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rotator.core.errors import Busy, JournalError, LockLost
from rotator.core.model import Kind, NewEvent, Outcome, Step
from rotator.core.secret import Secret
from rotator.journal.sql import SqlJournal
from rotator.testing.fake_journal import MemoryJournal
from rotator.testing.fakes import ManualClock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rotator.core.ports import Journal

_TTL = timedelta(seconds=60)
_ID = "00000000-0000-4000-8000-000000000001"
_OTHER = "00000000-0000-4000-8000-000000000002"
_REQUESTED = NewEvent(kind=Kind.REQUESTED, rotation_id=_ID, data={"plugin": "p", "strategy": "s"})
_STARTED = NewEvent(kind=Kind.STARTED, rotation_id=_ID, step=Step.STAGE)
_ENDED = NewEvent(kind=Kind.ENDED, rotation_id=_ID, data={"outcome": "done"})


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def dead() -> set[str]:
    return set()


@pytest.fixture(params=["memory", "sqlite"])
def journal(
    request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock, dead: set[str]
) -> Iterator[Journal]:
    if request.param == "memory":
        yield MemoryJournal(clock=clock, actor="test", is_dead=dead.__contains__)
        return
    url = f"sqlite:///{tmp_path / 'journal.db'}"
    journal = SqlJournal(url, clock=clock, actor="test", is_dead=dead.__contains__)
    yield journal
    journal.close()


def test_a_lease_excludes_every_other_holder(journal: Journal):
    """Until it is given back."""
    lock = journal.acquire("app", "first", _TTL)
    with pytest.raises(Busy):
        journal.acquire("app", "second", _TTL)
    journal.release(lock)
    assert journal.acquire("app", "second", _TTL).fence == lock.fence + 1


def test_a_holder_does_not_get_its_lease_twice(journal: Journal):
    """Two threads under one name are two at work."""
    journal.acquire("app", "first", _TTL)
    with pytest.raises(Busy):
        journal.acquire("app", "first", _TTL)


def test_leases_of_two_secrets_do_not_touch(journal: Journal):
    """Each secret has its own."""
    journal.acquire("app", "first", _TTL)
    assert journal.acquire("other", "second", _TTL).fence == 1


def test_an_expired_lease_is_taken_over(journal: Journal, clock: ManualClock):
    """On the moment it expires, and not before; the fence rises."""
    journal.acquire("app", "first", _TTL)
    clock.advance(_TTL - timedelta(seconds=1))
    with pytest.raises(Busy):
        journal.acquire("app", "second", _TTL)
    clock.advance(timedelta(seconds=1))
    assert journal.acquire("app", "second", _TTL).fence == 2


def test_a_dead_holders_lease_is_taken_over_at_once(journal: Journal, dead: set[str]):
    """Nobody waits for the lock of a process that is known to be gone."""
    journal.acquire("app", "first", _TTL)
    dead.add("first")
    assert journal.acquire("app", "second", _TTL).fence == 2


def test_a_holder_that_lost_its_lease_writes_nothing(journal: Journal, dead: set[str]):
    """An append under a stale fence is refused as a whole."""
    lost = journal.acquire("app", "first", _TTL)
    dead.add("first")
    journal.acquire("app", "second", _TTL)
    with pytest.raises(LockLost):
        journal.append(lost, [_REQUESTED, _STARTED], _TTL)
    assert journal.events("app") == []
    assert journal.secret("app") is None


def test_a_holder_that_lost_its_lease_does_not_release_the_next_one(
    journal: Journal, dead: set[str]
):
    """Releasing what is no longer held is success, and leaves the winner's lock."""
    lost = journal.acquire("app", "first", _TTL)
    dead.add("first")
    won = journal.acquire("app", "second", _TTL)
    journal.release(lost)
    journal.release(lost)
    assert len(journal.append(won, [_REQUESTED], _TTL)) == 1


def test_writing_without_a_lease_is_refused(journal: Journal):
    """Also with one that was given back."""
    lock = journal.acquire("app", "first", _TTL)
    journal.release(lock)
    with pytest.raises(LockLost):
        journal.append(lock, [_REQUESTED], _TTL)


def test_an_append_renews_the_lease(journal: Journal, clock: ManualClock):
    """Also an empty one: that is how a long wait keeps its secret."""
    lock = journal.acquire("app", "first", _TTL)
    for events in ([_REQUESTED], []):
        clock.advance(_TTL - timedelta(seconds=1))
        journal.append(lock, events, _TTL)
    clock.advance(_TTL - timedelta(seconds=1))
    with pytest.raises(Busy):
        journal.acquire("app", "second", _TTL)


def test_events_are_chained(journal: Journal):
    """Each event carries the hash of the one before it; the first one carries zeros."""
    lock = journal.acquire("app", "first", _TTL)
    journal.append(lock, [_REQUESTED, _STARTED], _TTL)
    journal.append(lock, [_ENDED], _TTL)
    events = journal.events("app")
    assert [event.seq for event in events] == [1, 2, 3]
    assert [event.prev_hash for event in events] == ["0" * 64, events[0].hash, events[1].hash]
    assert all(len(event.hash) == 64 for event in events)
    record = journal.secret("app")
    assert record is not None
    assert (record.seq, record.head) == (3, events[2].hash)


def test_events_are_read_as_they_were_written(journal: Journal, clock: ManualClock):
    """The answer to an append is what a later reader sees."""
    lock = journal.acquire("app", "first", _TTL)
    data = {"text": "ü", "number": 1.5, "list": [1, None, True], "deep": {"b": 1, "a": 2}}
    event = NewEvent(kind=Kind.CHECKED, data=data)
    written = journal.append(lock, [event], _TTL)
    assert journal.events("app") == written
    assert written[0].data == data
    assert (written[0].at, written[0].actor, written[0].fence) == (clock.now(), "test", 1)


def test_a_rotation_is_found_while_it_is_open_and_after(journal: Journal):
    """By its secret while it is open, by its id always."""
    lock = journal.acquire("app", "first", _TTL)
    journal.append(lock, [_REQUESTED, _STARTED], _TTL)
    opened = journal.open_rotation("app")
    assert opened is not None
    assert (opened.id, opened.ended_at) == (_ID, None)
    journal.append(lock, [_ENDED], _TTL)
    assert journal.open_rotation("app") is None
    ended = journal.rotation(_ID)
    assert ended is not None
    assert ended.outcome is Outcome.DONE
    assert [event.kind for event in journal.history(_ID)] == [
        Kind.REQUESTED,
        Kind.STARTED,
        Kind.ENDED,
    ]


def test_two_rotations_of_one_secret_are_not_open_together(journal: Journal):
    """The second request is refused, and nothing of that append is written."""
    lock = journal.acquire("app", "first", _TTL)
    journal.append(lock, [_REQUESTED], _TTL)
    second = NewEvent(kind=Kind.REQUESTED, rotation_id=_OTHER, data=_REQUESTED.data)
    with pytest.raises(Busy):
        journal.append(lock, [NewEvent(kind=Kind.CHECKED), second], _TTL)
    assert len(journal.events("app")) == 1


@pytest.mark.parametrize("secret", ["app", "other"], ids=["same secret", "another secret"])
def test_a_rotation_id_is_used_once(journal: Journal, secret: str):
    """A repeated ClientRequestToken does not rewrite the record of the rotation that had it."""
    lock = journal.acquire("app", "first", _TTL)
    journal.append(lock, [_REQUESTED, _STARTED, _ENDED], _TTL)
    before = journal.rotation(_ID)
    again = lock if secret == "app" else journal.acquire(secret, "first", _TTL)
    with pytest.raises(JournalError):
        journal.append(again, [_REQUESTED], _TTL)
    assert journal.rotation(_ID) == before


def test_the_newest_rotations_come_first(journal: Journal, clock: ManualClock):
    """And no more of them than asked for."""
    lock = journal.acquire("app", "first", _TTL)
    for rotation in (_ID, _OTHER):
        for event in (_REQUESTED, _ENDED):
            new = NewEvent(kind=event.kind, rotation_id=rotation, data=event.data)
            journal.append(lock, [new], _TTL)
        clock.advance(timedelta(seconds=1))
    assert [one.id for one in journal.rotations("app")] == [_OTHER, _ID]
    assert [one.id for one in journal.rotations("app", limit=1)] == [_OTHER]
    assert journal.rotations("other") == []


def test_the_newest_events_are_returned_oldest_first(journal: Journal):
    """As a history is read."""
    lock = journal.acquire("app", "first", _TTL)
    journal.append(lock, [_REQUESTED, _STARTED, _ENDED], _TTL)
    assert [event.seq for event in journal.events("app", limit=2)] == [2, 3]
    assert [event.seq for event in journal.events("app")] == [1, 2, 3]


def test_a_secret_is_known_once_it_has_an_event(journal: Journal):
    """A lock alone is no history."""
    journal.acquire("zebra", "first", _TTL)
    assert journal.secret("zebra") is None
    for name in ("b", "a"):
        lock = journal.acquire(name, "first", _TTL)
        journal.append(lock, [NewEvent(kind=Kind.CHECKED)], _TTL)
    assert [record.name for record in journal.secrets()] == ["a", "b"]


def test_an_unknown_secret_has_no_record(journal: Journal):
    """Asking does not make a record."""
    assert journal.secret("app") is None
    assert journal.rotation(_ID) is None
    assert journal.open_rotation("app") is None
    assert journal.history(_ID) == []
    assert journal.events("app") == []


def test_a_secret_in_an_event_is_a_violation(clock: ManualClock):
    """The strict journal remembers who wrote a password into it."""
    journal = MemoryJournal(clock=clock)
    password = Secret("correct-horse-battery")
    lock = journal.acquire("app", "first", _TTL)
    event = NewEvent(kind=Kind.CHECKED, data={"what": f"tried {password.reveal()}"})
    journal.append(lock, [event], _TTL)
    assert journal.violations == ["P6: a secret was written into the journal (checked)."]
