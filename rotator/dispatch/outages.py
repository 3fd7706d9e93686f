"""Tells of hosts that cannot be used, once when it begins and once when it is over.

Kept beside the chain, so that every process, and `rotator status`, knows of them; whichever process
writes or removes the row is the one that tells. Where the journal itself is away, this process tells.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from rotator.core.daemon_settings import Topic
from rotator.core.errors import JournalError
from rotator.core.observations import Observation, ObservationKind
from rotator.dispatch.ready_queue import JOURNAL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from rotator.core.model import Json
    from rotator.core.observations import Observations
    from rotator.core.ports import Log

_FAULT: Final = ObservationKind.FAULT


@dataclass(frozen=True, slots=True, kw_only=True)
class OutageCause:
    """Why a host cannot be used, and how to mend it. `kind` is that of the error."""

    host: str
    kind: str
    what: str
    hint: str = ""


@dataclass(slots=True, kw_only=True)
class Outages:
    """What is known of hosts that cannot be used. `tell` passes a notice on."""

    observations: Observations
    log: Log
    tell: Callable[[Topic, str, Mapping[str, Json]], None]
    # When it began, as this process has seen it.
    since: dict[str, datetime] = field(default_factory=dict[str, "datetime"])
    told: set[str] = field(default_factory=set[str])

    def met(self, fault: OutageCause, now: datetime, until: datetime | None, secrets: int) -> None:
        """Note that a host cannot be used, and is left alone until then; tell of it the first time."""
        known = self._known().get(fault.host) if fault.host != JOURNAL else None
        if known is not None:
            self.since.setdefault(fault.host, known.at)
        since = self.since.setdefault(fault.host, now)
        data: dict[str, Json] = {
            "kind": fault.kind,
            "what": fault.what,
            "hint": fault.hint,
            "tried_at": now.isoformat(),
            "told": True,
        }
        new = fault.host not in self.told
        if fault.host != JOURNAL:
            seen = Observation(kind=_FAULT, subject=fault.host, at=since, until=until, data=data)
            new = self._put(seen, known, otherwise=new)
        self.told.add(fault.host)
        if new:
            facts = {"host": fault.host, "what": fault.what, "hint": fault.hint}
            self.log.warning("unavailable", **facts, secrets=secrets, until=str(until))
            self.tell(Topic.UNAVAILABLE, "", {**facts, "secrets": secrets})

    def over(self, host: str, now: datetime) -> None:
        """Note that a host can be used again; tell of it, if somebody was told that it could not."""
        since = self.since.pop(host, None)
        was_told = host in self.told
        self.told.discard(host)
        if host != JOURNAL:
            try:
                removed = self.observations.remove(_FAULT, host)
            except JournalError:
                pass
            else:
                was_told = removed is not None and bool(removed.data.get("told"))
                since = removed.at if removed is not None else since
        if was_told:
            seconds = round((now - since).total_seconds()) if since is not None else None
            self.log.info("available", host=host, seconds=seconds)
            self.tell(Topic.AVAILABLE, "", {"host": host, "seconds": seconds})

    def open(self) -> dict[str, Observation]:
        """Return the hosts that some process could not use when it last tried."""
        return {host: one for host, one in self._known().items() if not one.data.get("ended")}

    def ended(self) -> list[str]:
        """Return the hosts that a command line could use again, and that nobody has told of."""
        return [host for host, one in self._known().items() if one.data.get("ended")]

    def _known(self) -> dict[str, Observation]:
        try:
            return {one.subject: one for one in self.observations.all(_FAULT)}
        except JournalError:
            return {}

    def _put(self, seen: Observation, known: Observation | None, *, otherwise: bool) -> bool:
        try:
            added = self.observations.put(seen)
        except JournalError:
            return otherwise
        return added or (known is not None and not known.data.get("told"))


def noted_by_command(observations: Observations, fault: OutageCause, now: datetime) -> None:
    """Note a fault that a command line has met: a daemon tells of it when it meets it too."""
    if fault.host == JOURNAL:
        return
    with suppress(JournalError):
        if any(
            one.subject == fault.host and not one.data.get("ended")
            for one in observations.all(_FAULT)
        ):
            return
        data: dict[str, Json] = {
            "kind": fault.kind,
            "what": fault.what,
            "hint": fault.hint,
            "tried_at": now.isoformat(),
            "told": False,
        }
        _ = observations.put(Observation(kind=_FAULT, subject=fault.host, at=now, data=data))


def ended_by_command(observations: Observations, worked: frozenset[str]) -> None:
    """Note the hosts that a command line could use again; who told of their faults tells of the end."""
    with suppress(JournalError):
        for one in observations.all(_FAULT):
            if one.subject not in worked:
                continue
            if one.data.get("told"):
                _ = observations.put(replace(one, data={**one.data, "ended": True}))
            else:
                _ = observations.remove(_FAULT, one.subject)
