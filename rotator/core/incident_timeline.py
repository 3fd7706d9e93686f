"""What happened to one secret in an incident: the fold of its events, for people and for receipts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from rotator.core.history import MAPPED, OPEN, PROVEN, moment, text, texts
from rotator.core.model import Kind, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime, timedelta

    from rotator.core.model import Event
    from rotator.core.ports import Journal

CLOSED: Final = "closed"


@dataclass(slots=True, kw_only=True)
class Timeline:
    """One secret in one incident. `state`: map, open, proven or closed.

    `rejected_at`: since when the target itself rejects the leaked password. `published_at`: when consumers
    could read the new one. `proven_at`: when every address had rejected the leaked one for the first time.
    `events`: those that belong to it, in order. `unproven`: what the newest proof could not show.
    """

    secret: str
    incident: str
    state: str = OPEN
    mode: str = ""
    version: str | None = None
    login: str | None = None
    reason: str = ""
    reported_by: str = ""
    approved_by: str | None = None
    reported_at: datetime | None = None
    rejected_at: datetime | None = None
    published_at: datetime | None = None
    proven_at: datetime | None = None
    closed_at: datetime | None = None
    sessions_ended: int = 0
    next_proof: datetime | None = None
    unproven: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    resurrections: int = 0
    # The name under which it goes on; then it is closed here.
    renamed_to: str | None = None
    events: list[Event] = field(default_factory=list["Event"])

    def after(self, when: datetime | None) -> timedelta | None:
        """Return how long after the first report something happened."""
        return when - self.reported_at if when and self.reported_at else None


def chain(
    events_of: Callable[[str], list[Event]], name: str, until: int | None = None
) -> list[Event]:
    """Return the events of a secret, after those that it has under its former names.

    `until`: none of its own after this number. A name that was used again keeps what is its own.
    """
    own = [one for one in events_of(name) if until is None or one.seq <= until]
    at = next((i for i in range(len(own) - 1, -1, -1) if _continues(own[i])), None)
    if at is None:
        return own
    former, seq = str(own[at].data["from"]), own[at].data.get("from_seq")
    before = chain(events_of, former, seq if isinstance(seq, int) else None)
    seen = {(one.secret, one.seq) for one in before}
    earlier = [one for one in own[:at] if (one.secret, one.seq) not in seen]
    return [*earlier, *before, *own[at:]]


def _continues(event: Event) -> bool:
    """Return whether the history of another name goes on with this event."""
    return event.kind is Kind.RENAMED and "from" in event.data


def every_timeline(journal: Journal, reported: Iterable[str]) -> Iterator[Timeline]:
    """Go through the incidents of secrets with a report, each once, under the present name of its secret."""
    for name in present_names(journal, reported):
        lines = timelines(chain(journal.events, name))
        yield from (line for line in reversed(lines) if line.renamed_to is None)


def present_names(journal: Journal, names: Iterable[str]) -> list[str]:
    """Return the names under which the histories of secrets go on, each once."""
    found = dict[str, None]()
    for name in names:
        seen: set[str] = set()
        while name not in seen:
            seen.add(name)
            record = journal.secret(name)
            if record is not None and record.renamed_to is not None:
                name = record.renamed_to  # noqa: PLW2901 # followed to its end
        found[name] = None
    return list(found)


def leaked_versions(events: Iterable[Event]) -> dict[str, Event]:
    """Return the versions of a secret that have leaked, each with its report, the oldest first.

    Not those of an incident that an operator has closed without a proof: a false alarm is over.
    """
    found: dict[str, Event] = {}
    for event in events:
        version = text(event.data, "version")
        if event.kind is Kind.LEAKED and event.rotation_id is None and version is not None:
            found[version] = event
        elif event.kind is Kind.INCIDENT_CLOSED and event.data.get("given_up") is True:
            over = event.data.get("incident")
            found = {one: at for one, at in found.items() if at.data.get("incident") != over}
    return found


def timelines(events: Iterable[Event]) -> list[Timeline]:
    """Return the incidents of one secret, oldest first, from all of its events in order."""
    found: dict[str, Timeline] = {}
    current: Timeline | None = None
    rotations: set[str] = set()
    for event in events:
        if event.kind is Kind.LEAKED and event.rotation_id is None:
            current = _reported(found, event)
        elif event.kind is Kind.RENAMED:
            current = _renamed(found, current, event)
        if current is None:
            continue
        if event.kind is Kind.LEAKED and event.rotation_id is not None:
            rotations.add(event.rotation_id)
        if event.kind is Kind.REQUESTED and event.rotation_id and event.data.get("leak"):
            rotations.add(event.rotation_id)
        if _belongs(event, rotations):
            current.events.append(event)
            _take(current, event)
        if event.kind is Kind.INCIDENT_CLOSED:
            current = None
    return list(found.values())


def _reported(found: dict[str, Timeline], event: Event) -> Timeline:
    id_ = text(event.data, "incident") or ""
    # The newest is the last.
    line = found[id_] = found.pop(id_, None) or Timeline(secret=event.secret, incident=id_)
    waits = text(event.data, "mode") == MAPPED
    line.state, line.mode = (MAPPED if waits else OPEN), text(event.data, "mode") or ""
    line.version, line.login = text(event.data, "version"), text(event.data, "login")
    if line.reported_at is None:
        # A later event of this kind is a decision, a return or a reopening.
        line.reason, line.reported_by = text(event.data, "reason") or "", event.actor
        line.reported_at = event.at
    line.approved_by = text(event.data, "approved_by") or line.approved_by
    line.closed_at = None
    line.resurrections += event.data.get("returned") is True
    return line


def _renamed(found: dict[str, Timeline], current: Timeline | None, event: Event) -> Timeline | None:
    """Return the incident that goes on after a change of name, if one does."""
    to, kept = text(event.data, "to"), event.data.get("incident")
    if to is not None:
        for line in found.values():
            if line.state != CLOSED:
                line.state, line.closed_at, line.renamed_to = CLOSED, event.at, to
        return None
    for line in found.values():
        line.secret = event.secret
    if not isinstance(kept, Mapping) or current is not None:
        return current
    # Its report is in the chain of the former name.
    id_ = text(kept, "id") or ""
    line = found[id_] = Timeline(secret=event.secret, incident=id_)
    line.state, line.mode = text(kept, "state") or OPEN, text(kept, "mode") or ""
    line.version, line.login = text(kept, "version"), text(kept, "login")
    line.reason, line.reported_by = f"renamed from {event.data.get('from')}", event.actor
    line.reported_at, line.next_proof = moment(kept, "at") or event.at, moment(kept, "prove_at")
    line.proven_at = event.at if line.state == PROVEN else None
    return line


def _belongs(event: Event, rotations: set[str]) -> bool:
    of_incident = (Kind.LEAKED, Kind.PROVEN, Kind.INCIDENT_CLOSED, Kind.RENAMED)
    of_operator = (Kind.PARKED, Kind.UNPARKED)
    return event.kind in (*of_incident, *of_operator) or event.rotation_id in rotations


def _take(line: Timeline, event: Event) -> None:
    data = event.data
    match event.kind, event.step:
        case Kind.FINISHED, Step.FENCE:
            line.rejected_at = line.rejected_at or event.at
        case Kind.FINISHED, Step.PUBLISH:
            line.published_at = event.at
        case (Kind.FINISHED, Step.REVOKE) if data.get("refused"):
            line.rejected_at = line.rejected_at or event.at
        case Kind.PROVEN, _:
            proven = data.get("ok") is True
            line.state = PROVEN if proven else OPEN
            line.proven_at = line.proven_at or (event.at if proven else None)
            line.rejected_at = line.rejected_at or (event.at if proven else None)
            line.resurrections += data.get("resurrected") is True
            line.next_proof = moment(data, "next")
            line.unproven = texts(data, "unproven")
            entrances = data.get("entrances")
            rows = entrances if isinstance(entrances, list) else []
            line.addresses = tuple(str(one.get("address")) for one in rows if isinstance(one, dict))
        case Kind.INCIDENT_CLOSED, _:
            line.state, line.closed_at, line.next_proof = CLOSED, event.at, None
        case _:
            pass
    ended = data.get("sessions_ended")
    line.sessions_ended += ended if isinstance(ended, int) else 0
