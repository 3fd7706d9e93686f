"""What to do next. `decide` reads a rotation's history, the clock and the policy, and only that.

Forward: stage, prepare (where consumers read the next version first), create, verify, publish, copy
(where there are copies), drain, revoke. Publish is the pivot. Before it a rotation can be undone
(withdraw, discard). After it a rotation only goes forward; or, on an operator's command, it is rolled
back (restore, copy, then drain and revoke the new credential as if it were the old one).

Where the target draws the key, nobody knows it before: then there is no stage, and create also stages what
came back. From its beginning on there may be a key on the target, so turning back withdraws.

A secret that another system rotates has a track of its own: check, request, await, prove, revoke.
Request is its pivot: what was requested cannot be taken back, and what the target rejects is requested
again.

Where old and new do not overlap nobody can log in between create and publish: the first failure
there turns the rotation back at once. A target or backend that is unavailable as a whole uses up
no retries: the rotation stays where it is until the host is back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING, Final, TypeAlias

from rotator.core.backoff import backoff
from rotator.core.errors import RETRIED, Conflict, InUse, Refused, Unavailable, Unknown
from rotator.core.history import moment, text
from rotator.core.model import DrainThen, Kind, Outcome, PrepareThen, Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from rotator.core.model import Event, Json, Policy

# Every step forward, in order; a rotation leaves out what does not apply to it.
FORWARD: Final = (
    Step.STAGE,
    Step.PREPARE,
    Step.CREATE,
    Step.VERIFY,
    Step.PUBLISH,
    Step.COPY,
    Step.DRAIN,
    Step.REVOKE,
)
# Every step of a rotation that another system does on request, in order.
DELEGATED: Final = (Step.CHECK, Step.REQUEST, Step.AWAIT, Step.PROVE, Step.REVOKE)
# The step after which a rotation cannot be undone, on either track.
_PIVOTS: Final = (Step.PUBLISH, Step.REQUEST)
# Where old and new do not overlap: from the first of them to the last the served password is wrong.
GAP: Final = (Step.CREATE, Step.VERIFY, Step.PUBLISH)
# The first wait between two tries of what ends that gap.
_URGENT: Final = timedelta(milliseconds=100)
# The first wait between two looks at the consumers, while they may end a wait.
_FIRST_LOOK: Final = timedelta(seconds=1)
# In an incident: between two looks at who still uses the old login, and between two tries of a step.
_INCIDENT_POLL: Final = timedelta(seconds=2)
_INCIDENT_CAP: Final = timedelta(seconds=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Run this step now. `end_sessions`: open sessions of the old login are to be ended."""

    step: Step
    end_sessions: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitUntil:
    """Nothing to do before `at`; `why` says it in a few words.

    `until_acknowledged`: or as soon as every consumer uses the new credential.
    """

    at: datetime
    why: str
    until_acknowledged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """Nothing more to do. `cause` is the failure that turned the rotation, if one did."""

    outcome: Outcome
    cause: Event | None = None


Decision: TypeAlias = Run | WaitUntil | Finish


class Direction(Enum):
    """Where a rotation is going."""

    FORWARD = "forward"
    BACKWARD = "backward"
    ROLLBACK = "rollback"


_OUTCOME: Final = {
    Direction.FORWARD: Outcome.DONE,
    Direction.BACKWARD: Outcome.UNDONE,
    Direction.ROLLBACK: Outcome.ROLLED_BACK,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """The old password of a rotation has leaked.

    `fence`: it is made invalid before anything else. `within`: how long after publish consumers and open
    sessions are waited for; then the sessions are ended.
    """

    incident: str
    fence: bool
    within: timedelta


@dataclass(slots=True, kw_only=True)
class Progress:
    """How far a rotation has got: the fold of its history."""

    overlaps: bool = True
    has_old: bool = False
    has_copies: bool = False
    # Whether the target draws the key: `create` then stages it.
    draws: bool = False
    # Whether consumers read the next version before the target changes, and since when they can.
    prepares: bool = False
    prepares_since: datetime | None = None
    done: set[Step] = field(default_factory=set[Step])
    begun: set[Step] = field(default_factory=set[Step])
    direction: Direction = Direction.FORWARD
    cause: Event | None = None
    pivot_at: datetime | None = None
    # When every consumer used what was published.
    acknowledged_at: datetime | None = None
    aborted: bool = False
    revoke_now: bool = False
    end_sessions: bool = False
    failed: Event | None = None
    failures: int = 0
    waited: Event | None = None
    parked: Event | None = None
    outcome: Outcome | None = None
    # What the incident wants that this rotation is part of: its old password has leaked.
    leak: Leak | None = None
    # Whether another system rotates the secret, and where it did so unasked: the version that it serves.
    delegated: bool = False
    noticed: str | None = None
    old_version: str | None = None
    # How often it was requested, the last time when; and how often the target rejected the result.
    requests: int = 0
    requested_at: datetime | None = None
    rejections: int = 0
    rejected: Event | None = None
    # Whether a publish (or a request) is under way, or went out and its answer was lost.
    publishing: bool = False
    maybe_published: bool = False

    @property
    def published(self) -> bool:
        """Whether the new credential is, or was, the current one."""
        return Step.PUBLISH in self.done or Step.PROVE in self.done

    @property
    def can_turn_back(self) -> bool:
        """Whether it is certain that publish, or a request, has not happened."""
        happened = self.published or self.requested_at is not None or self.rejected is not None
        return not (happened or self.publishing or self.maybe_published)

    @property
    def may_turn_back(self) -> bool:
        """Whether a failure may undo it: not where that would make a leaked password valid again."""
        return self.can_turn_back and self.leak is None


def progress(history: Iterable[Event]) -> Progress:
    """Return how far the rotation with this history has got."""
    state = Progress()
    for event in history:
        _apply(state, event)
    return state


def decide(
    history: Sequence[Event], now: datetime, policy: Policy, *, at_once: bool = False
) -> Decision:
    """Return what the engine has to do next with the rotation that has this history.

    `at_once`: do not wait after a failure, because the host is back or an operator asks for it.
    """
    state = progress(history)
    policy = _in_incident(state, policy)
    if state.outcome is not None:
        return Finish(outcome=state.outcome, cause=state.cause)
    if state.parked is not None:
        return Finish(outcome=Outcome.PARKED, cause=state.parked)
    step = _next(state)
    if step is None:
        return Finish(outcome=_OUTCOME[state.direction], cause=state.cause)
    if state.failed is not None and state.failed.step is step:
        decision = _after_failure(state, state.failed, now, policy, at_once=at_once)
        if decision is not None:
            return decision
        step = _next(state)
        if step is None:
            return Finish(outcome=_OUTCOME[state.direction], cause=state.cause)
    if state.delegated:
        return _delegated(state, step, now, policy, at_once=at_once)
    # A prepare is over at once when the consumers have answered: their reports are looked at each time.
    if step is not Step.PREPARE and (step is Step.DRAIN or state.waited is not None):
        return _drain(state, step, now, policy)
    return Run(step=step, end_sessions=_ends_sessions(state, step))


def grace_ends(state: Progress, policy: Policy) -> datetime | None:
    """Return when the old credential may be revoked at the earliest; None before publish."""
    if state.pivot_at is None:
        return None
    if state.revoke_now or not state.overlaps or state.leak is not None:
        return state.pivot_at
    ends = state.pivot_at + policy.grace
    return ends if state.acknowledged_at is None else min(ends, state.acknowledged_at)


def drain_again(history: Iterable[Event], now: datetime, policy: Policy) -> datetime:
    """Return when to look again whether the old credential is in use, after a look at `now`."""
    state = progress(history)
    policy = _in_incident(state, policy)
    again = now + policy.drain_poll
    given_up = _given_up(state, policy)
    if policy.drain_then is DrainThen.TERMINATE and given_up is not None and now < given_up:
        return min(again, given_up)
    return again


def prepare_is_over(state: Progress, now: datetime, policy: Policy) -> bool:
    """Return whether consumers have had the time that the policy gives them to read the next version."""
    prepare, since = policy.prepare, state.prepares_since
    return prepare is None or since is None or now >= since + prepare.wait


def prepare_ends(state: Progress, policy: Policy) -> datetime | None:
    """Return when consumers are no longer waited for before the target changes; None for never."""
    prepare, since = policy.prepare, state.prepares_since
    if prepare is None or since is None or state.revoke_now:
        return since
    return None if prepare.then is PrepareThen.HOLD else since + prepare.wait


def next_look(since: datetime, now: datetime, policy: Policy) -> datetime:
    """Return when to look again at consumers that have been waited for since then.

    Often at first, seldom after a while: a report of a consumer wakes the daemon at once.
    """
    return now + min(max(_FIRST_LOOK, (now - since) / 10), policy.drain_poll)


def prepare_again(history: Iterable[Event], now: datetime, policy: Policy) -> datetime:
    """Return when to look again whether consumers have read the next version, after a look at `now`."""
    state = progress(history)
    since = state.prepares_since or now
    again = next_look(since, now, policy)
    if policy.prepare is None or prepare_is_over(state, now, policy):
        return again
    return min(again, since + policy.prepare.wait)


def await_again(history: Iterable[Event], now: datetime, policy: Policy) -> datetime:
    """Return when to look again whether what was requested is served, after a look at `now`."""
    return next_look(progress(history).requested_at or now, now, policy)


def step_backoff(
    rotation_id: str | None, failures: int, policy: Policy, *, urgent: bool = False
) -> timedelta:
    """Return how long to wait after the n-th failure of a step; the longest wait after each cycle.

    The jitter is the same each time for one rotation and number.
    `urgent`: nobody can log in until the step succeeds, so the first waits are short.
    """
    first = min(policy.backoff, _URGENT) if urgent else policy.backoff
    if not urgent and failures % policy.attempts == 0:
        first = policy.backoff_cap
    key = f"{rotation_id}:{failures}"
    return backoff(failures, first=first, longest=policy.backoff_cap, key=key)


def _in_incident(state: Progress, policy: Policy) -> Policy:
    """Return the policy by which a rotation goes on; in an incident a leaked password cannot wait."""
    if state.leak is None:
        return policy
    return replace(
        policy,
        grace=timedelta(0),
        until_acknowledged=False,
        drain_wait=state.leak.within,
        drain_then=DrainThen.TERMINATE,
        drain_poll=min(policy.drain_poll, _INCIDENT_POLL),
        backoff=min(policy.backoff, _URGENT),
        backoff_cap=min(policy.backoff_cap, _INCIDENT_CAP),
    )


def _delegated(
    state: Progress, step: Step, now: datetime, policy: Policy, *, at_once: bool
) -> Decision:
    """Return what comes next where another system rotates: what it does not do is requested again."""
    if step is Step.REQUEST and state.rejections >= policy.proposals:
        return Finish(outcome=Outcome.PARKED, cause=state.rejected)
    if step is not Step.AWAIT or state.waited is None or state.requested_at is None:
        return Run(step=step)
    again = state.requested_at + max(policy.backoff_cap, policy.step_timeout)
    if now < again and not at_once:
        return Run(step=step)
    if state.requests >= policy.attempts * policy.cycles and not at_once:
        return Finish(outcome=Outcome.PARKED, cause=state.waited)
    return Run(step=Step.REQUEST)


def _ends_sessions(state: Progress, step: Step) -> bool:
    return state.end_sessions or (state.leak is not None and step is Step.REVOKE)


def _next(state: Progress) -> Step | None:
    return next((step for step in _steps(state) if step not in state.done), None)


def _steps(state: Progress) -> list[Step]:
    if state.delegated:
        return _delegated_steps(state)
    copying = [Step.COPY] if state.has_copies else []
    match state.direction:
        case Direction.FORWARD:
            # Once the new password may be in its place, a fence would strike that one.
            fences = state.leak is not None and state.leak.fence
            fences = fences and (Step.FENCE in state.begun or Step.CREATE not in state.begun)
            # A leaked password waits for nobody to read the next one.
            before = [Step.PREPARE] if state.prepares and state.leak is None else []
            staging = [] if state.draws else [Step.STAGE]
            steps = [
                *([Step.FENCE] if fences else []),
                *(*staging, *before, Step.CREATE, Step.VERIFY, Step.PUBLISH, *copying),
            ]
            return [*steps, Step.DRAIN, Step.REVOKE] if state.has_old else steps
        case Direction.BACKWARD:
            # What was never begun on the target needs no undoing there; the target may be away.
            return [Step.WITHDRAW, Step.DISCARD] if Step.CREATE in state.begun else [Step.DISCARD]
        case Direction.ROLLBACK:
            return [Step.RESTORE, *copying, Step.DRAIN, Step.REVOKE]


def _delegated_steps(state: Progress) -> list[Step]:
    if state.direction is not Direction.FORWARD:
        # Nothing was requested, so nothing was changed.
        return []
    if state.noticed is not None:
        return [Step.PROVE]
    return [step for step in DELEGATED if state.has_old or step is not Step.REVOKE]


def _after_failure(
    state: Progress, failed: Event, now: datetime, policy: Policy, *, at_once: bool
) -> WaitUntil | Finish | None:
    """Return what a failure of the next step calls for; None to run the (possibly new) next step."""
    turns_back = state.direction is Direction.FORWARD and state.may_turn_back
    # What was sent may have been done, whatever came back.
    turns_back = turns_back and failed.step is not Step.REQUEST
    locked_out = not state.overlaps and state.has_old and Step.CREATE in state.begun
    if turns_back and locked_out and failed.step in GAP:
        _turn_back(state, failed)
        return None
    kind = text(failed.data, "kind")
    if kind == Unavailable.kind:
        host = text(failed.data, "origin") or "the host"
        cap = policy.backoff_cap
        at = failed.at + backoff(1, first=cap, longest=cap, key=f"{failed.rotation_id}:0")
        waits = now < at and not at_once
        return WaitUntil(at=at, why=f"waiting for {host}") if waits else None
    limit = policy.attempts if turns_back else policy.attempts * policy.cycles
    if kind in RETRIED and state.failures < limit:
        urgent = locked_out and failed.step in (Step.PUBLISH, Step.WITHDRAW)
        at = failed.at + step_backoff(failed.rotation_id, state.failures, policy, urgent=urgent)
        waits = now < at and not at_once
        return WaitUntil(at=at, why="waiting to try again") if waits else None
    if turns_back:
        _turn_back(state, failed)
        return None
    return Finish(outcome=Outcome.PARKED, cause=failed)


def _drain(state: Progress, step: Step, now: datetime, policy: Policy) -> Run | WaitUntil:
    ready = grace_ends(state, policy)
    if ready is not None and now < ready:
        why = "the old credential is in its grace period"
        return WaitUntil(at=ready, why=why, until_acknowledged=policy.until_acknowledged)
    given_up = _given_up(state, policy)
    if state.waited is None or given_up is None:
        return Run(step=step, end_sessions=_ends_sessions(state, step))
    if state.end_sessions or (policy.drain_then is DrainThen.TERMINATE and now >= given_up):
        return Run(step=step, end_sessions=True)
    again = state.waited.at + policy.drain_poll
    if policy.drain_then is DrainThen.TERMINATE:
        again = min(again, given_up)
    if now < again:
        return WaitUntil(at=again, why=waits_for(state.waited))
    return Run(step=step)


def _given_up(state: Progress, policy: Policy) -> datetime | None:
    """Return when the drain has waited long enough; None while it does not wait."""
    if state.waited is None:
        return None
    return (grace_ends(state, policy) or state.waited.at) + policy.drain_wait


def waits_for(waited: Event) -> str:
    """Return what a step waits for, in a few words."""
    if waited.step is Step.AWAIT:
        return (text(waited.data, "what") or "another system rotates it").rstrip(".")
    if waited.step is Step.PREPARE:
        return "consumers have not read the next version"
    if "consumers" in waited.data:
        return "consumers have not confirmed the new version"
    return "the old login still has open sessions"


def _apply(state: Progress, event: Event) -> None:  # noqa: C901, PLR0912 # one case for each kind
    match event.kind:
        case Kind.REQUESTED:
            state.overlaps = bool(event.data.get("overlaps", True))
            state.old_version = text(event.data, "old_version")
            state.has_old = state.old_version is not None
            state.delegated = bool(event.data.get("delegated"))
            state.noticed = text(event.data, "noticed")
            state.has_copies = bool(event.data.get("copies"))
            state.prepares = bool(event.data.get("prepare"))
            state.draws = bool(event.data.get("draws"))
            state.leak = _leak(event.data.get("leak"))
        case Kind.LEAKED:
            state.leak = _leak(event.data)
        case Kind.ADOPTED if state.delegated and text(event.data, "version") != state.old_version:
            # Somebody has taken over another version: that is what was waited for.
            state.done |= {Step.CHECK, Step.REQUEST, Step.AWAIT}
            state.failed, state.failures, state.waited = None, 0, None
        case Kind.STARTED if event.step is not None:
            _started(state, event, event.step)
        case Kind.FINISHED if event.step is not None:
            _finished(state, event, event.step)
        case Kind.FAILED:
            _failed(state, event)
        case Kind.WAITING:
            state.waited = event
        case Kind.CONSUMERS_READY:
            state.acknowledged_at = event.at
        case Kind.ROLLBACK_REQUESTED:
            state.aborted = True
            _rolled_back(state, event)
        case Kind.REVOKE_REQUESTED:
            state.revoke_now, state.waited = True, None
            state.end_sessions = state.end_sessions or bool(event.data.get("end_sessions"))
        case Kind.PARKED:
            state.parked = event
        case Kind.UNPARKED:
            state.parked, state.failed, state.failures, state.waited = None, None, 0, None
            state.requests, state.rejections = 0, 0
        case Kind.ENDED:
            state.outcome = Outcome(str(event.data["outcome"]))
        case _:
            pass


def _started(state: Progress, event: Event, step: Step) -> None:
    state.begun.add(step)
    if step is Step.PREPARE and state.prepares_since is None:
        state.prepares_since = event.at
    if step is Step.REQUEST:
        # Requested again, it is not done until that is answered.
        state.done.discard(Step.REQUEST)
    if step in _PIVOTS:
        # Started twice without an answer in between: nobody knows what the first one did.
        state.maybe_published = state.maybe_published or state.publishing
        state.publishing = True
    if step in (Step.WITHDRAW, Step.DISCARD) and state.direction is Direction.FORWARD:
        # Once begun, turning back is for good, whatever a changed policy would say now.
        _turn_back(state, state.failed)


def _finished(state: Progress, event: Event, step: Step) -> None:
    state.done.add(step)
    state.failed, state.failures, state.waited = None, 0, None
    if state.draws and step is Step.CREATE:
        state.done.add(Step.STAGE)
    if step is Step.REQUEST:
        state.publishing = state.maybe_published = False
        state.requests, state.requested_at = state.requests + 1, event.at
    if step is Step.PROVE:
        state.pivot_at = moment(event.data, "rotated_at") or event.at
    if step is Step.PUBLISH:
        state.publishing = state.maybe_published = False
        state.pivot_at, state.acknowledged_at = event.at, None
        if state.aborted:
            _rolled_back(state, event)
    if step in (Step.RESTORE, Step.COPY):
        # Who reads a copy may have read it a moment before: grace counts from the last of them.
        state.pivot_at, state.acknowledged_at = event.at, None


def _failed(state: Progress, event: Event) -> None:
    same = state.failed is not None and state.failed.step is event.step
    kind = text(event.data, "kind")
    if event.step is Step.PROVE and kind == Refused.kind:
        _rejected(state, event)
        return
    # A fault of the whole host is not this rotation's: it uses up none of its retries.
    state.failures = (state.failures if same else 0) + (kind != Unavailable.kind)
    state.failed = event
    if event.step in _PIVOTS:
        state.publishing = False
        state.maybe_published = kind != Conflict.kind and (
            state.maybe_published or kind == Unknown.kind
        )
    final = kind not in RETRIED and kind != InUse.kind
    if final and event.step is Step.FENCE:
        # Without it the rotation is all the more urgent.
        state.done.add(Step.FENCE)
        state.failed, state.failures = None, 0
    elif final and state.direction is Direction.FORWARD and state.may_turn_back:
        _turn_back(state, event)


def _rejected(state: Progress, event: Event) -> None:
    """Begin again with a request: the target rejects what another system serves."""
    state.done -= {Step.REQUEST, Step.AWAIT}
    state.done.add(Step.CHECK)
    state.noticed, state.failed, state.failures = None, None, 0
    state.rejected, state.rejections = event, state.rejections + 1


def _turn_back(state: Progress, cause: Event | None) -> None:
    state.direction = Direction.BACKWARD
    state.cause = state.cause or cause
    state.failed, state.failures, state.waited = None, 0, None


def _rolled_back(state: Progress, event: Event) -> None:
    """Turn a rotation round on a person's word, as far as it can be turned."""
    if state.published and state.overlaps and state.has_old and not state.delegated:
        state.direction = Direction.ROLLBACK
        state.done -= {Step.COPY, Step.DRAIN, Step.REVOKE}
        state.waited, state.revoke_now, state.end_sessions = None, False, False
        state.cause, state.failed, state.failures = event, None, 0
    elif state.may_turn_back and state.direction is Direction.FORWARD:
        _turn_back(state, event)


def _leak(data: Json) -> Leak | None:
    """Return what an event records of the incident that its rotation is part of."""
    if not isinstance(data, Mapping):
        return None
    seconds = data.get("within")
    return Leak(
        incident=text(data, "incident") or "",
        fence=text(data, "mode") == "kill",
        within=timedelta(seconds=seconds if isinstance(seconds, int | float) else 0),
    )
