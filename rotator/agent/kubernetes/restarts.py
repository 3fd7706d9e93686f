"""What the sinks of one agent share: one workload restarts at a time, once for all its Secrets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from rotator.agent.kubernetes.api import Resource

# Seconds without a further change of a workload's Secrets, before it restarts.
DEBOUNCE: Final = 2.0
# Seconds after the start of the agent, for which a workload waits until each of its Secrets was looked at.
_FIRST_LOOKS: Final = 30.0


@dataclass(slots=True)
class _Turn:
    """The workload that restarts now, and until when it keeps the others waiting."""

    workload: Resource
    until: float


class Restarts:
    """Remembers what this process did. After a restart of the agent the cluster's annotations say it."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing was restarted yet."""
        self._clock: Callable[[], float] = clock
        self._began: float = clock()
        self._lock: threading.Lock = threading.Lock()
        self._secrets: dict[Resource, set[Resource]] = {}
        self._written: dict[Resource, float | None] = {}
        self._last: dict[Resource, datetime] = {}
        self._turn: _Turn | None = None

    def declare(self, secret: Resource, workloads: Iterable[Resource]) -> None:
        """Note which workloads use a Secret object."""
        with self._lock:
            for workload in workloads:
                self._secrets.setdefault(workload, set()).add(secret)

    def others(self, workload: Resource) -> list[Resource]:
        """Return the other workloads of this agent."""
        with self._lock:
            return sorted(self._secrets.keys() - {workload})

    def secrets(self, workload: Resource) -> list[Resource]:
        """Return the Secrets of a workload that this agent keeps."""
        with self._lock:
            return sorted(self._secrets[workload])

    def checked(self, secret: Resource, *, is_written: bool) -> None:
        """Note that an object is up to date; `is_written`: that it changed just now."""
        with self._lock:
            before = self._written.get(secret)
            self._written[secret] = self._clock() if is_written else before

    def unsettled(self, workload: Resource) -> float:
        """Return for how many seconds a further change of the workload's Secrets is waited for."""
        with self._lock:
            now, used = self._clock(), self._secrets[workload]
            is_starting = now - self._began < _FIRST_LOOKS
            if is_starting and not used <= self._written.keys():
                return DEBOUNCE
            times = [at for one in used if (at := self._written.get(one)) is not None]
            return max(times) + DEBOUNCE - now if times else 0.0

    def take_turn(self, workload: Resource, seconds: float) -> Resource | None:
        """Let a workload restart, for at most `seconds`; else return the one that restarts now."""
        with self._lock:
            turn, now = self._turn, self._clock()
            if turn is not None and turn.workload != workload and now < turn.until:
                return turn.workload
            self._turn = _Turn(workload, now + seconds)
            return None

    def end_turn(self, workload: Resource) -> None:
        """Let the next workload restart."""
        with self._lock:
            if self._turn is not None and self._turn.workload == workload:
                self._turn = None

    def restarted(self, workload: Resource, at: datetime) -> None:
        """Note a restart, at the server's time."""
        with self._lock:
            self._last[workload] = at

    def last(self, workload: Resource) -> datetime | None:
        """Return when this process restarted a workload: others may remove its annotation."""
        with self._lock:
            return self._last.get(workload)
