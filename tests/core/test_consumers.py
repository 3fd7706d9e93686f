"""What the reports of consumers and the target's sessions add up to."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import pytest

from rotator.core.consumers import (
    Consumer,
    Gate,
    InstanceKind,
    Level,
    Report,
    ReportedInstance,
    Verdict,
    assess,
    newer,
)
from rotator.core.session import Session
from rotator.core.version_mark import version_mark, with_mark
from rotator.testing.fakes import START

HOUR: Final = timedelta(hours=1)


def report(consumer: str, instance: str, version: str = "2", level: Level = Level.USED) -> Report:
    return Report(
        secret="shop",
        consumer=consumer,
        instance=instance,
        kind=InstanceKind.CLIENT,
        version=version,
        level=level,
    )


def session(application: str, version: str | None = "2", client: str = "10.0.0.1") -> Session:
    name = application if version is None else with_mark(application, version)
    return Session(login="shop", client=client, application=name)


def judged(
    *given: Report | Session, instances: int = 1, gate: Gate = Gate.HOLD, declared: bool = True
) -> Verdict:
    consumers = (
        [Consumer(name="web", instances=instances, gate=gate, wait=HOUR)] if declared else []
    )
    reports = [ReportedInstance(report=one, at=START) for one in given if isinstance(one, Report)]
    sessions = [one for one in given if isinstance(one, Session)]
    return assess(consumers, reports, sessions, version="2")


SETTLED = {
    "one instance reported a login with the current version": judged(report("web", "a")),
    "its session bears the mark of the current version": judged(session("web")),
    "as many instances as declared": judged(report("web", "a"), report("web", "b"), instances=2),
    "two sessions from two addresses": judged(
        session("web"), session("web", client="10.0.0.2"), instances=2
    ),
    "more than declared": judged(report("web", "a"), report("web", "b")),
    "sessions of others, and sessions without a mark, are not counted": judged(
        report("web", "a"), session("psql", None), session("web", None)
    ),
    "an undeclared instance that is on the current version too": judged(
        report("web", "a"), report("job", "x")
    ),
}
UNSETTLED = {
    "nobody reported": judged(),
    "it has loaded the version, and not logged in yet": judged(
        report("web", "a", level=Level.LOADED)
    ),
    "fewer than declared": judged(report("web", "a"), instances=2),
    "two sessions from one address are one instance": judged(
        session("web"), session("web"), instances=2
    ),
    "one instance of it uses an older version": judged(report("web", "a"), report("web", "b", "1")),
    "one session of it bears an older mark": judged(report("web", "a"), session("web", "1")),
    "an undeclared instance uses an older version": judged(
        report("web", "a"), report("job", "x", "1")
    ),
    "no consumer is declared": judged(report("web", "a"), declared=False),
    "only others have logged in": judged(report("job", "x")),
}


@pytest.mark.parametrize("verdict", SETTLED.values(), ids=SETTLED)
def test_the_grace_period_may_end_when(verdict: Verdict):
    """Every declared consumer uses the current version, and nobody is known to be behind."""
    assert verdict.is_settled


@pytest.mark.parametrize("verdict", UNSETTLED.values(), ids=UNSETTLED)
def test_the_grace_period_does_not_end_early_when(verdict: Verdict):
    """Somebody may still need the old version."""
    assert not verdict.is_settled


def test_a_consumer_whose_gate_is_off_is_not_waited_for():
    """It neither holds the revoke nor keeps the grace period open."""
    verdict = judged(report("web", "a"), gate=Gate.OFF, instances=3)
    assert verdict.holding(START, START) == ()
    assert verdict.is_settled


@pytest.mark.parametrize(
    ("gate", "later", "holds"),
    [
        (Gate.HOLD, timedelta(0), True),
        (Gate.HOLD, timedelta(days=365), True),
        (Gate.WARN, timedelta(0), True),
        (Gate.WARN, HOUR, False),
        (Gate.OFF, timedelta(0), False),
    ],
)
def test_the_gate_decides_how_long_the_revoke_waits(gate: Gate, later: timedelta, *, holds: bool):
    """`hold` without end, `warn` for its wait, `off` not at all."""
    verdict = judged(report("web", "a", "1"), gate=gate)
    assert bool(verdict.holding(START + later, START)) is holds


def test_the_facts_name_who_is_behind():
    """By instance, and by the address of a session."""
    verdict = judged(report("web", "a", "1"), session("web", "1"))
    (standing,) = verdict.standings
    assert standing.behind == ("a", "session from 10.0.0.1")
    assert standing.line() == (
        "web: 0 of 1 on the current version, behind: a, session from 10.0.0.1"
    )


def test_the_digest_covers_reports_and_sessions():
    """It changes with each of them, and not with their order."""
    first, second = report("web", "a"), report("web", "b")
    assert judged(first, second).digest == judged(second, first).digest
    others = [judged(first), judged(first, second, session("web")), judged(second)]
    assert len({one.digest for one in [judged(first, second), *others]}) == len(others) + 1


def test_the_digest_holds_nothing_of_a_secret():
    """It rests on names, versions and levels only: the verdict never sees a credential."""
    assert version_mark("2") not in str(judged(report("web", "a")).facts())


def test_a_level_is_never_taken_back_for_the_same_version():
    """A heartbeat that says `loaded` after a login changes nothing."""
    used, loaded = report("web", "a"), report("web", "a", level=Level.LOADED)
    assert newer(used, loaded) == used
    assert newer(loaded, used) == used
    assert newer(used, report("web", "a", "3", Level.READ)).version == "3"
