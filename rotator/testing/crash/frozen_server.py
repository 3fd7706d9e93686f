"""Freezes the server's side of one statement until its client has given up, and thaws it later.

A statement whose client gave up may still be waiting on the server: for a lock, a backup, a standby,
in a stopped process, in a proxy. It may take effect at any later moment.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from rotator.testing.crash.explorer import ANY, let, prepared, tell, undisturbed
from rotator.testing.crash.points import Point, When
from rotator.testing.crash.process import Process
from rotator.testing.crash.sandbox import port_of

if TYPE_CHECKING:
    from rotator.core.model import Policy
    from rotator.testing.crash.promises import Promises
    from rotator.testing.crash.report import Report
    from rotator.testing.crash.sandbox import Effects, Sandbox
    from rotator.testing.crash.scenarios import Scenario

# Stops what the server does for a connection of the plugin's, and returns what lets it go on. That
# returns once the server has done whatever it then does.
Hold = Callable[[Any], Callable[[], None]]

# Real seconds, as the drivers count them: this is how long each frozen call takes to give up.
STEP_SECONDS: Final = 3.0


@dataclass(slots=True, kw_only=True)
class _Trial:
    """One statement, frozen until the `later`-th point after it (None: until all is over)."""

    statement: int
    later: int | None
    hold: Hold
    effects: Effects
    passed: list[Point] = field(default_factory=list[Point])
    thaw: Callable[[], None] | None = None
    thawed: bool = False

    def meet(self, point: Point) -> None:
        """Freeze before the chosen statement; count what follows, and thaw where it is time."""
        if not self.passed and self.thaw is None and not self.thawed:
            if point.number == self.statement:
                self.effects.before = self._freeze
            return
        if self.thaw is not None and not point.inner:
            self.passed.append(point)
            if len(self.passed) == self.later:
                self.release()

    def release(self) -> None:
        """Let the server go on, and wait until it has done what it was held from doing."""
        thaw, self.thaw = self.thaw, None
        if thaw is not None:
            thaw()
            self.thawed = True

    def _freeze(self, link: Any) -> None:
        self.effects.before = None
        self.thaw = self.hold(link)


def explore_frozen(
    scenario: Scenario,
    effects: Effects,
    hold: Hold,
    *,
    sample: int | None = None,
    seed: int = 0,
    step_seconds: float = STEP_SECONDS,
) -> Report:
    """Freeze each statement in turn, and thaw it at each later call of the engine.

    `effects` taps the plugin's statements, and is one of the sandbox's `tapped`. `hold` is called with
    the statement's connection. `sample`: only so many statements, drawn by `seed`, each thawed once
    when all is over and once at a point in between. `step_seconds`: the step timeout, in real time.
    """
    scenario = replace(scenario, policy=_impatient(scenario.policy, step_seconds))
    report, points = undisturbed(scenario)
    port = port_of(effects, 0)
    statements = [
        one for one in points if one.inner and one.when is When.BEFORE and one.port == port
    ]
    chance = random.Random(f"{seed} {scenario.name}")  # noqa: S311 # repeatable on purpose
    if sample is not None:
        statements = chance.sample(statements, min(sample, len(statements)))
    for one in statements:
        followed = _freeze(scenario, report, one, None, effects, hold)
        later = range(1, followed + 1)
        if sample is not None:
            later = chance.sample(later, min(1, followed))
        for number in later:
            _ = _freeze(scenario, report, one, number, effects, hold)
    return report


def _freeze(
    scenario: Scenario,
    report: Report,
    statement: Point,
    later: int | None,
    effects: Effects,
    hold: Hold,
) -> int:
    """Run the act with one statement frozen; return at how many points it could have been thawed."""
    sandbox, promises, start = prepared(scenario)
    promises.two_at_work = True
    trial = _Trial(statement=statement.number, later=later, hold=hold, effects=effects)
    try:
        process = Process(sandbox, promises, policy=scenario.policy, fault=trial.meet)
        let(scenario.act, process, promises)
        process.die()
        _resume(scenario, sandbox, promises, trial)
        over = sandbox.journal.open_rotation(sandbox.secret) is None
        before = sandbox.state() if sandbox.state is not None else None
        trial.release()
        after = sandbox.state() if sandbox.state is not None else None
        if over and before != after:
            promises.broken["P3: something changed on the server after the end"] = "at the end"
        _resume(scenario, sandbox, promises, trial)
        promises.check_end(start, ANY)
    finally:
        effects.before = None
        trial.release()
    when = trial.passed[-1] if later is not None and trial.passed else "when all is over"
    tell(report, scenario, f"frozen {statement}, thawed {when}", promises)
    return len(trial.passed)


def _resume(scenario: Scenario, sandbox: Sandbox, promises: Promises, trial: _Trial) -> None:
    process = Process(sandbox, promises, policy=scenario.policy, fault=trial.meet)
    let(Process.resume, process, promises)
    process.die()


def _impatient(policy: Policy, seconds: float) -> Policy:
    # Each further attempt on a server that is still frozen takes real time, and shows nothing new.
    return replace(policy, step_timeout=timedelta(seconds=seconds), attempts=2, cycles=1)
