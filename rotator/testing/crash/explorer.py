"""Runs a scenario again and again, each time with something else going wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from rotator.core.errors import RotatorError, Transient
from rotator.core.model import Credential, Outcome
from rotator.core.secret import Secret
from rotator.testing.crash.points import Crash, Point, When
from rotator.testing.crash.process import Process, Stuck
from rotator.testing.crash.promises import Promises
from rotator.testing.crash.report import Report, Violation
from rotator.testing.crash.trials import crash_at, deaths, drawn, fail, failures
from rotator.testing.fake_backend import FakeBackend

if TYPE_CHECKING:
    from rotator.testing.crash.promises import Start
    from rotator.testing.crash.sandbox import Sandbox
    from rotator.testing.crash.scenarios import Scenario
    from rotator.testing.crash.trials import Fault

ANY: Final = frozenset(Outcome)


def explore(scenario: Scenario, *, double: bool = False) -> Report:
    """Kill the act at every point, and with `double` each recovery at every point once more."""
    report, points = undisturbed(scenario)
    for one in deaths(points):
        recovery = _run(scenario, report, one.place, [one.fault])
        if double:
            for second in recovery:
                place = f"{one.place}, then {second}"
                _run(scenario, report, place, [one.fault, crash_at(second.number)])
    return report


def explore_failures(scenario: Scenario) -> Report:
    """Let every call fail in every way that its contract allows, before and after its effect."""
    report, points = undisturbed(scenario)
    for one in failures(points):
        _run(scenario, report, one.place, [one.fault], outcomes=ANY)
    return report


def explore_sample(scenario: Scenario, count: int, *, seed: int = 0) -> Report:
    """Do `count` of what `explore` and `explore_failures` do, drawn by chance."""
    report, points = undisturbed(scenario)
    every = [*deaths(points), *failures(points)]
    for one in drawn(every, count, f"{seed} {scenario.name}"):
        allowed = None if one.is_death else ANY
        _run(scenario, report, one.place, [one.fault], outcomes=allowed)
    return report


def explore_outages(scenario: Scenario) -> Report:
    """Let the target, then the backend, be away from each of its calls on, until somebody looks."""
    report, points = undisturbed(scenario)
    for point in points:
        if (
            point.port in ("rotation", "backend", "copy")
            and point.when is When.BEFORE
            and not point.inner
        ):

            def away(other: Point, since: Point = point) -> bool:
                same = (other.port, other.when, other.inner) == (since.port, since.when, False)
                return same and other.number >= since.number

            _run(scenario, report, f"away {point}", [fail(Transient, away)], outcomes=ANY)
    return report


def explore_takeovers(
    scenario: Scenario, *, by: Callable[[Process], object] = Process.resume
) -> Report:
    """Freeze the act at every point until its lock is over and another engine has taken over.

    `by` is what the other engine does then: it resumes, or rolls back on a person's word.

    A call that is under way cannot be called back, so it is not frozen inside one, nor at the
    door of `stage`, whose late pending value nobody would publish.
    """
    report, points = undisturbed(scenario)
    for point in points:
        late = point.inner or (point.when is When.BEFORE and point.name == "stage")
        if not late:
            _overtake(scenario, report, point, by)
    return report


def explore_strangers(scenario: Scenario) -> Report:
    """Let somebody else write to the backend at every point, and require that it stays.

    Then to the first copy, where there is one.
    """
    report, points = undisturbed(scenario)
    if scenario.takes_over:
        first = next(number for number, one in enumerate(points) if one.name == "stage")
        points = points[first:]
    sandbox = scenario.make_sandbox()
    sandbox.close()
    for point in points:
        if not point.inner:
            _intrude(scenario, report, point)
            if sandbox.copies:
                _intrude_into_copy(scenario, report, point)
    return report


# -- one run, also for `freezing` ---------------------------------------------------------------


def undisturbed(scenario: Scenario) -> tuple[Report, list[Point]]:
    """Run the scenario as it should go, and count its points."""
    report = Report(scenario=scenario.name)
    sandbox, promises, start = prepared(scenario, watched=True)
    process = Process(sandbox, promises, policy=scenario.policy)
    let(scenario.act, process, promises)
    promises.check_end(start, scenario.outcomes)
    tell(report, scenario, "undisturbed", promises)
    report.points = len(process.points.passed)
    report.inner = sum(point.inner for point in process.points.passed)
    return report, process.points.passed


def _run(
    scenario: Scenario,
    report: Report,
    place: str,
    faults: list[Fault],
    *,
    outcomes: frozenset[Outcome] | None = None,
) -> list[Point]:
    """Run the act under the first fault, recoveries under the others; return the last one's points."""
    sandbox, promises, start = prepared(scenario)
    process = Process(sandbox, promises, policy=scenario.policy, fault=faults[0])
    let(scenario.act, process, promises)
    process.die()
    points = recover(scenario, sandbox, promises, faults[1:])
    promises.check_end(start, outcomes or scenario.outcomes)
    tell(report, scenario, place, promises)
    return points


def prepared(scenario: Scenario, *, watched: bool = False) -> tuple[Sandbox, Promises, Start]:
    """Return a fresh sandbox in the scenario's starting state."""
    sandbox = scenario.make_sandbox()
    promises = Promises(sandbox, scenario.policy)
    promises.resting = not watched
    for prepare in scenario.prepare:
        process = Process(sandbox, promises, policy=scenario.policy)
        let(prepare, process, promises)
        process.die()
    promises.resting = False
    return sandbox, promises, promises.start()


def recover(
    scenario: Scenario, sandbox: Sandbox, promises: Promises, faults: list[Fault]
) -> list[Point]:
    """Start processes until one is not disturbed; return the points of that one."""
    process = Process(sandbox, promises, policy=scenario.policy)
    for fault in [*faults, None]:
        process = Process(sandbox, promises, policy=scenario.policy, fault=fault)
        let(Process.resume, process, promises)
        process.die()
    return process.points.passed


def let(act: Callable[[Process], object], process: Process, promises: Promises) -> None:
    """Let a process do something; it may die of it, or end with an error."""
    try:
        act(process)
    except Crash:
        pass
    except RotatorError as error:
        # Said clearly, to a person: allowed. What it leaves behind is looked at in the end.
        promises.check(f"after {error.kind}")
        promises.check_text(error)
    except Stuck as error:
        promises.broken[f"P3: {error}"] = "at the end"


def tell(report: Report, scenario: Scenario, place: str, promises: Promises) -> None:
    """Add to the report which promises one run broke, and let go of its sandbox."""
    report.runs += 1
    for what, where in promises.broken.items():
        seen = f"{what} (first seen {where})"
        report.violations.append(Violation(scenario=scenario.name, place=place, what=seen))
    promises.end()


def _overtake(
    scenario: Scenario, report: Report, point: Point, by: Callable[[Process], object]
) -> None:
    sandbox, promises, start = prepared(scenario)
    promises.two_at_work = True
    overtaken: list[Point] = []

    def overtake(here: Point) -> None:
        if here.number == point.number and not overtaken:
            overtaken.append(here)
            sandbox.clock.at += 3 * scenario.policy.step_timeout
            let(by, Process(sandbox, promises, policy=scenario.policy), promises)
            sandbox.watch(frozen.points)

    frozen = Process(sandbox, promises, policy=scenario.policy, fault=overtake)
    let(scenario.act, frozen, promises)
    frozen.die()
    recover(scenario, sandbox, promises, [])
    promises.check_end(start, ANY)
    tell(report, scenario, f"overtaken {point}", promises)


def _intrude(scenario: Scenario, report: Report, point: Point) -> None:
    sandbox, promises, _ = prepared(scenario)
    backend = sandbox.backend
    write_by_hand = sandbox.write_by_hand
    assert write_by_hand is not None
    written: list[str] = []

    def write(here: Point) -> None:
        current = backend.current(sandbox.path)
        if here.number == point.number and current is not None:
            same = replace(current.credential, fields={"edited": "by a person"})
            written.append(write_by_hand(same))
            sandbox.repeats[written[0]] = current.id

    process = Process(sandbox, promises, policy=scenario.policy, fault=write)
    let(scenario.act, process, promises)
    process.die()
    recover(scenario, sandbox, promises, [])
    current = backend.current(sandbox.path)
    if written and (current is None or current.id != written[0]):
        promises.broken["what somebody else wrote was overwritten"] = str(point)
    if current is not None and not sandbox.lets_in(current.credential):
        promises.broken["P1: what somebody else wrote back no longer logs in"] = str(point)
    tell(report, scenario, f"somebody else writes {point}", promises)


def _intrude_into_copy(scenario: Scenario, report: Report, point: Point) -> None:
    sandbox, promises, _ = prepared(scenario)
    copy = sandbox.copies[0]
    assert isinstance(copy, FakeBackend)
    written: list[str] = []

    def write(here: Point) -> None:
        if here.number == point.number:
            theirs = Credential(username="somebody", password=Secret("somebody-else's"))
            written.append(copy.written_by_a_stranger(sandbox.path, theirs))

    process = Process(sandbox, promises, policy=scenario.policy, fault=write)
    let(scenario.act, process, promises)
    process.die()
    recover(scenario, sandbox, promises, [])
    there = copy.current(sandbox.path)
    if written and (there is None or there.id != written[0]):
        promises.broken["what somebody else wrote to a copy was overwritten"] = str(point)
    tell(report, scenario, f"somebody else writes to a copy {point}", promises)
