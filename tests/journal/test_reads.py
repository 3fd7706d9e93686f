"""Counted reads in the journal's database."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from rotator.core.model import Kind, NewEvent, Outcome, Step
from rotator.core.reads import KEPT, CountedReads, Publication
from rotator.journal.reads import SqlReads
from tests.journal.conftest import TTL

if TYPE_CHECKING:
    from rotator.journal.sql import SqlJournal
    from rotator.testing.fakes import ManualClock

_LOG = "vault:1"


@pytest.fixture
def reads(journal: SqlJournal, clock: ManualClock) -> SqlReads:
    return SqlReads(journal, clock)


def counted(clock: ManualClock, **given: object) -> CountedReads:
    now = clock.now()
    one = CountedReads(
        secret="shop",
        version="2",
        identity="approle/web",
        address="10.0.0.1",
        first=now,
        last=now,
        count=1,
    )
    return replace(one, **given)


def publish(journal: SqlJournal, clock: ManualClock, version: str, old: str, login: str) -> None:
    """Publish a version of `shop`, a day later, and end its rotation."""
    clock.advance(timedelta(days=1))
    lock = journal.acquire("shop", "test", TTL)
    rotation = f"r-{version}"
    data = {"old_version": old, "old_login": f"shop_{old}"}
    published = {"version": version, "login": login}
    events = [
        NewEvent(kind=Kind.REQUESTED, rotation_id=rotation, data=data),
        NewEvent(kind=Kind.FINISHED, rotation_id=rotation, step=Step.STAGE, data={"login": login}),
        NewEvent(kind=Kind.FINISHED, rotation_id=rotation, step=Step.PUBLISH, data=published),
        NewEvent(kind=Kind.ENDED, rotation_id=rotation, data={"outcome": Outcome.DONE.value}),
    ]
    journal.append(lock, events, TTL)
    journal.release(lock)


def test_reads_of_one_version_add_up_to_one_row(reads: SqlReads, clock: ManualClock):
    """Also those that are older than what was counted before."""
    assert reads.add([counted(clock, count=3)], log=_LOG, before=0, after=10)
    earlier = clock.now() - timedelta(hours=1)
    assert reads.add([counted(clock, first=earlier, last=earlier)], log=_LOG, before=10, after=20)
    assert reads.of(["shop"]) == [counted(clock, first=earlier, count=4)]


def test_a_part_of_a_log_is_counted_by_one_process_alone(reads: SqlReads, clock: ManualClock):
    """The second one writes nothing."""
    assert reads.position(_LOG) == 0
    assert reads.add([counted(clock)], log=_LOG, before=0, after=10)
    assert not reads.add([counted(clock)], log=_LOG, before=0, after=10)
    assert not reads.add([counted(clock)], log=_LOG, before=5, after=12)
    assert reads.position(_LOG) == 10
    assert [one.count for one in reads.of(["shop"])] == [1]


def test_reads_are_forgotten_after_400_days(reads: SqlReads, clock: ManualClock):
    reads.add([counted(clock)], log=_LOG, before=0, after=10)
    clock.advance(KEPT)
    reads.add([counted(clock, version="3")], log=_LOG, before=10, after=20)
    assert reads.prune() == 0
    clock.advance(timedelta(seconds=1))
    assert reads.prune() == 1
    assert [one.version for one in reads.of(["shop"])] == ["3"]
    assert reads.position(_LOG) == 20


def test_only_reads_of_the_asked_time_are_listed(reads: SqlReads, clock: ManualClock):
    start = clock.now()
    reads.add([counted(clock)], log=None, before=0, after=0)
    assert len(reads.of(["shop"], start)) == 1
    assert reads.of(["shop"], start + timedelta(seconds=1)) == []
    assert reads.of(["pay"]) == []


def test_publications_begin_with_the_version_before_the_journal(
    reads: SqlReads, journal: SqlJournal, clock: ManualClock
):
    publish(journal, clock, "2", "1", "shop_2")
    first = clock.now()
    publish(journal, clock, "3", "2", "shop_3")
    assert reads.publications(["shop"]) == [
        Publication(version="1", at=None),
        Publication(version="2", at=first),
        Publication(version="3", at=clock.now()),
    ]


def test_who_had_a_login_at_a_time_is_one_query(
    reads: SqlReads, journal: SqlJournal, clock: ManualClock
):
    """Those that had read its version by then, and nobody who read another one."""
    publish(journal, clock, "2", "1", "shop_2")
    reads.add(
        [counted(clock), counted(clock, version="1", identity="approle/old")],
        log=None,
        before=0,
        after=0,
    )
    then = clock.now()
    clock.advance(timedelta(hours=1))
    reads.add([counted(clock, identity="approle/late")], log=None, before=0, after=0)
    assert [one.identity for one in reads.holders("shop_2", then)] == ["approle/web"]
    later = reads.holders("shop_2", clock.now())
    assert [one.identity for one in later] == ["approle/web", "approle/late"]
    assert [one.identity for one in reads.holders("shop_1", then)] == ["approle/old"]
    assert reads.holders("shop_2", then, ["pay"]) == []
