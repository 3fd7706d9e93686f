"""Looks what is to be done, second by second, and hands it out within the limits.

The journal decides what is due. What is kept here is only what spares a question: when an open
rotation goes on, which hosts are away, what is under way.
"""

from __future__ import annotations

import heapq
import threading
from collections import deque
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from rotator.core.backoff import stable_part
from rotator.core.daemon_settings import Topic
from rotator.core.errors import JournalError, RotatorError, Unavailable
from rotator.core.history import text
from rotator.core.lease_chain import chain_of, secret_of
from rotator.core.model import Kind
from rotator.core.schedule import caught_up, next_due, timing
from rotator.core.state_machine import WaitUntil, decide
from rotator.dispatch.outages import OutageCause
from rotator.dispatch.ready_queue import JOURNAL, Job, JobKind, ReadyQueue, hosts
from rotator.dispatch.worker import JobResult

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from datetime import datetime

    from rotator.core.daemon_settings import DaemonSettings
    from rotator.core.leases import LeaseBook, LeaseTerms
    from rotator.core.model import Json, Policy
    from rotator.core.ports import Clock, Journal, Log
    from rotator.core.requests import Request
    from rotator.core.worklist import DueEntry, OpenRotation, WatchedSecret, Worklist
    from rotator.dispatch.executor import Executor
    from rotator.dispatch.outages import Outages
    from rotator.dispatch.ready_queue import Lane
    from rotator.engine import Engine, ManagedSecret

# How often everything is asked for again, also what should not have changed.
_RESCAN: Final = timedelta(seconds=60)
_LOOK_AT_OPEN: Final = timedelta(seconds=10)
# A tick this late: the machine was asleep, and what was due meanwhile was missed.
_GAP: Final = timedelta(minutes=10)
_MOST_DUE: Final = 100_000
# In one tick: so much of what takes a write or a read each.
_MOST_SCHEDULED: Final = 100
_MOST_LOOKED_INTO: Final = 200
_MOST_LEASES: Final = 1_000
_RECONCILE: Final = timedelta(hours=1)
_OVERDUE: Final = timedelta(days=1)
_NO_QUEUE: Final = timedelta(seconds=15)
# How often is looked whether a command line could use a host that is left alone here.
_LOOK_AT_FAULTS: Final = timedelta(seconds=5)


class Managed(Protocol):
    """What is known of a secret without opening anything."""

    @property
    def target(self) -> str:
        """The name of its target."""
        ...

    @property
    def backend(self) -> str:
        """The name of its backend."""
        ...

    @property
    def policy(self) -> Policy:
        """How it is rotated."""
        ...

    @property
    def leases(self) -> LeaseTerms | None:
        """On which terms its logins are lent; None where they are not."""
        ...


class Dispatcher:
    """One process's. `tick` is called again and again, by one thread; work ends in others."""

    def __init__(
        self,
        *,
        secrets: Mapping[str, Managed],
        secret: Callable[[str], ManagedSecret],
        hands: Executor,
        engine: Engine,
        journal: Journal,
        agenda: Worklist,
        duty: DaemonSettings,
        clock: Clock,
        log: Log,
        tell: Callable[[Topic, str, Mapping[str, Json]], None],
        faults: Outages,
        forgotten: Callable[[str], Managed | None] = lambda _name: None,
        requests: Callable[[], Sequence[Request]] = tuple,
        leases: LeaseBook | None = None,
    ) -> None:
        """`leases`: those that the journal knows. `requests` returns those that can be carried out now. `forgotten` returns what the journal knows of a secret that the configuration no longer names:
        its open rotation is completed all the same.
        """
        self._forgotten: Callable[[str], Managed | None] = forgotten
        self._leases: LeaseBook | None = leases
        # The target of leases whose secret's entry is gone.
        self._lent_on: dict[str, str] = {}
        self._next_reconcile: datetime = clock.now()
        self._requests: Callable[[], Sequence[Request]] = requests
        self._faults: Outages = faults
        self._secrets: Mapping[str, Managed] = secrets
        self._secret: Callable[[str], ManagedSecret] = secret
        self._hands: Executor = hands
        self._engine: Engine = engine
        self._journal: Journal = journal
        self._agenda: Worklist = agenda
        self._duty: DaemonSettings = duty
        self._clock: Clock = clock
        self._log: Log = log
        self._tell: Callable[[Topic, str, Mapping[str, Json]], None] = tell
        self._guard: threading.RLock = threading.RLock()
        self._lanes: ReadyQueue = ReadyQueue(duty.limits, duty.breaker)
        # When to look at a secret again, whatever the journal says.
        self._wake: list[tuple[datetime, str, JobKind]] = []
        self._not_before: dict[str, datetime] = {}
        self._tries: dict[str, int] = {}
        self._seen_open: dict[str, int] = {}
        # The due time of a leak when its containment was begun last: later tries wait their own time.
        self._leaks: dict[str, datetime] = {}
        # The request of a secret that was tried last: later tries wait their own time.
        self._requested: dict[str, str] = {}
        self._to_look_into: deque[OpenRotation] = deque()
        self._to_schedule: deque[tuple[str, Callable[[ManagedSecret], None]]] = deque()
        self._scheduling: set[str] = set()
        self._told_overdue: set[str] = set()
        # The secrets whose last try failed because a host was away: they go on when it is back.
        self._waiting_for: dict[str, dict[str, Job]] = {}
        self._next_look_at_faults: datetime = clock.now()
        self._cannot_look: bool = False
        self._awake_since: datetime = clock.now()
        self._last_tick: datetime = clock.now()
        self._cursor: datetime | None = None
        self._next_rescan: datetime = clock.now()
        self._next_look: datetime = clock.now()
        self._checks: deque[str] = deque()
        self._next_check: datetime | None = None
        self._stopping: bool = False
        self._giving_out: bool = False
        # When somebody last looked, and when the journal last answered.
        self.looked_at: datetime | None = None
        self.ticked_at: datetime | None = None

    # -- what a face asks for ------------------------------------------------------------------

    def begin(self) -> None:
        """Compare what the journal has reckoned with what the policies say now.

        A changed policy takes effect at once, and rotates nothing by itself: what would be overdue
        by it is spread over the time for catching up.
        """
        now = self._clock.now()
        for one in self._agenda.reckoned():
            managed = self._secrets.get(one.name)
            if managed is None or one.since is None or one.timing == timing(managed.policy):
                continue
            due = next_due(managed.policy, one.since, one.name)
            if due is None and one.next_due is None:
                continue
            again: datetime | None = None
            if due is not None and due <= now:
                again = caught_up(managed.policy, now, self._duty.catch_up, one.name)
            self._to_write(
                one.name,
                partial(
                    self._engine.schedule, due=due, again=again, reason="the policy has changed"
                ),
            )
        for host, seen in self._faults.open().items():
            # Another process has met it, or this one before it was started again.
            whole = text(seen.data, "kind") == Unavailable.kind
            self._lanes.breaker(host).opened_before(now, whole=whole)
        every = self._duty.verify_every
        if every is not None and self._secrets:
            self._checks.extend(sorted(self._secrets, key=lambda name: stable_part(name, every)))
            self._next_check = now + every / len(self._secrets)

    def tick(self) -> None:
        """Look what is to be done now, and start as much of it as the limits allow."""
        with self._guard:
            now = self._clock.now()
            if now - self._last_tick > _GAP:
                self._awake_since, self._next_rescan = now, now
            self._last_tick = self.looked_at = now
            if self._stopping:
                return
            try:
                self._look(now)
            except JournalError as error:
                self._cannot_look = True
                fault = OutageCause(host=JOURNAL, kind=error.kind, what=error.what, hint=error.hint)
                self._met(fault, now)
            else:
                self.ticked_at = now
                if self._cannot_look:
                    self._cannot_look = False
                    if self._lanes.breaker(JOURNAL).succeeded():
                        self._is_back(JOURNAL, now)
            self._give_out()

    def wake(self, names: Collection[str]) -> None:
        """Go on now with those of these secrets whose open rotation waits: there is news for it."""
        opened = [name for name in names if self._is_open(name)]
        with self._guard:
            now = self._clock.now()
            for name in opened:
                # Also one that another process began, and that no look has found yet.
                _ = self._not_before.pop(name, None)
                self._ready(name, JobKind.RESUME, now)
            self._give_out()

    def collect(self) -> None:
        """Take in what hands elsewhere have done, and give out what has room now."""
        try:
            self._hands.look()
        except JournalError as error:
            self._log.error("queue", what=error.what)  # its text is made for people

    def stop(self) -> None:
        """Start nothing more."""
        with self._guard:
            self._stopping = True

    @property
    def running(self) -> int:
        """How many jobs are under way."""
        return self._lanes.running

    @property
    def busy(self) -> bool:
        """Whether something is under way that ends with this process."""
        return self._hands.here and self._lanes.running > 0

    @property
    def waiting(self) -> int:
        """How many jobs are ready and wait for a place, or for a host."""
        return len(self._lanes)

    def hosts_away(self) -> dict[str, datetime]:
        """Return the hosts that are left alone, with the time of the next try."""
        with self._guard:
            found = self._lanes.breakers.items()
            return {host: one.until for host, one in found if one.until is not None}

    def next_look(self) -> datetime | None:
        """Return when something is to be looked at that the journal's due dates do not say."""
        with self._guard:
            moments = [self._wake[0][0]] if self._wake else []
            moments += [one for one in (self._next_check,) if one is not None]
            if self.waiting:
                moments += self.hosts_away().values()
            if self._to_schedule or self._to_look_into:
                moments.append(self._clock.now())
            return min(moments, default=None)

    # -- a tick --------------------------------------------------------------------------------

    def _look(self, now: datetime) -> None:
        self._write_schedules()
        self._look_at_faults(now)
        if now >= self._next_rescan:
            self._cursor, self._next_rescan = None, now + _RESCAN
        for one in self._agenda.due(now, _MOST_DUE, self._cursor):
            self._meet(one, now)
        self._cursor = now
        self._find_requests()
        self._find_leases(now)
        if now >= self._next_look:
            self._next_look = now + _LOOK_AT_OPEN
            self._find_open()
            self._find_leaks(now)
        self._look_into_open(now)
        self._check_some(now)
        while self._wake and self._wake[0][0] <= now:
            at, name, task = heapq.heappop(self._wake)
            if self._not_before.get(name) == at:  # else it was put off, or has gone on already
                del self._not_before[name]
                self._ready(name, task, at)

    def _meet(self, one: DueEntry, now: datetime) -> None:
        """Take in a secret that is due: ready, or to be scheduled anew."""
        managed = self._secrets.get(one.name)
        if managed is None or one.next_due is None or one.name in self._lanes:
            return
        if one.name in self._not_before or one.name in self._scheduling:
            return
        policy = managed.policy
        due = one.due or one.next_due
        if due < now - _OVERDUE and one.name not in self._told_overdue:
            self._told_overdue.add(one.name)
            self._tell(Topic.OVERDUE, one.name, {"due": due.isoformat()})
        missed = one.next_due < self._awake_since - self._duty.catch_up
        if missed and (to := caught_up(policy, now, self._duty.catch_up, one.name)) != now:
            self._postpone(one.name, to, "missed while no daemon ran")
        elif (opens := policy.windows.next_open(now)) != now:
            self._postpone(one.name, opens, "its window is closed")
        else:
            self._ready(one.name, JobKind.ROTATE, one.next_due)

    def _find_open(self) -> None:
        opened = self._agenda.opened()
        for one in opened:
            if self._seen_open.get(one.secret) != one.seq and one.secret not in self._lanes:
                self._seen_open[one.secret] = one.seq
                self._to_look_into.append(one)
        if len(self._seen_open) > 2 * len(opened) + 1000:  # those that have ended meanwhile
            self._seen_open = {one.secret: one.seq for one in opened}

    def _find_leaks(self, now: datetime) -> None:
        """Go on with incidents, and prove again what was proven before."""
        watched = self._agenda.watched()
        for one in watched:
            if one.at > now:
                continue
            if one.secret in self._lanes:
                self._advance(one)
                continue
            if one.secret in self._not_before and self._leaks.get(one.secret) == one.at:
                continue
            # What it waited for before the report, such as its grace period, is no reason to wait.
            _ = self._not_before.pop(one.secret, None)
            self._leaks[one.secret] = one.at
            self._ready(one.secret, JobKind.CONTAIN, one.at)
        if len(self._leaks) > 2 * len(watched) + 1000:
            self._leaks = {one.secret: self._leaks.get(one.secret, one.at) for one in watched}

    def _advance(self, one: WatchedSecret) -> None:
        """Let a leak go before what its secret waits for in its lane, as for a place or a host."""
        lane = self._lane(one.secret)
        if lane is None or self._leaks.get(one.secret) == one.at:
            return
        job = Job(secret=one.secret, task=JobKind.CONTAIN, due=one.at)
        if self._lanes.advance(job, lane):
            self._leaks[one.secret] = one.at

    def _find_leases(self, now: datetime) -> None:
        """End leases in time; compare them with their targets at the start and then each hour."""
        if self._leases is None:
            return
        for one in self._leases.due(now, _MOST_LEASES):
            chain = chain_of(one.secret)
            if chain not in self._lanes and chain not in self._not_before:
                self._lent_on[chain] = one.target
                self._ready(chain, JobKind.END_LEASES, one.next_at or now)
        if now >= self._next_reconcile:
            self._next_reconcile = now + _RECONCILE
            lending = {name for name, one in self._secrets.items() if one.leases is not None}
            for name in sorted(lending | {one.secret for one in self._leases.open()}):
                chain = chain_of(name)
                if name in self._secrets and chain not in self._not_before:
                    self._ready(chain, JobKind.RECONCILE_LEASES, now)

    def _find_requests(self) -> None:
        """Take up what was requested. What is under way on the secret comes first."""
        requests = self._requests()
        for one in requests:
            name = one.secret
            if name in self._lanes:
                # What waits for a place or a host lets it go first.
                lane = self._lane(name)
                job = Job(secret=name, task=JobKind.REQUEST, due=one.at)
                fresh = self._requested.get(name) != one.id
                if fresh and lane is not None and self._lanes.advance(job, lane):
                    self._requested[name] = one.id
                continue
            if name in self._not_before and self._requested.get(name) == one.id:
                continue
            # What it waited for before the request, such as its grace period, is no reason to wait.
            _ = self._not_before.pop(name, None)
            self._requested[name] = one.id
            self._ready(name, JobKind.REQUEST, one.at)
        asked = {one.secret for one in requests}
        self._requested = {name: id_ for name, id_ in self._requested.items() if name in asked}

    def _look_into_open(self, now: datetime) -> None:
        """Find out when open rotations go on: by others begun, or before this process."""
        for _ in range(min(len(self._to_look_into), _MOST_LOOKED_INTO)):
            one = self._to_look_into.popleft()
            managed = self._managed(one.secret)
            if managed is None or one.secret in self._lanes or one.secret in self._not_before:
                continue
            history = self._journal.history(one.rotation_id)
            decision = decide(history, now, managed.policy)
            # A wait that the consumers can end is looked at now, and then as often as the engine says.
            waits = isinstance(decision, WaitUntil) and not decision.until_acknowledged
            at = decision.at if isinstance(decision, WaitUntil) and waits else now
            failed = history[-1] if history and history[-1].kind is Kind.FAILED else None
            host = text(failed.data, "origin") if failed is not None else None
            if host is not None and self._lanes.breaker(host).is_open:
                self._ready(one.secret, JobKind.RESUME, now, at_once=True)
            else:
                self._wake_at(one.secret, JobKind.RESUME, at)

    def _check_some(self, now: datetime) -> None:
        every = self._duty.verify_every
        if every is None or not self._checks or self._next_check is None:
            return
        gap = every / len(self._checks)
        # Not more than a second's worth at once, after a tick that was late.
        for _ in range(1 + int(timedelta(seconds=1) / gap) if gap else 1):
            if self._next_check > now:
                return
            name = self._checks[0]
            self._checks.rotate(-1)
            self._next_check = max(self._next_check + gap, now - timedelta(seconds=1))
            if name in self._secrets and name not in self._not_before:
                self._ready(name, JobKind.CHECK, now)

    def _write_schedules(self) -> None:
        for _ in range(min(len(self._to_schedule), _MOST_SCHEDULED)):
            name, write = self._to_schedule.popleft()
            self._scheduling.discard(name)
            try:
                write(self._secret(name))
            except RotatorError as error:
                # Another process may be at work on it; the next look finds it again.
                self._log.debug("not scheduled", secret=name, what=error.what)

    def _postpone(self, name: str, until: datetime | None, why: str) -> None:
        self._to_write(name, partial(self._engine.postpone, until=until, reason=why))

    def _to_write(self, name: str, write: Callable[[ManagedSecret], None]) -> None:
        if name not in self._scheduling:
            self._scheduling.add(name)
            self._to_schedule.append((name, write))

    def _ready(self, name: str, task: JobKind, due: datetime, *, at_once: bool = False) -> None:
        lane = self._lane(name)
        if lane is not None:
            self._lanes.add(Job(secret=name, task=task, due=due, at_once=at_once), lane)

    def _lane(self, name: str) -> Lane | None:
        managed = self._managed(secret_of(name) or name)
        if managed is None:
            return (self._lent_on[name], "") if name in self._lent_on else None
        return managed.target, managed.backend

    def _managed(self, name: str) -> Managed | None:
        """Return what is known of a secret, also of one whose entry is gone; None for not enough."""
        try:
            return self._secrets.get(name) or self._forgotten(name)
        except RotatorError as error:
            self._log.warning("forgotten", secret=name, what=error.what, hint=error.hint)
            return None

    def _wake_at(self, name: str, task: JobKind, at: datetime) -> None:
        self._not_before[name] = at
        heapq.heappush(self._wake, (at, name, task))

    # -- work, in other hands ------------------------------------------------------------------

    def _give_out(self) -> None:
        """Start as much as the limits allow. The guard is held."""
        if self._giving_out or self._stopping:  # hands that are done at once come back to here
            return
        self._giving_out = True
        try:
            for job in self._lanes.out(self._clock.now()):
                tries = self._tries.get(job.secret, 0)
                try:
                    self._hands.take(job, tries, partial(self._ended, job))
                except JournalError as error:
                    self._log.error("queue", what=error.what)
                    self._ended(job, JobResult(again=self._clock.now() + _NO_QUEUE))
        finally:
            self._giving_out = False

    def _ended(self, job: Job, done: JobResult | None) -> None:
        if done is None:  # it was left between two steps: this process is leaving
            with self._guard:
                self._lanes.back(job.secret)
            return
        again = JobKind.RESUME if done.again is not None and self._is_open(job.secret) else job.task
        with self._guard:
            lane = self._lanes.back(job.secret)
            self._seen_open.pop(job.secret, None)
            self._told_overdue.discard(job.secret)
            if job.task is JobKind.REQUEST:
                # It may have opened an incident.
                self._next_look = self._clock.now()
            if done.answered or done.worked:
                self._tries.pop(job.secret, None)
            elif done.again is not None:
                self._tries[job.secret] = self._tries.get(job.secret, 0) + 1
            used = hosts(lane) if lane is not None else ()
            for host in used:
                _ = self._waiting_for.get(host, {}).pop(job.secret, None)
                self._note(host, done)
            if done.away is not None and done.away in used:
                self._wait_for(done.away, replace(job, task=again, at_once=True, away=None), done)
            elif done.again is not None and job.task is not JobKind.CHECK:
                self._wake_at(job.secret, again, done.again)
            self._give_out()

    def _wait_for(self, host: str, job: Job, done: JobResult) -> None:
        """Let a secret wait for a host: in its lane while the host is left alone, else for its own time."""
        self._waiting_for.setdefault(host, {})[job.secret] = job
        if self._lanes.breaker(host).is_open:
            self._go_on(host)
        elif done.again is not None and job.task is not JobKind.CHECK:
            self._wake_at(job.secret, job.task, done.again)

    def _go_on(self, host: str) -> None:
        """Put all that wait for a host into their lanes, however long they would have waited."""
        for name, job in self._waiting_for.pop(host, {}).items():
            _ = self._not_before.pop(name, None)
            lane = self._lane(name)
            if lane is not None:
                self._lanes.add(job, lane)

    def _note(self, host: str, done: JobResult) -> None:
        breaker, now = self._lanes.breaker(host), self._clock.now()
        if done.away == host:
            fault = OutageCause(host=host, kind=done.kind, what=done.what, hint=done.hint)
            self._met(fault, now)
        elif host in done.worked or host in done.answered:
            if breaker.succeeded(worked=host in done.worked):
                self._is_back(host, now)
        else:
            breaker.released()

    def _met(self, fault: OutageCause, now: datetime) -> None:
        """Take note that a host could not be used."""
        breaker = self._lanes.breaker(fault.host)
        whole = fault.kind in (Unavailable.kind, JournalError.kind)
        opened = breaker.failed(now, whole=whole)
        if breaker.is_open:
            self._faults.met(fault, now, breaker.until, self._count(fault.host))
        if opened:
            # Also those that failed before, and would wait for their own next try.
            self._go_on(fault.host)

    def _is_back(self, host: str, now: datetime) -> None:
        self._faults.over(host, now)
        self._go_on(host)

    def _count(self, host: str) -> int:
        """Return how many secrets need a host."""
        lanes = (self._lane(name) for name in self._secrets)
        return sum(lane is not None and host in hosts(lane) for lane in lanes)

    def _look_at_faults(self, now: datetime) -> None:
        """Try a host at once that a command line could use meanwhile."""
        if now < self._next_look_at_faults:
            return
        self._next_look_at_faults = now + _LOOK_AT_FAULTS
        away = self.hosts_away()
        if not away:
            return
        for host in self._faults.ended():
            if host in away:
                self._lanes.breaker(host).opened_before(now, whole=True)

    def _is_open(self, name: str) -> bool:
        try:
            return self._journal.open_rotation(name) is not None
        except JournalError:
            return False
