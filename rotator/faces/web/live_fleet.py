"""The states of all secrets, kept up to date: each request reads them from memory.

The states come from `Overview`, as those of `rotator status` do. What is kept is only which of them may
have changed: by an event, because time has passed, or because a host is away.
"""

from __future__ import annotations

import heapq
import threading
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Final

from rotator.core.errors import RotatorError
from rotator.core.traceback_frames import forget_variables
from rotator.secret_state import ORPHAN, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import date, datetime

    from rotator.core.history import SecretRecord
    from rotator.core.ports import Log
    from rotator.journal.browsing import Browser
    from rotator.secret_state import Fleet, Outage, Overview, SecretState

_LOOK_EVERY: Final = 0.5
# States that may change without an event: sessions, consumers and decisions of an open rotation.
_OPEN: Final = frozenset(
    {
        *(State.ROTATING, State.DRAINING, State.PREPARING, State.GRACE),
        *(State.INTERRUPTED, State.RETRYING, State.WAITING),
    }
)
# So many of them are looked at each time; more than that, from time to time.
_MOST_OPEN: Final = 500
_OPEN_EVERY: Final = timedelta(seconds=10)
# What an outage of a host may change.
_HELD_UP: Final = frozenset({State.DUE, State.RETRYING, State.INTERRUPTED, State.WAITING})
# While no processes, hosts or orphans change, they are read so often.
_PROCESSES_EVERY: Final = timedelta(seconds=2)


class Index:
    """The secrets of a view by what pages ask for: each part is made when it is first used, once."""

    def __init__(self, names: Sequence[str], states: Mapping[str, SecretState]) -> None:
        """`names` in their order."""
        self._names: Sequence[str] = names
        self._states: Mapping[str, SecretState] = states

    @cached_property
    def by_state(self) -> Mapping[str, Sequence[str]]:
        """Names by state."""
        return self._grouped(lambda one: (one.state.value,))

    @cached_property
    def by_tag(self) -> Mapping[str, Sequence[str]]:
        """Names by tag."""
        return self._grouped(lambda one: one.tags)

    @cached_property
    def by_target(self) -> Mapping[str, Sequence[str]]:
        """Names by target."""
        return self._grouped(lambda one: (one.target,) if one.target is not None else ())

    @cached_property
    def by_due_date(self) -> Mapping[date, Sequence[str]]:
        """Names by the day on which they are, or were, due; not of parked secrets."""
        found: dict[date, list[str]] = {}
        for name in self._names:
            one = self._states[name]
            due = one.due_since or one.next_due
            if due is not None and one.parked is None:
                found.setdefault(due.date(), []).append(name)
        return found

    @cached_property
    def soonest(self) -> str | None:
        """The secret that is due next, of those that are well."""
        well = (self._states[name] for name in self.by_state.get(State.OK.value, ()))
        dated = ((one.next_due, one.name) for one in well if one.next_due is not None)
        return min(dated, default=(None, None))[1]

    def _grouped(self, keys: Callable[[SecretState], Iterable[str]]) -> Mapping[str, Sequence[str]]:
        found: dict[str, list[str]] = {}
        for name in self._names:
            for key in keys(self._states[name]):
                found.setdefault(key, []).append(name)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The fleet at one moment. `number` is another one after each change.

    `names`: all secrets in the order of their names. `attention`: those that need words, worst first.
    """

    number: int
    fleet: Fleet
    states: Mapping[str, SecretState]
    names: tuple[str, ...] = ()
    attention: tuple[SecretState, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict[str, int])
    index: Index


class LiveFleet:
    """Keeps a view of the fleet. `refresh` brings it up to date; `start` calls it again and again."""

    def __init__(self, overview: Overview, browser: Browser, log: Log) -> None:
        """Read everything once. Raises `JournalError`."""
        self._overview: Overview = overview
        self._browser: Browser = browser
        self._log: Log = log
        self._turn: threading.Lock = threading.Lock()
        self._closing: threading.Event = threading.Event()
        self._thread: threading.Thread | None = None
        self._mark: tuple[int, int] | None = None
        self._sequences: dict[str, int] = {}
        self._states: dict[str, SecretState] = {}
        # When time alone may change which state, soonest first; those in open states.
        self._turns: list[tuple[datetime, str]] = []
        self._opened: set[str] = set()
        self._incidents: dict[str, SecretRecord] = {}
        self._faults: dict[str, Outage] = {}
        self._open_at: datetime | None = None
        self._processes_at: datetime | None = None
        self._view: View | None = None
        # Since when the journal has not answered; None while it does.
        self.silent_since: datetime | None = None
        _ = self.refresh()

    @property
    def view(self) -> View:
        """The newest view."""
        assert self._view is not None  # noqa: S101 # made when this was
        return self._view

    @property
    def known(self) -> Mapping[str, int]:
        """The newest sequence number of each secret that the journal knows, retired ones too."""
        return self._sequences

    def start(self) -> None:
        """Keep the view up to date, in a thread of its own."""
        self._thread = threading.Thread(target=self._keep, name="web-fleet", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def refresh(self) -> View:
        """Look at what may have changed, and return the view."""
        with self._turn:
            now = self._overview.now()
            changed = self._changed(now)
            faults = self._overview.faults()
            if faults != self._faults:
                changed |= {
                    one.name
                    for one in self._states.values()
                    if one.state in _HELD_UP or (one.next_due is not None and one.next_due <= now)
                }
                self._faults = faults
            news = self._read(changed, now)
            waited = self._processes_at is None or now - self._processes_at >= _PROCESSES_EVERY
            if news or waited:
                self._processes_at = now
                self._gather(now, news=news)
            return self.view

    def _keep(self) -> None:
        while not self._closing.wait(_LOOK_EVERY):
            try:
                _ = self.refresh()
                self.silent_since = None
            except RotatorError as error:
                self.silent_since = self.silent_since or self._overview.now()
                self._log.error("journal", what=error.what)  # tried again at once
            except Exception as error:  # noqa: BLE001 # the pages must not grow old in silence
                self.silent_since = self.silent_since or self._overview.now()
                forget_variables(error)
                self._log.error("fleet", what=type(error).__name__)

    def _changed(self, now: datetime) -> set[str]:
        """Return the secrets whose state may be another one."""
        changed = set[str]()
        while self._turns and self._turns[0][0] <= now:
            changed.add(heapq.heappop(self._turns)[1])
        mark = self._browser.mark()
        if mark != self._mark:
            sequences = self._browser.sequences()
            changed |= {name for name, seq in sequences.items() if self._sequences.get(name) != seq}
            if self._mark is None:
                changed |= {*self._overview.secrets}
            self._sequences, self._mark = sequences, mark
        waited = self._open_at is None or now - self._open_at >= _OPEN_EVERY
        if len(self._opened) <= _MOST_OPEN or waited:
            self._open_at = now
            changed |= self._opened
        return changed

    def _read(self, names: set[str], now: datetime) -> bool:
        """Read these secrets again; return whether one of them is another than before."""
        records = self._browser.records(names) if names else {}
        news = False
        for name in names:
            record = records.get(name)
            if name not in self._overview.secrets and (
                record is None or not self._overview.is_forgotten(record)
            ):
                news |= self._states.pop(name, None) is not None
                self._opened.discard(name)
                _ = self._incidents.pop(name, None)
                continue
            state = self._overview.state_of(name, record, self._faults, now)
            news |= _differs(self._states.get(name), state)
            self._keep_state(state, now)
            if record is not None and record.incident is not None:
                news |= self._incidents.get(name) != record
                self._incidents[name] = record
            else:
                news |= self._incidents.pop(name, None) is not None
        return news

    def _keep_state(self, state: SecretState, now: datetime) -> None:
        before = self._states.get(state.name)
        self._states[state.name] = state
        if state.state in _OPEN:
            self._opened.add(state.name)
        else:
            self._opened.discard(state.name)
        known = (before.next_due, before.until) if before is not None else ()
        for at in (state.next_due, state.until):
            if at is not None and at > now and at not in known:
                heapq.heappush(self._turns, (at, state.name))

    def _gather(self, now: datetime, *, news: bool) -> None:
        before = self._view
        if before is not None and not news:
            fleet = replace(
                before.fleet,
                now=now,
                processes=tuple(self._overview.processes()),
                orphans=tuple(self._overview.orphans()),
                faults=tuple(self._faults.values()),
            )
            if not _is_other(before.fleet, fleet):
                # Only heartbeats: nothing else is computed again.
                self._view = replace(before, fleet=fleet)
                return
        fleet = self._overview.gathered(
            self._states.values(), self._incidents.values(), self._faults, now
        )
        counts = Counter(one.state for one in fleet.secrets)
        counted = {state.value: counts[state] for state in State if counts[state]}
        if fleet.orphans:
            counted[ORPHAN] = len(fleet.orphans)
        names = before.names if before is not None else ()
        if len(names) != len(self._states) or any(name not in self._states for name in names):
            names = tuple(sorted(self._states))
        states = dict(self._states)
        attention = tuple(one for one in fleet.secrets if fleet.needs_words(one))
        self._view = View(
            number=before.number + 1 if before is not None else 1,
            fleet=fleet,
            states=states,
            names=names,
            attention=attention,
            counts=counted,
            index=Index(names, states),
        )


def _differs(before: SecretState | None, now: SecretState) -> bool:
    if before is None or before.state is not now.state:
        return True
    # Everything but the moment at which it was looked at.
    return any(
        getattr(before, name) != getattr(now, name) for name in now.__slots__ if name != "now"
    )


def _is_other(before: Fleet, now: Fleet) -> bool:
    """Return whether what is beside the secrets has changed: not merely a heartbeat."""
    return (
        [(one.name, one.alive) for one in before.processes]
        != [(one.name, one.alive) for one in now.processes]
        or before.faults != now.faults
        or before.orphans != now.orphans
        or before.incidents != now.incidents
    )
