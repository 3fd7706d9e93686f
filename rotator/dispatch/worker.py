"""Does one job: calls the engine, and turns its result into the next look at the secret."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from rotator.core.access import Permission
from rotator.core.backoff import backoff
from rotator.core.consumers import Gate, gates_behind, is_of_next
from rotator.core.daemon_settings import Topic
from rotator.core.delegated import DelegatedRotation
from rotator.core.errors import (
    RETRIED,
    AlreadyTaken,
    Busy,
    JournalError,
    LockLost,
    NotDue,
    NotPermitted,
    Parked,
    RotatorError,
    StepError,
    Unavailable,
    UsageError,
)
from rotator.core.lease_chain import secret_of
from rotator.core.model import IncidentMode, Kind, Outcome, Step
from rotator.core.requests import EntryKind
from rotator.core.schedule import after_partners
from rotator.dispatch.ready_queue import JOURNAL, JobKind
from rotator.engine import LeakReport

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from rotator.core.access import Actor
    from rotator.core.contracts.plugin import MarkedLogin
    from rotator.core.contracts.rotation import StepContext
    from rotator.core.daemon_settings import SpacingGroup
    from rotator.core.leases import LeaseBook, LeaseRecord
    from rotator.core.model import Event, Json
    from rotator.core.ports import Clock, Journal, Log
    from rotator.core.requests import Request
    from rotator.dispatch.ready_queue import Job
    from rotator.engine import Contained, Engine, Health, ManagedSecret, Result
    from rotator.requests import Requests

    _Marked = Callable[[StepContext], Sequence[MarkedLogin]]

# After which a secret that another process works on is looked at again.
_LOCKED: Final = timedelta(seconds=10)
# After which the journal is tried again when it could not be used.
_NO_JOURNAL: Final = timedelta(seconds=15)
_FIRST_WAIT: Final = timedelta(seconds=10)
_LONGEST_WAIT: Final = timedelta(minutes=30)
# After which it is reported once more that a drain is still held.
_REPEATED: Final = timedelta(days=1)
_REASON: Final = "due"
# How long one job spends on ending leases of a secret, in seconds.
_LEASES_AT_ONCE: Final = 1.0
# What fails here says nothing about the next rotation.
_NEVER_PARKED: Final = (
    *(JobKind.CHECK, JobKind.CONTAIN),
    *(JobKind.END_LEASES, JobKind.RECONCILE_LEASES),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """How a job ended. `again`: when to look at the secret once more; None for when the journal says.

    `away`: the host that could not be used, with the `kind` of the error, and its cause and cure in
    `what` and `hint`. `answered`: the hosts that did, `worked`: those where something was written.
    """

    again: datetime | None = None
    away: str | None = None
    kind: str = ""
    what: str = ""
    hint: str = ""
    answered: frozenset[str] = frozenset()
    worked: frozenset[str] = frozenset()

    @property
    def whole(self) -> bool:
        """Whether the host as a whole cannot be used until somebody mends it."""
        return self.kind in (Unavailable.kind, JournalError.kind)


def _no_lender(lease: LeaseRecord) -> ManagedSecret:
    raise UsageError(f"the secret of lease {lease.id} is not known.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """Runs jobs. `tell` sends notifications."""

    engine: Engine
    journal: Journal
    clock: Clock
    log: Log
    holder: Callable[[], str]
    secret: Callable[[str], ManagedSecret]
    partners: Mapping[str, SpacingGroup]
    tell: Callable[[Topic, str, Mapping[str, Json]], None]
    # When a rotation's held drain was reported last, by the rotation's id.
    held: dict[str, datetime] = field(default_factory=dict[str, "datetime"])
    requests: Requests | None = None
    actor: Actor | None = None
    leases: LeaseBook | None = None
    # The secret of a lease, as it was when its login was made.
    lender: Callable[[LeaseRecord], ManagedSecret] = _no_lender
    # What lists the marked logins of a secret's target; None where nothing does.
    marked: Callable[[ManagedSecret], _Marked | None] = lambda _secret: None

    def do(self, job: Job, tries: int) -> JobResult | None:
        """Do a job; None when the process leaves before the job is done. Raises nothing.

        `tries`: how often in a row it could not even be begun.
        """
        try:
            if job.task is JobKind.END_LEASES:
                # Also of a secret whose entry is gone.
                return self._end_leases(job)
            return self._work_on(self.secret(secret_of(job.secret) or job.secret), job)
        except RotatorError as error:
            return self._failed(job, error, tries)
        except Exception as bug:  # noqa: BLE001 # whatever it is, the daemon goes on with the others
            facts = {"task": job.task.value, "error": type(bug).__name__}
            self.log.error("bug", secret=job.secret, **facts)  # noqa: TRY400 # its text may hold anything
            return JobResult(again=self._later(job.secret, tries))

    def _work_on(self, secret: ManagedSecret, job: Job) -> JobResult | None:
        match job.task:
            case JobKind.ROTATE:
                return self._rotated(self._rotate(secret, job))
            case JobKind.RESUME:
                return self._rotated(self.engine.resume(secret, at_once=job.at_once, away=job.away))
            case JobKind.REQUEST:
                return self._carry_out(secret)
            case JobKind.CONTAIN:
                return self._contained(self.engine.contain(secret))
            case JobKind.RECONCILE_LEASES:
                return self._reconcile_leases(secret)
            case JobKind.CHECK if not self._is_retired(job.secret):
                return self._checked(secret, self.engine.check(secret))
            case _:
                return JobResult()

    # -- leases --------------------------------------------------------------------------------

    def _end_leases(self, job: Job) -> JobResult:
        """End the leases of a secret whose time is over, for a while: others may want to take some."""
        name = secret_of(job.secret) or job.secret
        until = self.clock.monotonic() + _LEASES_AT_ONCE
        worked: set[str] = {JOURNAL}
        while self.leases is not None and self.clock.monotonic() < until:
            due = next(iter(self.leases.due(self.clock.now(), 1, name)), None)
            if due is None:
                break
            try:
                secret = self.lender(due)
            except UsageError as error:
                self.engine.leases.strand(due.id, error)
                continue
            try:
                _ = self.engine.leases.end(secret, due.id, reason="its time was over")
            except Unavailable:
                raise
            except StepError as error:
                # It is recorded, with the time of the next try.
                self.log.warning("lease not ended", secret=name, lease=due.id, what=error.what)
                if error.kind in RETRIED:
                    # The host may be away: the others would fail too.
                    return JobResult(again=self.clock.now() + _LOCKED, **_fault(error))
            else:
                worked |= {f"target {secret.target_name}", f"backend {secret.backend_name}"}
                self.log.info("lease ended", secret=name, lease=due.id, holder=due.holder)
        return JobResult(worked=frozenset(worked))

    def _reconcile_leases(self, secret: ManagedSecret) -> JobResult:
        """Compare the leases of a secret with the logins of its target."""
        marked = self.marked(secret)
        if marked is None:
            return JobResult()
        ended = self.engine.leases.reconcile(secret, marked)
        if ended:
            self.log.warning("leases reconciled", secret=secret.name, ended=ended)
        return JobResult(answered=frozenset({f"target {secret.target_name}"}))

    # -- requests ------------------------------------------------------------------------------

    def _carry_out(self, secret: ManagedSecret) -> JobResult | None:
        """Carry out the oldest request for a secret, once: also after a crash before its end is recorded."""
        requests, actor = self.requests, self.actor
        if requests is None or actor is None:
            return JobResult()
        asked = next((one for one in requests.ready() if one.secret == secret.name), None)
        if asked is None:
            return JobResult()
        taken = self.engine.taken_up(secret, asked.id)
        if taken is not None:
            facts: dict[str, Json] = {"rotation_id": taken.rotation_id}
            requests.end(asked, EntryKind.TAKEN, actor, facts)
            return JobResult()
        try:
            if not requests.permitted(asked):
                raise NotPermitted(f"{asked.actor} has no role that allows it.")
            result = self._act(secret, asked)
        except (Busy, LockLost, JournalError):
            raise
        except AlreadyTaken:
            # Another engine was first.
            return JobResult(again=self.clock.now())
        except RotatorError as error:
            if error.kind in RETRIED:
                raise
            facts = {"kind": error.kind, "what": error.what, "hint": error.hint}
            requests.end(asked, EntryKind.FAILED, actor, facts)
            self.log.warning(
                "request failed", secret=secret.name, request=asked.id, what=error.what
            )
            return JobResult()
        facts = {}
        if result is not None:
            outcome = None if result.outcome is None else result.outcome.value
            facts = {"rotation_id": result.rotation_id, "outcome": outcome}
        requests.end(asked, EntryKind.TAKEN, actor, facts)
        self.log.info("request", secret=secret.name, request=asked.id, action=asked.action.value)
        return self._rotated(result)

    def _act(self, secret: ManagedSecret, asked: Request) -> Result | None:
        """Do what is requested, as a person's command line does it."""
        engine, reason = self.engine.on_behalf(asked.as_data()), asked.reason
        match asked.action:
            case Permission.ROTATE:
                return engine.rotate(secret, reason=reason, at_once=True)
            case Permission.ROLLBACK:
                return engine.rollback(secret, reason=reason)
            case Permission.REVOKE:
                ends = asked.options.get("end_sessions") is True
                return engine.revoke(secret, reason=reason, end_sessions=ends)
            case Permission.PARK:
                engine.park(secret, reason=reason)
            case Permission.UNPARK:
                engine.unpark(secret, reason=reason)
            case _:
                kill = asked.action is Permission.KILL
                mode = IncidentMode.KILL if kill else _mode(asked.options)
                engine.open_incident(secret, LeakReport(id=asked.id, reason=reason, mode=mode))
        return None

    # -- rotations -----------------------------------------------------------------------------

    def _rotate(self, secret: ManagedSecret, job: Job) -> Result | None:
        now, windows = self.clock.now(), secret.policy.windows
        if not windows.is_open(now):
            # It waited for a place until its window was over.
            self.engine.postpone(secret, windows.next_open(now), reason="its window has closed")
            return None
        group = self.partners.get(secret.name)
        if group is None:
            return self._begin(secret, job)
        # One of a group at a time, also on other machines: the holder of the group's lock decides.
        ttl = secret.policy.step_timeout * len(Step)
        lock = self.journal.acquire(f"partners {group.name}", self.holder(), ttl)
        try:
            others = [self.journal.secret(one) for one in group.secrets if one != secret.name]
            if any(one is not None and self._is_about_to(one.open_rotation) for one in others):
                raise Busy("one of its partners is being rotated.")
            now = self.clock.now()
            rotated = [one.rotated_at for one in others if one is not None]
            to = after_partners(secret.policy, now, rotated, group.apart)
            if to is None or to > now:
                self.engine.postpone(secret, to, reason=f"apart from its partners in {group.name}")
                return None
            return self._begin(secret, job)
        finally:
            self.journal.release(lock)

    def _begin(self, secret: ManagedSecret, job: Job) -> Result:
        return self.engine.rotate(
            secret, reason=_REASON, only_if_due=True, at_once=job.at_once, away=job.away
        )

    def _is_about_to(self, rotation_id: str | None) -> bool:
        """Return whether a partner's open rotation has not published yet."""
        opened = self.journal.rotation(rotation_id) if rotation_id else None
        return opened is not None and opened.published_at is None

    def _rotated(self, result: Result | None) -> JobResult | None:
        if result is None:
            return JobResult()
        if result.stopped:
            return None
        error = result.error
        if result.outcome is None and result.waiting and error is None:
            self._tell_of_drain(result)
        done = JobResult(
            again=result.until, answered=result.answered, worked=result.worked | {JOURNAL}
        )
        if error is None or not _is_away(error, result.answered):
            return done
        return replace(done, **_fault(error))

    def _tell_of_drain(self, result: Result) -> None:
        """Report who still uses the old login, once its drain time is over."""
        newest = self.journal.events(result.secret, 1)
        record = self.journal.rotation(result.rotation_id or "")
        if not newest or newest[0].kind is not Kind.WAITING or record is None:
            return
        policy = self.secret(result.secret).policy
        published = record.published_at
        if published is None or self.clock.now() < published + policy.grace + policy.drain_wait:
            return
        if "consumers" in newest[0].data or not self._is_news(result.rotation_id or ""):
            return
        self.tell(
            Topic.DRAIN_HELD,
            result.secret,
            {
                "rotation_id": result.rotation_id,
                "login": result.old_login,
                "sessions": newest[0].data.get("sessions"),
            },
        )

    def _is_news(self, rotation_id: str) -> bool:
        """Return whether a held drain was not reported for a day."""
        now = self.clock.now()
        last = self.held.get(rotation_id)
        if last is not None and now - last < _REPEATED:
            return False
        self.held[rotation_id] = now
        return True

    def _is_retired(self, name: str) -> bool:
        record = self.journal.secret(name)
        return record is not None and record.retired is not None

    def _contained(self, done: Contained) -> JobResult | None:
        """Take in how far an incident got; what is left to prove stands in the journal."""
        if done.result is not None and done.proof is None:
            return self._rotated(done.result)
        return JobResult(answered=done.answered, worked=frozenset({JOURNAL}))

    # -- current credentials -------------------------------------------------------------------

    def _checked(self, secret: ManagedSecret, health: Health) -> JobResult:
        if health.login is not None and not health.accepted:
            what = f"the target rejects login {health.login!r} with what the backend serves{health.rejection.because}."
            self.tell(Topic.REFUSED, secret.name, {"login": health.login, "what": what})
            if isinstance(secret.rotation, DelegatedRotation):
                # Whoever keeps it has lost what the target knows: only another rotation mends that.
                why = "the target refuses what is served"
                self.engine.schedule(secret, self.clock.now(), reason=why)
        elif health.login is not None and not health.known:
            what = f"somebody else wrote version {health.version}; it logs in."
            data: dict[str, Json] = {"login": health.login, "version": health.version, "what": what}
            self.tell(Topic.DRIFT, secret.name, data)
        elif health.stale:
            what = f"these copies hold something else: {', '.join(health.stale)}."
            self.tell(Topic.DRIFT, secret.name, {"login": health.login, "what": what})
        return JobResult(answered=health.answered, worked=frozenset({JOURNAL}))

    # -- failures ------------------------------------------------------------------------------

    def _failed(self, job: Job, error: RotatorError, tries: int) -> JobResult:
        now = self.clock.now()
        facts: dict[str, object] = {"secret": job.secret, "task": job.task.value}
        match error:
            case NotDue():
                return JobResult(again=error.until)
            case _ if isinstance(error, Parked) or _is_closed(job, error):
                return JobResult()
            case Busy() | LockLost():
                self.log.debug("locked", **facts)
                return JobResult(again=now + _LOCKED)
            case JournalError():
                self.log.debug("journal", **facts, what=error.what)
                error.origin = JOURNAL
                return JobResult(again=now + _NO_JOURNAL, **_fault(error))
            case Unavailable():
                self.log.debug("unavailable", **facts, what=error.what, origin=error.origin)
                return JobResult(again=self._later(job.secret, tries), **_fault(error))
            case _ if error.kind in RETRIED:
                self.log.warning("unreachable", **facts, what=error.what, origin=error.origin)
                return JobResult(again=self._later(job.secret, tries), **_fault(error))
            case UsageError() | StepError() if job.task not in _NEVER_PARKED:
                return self._park(job, error)
            case _:
                self.log.warning("refused", **facts, what=error.what)
                return JobResult(again=self._later(job.secret, tries))

    def _park(self, job: Job, error: RotatorError) -> JobResult:
        """Leave it to an operator: another try does not mend what was refused before it began."""
        try:
            reason = f"{error.kind}: {error.what}"
            self.engine.park(self.secret(job.secret), reason=reason, hint=error.hint)
        except RotatorError as again:
            self.log.error("not parked", secret=job.secret, what=error.what, why=again.what)  # noqa: TRY400 # both are said
            return JobResult(again=self.clock.now() + _NO_JOURNAL)
        return JobResult()

    def _later(self, name: str, tries: int) -> datetime:
        wait = backoff(tries + 1, first=_FIRST_WAIT, longest=_LONGEST_WAIT, key=f"{name}:{tries}")
        return self.clock.now() + wait


def _mode(options: Mapping[str, Json]) -> IncidentMode:
    """Return the mode of a requested incident: what is unknown, or needs another permission, is only recorded."""
    move = options.get("mode", IncidentMode.MOVE.value) == IncidentMode.MOVE.value
    return IncidentMode.MOVE if move else IncidentMode.MAP


def _is_closed(job: Job, error: RotatorError) -> bool:
    """Return whether an incident was closed before its containment began."""
    return job.task is JobKind.CONTAIN and isinstance(error, UsageError)


def _is_away(error: RotatorError, answered: frozenset[str]) -> bool:
    """Return whether an error says that its host is away, and not only that one login cannot be used."""
    if error.kind == Unavailable.kind:
        return error.origin is not None
    return error.kind in RETRIED and error.origin not in answered


def _fault(error: RotatorError) -> dict[str, Any]:
    return {"away": error.origin, "kind": error.kind, "what": error.what, "hint": error.hint}


_STRANDED_AFTER: Final = 3


def _of_trouble(kind: Kind, data: Mapping[str, Json]) -> Topic | None:
    if kind is Kind.LEASE_FAILED:
        # A transient fault is not reported; any other one is reported once.
        return Topic.LEASE_STRANDED if data.get("failures") == _STRANDED_AFTER else None
    if kind is Kind.LEAKED:
        return Topic.INCIDENT_OPENED if "reason" in data else None
    if not data.get("news"):
        return None
    return Topic.INCIDENT_PROVEN if data.get("ok") else Topic.INCIDENT_UNPROVEN


def topic_of(kind: Kind, data: Mapping[str, Json]) -> Topic | None:
    """Return the notification that an event causes, if any."""
    if data.get("break_glass") is True:
        return Topic.BREAK_GLASS
    if kind in (Kind.WAITING, Kind.FINISHED):
        facts = data.get("consumers")
        gates = gates_behind(facts)
        if is_of_next(facts) and kind is Kind.WAITING:
            held = isinstance(facts, dict) and facts.get("held") is True
            return Topic.GATE_HELD if held else None
        held = kind is Kind.WAITING and Gate.HOLD in gates
        return Topic.GATE_HELD if held else Topic.CONSUMER_BEHIND if gates else None
    if kind is Kind.PARKED:
        return Topic.PARKED
    if kind in (Kind.LEAKED, Kind.PROVEN, Kind.LEASE_FAILED):
        return _of_trouble(kind, data)
    if kind is Kind.ENDED and data.get("outcome") == Outcome.UNDONE.value:
        # An absent host has a notice of its own, and so has a parked secret.
        quiet = data.get("counts") is False or "follows" in data
        return None if quiet else Topic.FAILED
    # A request that goes on as another rotation has rotated nothing itself.
    return Topic.ROTATED if kind is Kind.ENDED and "continues_as" not in data else None


_SHOWN: Final = (
    *("outcome", "what", "hint", "reason", "next_due", "login", "version"),
    *("incident", "unproven", "by"),
)


def notice_of(event: Event) -> tuple[Topic, dict[str, Json]] | None:
    """Return the notification that an event causes, if any, and what it shows."""
    topic = topic_of(event.kind, event.data)
    if topic is None:
        return None
    data: dict[str, Json] = {key: event.data[key] for key in _SHOWN if key in event.data}
    data["rotation_id"] = event.rotation_id
    if topic in (Topic.GATE_HELD, Topic.CONSUMER_BEHIND):
        data["consumers"] = event.data.get("consumers")
    return topic, data
