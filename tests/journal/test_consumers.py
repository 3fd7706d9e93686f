"""The reports of consumers in the journal's database."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from rotator.core.consumers import REPORT_LASTS, InstanceKind, Level, Report
from rotator.core.model import Kind, NewEvent, Step
from rotator.journal import tables
from rotator.journal.consumers import SqlConsumers
from tests.journal.conftest import TTL

if TYPE_CHECKING:
    from rotator.core.model import Json
    from rotator.journal.sql import SqlJournal
    from rotator.testing.fakes import ManualClock


@pytest.fixture
def registry(journal: SqlJournal, clock: ManualClock) -> SqlConsumers:
    return SqlConsumers(journal, clock)


def report(
    instance: str = "web-1",
    version: str = "7",
    level: Level = Level.USED,
    name: str = "shop",
) -> Report:
    return Report(
        secret=name,
        consumer="web",
        instance=instance,
        kind=InstanceKind.CLIENT,
        version=version,
        level=level,
    )


def reports(registry: SqlConsumers, secret: str | None = None) -> list[Report]:
    return [one.report for one in registry.instances(secret)]


def test_a_report_is_read_back(registry: SqlConsumers, clock: ManualClock):
    """With the time at which it was received, by our clock."""
    assert registry.report([report()]) == {"shop"}
    (one,) = registry.instances("shop")
    assert (one.report, one.at) == (report(), clock.now())


def test_a_heartbeat_is_no_news(registry: SqlConsumers, clock: ManualClock):
    """It only renews the time."""
    registry.report([report()])
    clock.advance(timedelta(minutes=1))
    assert registry.report([report()]) == set()
    assert [one.at for one in registry.instances()] == [clock.now()]


def test_another_version_or_a_higher_level_is_news(registry: SqlConsumers):
    """A lower level of the same version is not: it is never taken back."""
    registry.report([report(level=Level.LOADED)])
    assert registry.report([report()]) == {"shop"}
    assert registry.report([report(level=Level.READ)]) == set()
    assert reports(registry) == [report()]
    assert registry.report([report(version="8", level=Level.READ)]) == {"shop"}


def test_of_two_reports_of_one_instance_in_one_request_the_last_counts(registry: SqlConsumers):
    """As if they had come one after the other."""
    registry.report([report(version="7"), report(version="8")])
    assert reports(registry) == [report(version="8")]


def test_an_instance_that_is_silent_is_gone(registry: SqlConsumers, clock: ManualClock):
    """After five minutes it is not listed, and its row goes with the next report."""
    registry.report([report()])
    clock.advance(REPORT_LASTS + timedelta(seconds=1))
    assert reports(registry) == []
    registry.report([report("web-2")])
    assert reports(registry) == [report("web-2")]


def test_each_secret_has_its_own_instances(registry: SqlConsumers):
    """And all can be asked for at once."""
    registry.report([report(), report(name="pay")])
    assert reports(registry, "pay") == [report(name="pay")]
    assert len(reports(registry)) == 2


def test_thousands_of_instances_report_at_once(registry: SqlConsumers):
    """More than a database takes variables in one statement."""
    many = [report(f"web-{number:05}") for number in range(12_000)]
    assert registry.report(many) == {"shop"}
    assert registry.report(many) == set()
    assert len(reports(registry, "shop")) == 12_000


def test_only_versions_that_were_served_are_known(registry: SqlConsumers, journal: SqlJournal):
    """By a rotation, before one, or by an adoption."""
    lock = journal.acquire("shop", "test", TTL)
    journal.append(
        lock,
        [
            NewEvent(kind=Kind.ADOPTED, data={"login": "shop", "version": "6"}),
            NewEvent(kind=Kind.REQUESTED, rotation_id="r", data={"old_version": "6"}),
            NewEvent(
                kind=Kind.FINISHED,
                rotation_id="r",
                step=Step.PUBLISH,
                data={"version": "7", "login": "shop"},
            ),
        ],
        TTL,
    )
    asked = {("shop", "5"), ("shop", "6"), ("shop", "7"), ("pay", "7")}
    assert registry.unpublished(asked) == {("shop", "5"), ("pay", "7")}
    assert registry.served(["shop", "pay"]) == {"shop": "7"}


def test_what_is_read_of_the_next_version_is_kept_beside_what_is_used(registry: SqlConsumers):
    """By the rotation that is to publish it; of other secrets nothing is listed."""
    prepared = report(version="r-2", level=Level.PREPARED)
    assert registry.report([report(), prepared]) == {"shop"}
    assert registry.report([report(), prepared]) == set()
    assert reports(registry, "shop") == reports(registry) == [report()]
    assert [one.report for one in registry.prepared("shop")] == [prepared]
    assert registry.prepared("pay") == []
    again = report(version="r-3", level=Level.PREPARED)
    assert registry.report([again]) == {"shop"}
    assert [one.report for one in registry.prepared("shop")] == [again]


def test_a_release_before_finds_no_level_that_it_does_not_know(
    registry: SqlConsumers, journal: SqlJournal
):
    """It reads this table too, while machines are upgraded one after the other."""
    registry.report([report(version="r-2", level=Level.PREPARED)])
    with journal.reading() as db:
        (row,) = db.execute(sa.select(tables.consumers)).mappings()
    assert (row["secret"], row["level"]) == ("shop#next", "read")


def test_the_next_version_is_known_from_its_offer_until_it_is_published_or_undone(
    registry: SqlConsumers, journal: SqlJournal
):
    lock = journal.acquire("shop", "test", TTL)

    def append(kind: Kind, step: Step | None = None, **data: Json) -> dict[str, str]:
        journal.append(lock, [NewEvent(kind=kind, rotation_id="r", step=step, data=data)], TTL)
        return registry.following(["shop", "pay"])

    assert append(Kind.REQUESTED, old_version="6", prepare=True) == {}
    assert append(Kind.STARTED, Step.PREPARE) == {}
    assert append(Kind.WAITING, Step.PREPARE) == {"shop": "r"}
    assert registry.following(["pay"]) == {}
    assert append(Kind.FINISHED, Step.PREPARE) == {"shop": "r"}
    assert append(Kind.STARTED, Step.CREATE) == {"shop": "r"}
    assert append(Kind.STARTED, Step.PUBLISH) == {"shop": "r"}
    assert append(Kind.STARTED, Step.DISCARD) == {}
    published = append(Kind.FINISHED, Step.PUBLISH, version="7", login="shop")
    assert (published, registry.unknown_rotations({("shop", "r"), ("pay", "r")})) == (
        {},
        {("pay", "r")},
    )


def test_reports_are_not_in_the_chain(registry: SqlConsumers, journal: SqlJournal):
    """Thousands of instances append no event."""
    registry.report([report(f"web-{number}") for number in range(50)])
    assert journal.events("shop") == []
    assert journal.secrets() == []
