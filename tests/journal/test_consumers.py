"""The reports of consumers in the journal's database."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from rotator.core.consumers import REPORT_LASTS, InstanceKind, Level, Report
from rotator.core.model import Kind, NewEvent, Step
from rotator.journal.consumers import SqlConsumers
from tests.journal.conftest import TTL

if TYPE_CHECKING:
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
    lease = journal.acquire("shop", "test", TTL)
    journal.append(
        lease,
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


def test_reports_are_not_in_the_chain(registry: SqlConsumers, journal: SqlJournal):
    """Thousands of instances append no event."""
    registry.report([report(f"web-{number}") for number in range(50)])
    assert journal.events("shop") == []
    assert journal.secrets() == []
