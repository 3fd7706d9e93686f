"""Work that is ready, in lanes of one target and backend each, let out within the limits."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeAlias

from rotator.dispatch.breaker import Breaker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from rotator.core.daemon_settings import BreakerSettings, Limits

Lane: TypeAlias = "tuple[str, str]"
# The audit database, which all work needs.
JOURNAL: Final = "journal"
# A host that does not answer is tried at least this often while leases are to be ended there: until then their
# logins may be valid.
_LEASES_WAIT: Final = timedelta(minutes=1)


class JobKind(StrEnum):
    """What is to be done with a secret."""

    ROTATE = "rotate"
    RESUME = "resume"
    CHECK = "check"
    CONTAIN = "contain"
    REQUEST = "request"
    END_LEASES = "end-leases"
    RECONCILE_LEASES = "reconcile-leases"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One thing to do, `due` since then. Work on leases has the name of their chain as its `secret`.

    `at_once`: what failed before is tried now, not after its own wait. `away`: the host that was
    away when this was let out, so that it is the one try.
    """

    secret: str
    task: JobKind
    due: datetime
    at_once: bool = False
    away: str | None = None


@dataclass(slots=True)
class _Queue:
    """The jobs of one lane: leaks first, then leases, what is requested, was begun, is due, is looked at."""

    jobs: dict[JobKind, deque[Job]] = field(
        default_factory=lambda: {one: deque() for one in _ORDER}
    )

    def __len__(self) -> int:
        return sum(map(len, self.jobs.values()))

    def take(self) -> Job:
        return next(one for one in self.jobs.values() if one).popleft()

    def drop(self, secret: str) -> None:
        for task, jobs in self.jobs.items():
            self.jobs[task] = deque(one for one in jobs if one.secret != secret)


_ORDER = (
    *(JobKind.CONTAIN, JobKind.END_LEASES, JobKind.REQUEST, JobKind.RESUME, JobKind.ROTATE),
    *(JobKind.RECONCILE_LEASES, JobKind.CHECK),
)


class ReadyQueue:
    """Every job is in one lane until it is let out, and counts against the limits until it is back.

    Not for use by several threads at once.
    """

    def __init__(self, limits: Limits, breaking: BreakerSettings) -> None:
        self.limits: Limits = limits
        self._breaking: BreakerSettings = breaking
        self._waiting: dict[Lane, _Queue] = {}
        self._waiting_for: set[str] = set()
        self._running: dict[str, Lane] = {}
        self._targets: Counter[str] = Counter()
        self._backends: Counter[str] = Counter()
        self.breakers: dict[str, Breaker] = {}

    def __contains__(self, secret: str) -> bool:
        return secret in self._waiting_for or secret in self._running

    def __len__(self) -> int:
        return len(self._waiting_for)

    @property
    def running(self) -> int:
        """How many jobs are out."""
        return len(self._running)

    def add(self, job: Job, lane: Lane) -> None:
        """Put a job into its lane; a secret has one job at a time."""
        if job.secret in self:
            return
        self._waiting_for.add(job.secret)
        self._waiting.setdefault(lane, _Queue()).jobs[job.task].append(job)

    def advance(self, job: Job, lane: Lane) -> bool:
        """Let a secret that waits with another job do this one instead; False where its job is out."""
        waiting = self._waiting.get(lane)
        if job.secret not in self._waiting_for or waiting is None:
            return False
        waiting.drop(job.secret)
        waiting.jobs[job.task].append(job)
        return True

    def out(self, now: datetime) -> Iterator[Job]:
        """Yield what may be started now, one from each lane in turn."""
        going = True
        while going:
            going = False
            for lane in list(self._waiting):
                if len(self._running) >= self.limits.total:
                    return
                if self._allows(lane, now):
                    going = True
                    yield self._let(lane)

    def back(self, secret: str) -> Lane | None:
        """Take note that a job has ended; return its lane."""
        lane = self._running.pop(secret, None)
        if lane is not None:
            self._targets[lane[0]] -= 1
            self._backends[lane[1]] -= 1
        return lane

    def breaker(self, host: str) -> Breaker:
        """Return the breaker of `target NAME` or `backend NAME`."""
        if host not in self.breakers:
            self.breakers[host] = Breaker(self._breaking)
        return self.breakers[host]

    def _allows(self, lane: Lane, now: datetime) -> bool:
        target, backend = lane
        within = _LEASES_WAIT if self._waiting[lane].jobs[JobKind.END_LEASES] else None
        return (
            self._targets[target] < self.limits.per_target
            and self._backends[backend] < self.limits.per_backend
            and all(self.breaker(host).allows(now, within=within) for host in hosts(lane))
        )

    def _let(self, lane: Lane) -> Job:
        queue = self._waiting[lane]
        job = queue.take()
        if not len(queue):
            del self._waiting[lane]
        self._waiting_for.discard(job.secret)
        self._running[job.secret] = lane
        self._targets[lane[0]] += 1
        self._backends[lane[1]] += 1
        away: str | None = None
        for host in hosts(lane):
            breaker = self.breaker(host)
            breaker.started()
            away = host if away is None and breaker.is_open else away
        return job if away is None else replace(job, at_once=True, away=away)


def hosts(lane: Lane) -> tuple[str, str, str]:
    """Return the hosts that work in a lane needs, as errors name them."""
    return f"target {lane[0]}", f"backend {lane[1]}", JOURNAL
