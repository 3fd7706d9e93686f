"""The states of all secrets, kept up to date: each request reads them from memory.

The states come from `Overview`, as those of `rotator status` do. What is kept is only which of them may
have changed: by an event, because time has passed, or because a host is away.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from rotator.core.errors import RotatorError
from rotator.core.traceback_frames import forget_variables
from rotator.secret_state import ORPHAN, State

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

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
        changed = {
            one.name
            for one in self._states.values()
            if any(at is not None and one.now < at <= now for at in (one.next_due, one.until))
        }
        mark = self._browser.mark()
        if mark != self._mark:
            sequences = self._browser.sequences()
            changed |= {name for name, seq in sequences.items() if self._sequences.get(name) != seq}
            if self._mark is None:
                changed |= {*self._overview.secrets}
            self._sequences, self._mark = sequences, mark
        opened = [one.name for one in self._states.values() if one.state in _OPEN]
        waited = self._open_at is None or now - self._open_at >= _OPEN_EVERY
        if len(opened) <= _MOST_OPEN or waited:
            self._open_at = now
            changed |= set(opened)
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
                _ = self._incidents.pop(name, None)
                continue
            state = self._overview.state_of(name, record, self._faults, now)
            news |= _differs(self._states.get(name), state)
            self._states[name] = state
            if record is not None and record.incident is not None:
                news |= self._incidents.get(name) != record
                self._incidents[name] = record
            else:
                news |= self._incidents.pop(name, None) is not None
        return news

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
        attention = tuple(one for one in fleet.secrets if fleet.needs_words(one))
        self._view = View(
            number=before.number + 1 if before is not None else 1,
            fleet=fleet,
            states=dict(self._states),
            names=names,
            attention=attention,
            counts=counted,
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
