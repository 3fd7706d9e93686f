"""The past of a secret: its rotations, and what happened beside them, in words and as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rotator.core.consumers import READ_NEXT, is_of_next
from rotator.core.history import text, texts
from rotator.core.model import Kind
from rotator.engine.delegated_requests import is_delegated, outcomes
from rotator.faces.answers import Data, of_event, of_rotation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from rotator.core.history import RotationRecord
    from rotator.core.model import Event, Json
    from rotator.core.ports import Journal
    from rotator.secret_state import Managed

# Maximum number of rotations of one secret with `--since` and no `--limit`.
_MANY: Final = 10_000
_MANAGEMENT: Final = (Kind.ADOPTED, Kind.RETIRED, Kind.RENAMED, Kind.ACKNOWLEDGED, Kind.KEY_ROTATED)
_INCIDENT: Final = (Kind.LEAKED, Kind.PROVEN, Kind.INCIDENT_CLOSED)
# Events outside of rotations that are shown.
_BESIDE: Final = frozenset(
    {
        *(Kind.PARKED, Kind.UNPARKED, Kind.RETIRE_REQUESTED),
        *_MANAGEMENT,
        *_INCIDENT,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The history of one secret; `beside` holds its events outside of rotations.

    `owner` and `basis` as the configuration has them today.
    """

    name: str
    owner: str
    basis: str
    rotations: Sequence[RotationRecord]
    events: Mapping[str, list[Event]]
    led: Sequence[Event]
    beside: Sequence[Event]


def read(
    journal: Journal,
    name: str,
    *,
    limit: int | None,
    since: datetime | None,
    until: datetime | None = None,
    managed: Managed | None = None,
) -> History:
    """Read the newest rotations of a secret, including those under its former names.

    Those that were open at some time from `since` to before `until`. `managed`: its entry, where it has one.
    """
    record = journal.secret(name)
    names = [name, *reversed(record.former_names if record else ())]
    most = limit or (5 if since is None and until is None else _MANY)
    # The newest ones may all have begun after the period.
    enough = most if until is None else _MANY
    rotations = [
        one
        for known in names
        for one in journal.rotations(known, enough)
        if (since is None or (one.ended_at or since) >= since)
        and (until is None or one.started_at < until)
    ]
    rotations = sorted(rotations, key=lambda one: one.started_at, reverse=True)[:most]
    oldest = since or (rotations[-1].started_at if len(rotations) == most else None)
    beside = [
        event
        for known in names
        for event in journal.events(known, _MANY)
        if _is_beside(event)
        and (oldest is None or event.at >= oldest)
        and (until is None or event.at < until)
    ]
    led = [
        event
        for event in outcomes(journal, name, 2 * enough)
        if (since is None or event.at >= since) and (until is None or event.at < until)
    ]
    return History(
        name=name,
        owner=managed.owner if managed is not None else "",
        basis=managed.basis if managed is not None else "",
        rotations=rotations,
        events={one.id: journal.history(one.id) for one in rotations},
        led=led,
        beside=sorted(beside, key=lambda one: one.at),
    )


def data(history: History) -> Data:
    """Return a history as data."""
    return {
        "secret": history.name,
        "owner": history.owner or None,
        "basis": history.basis or None,
        "asked_for": [of_event(one) for one in history.led],
        "beside": [of_event(one) for one in history.beside],
        "rotations": [
            {
                **of_rotation(one),
                "events": [of_event(event) for event in history.events[one.id]],
            }
            for one in history.rotations
        ],
    }


def remark(event: Event) -> str:
    """Return the details of an event: reason, actor, login, cause."""
    found = event.data
    reason, what = text(found, "reason"), text(found, "what")
    login, version = text(found, "login"), text(found, "version")
    match event.kind:
        case Kind.REVOKE_REQUESTED | Kind.ROLLBACK_REQUESTED | Kind.UNPARKED | Kind.PARKED:
            why = reason or what or "no reason given"
            return f"{why} (by {event.actor})"
        case Kind.REQUESTED | Kind.SCHEDULED | Kind.DELEGATED | Kind.RETIRE_REQUESTED:
            return reason or ""
        case kind if kind in _MANAGEMENT or (kind in _INCIDENT and "incident" in found):
            described = _of_incident if kind in _INCIDENT else _of_management
            return described(event, reason)
        case Kind.CHECKED:
            why = text(found, "why")
            seen = (
                "authenticated" if found.get("accepted") else f"rejected{f': {why}' if why else ''}"
            )
            unknown = "" if found.get("known") else f"; version {version} is unknown"
            return f"login {login} {seen}{unknown}" if login else "the backend holds nothing"
        case Kind.CONSUMERS_READY | Kind.FINISHED if "consumers" in found:
            return _consumers(found)
        case Kind.FAILED | Kind.WAITING | Kind.ENDED:
            return ": ".join(part for part in (text(found, "outcome"), what) if part)
        case _ if found.get("refused") is True:
            return f"login {login} is revoked: a login attempt was rejected"
        case _:
            shown = [login] if login else []
            return ", ".join([*shown, *([f"version {version}"] if version else [])])


def _consumers(data: Mapping[str, Json]) -> str:
    """Return how many instances of each declared consumer used the new version."""
    facts = data.get("consumers")
    listed = facts.get("consumers") if isinstance(facts, dict) else None
    rows = [one for one in (listed if isinstance(listed, list) else ()) if isinstance(one, dict)]
    declared = [one for one in rows if one["expected"]]
    counts = (f"{one['name']} {one['acknowledged']} of {one['expected']}" for one in declared)
    over = READ_NEXT if is_of_next(facts) else "on the new version"
    by_hand = "; the gate was overridden" if data.get("gate_overridden") else ""
    return f"{over}: {', '.join(counts)}{by_hand}"


def _of_incident(event: Event, reason: str | None) -> str:
    """Return what leaked and why it was reported, whether it is rejected, or why the incident ended."""
    found, incident = event.data, f"incident {event.data['incident']}"
    match event.kind:
        case Kind.LEAKED:
            again = ", accepted again" if found.get("returned") else ""
            because = f", reason: {reason}" if reason else ""
            leaked = f"{incident}: version {text(found, 'version')} leaked{again}{because}"
            return f"{leaked} (by {event.actor})"
        case Kind.PROVEN if found.get("ok"):
            entrances = found.get("entrances")
            count = len(entrances) if isinstance(entrances, list) else 0
            where = f"at {count} {'address' if count == 1 else 'addresses'}"
            return f"{incident}: the leaked password was rejected {where}"
        case Kind.PROVEN:
            causes = " ".join(texts(found, "unproven"))
            return f"{incident}: not proven that the leaked password is rejected: {causes}"
        case _:
            return f"{incident}: {reason or 'no reason given'} (by {event.actor})"


def _of_management(event: Event, reason: str | None) -> str:
    found = event.data
    login = text(found, "login")
    because = f", reason: {reason}" if reason else ""
    match event.kind:
        case Kind.ADOPTED:
            details = f"login {login}, version {text(found, 'version')}"
        case Kind.RENAMED if "to" in found:
            details = f"to {text(found, 'to')}"
        case Kind.RENAMED:
            details = f"from {text(found, 'from')}"
        case Kind.RETIRED if found.get("refused"):
            details = f"login {login} is revoked: a login attempt was rejected"
        case Kind.RETIRED:
            details = f"login {login} is unchanged" if login else ""
        case _:
            details = ""
    return f"{details}{because} (by {event.actor})".strip(", ")


def _is_beside(event: Event) -> bool:
    refused = event.kind is Kind.CHECKED and not event.data.get("accepted")
    return (
        not is_delegated(event) and event.rotation_id is None and (event.kind in _BESIDE or refused)
    )
