"""What `decide` answers: a table of histories, a sentence for each; and what holds of every history."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rotator.core.errors import (
    RETRIED,
    Conflict,
    CurrentRejected,
    Denied,
    Refused,
    Transient,
    Unavailable,
    Unknown,
    Unprovable,
)
from rotator.core.model import DrainThen, Event, Kind, Outcome, Policy, Step
from rotator.core.state_machine import Finish, Run, WaitUntil, decide, step_backoff
from rotator.core.windows import Windows
from rotator.testing.fakes import START
from tests.rotation_events import step_event

if TYPE_CHECKING:
    from rotator.core.model import Json
    from rotator.core.state_machine import Decision

_HOUR: Final = 3600
_DAY: Final = 24 * _HOUR
_POLICY: Final = Policy(
    attempts=2,
    cycles=2,
    backoff=timedelta(seconds=4),
    backoff_cap=timedelta(seconds=60),
    grace=timedelta(hours=1),
    drain_wait=timedelta(days=1),
    drain_poll=timedelta(seconds=30),
)
_TERMINATE: Final = replace(_POLICY, drain_then=DrainThen.TERMINATE)
_NO_GRACE: Final = replace(_POLICY, grace=timedelta(0))
_PATIENT: Final = replace(_POLICY, attempts=100)
_FORWARD: Final = (
    Step.STAGE,
    Step.CREATE,
    Step.VERIFY,
    Step.PUBLISH,
    Step.COPY,
    Step.DRAIN,
    Step.REVOKE,
)
_GRACE: Final = "the old credential is in its grace period"
_SESSIONS: Final = "the old login still has open sessions"
_RETRY: Final = "waiting to try again"
_HOST: Final = "waiting for target main"
# Errors after which no further attempt of the same step is of use.
_FINAL: Final = (Refused, Denied, CurrentRejected, Unprovable, Conflict)


_QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


# -- histories in short ----------------------------------------------------------------------------


def _asked(
    *, overlaps: bool = True, first: bool = False, copies: bool = False, draws: bool = False
) -> list[Event]:
    old: dict[str, Json] = {} if first else {"old_version": "1", "old_login": "app"}
    listed: dict[str, Json] = {"copies": ["other:app"]} if copies else {}
    drawn: dict[str, Json] = {"draws": True} if draws else {}
    return [step_event(Kind.REQUESTED, overlaps=overlaps, **old, **listed, **drawn)]


def _started(*steps: Step) -> list[Event]:
    return [step_event(Kind.STARTED, step) for step in steps]


def _done(*steps: Step, at: float = 0) -> list[Event]:
    return [
        event
        for step in steps
        for event in (step_event(Kind.STARTED, step), step_event(Kind.FINISHED, step, at))
    ]


def _failed(step: Step, error: Any, times: int = 1) -> list[Event]:
    facts = {"kind": error.kind, "what": "why", "origin": "target main"}
    return [step_event(Kind.STARTED, step), step_event(Kind.FAILED, step, **facts)] * times


def _sessions(at: float, step: Step = Step.DRAIN) -> list[Event]:
    return [*_started(step), step_event(Kind.WAITING, step, at)]


def _rollback(at: float = 0) -> list[Event]:
    return [step_event(Kind.ROLLBACK_REQUESTED, None, at, kind="aborted")]


def _revoke(*, end_sessions: bool = False) -> list[Event]:
    return [step_event(Kind.REVOKE_REQUESTED, end_sessions=end_sessions)]


def _parked() -> list[Event]:
    return [step_event(Kind.PARKED, reason="why")]


def _unparked() -> list[Event]:
    return [step_event(Kind.UNPARKED)]


def _ended(outcome: Outcome) -> list[Event]:
    return [step_event(Kind.ENDED, outcome=outcome.value)]


def _until(step: Step, *, copies: bool = False, **asked: bool) -> list[Event]:
    """Return a rotation that has finished every step before this one."""
    steps = [one for one in _FORWARD[: _FORWARD.index(step)] if copies or one is not Step.COPY]
    return [*_asked(copies=copies, **asked), *_done(*steps)]


def _waits(low: float, high: float, why: str = _RETRY) -> tuple[float, float, str]:
    """Return a wait that ends within these seconds after `START`: backoff has a jitter."""
    return low, high, why


def _run(step: Step, *, end_sessions: bool = False) -> Run:
    return Run(step=step, end_sessions=end_sessions)


# A decision; or an outcome, or a wait between two moments.
_Expected = Run | Outcome | tuple[float, float, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    sentence: str
    history: list[Event]
    expected: _Expected
    at: float = 0
    policy: Policy = _POLICY
    at_once: bool = False


def _row(
    sentence: str, history: list[Event], expected: _Expected, at: float = 0, **more: Any
) -> _Row:
    return _Row(sentence=sentence, history=history, expected=expected, at=at, **more)


def _after_an_outage(step: Step, *, overlaps: bool) -> list[_Row]:
    """Return what follows fifty failures of a host at a step."""
    away = [
        *_until(step, copies=step is Step.COPY, overlaps=overlaps),
        *_failed(step, Unavailable, 50),
    ]
    where = f"{step.value} {'with' if overlaps else 'without'} overlap"
    own = [*away, *_failed(step, Transient)]
    return [
        _row(f"{where} does not wait for a host that is back", away, _run(step), at_once=True),
        _row(f"{where} is tried again a while after an outage", away, _run(step), 75),
        _row(f"{where} has its own failures, after those of a host", own, _waits(3, 5)),
        _row(f"{where} does not wait for its own failure at once", own, _run(step), at_once=True),
    ]


_STEPS_FORWARD = [
    _row("a rotation begins with stage", _asked(), _run(Step.STAGE)),
    _row("create follows stage", _until(Step.CREATE), _run(Step.CREATE)),
    _row("verify follows create", _until(Step.VERIFY), _run(Step.VERIFY)),
    _row("publish follows verify", _until(Step.PUBLISH), _run(Step.PUBLISH)),
    _row(
        "copy follows publish where there are copies",
        _until(Step.COPY, copies=True),
        _run(Step.COPY),
    ),
    _row("drain follows publish, after grace", _until(Step.DRAIN), _run(Step.DRAIN), _HOUR),
    _row("revoke follows drain", _until(Step.REVOKE), _run(Step.REVOKE), _HOUR),
    _row("a revoke ends the rotation", [*_until(Step.REVOKE), *_done(Step.REVOKE)], Outcome.DONE),
    _row(
        "the first credential of a secret has no old one to revoke",
        _until(Step.DRAIN, first=True),
        Outcome.DONE,
    ),
    _row(
        "the first credential of a secret is copied too",
        _until(Step.COPY, first=True, copies=True),
        _run(Step.COPY),
    ),
    _row(
        "a copy of the first credential ends the rotation",
        _until(Step.DRAIN, first=True, copies=True),
        Outcome.DONE,
    ),
    _row(
        "a rotation begins with create where the target draws",
        _asked(draws=True),
        _run(Step.CREATE),
    ),
    _row(
        "verify follows a create that has staged what the target drew",
        [*_asked(draws=True), *_done(Step.CREATE)],
        _run(Step.VERIFY),
    ),
    _row(
        "a draw whose answer is lost runs again",
        [*_asked(draws=True), *_failed(Step.CREATE, Unknown)],
        _run(Step.CREATE),
        5,
    ),
    _row(
        "a draw that failed for good is withdrawn, because a key may be on the target",
        [*_asked(draws=True), *_failed(Step.CREATE, Denied)],
        _run(Step.WITHDRAW),
    ),
    *(
        _row(
            f"{step.value} runs again after a crash in it",
            [*_until(step, copies=True), *_started(step)],
            _run(step),
            _HOUR,
        )
        for step in _FORWARD
    ),
    *(
        _row(
            f"a rotation that ended as {outcome.value} stays so",
            [*_asked(), *_ended(outcome)],
            outcome,
        )
        for outcome in Outcome
    ),
    _row(
        "an open rotation goes on outside of the windows, which hold up only new ones",
        _until(Step.CREATE),
        _run(Step.CREATE),
        policy=replace(_POLICY, windows=Windows(allow=())),
    ),
]

_RETRIES = [
    _row(
        "a transient failure waits for its backoff",
        [*_until(Step.VERIFY), *_failed(Step.VERIFY, Transient)],
        _waits(3, 5),
    ),
    _row(
        "the step runs again after its backoff",
        [*_until(Step.VERIFY), *_failed(Step.VERIFY, Transient)],
        _run(Step.VERIFY),
        5,
    ),
    _row(
        "an operator who asks for it does not wait for the backoff",
        [*_until(Step.VERIFY), *_failed(Step.VERIFY, Transient)],
        _run(Step.VERIFY),
        at_once=True,
    ),
    _row(
        "the wait after a whole cycle of attempts is the longest",
        [*_until(Step.REVOKE), *_failed(Step.REVOKE, Transient, 2)],
        _waits(45, 75),
    ),
    _row(
        "the third attempt waits four times as long as the first",
        [*_until(Step.REVOKE), *_failed(Step.REVOKE, Transient, 3)],
        _waits(12, 20),
    ),
    _row(
        "a step that has succeeded leaves none of its failures to the next",
        [
            *_until(Step.CREATE),
            *_failed(Step.CREATE, Transient),
            *_done(Step.CREATE),
            *_failed(Step.VERIFY, Transient),
        ],
        _waits(3, 5),
    ),
    _row(
        "a lost answer of create is tried again, because create is an ensure",
        [*_until(Step.CREATE), *_failed(Step.CREATE, Unknown)],
        _waits(3, 5),
    ),
    _row(
        "the first credential of a secret is tried again also without overlap",
        [*_until(Step.VERIFY, overlaps=False, first=True), *_failed(Step.VERIFY, Transient)],
        _waits(3, 5),
    ),
    *(
        _row(
            f"an unavailable host leaves the rotation before {step.value}, however often it fails",
            [*_until(step, copies=True), *_failed(step, Unavailable, 50)],
            _waits(45, 75, _HOST),
        )
        for step in _FORWARD
        if step is not Step.DRAIN
    ),
    *(
        _row(
            f"an unavailable host leaves a rotation without overlap before {step.value}",
            [*_until(step, overlaps=False), *_failed(step, Unavailable, 50)],
            _waits(45, 75, _HOST),
        )
        for step in (Step.STAGE, Step.REVOKE)
    ),
    *(
        row
        for step in _FORWARD
        for overlaps in (True, False)
        if step is not Step.DRAIN and (overlaps or step in (Step.STAGE, Step.REVOKE))
        for row in _after_an_outage(step, overlaps=overlaps)
    ),
]

_BACKWARD = [
    _row(
        "a used-up cycle before publish withdraws what was created",
        [*_until(Step.VERIFY), *_failed(Step.VERIFY, Transient, 2)],
        _run(Step.WITHDRAW),
    ),
    _row(
        "a used-up cycle of stage has nothing on the target to withdraw",
        [*_asked(), *_failed(Step.STAGE, Transient, 2)],
        _run(Step.DISCARD),
    ),
    _row(
        "create that was begun is withdrawn, because it may have had its effect",
        [*_until(Step.CREATE), *_failed(Step.CREATE, Transient, 2)],
        _run(Step.WITHDRAW),
    ),
    *(
        _row(
            f"{error.kind} at {step.value} turns back at once",
            [*_until(step), *_failed(step, error)],
            _run(Step.DISCARD if step is Step.STAGE else Step.WITHDRAW),
        )
        for error in _FINAL
        for step in _FORWARD[:4]
    ),
    *(
        _row(
            f"without overlap {error.kind} at {step.value} turns back at once",
            [*_until(step, overlaps=False), *_failed(step, error)],
            _run(Step.WITHDRAW),
        )
        for error in (Transient, Unavailable, Refused, Denied, Conflict)
        for step in _FORWARD[1:4]
    ),
    *(
        _row(
            f"without overlap a lost answer of {step.value} turns back at once",
            [*_until(step, overlaps=False), *_failed(step, Unknown)],
            _run(Step.WITHDRAW),
        )
        for step in _FORWARD[1:3]
    ),
    _row(
        "discard follows withdraw",
        [*_until(Step.VERIFY), *_failed(Step.VERIFY, Refused), *_done(Step.WITHDRAW)],
        _run(Step.DISCARD),
    ),
    _row(
        "a discard ends the rotation as undone",
        [*_until(Step.VERIFY), *_failed(Step.VERIFY, Refused), *_done(Step.WITHDRAW, Step.DISCARD)],
        Outcome.UNDONE,
    ),
    _row(
        "withdraw runs again after a crash in it",
        [*_until(Step.VERIFY), *_failed(Step.VERIFY, Refused), *_started(Step.WITHDRAW)],
        _run(Step.WITHDRAW),
    ),
    _row(
        "a begun withdraw goes on, also under a policy with more attempts",
        [*_until(Step.VERIFY), *_failed(Step.VERIFY, Transient, 2), *_started(Step.WITHDRAW)],
        _run(Step.WITHDRAW),
        policy=_PATIENT,
    ),
    _row(
        "a failed withdraw is tried again",
        [*_until(Step.VERIFY), *_failed(Step.VERIFY, Refused), *_failed(Step.WITHDRAW, Transient)],
        _waits(3, 5),
    ),
    _row(
        "without overlap a failed withdraw is tried again soon, because nobody can log in",
        [
            *_until(Step.VERIFY, overlaps=False),
            *_failed(Step.VERIFY, Refused),
            *_failed(Step.WITHDRAW, Transient),
        ],
        _waits(0.05, 0.2),
    ),
    _row(
        "a withdraw that fails in every cycle parks the rotation",
        [
            *_until(Step.VERIFY),
            *_failed(Step.VERIFY, Refused),
            *_failed(Step.WITHDRAW, Transient, 4),
        ],
        Outcome.PARKED,
        _DAY,
    ),
    _row(
        "a withdraw without the right to it parks the rotation",
        [*_until(Step.VERIFY), *_failed(Step.VERIFY, Refused), *_failed(Step.WITHDRAW, Denied)],
        Outcome.PARKED,
    ),
]

_PIVOT = [
    _row(
        "a lost answer of publish is asked for again",
        [*_until(Step.PUBLISH), *_failed(Step.PUBLISH, Unknown)],
        _run(Step.PUBLISH),
        5,
    ),
    _row(
        "a lost answer of publish does not turn back at the end of a cycle",
        [*_until(Step.PUBLISH), *_failed(Step.PUBLISH, Unknown, 2)],
        _run(Step.PUBLISH),
        _HOUR,
    ),
    _row(
        "a publish whose answers are all lost parks the rotation",
        [*_until(Step.PUBLISH), *_failed(Step.PUBLISH, Unknown, 4)],
        Outcome.PARKED,
        _DAY,
    ),
    _row(
        "a publish that fails after a lost answer does not turn back",
        [
            *_until(Step.PUBLISH),
            *_failed(Step.PUBLISH, Unknown),
            *_failed(Step.PUBLISH, Transient, 2),
        ],
        _run(Step.PUBLISH),
        _DAY,
    ),
    _row(
        "a publish that is denied after a lost answer parks, because it may have happened",
        [*_until(Step.PUBLISH), *_failed(Step.PUBLISH, Unknown), *_failed(Step.PUBLISH, Denied)],
        Outcome.PARKED,
    ),
    _row(
        "a conflict after a lost answer proves that publish did not happen",
        [*_until(Step.PUBLISH), *_failed(Step.PUBLISH, Unknown), *_failed(Step.PUBLISH, Conflict)],
        _run(Step.WITHDRAW),
    ),
    _row(
        "a publish that crashed and then failed does not turn back",
        [*_until(Step.PUBLISH), *_started(Step.PUBLISH), *_failed(Step.PUBLISH, Transient, 2)],
        _run(Step.PUBLISH),
        _DAY,
    ),
    _row(
        "without overlap a lost answer of publish is asked for soon, because nobody may log in",
        [*_until(Step.PUBLISH, overlaps=False), *_failed(Step.PUBLISH, Unknown)],
        _waits(0.05, 0.2),
    ),
    *(
        _row(
            f"{error.kind} at {step.value} parks, because publish is behind it",
            [*_until(step, copies=True), *_failed(step, error)],
            Outcome.PARKED,
            _HOUR,
        )
        for error in _FINAL
        for step in (Step.COPY, Step.REVOKE)
    ),
    *(
        _row(
            f"{step.value} has as many attempts as all cycles together",
            [*_until(step, copies=True), *_failed(step, Transient, 3)],
            _run(step),
            _DAY,
        )
        for step in (Step.COPY, Step.REVOKE)
    ),
    *(
        _row(
            f"{step.value} that fails in every cycle parks the rotation",
            [*_until(step, copies=True), *_failed(step, Transient, 4)],
            Outcome.PARKED,
            _DAY,
        )
        for step in (Step.COPY, Step.DRAIN, Step.REVOKE)
    ),
]

_DRAIN = [
    _row("the old credential has its grace", _until(Step.DRAIN), _waits(_HOUR, _HOUR, _GRACE)),
    _row(
        "grace lasts until its last moment",
        _until(Step.DRAIN),
        _waits(_HOUR, _HOUR, _GRACE),
        _HOUR - 1,
    ),
    _row(
        "grace counts from the last copy",
        [*_until(Step.COPY, copies=True), *_done(Step.COPY, at=600)],
        _waits(_HOUR + 600, _HOUR + 600, _GRACE),
        601,
    ),
    _row("no grace is no wait", _until(Step.DRAIN), _run(Step.DRAIN), policy=_NO_GRACE),
    _row(
        "without overlap there is no grace, because the old password is gone",
        _until(Step.DRAIN, overlaps=False),
        _run(Step.DRAIN),
    ),
    _row(
        "open sessions are counted again after a while",
        [*_until(Step.DRAIN), *_sessions(_HOUR)],
        _waits(_HOUR + 30, _HOUR + 30, _SESSIONS),
        _HOUR,
    ),
    _row(
        "the while over, they are counted",
        [*_until(Step.DRAIN), *_sessions(_HOUR)],
        _run(Step.DRAIN),
        _HOUR + 30,
    ),
    _row(
        "sessions that revoke finds are waited for in the same way",
        [*_until(Step.REVOKE), *_sessions(_HOUR, Step.REVOKE)],
        _waits(_HOUR + 30, _HOUR + 30, _SESSIONS),
        _HOUR,
    ),
    _row(
        "hold ends no session, however long it waits",
        [*_until(Step.DRAIN), *_sessions(_HOUR)],
        _run(Step.DRAIN),
        365 * _DAY,
    ),
    _row(
        "terminate does not end sessions before the drain's time is over",
        [*_until(Step.DRAIN), *_sessions(_DAY)],
        _run(Step.DRAIN),
        _DAY + 30,
        policy=_TERMINATE,
    ),
    _row(
        "terminate ends sessions when the drain's time is over",
        [*_until(Step.DRAIN), *_sessions(_DAY)],
        _run(Step.DRAIN, end_sessions=True),
        _DAY + _HOUR,
        policy=_TERMINATE,
    ),
    _row(
        "terminate does not count once more beyond the drain's time",
        [*_until(Step.DRAIN), *_sessions(_DAY + _HOUR - 10)],
        _waits(_DAY + _HOUR, _DAY + _HOUR, _SESSIONS),
        _DAY + _HOUR - 10,
        policy=_TERMINATE,
    ),
    _row(
        "an operator's revoke ends the grace period",
        [*_until(Step.DRAIN), *_revoke()],
        _run(Step.DRAIN),
    ),
    _row(
        "an operator's revoke does not end sessions",
        [*_until(Step.DRAIN), *_sessions(0), *_revoke()],
        _run(Step.DRAIN),
    ),
    _row(
        "an operator's revoke with end_sessions ends them in drain",
        [*_until(Step.DRAIN), *_revoke(end_sessions=True)],
        _run(Step.DRAIN, end_sessions=True),
    ),
    _row(
        "an operator's revoke with end_sessions ends them in revoke",
        [*_until(Step.REVOKE), *_revoke(end_sessions=True)],
        _run(Step.REVOKE, end_sessions=True),
    ),
    _row(
        "a later revoke without end_sessions takes nothing back",
        [*_until(Step.DRAIN), *_revoke(end_sessions=True), *_revoke()],
        _run(Step.DRAIN, end_sessions=True),
    ),
]

_ROLLED_BACK = [
    _row(
        "a rollback of what has not begun discards", [*_asked(), *_rollback()], _run(Step.DISCARD)
    ),
    _row(
        "a rollback before publish withdraws",
        [*_until(Step.PUBLISH), *_rollback()],
        _run(Step.WITHDRAW),
    ),
    _row(
        "a rollback before publish ends as undone",
        [*_until(Step.PUBLISH), *_rollback(), *_done(Step.WITHDRAW, Step.DISCARD)],
        Outcome.UNDONE,
    ),
    _row(
        "a rollback after publish restores",
        [*_until(Step.DRAIN), *_rollback()],
        _run(Step.RESTORE),
    ),
    _row(
        "a rollback after drain restores",
        [*_until(Step.REVOKE), *_rollback()],
        _run(Step.RESTORE),
        _HOUR,
    ),
    _row(
        "a rollback writes the copies again",
        [*_until(Step.DRAIN, copies=True), *_rollback(), *_done(Step.RESTORE)],
        _run(Step.COPY),
    ),
    _row(
        "the new credential has its grace, from restore",
        [*_until(Step.DRAIN), *_rollback(60), *_done(Step.RESTORE, at=60)],
        _waits(_HOUR + 60, _HOUR + 60, _GRACE),
        61,
    ),
    _row(
        "a rollback forgets that the old credential was to be revoked at once",
        [*_until(Step.DRAIN), *_revoke(end_sessions=True), *_rollback(), *_done(Step.RESTORE)],
        _waits(_HOUR, _HOUR, _GRACE),
    ),
    _row(
        "a rollback counts the sessions of the new login",
        [*_until(Step.REVOKE), *_rollback(), *_done(Step.RESTORE)],
        _run(Step.DRAIN),
        _HOUR,
    ),
    _row(
        "a rollback revokes the new credential",
        [*_until(Step.DRAIN), *_rollback(), *_done(Step.RESTORE, Step.DRAIN)],
        _run(Step.REVOKE),
        _HOUR,
    ),
    _row(
        "a rollback ends with that revoke",
        [*_until(Step.DRAIN), *_rollback(), *_done(Step.RESTORE, Step.DRAIN, Step.REVOKE)],
        Outcome.ROLLED_BACK,
    ),
    _row(
        "a failed restore is tried again",
        [*_until(Step.DRAIN), *_rollback(), *_failed(Step.RESTORE, Transient, 3)],
        _waits(12, 20),
    ),
    _row(
        "a restore that fails in every cycle parks the rotation",
        [*_until(Step.DRAIN), *_rollback(), *_failed(Step.RESTORE, Transient, 4)],
        Outcome.PARKED,
        _DAY,
    ),
    _row(
        "a restore that conflicts parks the rotation",
        [*_until(Step.DRAIN), *_rollback(), *_failed(Step.RESTORE, Conflict)],
        Outcome.PARKED,
    ),
    _row(
        "a rollback while publish is unknown finds out first",
        [*_until(Step.PUBLISH), *_failed(Step.PUBLISH, Unknown), *_rollback()],
        _run(Step.PUBLISH),
        _HOUR,
    ),
    _row(
        "and restores once publish is known to have happened",
        [
            *_until(Step.PUBLISH),
            *_failed(Step.PUBLISH, Unknown),
            *_rollback(),
            *_done(Step.PUBLISH),
        ],
        _run(Step.RESTORE),
    ),
    _row(
        "a rollback during a publish that crashed finds out first",
        [*_until(Step.PUBLISH), *_started(Step.PUBLISH), *_rollback()],
        _run(Step.PUBLISH),
    ),
    _row(
        "without overlap there is nothing to roll back to after publish",
        [*_until(Step.DRAIN, overlaps=False), *_rollback()],
        _run(Step.DRAIN),
    ),
    _row(
        "a secret's first credential has none to roll back to",
        [*_until(Step.DRAIN, first=True), *_rollback()],
        Outcome.DONE,
    ),
    _row(
        "a rollback of what turns back already changes nothing",
        [
            *_until(Step.VERIFY),
            *_failed(Step.VERIFY, Refused),
            *_done(Step.WITHDRAW),
            *_rollback(),
        ],
        _run(Step.DISCARD),
    ),
]

_PARKED = [
    _row(
        "a parked rotation stays parked", [*_until(Step.VERIFY), *_parked()], Outcome.PARKED, _DAY
    ),
    _row(
        "a parked rotation stays parked, also for an operator who does not want to wait",
        [*_until(Step.VERIFY), *_parked()],
        Outcome.PARKED,
        at_once=True,
    ),
    _row(
        "an unparked rotation runs the step that failed, at once",
        [*_until(Step.REVOKE), *_failed(Step.REVOKE, Transient, 4), *_parked(), *_unparked()],
        _run(Step.REVOKE),
        _HOUR,
    ),
    _row(
        "an unparked rotation counts its failures from zero",
        [
            *_until(Step.REVOKE),
            *_failed(Step.REVOKE, Transient, 4),
            *_parked(),
            *_unparked(),
            *_failed(Step.REVOKE, Transient),
        ],
        _waits(3, 5),
    ),
    _row(
        "an unparked rotation keeps its direction",
        [
            *_until(Step.VERIFY),
            *_failed(Step.VERIFY, Refused),
            *_failed(Step.WITHDRAW, Denied),
            *_parked(),
            *_unparked(),
        ],
        _run(Step.WITHDRAW),
    ),
    _row(
        "a parked rotation that was ended by hand is over",
        [*_until(Step.VERIFY), *_parked(), *_ended(Outcome.UNDONE)],
        Outcome.UNDONE,
    ),
]

_TABLE = [*_STEPS_FORWARD, *_RETRIES, *_BACKWARD, *_PIVOT, *_DRAIN, *_ROLLED_BACK, *_PARKED]


@pytest.mark.parametrize("row", [pytest.param(row, id=row.sentence) for row in _TABLE])
def test_the_machine_decides(row: _Row):
    """Each row is a sentence."""
    now = START + timedelta(seconds=row.at)
    decision = decide(row.history, now, row.policy, at_once=row.at_once)
    match decision:
        case Run():
            assert decision == row.expected
        case Finish(outcome=outcome):
            assert outcome is row.expected
        case WaitUntil(at=at, why=why):
            assert isinstance(row.expected, tuple), f"{decision}, not {row.expected}"
            low, high, reason = row.expected
            assert why == reason
            assert low <= (at - START).total_seconds() <= high


def test_the_sentences_of_the_table_are_different():
    """So that a failure names one row."""
    sentences = [row.sentence for row in _TABLE]
    assert sorted(sentences) == sorted(set(sentences))


@pytest.mark.parametrize("what", ["undone", "parked", "called off"])
def test_a_finish_names_the_failure_that_turned_the_rotation(what: str):
    """The first one, whatever failed on the way back."""
    failed = _failed(Step.VERIFY, Refused)
    ending = {
        "undone": [
            *failed,
            *_failed(Step.WITHDRAW, Transient),
            *_done(Step.WITHDRAW, Step.DISCARD),
        ],
        "parked": [*failed, *_failed(Step.WITHDRAW, Denied)],
        "called off": [*(off := _rollback()), *_done(Step.WITHDRAW, Step.DISCARD)],
    }[what]
    cause = {"undone": failed[-1], "parked": ending[-1], "called off": off[0]}[what]
    decision = decide([*_until(Step.VERIFY), *ending], START, _POLICY)
    assert isinstance(decision, Finish)
    assert decision.cause == cause


@_QUICK
@given(
    failures=st.integers(1, 1000),
    attempts=st.integers(1, 20),
    rotation_id=st.uuids().map(str),
    urgent=st.booleans(),
)
def test_a_backoff_is_between_a_part_of_the_first_wait_and_a_bit_over_the_longest(
    failures: int, attempts: int, rotation_id: str, *, urgent: bool
):
    """The jitter is a quarter either way, and the same each time."""
    policy = replace(_POLICY, attempts=attempts)
    wait = step_backoff(rotation_id, failures, policy, urgent=urgent)
    first = timedelta(milliseconds=100) if urgent else policy.backoff
    assert first * 0.75 <= wait <= policy.backoff_cap * 1.25
    assert wait == step_backoff(rotation_id, failures, policy, urgent=urgent)


def test_two_rotations_that_failed_together_do_not_come_back_together():
    """The jitter is drawn from the rotation's id."""
    waits = {step_backoff(str(number), 1, _POLICY) for number in range(100)}
    assert len(waits) > 50


# -- properties of simulated histories -------------------------------------------------------------

# What a step may answer. Of some errors it is not known whether the effect happened.
_ANSWERS: Final = (
    "success",
    "transient",
    "unavailable",
    "refused",
    "denied",
    "conflict",
    "in-use",
    "unknown, without the effect",
    "unknown, with the effect",
    "crash before the effect",
    "crash after the effect",
)
# What an operator may do between two decisions.
_WORDS: Final = (
    "nothing",
    "nothing",
    "rollback",
    "revoke",
    "revoke and end sessions",
    "an hour passes",
)
_Script = dict[int, tuple[str, str]]
_ERRORS: Final = {
    one.kind: one for one in (Transient, Unavailable, Refused, Denied, Conflict, Unknown)
}


@dataclass(slots=True, kw_only=True)
class _Simulation:
    """A rotation whose steps answer by a script; afterwards everything succeeds.

    It knows the truth that the machine only reads about: whether publish had its effect.
    """

    policy: Policy
    history: list[Event]
    now: datetime = START
    # Effects on the target and in the backend that have happened.
    effects: set[Step] = field(default_factory=set[Step])
    rollback_asked: bool = False
    grace_cut: bool = False
    may_end_sessions: bool = False
    decisions: list[tuple[int, datetime, Decision]] = field(default_factory=list)

    @property
    def overlaps(self) -> bool:
        return bool(self.history[0].data["overlaps"])

    def finished(self, step: Step) -> Event | None:
        events = [one for one in self.history if one.kind is Kind.FINISHED and one.step is step]
        return events[-1] if events else None

    def write(self, of: Kind, step: Step | None = None, /, **data: Json) -> None:
        self.history.append(replace(step_event(of, step, **data), at=self.now))

    def decide(self) -> Decision:
        """Decide, and require what must hold of every decision."""
        decision = decide(self.history, self.now, self.policy)
        self.decisions.append((len(self.history), self.now, decision))
        match decision:
            case Run(step=step, end_sessions=end_sessions):
                self._require_order(step)
                self._require_no_return(step)
                self._require_leave(step, end_sessions=end_sessions)
            case WaitUntil(at=at):
                assert at > self.now, "a wait that is over is no wait"
            case Finish():
                pass
        return decision

    def _require_order(self, step: Step) -> None:
        if step is Step.REVOKE:
            assert self.finished(Step.VERIFY), "revoke before verify"
            assert self.finished(Step.PUBLISH), "revoke before publish was read back"
            if self.history[0].data.get("copies"):
                assert self.finished(Step.COPY), "revoke before the copies were read back"
            assert self.finished(Step.DRAIN), "revoke before drain"
        if step is Step.RESTORE:
            assert self.rollback_asked, "restore without an operator's word"
        if step is Step.PUBLISH:
            assert self.finished(Step.VERIFY), "publish before verify"

    def _require_no_return(self, step: Step) -> None:
        if step in (Step.WITHDRAW, Step.DISCARD):
            assert Step.PUBLISH not in self.effects, "backward after the pivot"
        if step in _FORWARD[:4]:
            back = {Step.WITHDRAW, Step.DISCARD, Step.RESTORE} & self.effects
            assert not back, f"forward again after {back}"
            assert self.finished(step) is None, f"{step.value} twice"

    def _require_leave(self, step: Step, *, end_sessions: bool) -> None:
        if step not in (Step.DRAIN, Step.REVOKE):
            return
        served = [self.finished(one) for one in (Step.PUBLISH, Step.COPY, Step.RESTORE)]
        since = max(one.at for one in served if one is not None)
        if self.overlaps and not self.grace_cut:
            assert self.now >= since + self.policy.grace, "the grace period was cut short"
        if end_sessions and not self.may_end_sessions:
            assert self.policy.drain_then is DrainThen.TERMINATE
            assert self.now >= since + self.policy.drain_wait, "sessions were ended too early"

    def run(self, step: Step, answer: str) -> None:
        """Run a step: begin it, and let it answer."""
        self.write(Kind.STARTED, step)
        if answer == "in-use" and step not in (Step.DRAIN, Step.REVOKE):
            answer = "success"
        if answer == "conflict" and step in self.effects:
            # A step that has happened is an ensure: it does not conflict with itself.
            answer = "success"
        if answer in ("success", "unknown, with the effect", "crash after the effect"):
            self.effects.add(step)
        if answer.startswith("crash"):
            return
        if answer == "success":
            self.write(Kind.FINISHED, step)
        elif answer == "in-use":
            self.write(Kind.WAITING, step)
        else:
            error = _ERRORS[answer.split(",")[0]]
            self.write(Kind.FAILED, step, kind=error.kind, what="why", origin="target main")

    def hear(self, word: str) -> None:
        """Let an operator, or the time, come between."""
        published = self.finished(Step.PUBLISH) is not None
        if word == "an hour passes":
            self.now += timedelta(hours=1)
        elif word == "rollback":
            if any(one.step is Step.REVOKE for one in self.history):
                # The engine refuses it: the old credential may be dead.
                return
            self.rollback_asked = True
            if published and self.overlaps and self.history[0].data.get("old_version"):
                self.grace_cut = self.may_end_sessions = False
            self.write(Kind.ROLLBACK_REQUESTED, kind="aborted")
        elif word.startswith("revoke") and published:
            self.grace_cut = True
            self.may_end_sessions = self.may_end_sessions or "end sessions" in word
            self.write(Kind.REVOKE_REQUESTED, end_sessions="end sessions" in word)

    def live(self, script: _Script) -> Outcome:
        """Follow the script, then succeed until the rotation has ended; return how."""
        for number in range(300):
            answer, word = script.get(number, ("success", "nothing"))
            self.hear(word)
            match self.decide():
                case Run(step=step):
                    self.run(step, answer)
                case WaitUntil(at=at):
                    self.now = at
                case Finish(outcome=Outcome.PARKED):
                    self.write(Kind.PARKED, reason="why")
                    self.write(Kind.UNPARKED)
                case Finish(outcome=outcome):
                    self.write(Kind.ENDED, outcome=outcome.value)
                    return outcome
        pytest.fail(f"it does not end: {[one[2] for one in self.decisions[-8:]]}")


_POLICIES = st.builds(
    Policy,
    attempts=st.integers(1, 3),
    cycles=st.integers(1, 3),
    backoff=st.sampled_from([timedelta(milliseconds=1), timedelta(seconds=4)]),
    grace=st.sampled_from([timedelta(0), timedelta(hours=1)]),
    drain_wait=st.sampled_from([timedelta(0), timedelta(hours=3)]),
    drain_then=st.sampled_from(list(DrainThen)),
)
_REQUESTS = st.builds(
    _asked,
    overlaps=st.sampled_from([True, True, False]),
    first=st.sampled_from([False, False, True]),
    copies=st.booleans(),
    draws=st.sampled_from([False, False, True]),
)
# What comes between, by the number of the decision. Few of them: else hardly a rotation comes as far
# as its revoke.
_SCRIPTS = st.dictionaries(
    st.integers(0, 15), st.tuples(st.sampled_from(_ANSWERS), st.sampled_from(_WORDS)), max_size=6
)
_SIMULATIONS = st.builds(_Simulation, policy=_POLICIES, history=_REQUESTS)


@_QUICK
@given(simulation=_SIMULATIONS, script=_SCRIPTS)
def test_every_rotation_ends_and_keeps_the_order_on_the_way(
    simulation: _Simulation, script: _Script
):
    """Revoke only after publish and its read-back; nothing backward after the pivot; grace is kept.

    The simulation requires that of each decision.
    """
    _live_and_end(simulation, script)


@pytest.mark.slow
@settings(_QUICK, max_examples=20_000)
@given(simulation=_SIMULATIONS, script=_SCRIPTS)
def test_every_one_of_many_rotations_ends_and_keeps_the_order(
    simulation: _Simulation, script: _Script
):
    """As the test before, longer."""
    _live_and_end(simulation, script)


def _live_and_end(simulation: _Simulation, script: _Script) -> None:
    """Live by the script, and require what must hold of the end."""
    outcome = simulation.live(script)
    assert decide(simulation.history, simulation.now, simulation.policy) == Finish(
        outcome=outcome, cause=_cause(simulation)
    )
    if outcome is Outcome.DONE:
        assert Step.PUBLISH in simulation.effects
        assert not simulation.effects & {Step.WITHDRAW, Step.DISCARD, Step.RESTORE}
    if outcome is Outcome.UNDONE:
        assert Step.PUBLISH not in simulation.effects
        assert Step.DISCARD in simulation.effects
        assert (Step.CREATE in simulation.effects) <= (Step.WITHDRAW in simulation.effects)
    if outcome is Outcome.ROLLED_BACK:
        assert simulation.rollback_asked
        assert {Step.PUBLISH, Step.RESTORE, Step.REVOKE} <= simulation.effects


@_QUICK
@given(simulation=_SIMULATIONS, script=_SCRIPTS)
def test_a_decision_depends_on_history_time_and_policy_alone(
    simulation: _Simulation, script: _Script
):
    """In any order of the questions, and whatever actor and number the events have."""
    simulation.live(script)
    others = [
        replace(one, secret="b", seq=seq, actor="b", fence=seq, hash=str(seq), prev_hash="c")
        for seq, one in enumerate(simulation.history)
    ]
    before = list(others)
    for length, at, decision in reversed(simulation.decisions):
        again = decide(others[:length], at, simulation.policy)
        if isinstance(again, Finish) and again.cause is not None:
            index = others.index(again.cause)
            again = replace(again, cause=simulation.history[index])
        assert again == decision
    assert others == before


@_QUICK
@given(
    copies=st.booleans(),
    overlaps=st.booleans(),
    answer=st.sampled_from(["unknown, with the effect", "crash after the effect"]),
    policy=_POLICIES,
    script=_SCRIPTS,
)
def test_a_publish_that_may_have_happened_is_never_turned_back(
    *, copies: bool, overlaps: bool, answer: str, policy: Policy, script: _Script
):
    """Whatever its next attempts answer: the new credential may be served already."""
    history = _until(Step.PUBLISH, copies=copies, overlaps=overlaps)
    simulation = _Simulation(policy=policy, history=history, effects=set(_FORWARD[:3]))
    simulation.run(Step.PUBLISH, answer)
    assert simulation.live(script) in (Outcome.DONE, Outcome.ROLLED_BACK)


@_QUICK
@given(
    step=st.sampled_from(_FORWARD),
    answer=st.sampled_from(["transient", "refused", "denied", "unknown, without the effect"]),
    overlaps=st.booleans(),
    policy=_POLICIES,
)
def test_a_step_that_never_succeeds_ends_in_an_undone_or_parked_rotation(
    *, step: Step, answer: str, overlaps: bool, policy: Policy
):
    """Retries are used up: no rotation goes on for ever."""
    simulation = _Simulation(policy=policy, history=_asked(overlaps=overlaps, copies=True))
    for _ in range(60):
        match simulation.decide():
            case Run(step=decided):
                simulation.run(decided, answer if decided is step else "success")
            case WaitUntil(at=at):
                simulation.now = at
            case Finish(outcome=outcome):
                assert outcome in (Outcome.UNDONE, Outcome.PARKED)
                return
    pytest.fail(f"it does not end: {simulation.decisions[-4:]}")


@_QUICK
@given(
    step=st.sampled_from([Step.CREATE, Step.VERIFY, Step.PUBLISH]),
    error=st.sampled_from([Transient, Unavailable, Refused, Denied, Conflict]),
    copies=st.booleans(),
    policy=_POLICIES,
    later=st.timedeltas(timedelta(0), timedelta(days=30)),
)
def test_without_overlap_no_failure_in_the_gap_is_waited_for(
    *, step: Step, error: Any, copies: bool, policy: Policy, later: timedelta
):
    """Nobody can log in until the served password is back: whatever the policy and the time."""
    history = [*_until(step, overlaps=False, copies=copies), *_failed(step, error)]
    assert decide(history, START + later, policy) == Run(step=Step.WITHDRAW)


@_QUICK
@given(policy=_POLICIES, later=st.timedeltas(timedelta(0), timedelta(days=30)))
def test_waiting_longer_never_changes_the_direction(policy: Policy, later: timedelta):
    """Time alone turns no rotation back: only a failure or an operator does."""
    for step in _FORWARD:
        for kind in sorted(RETRIED):
            history = [*_until(step), *_failed(step, _ERRORS[kind])]
            at_first = decide(history, START, policy, at_once=True)
            after = decide(history, START + later, policy, at_once=True)
            if isinstance(after, Run) and isinstance(at_first, Run):
                assert after.step is at_first.step


def _cause(simulation: _Simulation) -> Event | None:
    decision = next(one for _, _, one in reversed(simulation.decisions) if isinstance(one, Finish))
    return decision.cause
