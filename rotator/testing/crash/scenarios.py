"""What is done to a secret while it crashes: the starting state, the act, the allowed ends."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final

from rotator.core.consumers import Consumer, Gate
from rotator.core.contracts.backend import OffersNext
from rotator.core.contracts.rotation import Contains
from rotator.core.identifiers import new_id
from rotator.core.model import DrainThen, Outcome, Policy, Prepare, PrepareThen, Step
from rotator.engine import Mode
from rotator.testing.crash.points import Crash, Point, When
from rotator.testing.crash.process import POLICY, Process

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotator.testing.crash.sandbox import Sandbox

_DONE: Final = frozenset({Outcome.DONE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One act in one starting state.

    `prepare` brings a fresh sandbox there, one well-behaved process for each of its entries. `act`
    is what is crashed, again and again. `outcomes`: how the rotations of a crashed act may end.
    `takes_over`: what somebody else wrote before the act has staged anything is what it rotates.
    """

    name: str
    make_sandbox: Callable[[], Sandbox]
    act: Callable[[Process], object]
    prepare: tuple[Callable[[Process], object], ...] = ()
    outcomes: frozenset[Outcome] = _DONE
    policy: Policy = POLICY
    takes_over: bool = False
    # What is served may become invalid, and what somebody else writes then may be the leaked password.
    is_incident: bool = False


def scenarios(make_sandbox: Callable[[], Sandbox]) -> list[Scenario]:
    """Return every scenario that this sandbox has the abilities for."""
    sandbox = make_sandbox()
    rotated = (Process.rotate, Process.rotate)
    in_grace = (Process.rotate, Process.rotate, _leave_in_grace)
    half_way = (Process.rotate, _dies(When.BEFORE, "rotation", "verify"))
    in_doubt = (Process.rotate, _dies(When.AFTER, "backend", "publish"))
    found = [
        Scenario(name="first credential", make_sandbox=make_sandbox, act=Process.rotate),
        Scenario(name="rotation", make_sandbox=make_sandbox, prepare=rotated, act=Process.rotate),
        Scenario(
            name="rotation that waits inside the call",
            make_sandbox=make_sandbox,
            prepare=rotated,
            act=_rotate_patiently,
        ),
        Scenario(
            name="rotation that somebody else leads",
            make_sandbox=make_sandbox,
            prepare=rotated,
            act=_is_led,
            takes_over=True,
        ),
        Scenario(
            name="rotation that somebody else leads after an interrupted one",
            make_sandbox=make_sandbox,
            prepare=half_way,
            act=_is_led,
            takes_over=True,
        ),
        Scenario(
            name="rollback before publish",
            make_sandbox=make_sandbox,
            prepare=half_way,
            act=Process.rollback,
            outcomes=_DONE | {Outcome.UNDONE},
        ),
        Scenario(
            name="rollback with publish in doubt",
            make_sandbox=make_sandbox,
            prepare=in_doubt,
            act=Process.rollback,
            outcomes=_DONE | {Outcome.ROLLED_BACK},
        ),
    ]
    overlaps = sandbox.rotation().overlaps
    contains = isinstance(sandbox.rotation(), Contains)
    offers = isinstance(sandbox.backend, OffersNext)
    sandbox.close()
    if not overlaps and offers:
        found += _with_next(make_sandbox, rotated)
    if contains:
        found += _incidents(make_sandbox, rotated, half_way, in_grace if overlaps else None)
    if overlaps:
        found += [
            Scenario(
                name="rollback in the grace period",
                make_sandbox=make_sandbox,
                prepare=in_grace,
                act=Process.rollback,
                outcomes=_DONE | {Outcome.ROLLED_BACK},
            ),
            Scenario(
                name="early revoke", make_sandbox=make_sandbox, prepare=in_grace, act=Process.revoke
            ),
            Scenario(
                name="rotation whose consumers end the grace period",
                make_sandbox=make_sandbox,
                prepare=(*rotated, _declare_consumers),
                act=Process.rotate,
                policy=replace(POLICY, grace=timedelta(minutes=10), until_acknowledged=True),
            ),
            Scenario(
                name="rotation whose consumers hold the revoke",
                make_sandbox=make_sandbox,
                prepare=(*rotated, _declare_consumers),
                act=Process.rotate,
            ),
            Scenario(
                name="rollback while consumers have not moved",
                make_sandbox=make_sandbox,
                prepare=(*rotated, _declare_consumers, _leave_in_grace),
                act=Process.rollback,
                outcomes=_DONE | {Outcome.ROLLED_BACK},
            ),
        ]
    if sandbox.open_session is not None and sandbox.close_sessions is not None:
        drain = Scenario(
            name="drain that waits",
            make_sandbox=make_sandbox,
            prepare=(*rotated, _log_in),
            act=Process.rotate,
        )
        ends = replace(POLICY, drain_then=DrainThen.TERMINATE, drain_wait=timedelta(seconds=90))
        found += [drain, replace(drain, name="drain that ends sessions", policy=ends)]
    if sandbox.foreign is not None and sandbox.write_by_hand is not None:
        adopted = Scenario(
            name="rotation of an adopted login",
            make_sandbox=make_sandbox,
            prepare=(_hand_over, _adopt),
            act=Process.rotate,
        )
        adopting = replace(adopted, name="adoption", prepare=(_hand_over,), act=_adopt)
        found += [adopted, adopting]
    if sandbox.refuse_next is not None:
        found.append(
            Scenario(
                name="refused candidate",
                make_sandbox=make_sandbox,
                prepare=(*rotated, _refuse_next),
                act=Process.rotate,
                outcomes=_DONE | {Outcome.UNDONE},
            )
        )
    return found


def _incidents(
    make_sandbox: Callable[[], Sandbox],
    rotated: tuple[Callable[[Process], object], ...],
    half_way: tuple[Callable[[Process], object], ...],
    in_grace: tuple[Callable[[Process], object], ...] | None,
) -> list[Scenario]:
    """Return the scenarios in which the served password has leaked."""
    kills = Scenario(
        name="incident that kills",
        make_sandbox=make_sandbox,
        prepare=rotated,
        act=partial(_leak, Mode.KILL),
        is_incident=True,
    )
    moves = replace(kills, name="incident that moves", act=partial(_leak, Mode.MOVE))
    found = [
        kills,
        moves,
        replace(kills, name="incident after an interrupted rotation", prepare=half_way),
        replace(
            moves,
            name="incident whose consumers have not moved",
            prepare=(*rotated, _declare_consumers),
        ),
    ]
    if in_grace is not None:
        found.append(replace(kills, name="incident in the grace period", prepare=in_grace))
    return found


def _leak(mode: Mode, process: Process) -> None:
    process.leak(mode)


def _with_next(
    make_sandbox: Callable[[], Sandbox], rotated: tuple[Callable[[Process], object], ...]
) -> list[Scenario]:
    """Return the scenarios in which consumers read the next version before the target changes."""
    holding = replace(POLICY, prepare=Prepare(then=PrepareThen.HOLD))
    # Shorter than the consumers need.
    hurried = replace(POLICY, prepare=Prepare(wait=timedelta(seconds=2)))
    prepare = (*rotated, _declare_consumers)
    waits = (*prepare, _leave_waiting)
    undone = _DONE | {Outcome.UNDONE}
    return [
        Scenario(
            name="rotation whose consumers prepare",
            make_sandbox=make_sandbox,
            prepare=prepare,
            act=Process.rotate,
            policy=holding,
        ),
        Scenario(
            name="rotation that goes on without its consumers",
            make_sandbox=make_sandbox,
            prepare=prepare,
            act=Process.rotate,
            policy=hurried,
        ),
        Scenario(
            name="rotation led by somebody else whose consumers prepare",
            make_sandbox=make_sandbox,
            prepare=prepare,
            act=_is_led,
            policy=holding,
            takes_over=True,
        ),
        Scenario(
            name="rollback while consumers prepare",
            make_sandbox=make_sandbox,
            prepare=waits,
            act=Process.rollback,
            outcomes=undone,
            policy=holding,
        ),
        Scenario(
            name="operator's word while consumers prepare",
            make_sandbox=make_sandbox,
            prepare=waits,
            act=Process.revoke,
            policy=holding,
        ),
    ]


def _rotate_patiently(process: Process) -> None:
    process.finish(process.engine.rotate(process.secret, patience=timedelta(hours=1)))


def _is_led(process: Process) -> None:
    """Do each step in a call of its own, twice, as AWS's rotation does."""
    rotation_id = new_id(process.sandbox.entropy)
    for step in (Step.STAGE, Step.CREATE, Step.CREATE, Step.VERIFY, Step.PUBLISH, Step.PUBLISH):
        result = process.engine.advance(process.secret, rotation_id=rotation_id, to=step)
        if result.outcome is not None or result.error is not None:
            break
    process.finish(process.engine.resume(process.secret))


def _leave_in_grace(process: Process) -> None:
    result = process.engine.rotate(process.secret)
    assert result.published, result


def _leave_waiting(process: Process) -> None:
    result = process.engine.rotate(process.secret)
    assert result.waiting, result
    assert not result.published, result


def _dies(when: When, port: str, name: str) -> Callable[[Process], object]:
    """Return a rotation that dies at the first such point."""

    def fault(point: Point) -> None:
        if (point.when, point.port, point.name) == (when, port, name):
            raise Crash

    def act(process: Process) -> None:
        process.points.fault = fault
        process.engine.rotate(process.secret)

    return act


def _log_in(process: Process) -> None:
    sandbox = process.sandbox
    current = sandbox.backend.current(sandbox.path)
    assert current is not None
    assert sandbox.open_session is not None
    sandbox.open_session(current.credential.username)


def _hand_over(process: Process) -> None:
    """Put a login that others made where consumers read it, as others would have."""
    sandbox = process.sandbox
    assert sandbox.foreign is not None
    assert sandbox.write_by_hand is not None
    _ = sandbox.write_by_hand(sandbox.foreign())


def _adopt(process: Process) -> None:
    process.engine.adopt(process.secret)


def _declare_consumers(process: Process) -> None:
    """Declare who uses the secret, to every later process; they use the old version until they move."""
    sandbox = process.sandbox
    sandbox.consumers = (Consumer(name="web", instances=2, gate=Gate.HOLD),)
    sandbox.consumers_move()


def _refuse_next(process: Process) -> None:
    assert process.sandbox.refuse_next is not None
    process.sandbox.refuse_next()
