"""What faces answer as data: `--json` on the command line, and the API of the web console."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias, cast

from rotator.core.secret import scrub

if TYPE_CHECKING:
    from rotator.core.history import RotationRecord
    from rotator.core.incident_timeline import Timeline
    from rotator.core.leases import LeaseRecord
    from rotator.core.model import Event
    from rotator.secret_state import Fleet, SecretState

Data: TypeAlias = "dict[str, object]"


def plain(value: object, *, scrubbed: bool = True) -> object:
    """Return a value as JSON types: times as ISO 8601 in UTC, durations as seconds."""
    if value is None or isinstance(value, bool | int | float):
        return value
    text = scrub if scrubbed else str
    match value:
        case Enum() | str():
            return text(str(value.value if isinstance(value, Enum) else value))
        case datetime():
            return value.isoformat()
        case Mapping():
            items = cast("Mapping[str, object]", value).items()
            return {str(key): plain(one, scrubbed=scrubbed) for key, one in items}
        case list() | tuple() | set() | frozenset():
            return [plain(one, scrubbed=scrubbed) for one in cast("Sequence[object]", value)]
        case _:
            return scrub(str(value))


def of_state(one: SecretState) -> Data:
    """Return the state of a secret as data."""
    return {
        "secret": one.name,
        "state": one.state,
        "severity": one.severity,
        "cause": one.cause or None,
        "hint": one.hint or None,
        "says": one.says or None,
        "target": one.target,
        "backend": one.backend,
        "login": one.login,
        "version": one.version,
        "rotated_at": one.rotated_at,
        "age_seconds": int(one.age.total_seconds()) if one.age is not None else None,
        "next_due": one.next_due,
        "due_since": one.due_since,
        "next_try": one.next_try,
        "until": one.until,
        "last_outcome": one.last_outcome,
        "failures": one.failures,
        "parked": one.parked,
        "open_rotation": one.open_rotation,
        "old_login_sessions": [
            {
                "login": user.login,
                "client": user.client,
                "application": user.application,
                "since": user.since,
            }
            for user in one.sessions
        ],
        "consumers_behind": [standing.consumer for standing in one.consumers_behind],
        "tags": list(one.tags),
        "owner": one.owner or None,
        "basis": one.basis or None,
    }


def of_fleet(fleet: Fleet) -> Data:
    """Return the state of all secrets, processes and hosts as data."""
    return {
        "totals": fleet.counts(),
        "processes": [
            {"name": one.name, "face": one.face, "seen_at": one.seen_at, "alive": one.alive}
            for one in fleet.processes
        ],
        "unavailable": [
            {
                "subject": one.subject,
                "since": one.since,
                "until": one.until,
                "cause": one.what or None,
                "hint": one.hint or None,
            }
            for one in fleet.faults
        ],
        "orphans": [
            {
                "target": one.target,
                "login": one.login,
                "seen_at": one.seen_at,
                "cause": one.what or None,
                "hint": one.hint or None,
            }
            for one in fleet.orphans
        ],
        "incidents": [
            {"incident": one.id, "state": one.state, "secrets": list(one.secrets)}
            for one in fleet.incidents
        ],
        "secrets": [of_state(one) for one in fleet.secrets],
    }


def of_rotation(record: RotationRecord) -> Data:
    """Return a rotation of the journal, as data."""
    return {
        "id": record.id,
        "secret": record.secret,
        "plugin": record.plugin,
        "strategy": record.strategy,
        "reason": record.reason,
        "actor": record.actor,
        "started_at": record.started_at,
        "published_at": record.published_at,
        "ended_at": record.ended_at,
        "outcome": record.outcome,
        "old_login": record.old_login,
        "old_version": record.old_version,
        "new_login": record.new_login,
        "new_version": record.new_version,
        "old_refused": record.old_refused,
    }


def of_event(event: Event) -> Data:
    """Return an event of the journal, as data."""
    return {
        "seq": event.seq,
        "at": event.at,
        "kind": event.kind,
        "step": event.step,
        "rotation_id": event.rotation_id,
        "actor": event.actor,
        "data": dict(event.data),
        "hash": event.hash,
    }


def of_lease(record: LeaseRecord) -> Data:
    """Return a lease as data: never the value of its login."""
    return {
        "lease": record.id,
        "secret": record.secret,
        "target": record.target,
        "state": record.shown_state,
        "holder": record.holder,
        "instances": list(record.instances),
        "purpose": record.purpose,
        "login": record.login,
        "requested_at": record.requested_at.isoformat(),
        "ends_at": record.ends_at.isoformat(),
        "latest": record.latest.isoformat(),
        "ended_at": record.ended_at.isoformat() if record.ended_at is not None else None,
        "problem": record.problem,
        "hint": record.hint,
    }


def of_timeline(line: Timeline, *, events: bool) -> Data:
    """Return what happened to one secret in an incident, as data."""
    return {
        "incident": line.incident,
        "secret": line.secret,
        "state": line.state,
        "mode": line.mode,
        "version": line.version,
        "login": line.login,
        "reason": line.reason,
        "reported_by": line.reported_by,
        "approved_by": line.approved_by,
        "reported_at": line.reported_at,
        "rejected_at": line.rejected_at,
        "published_at": line.published_at,
        "proven_at": line.proven_at,
        "closed_at": line.closed_at,
        "next_proof": line.next_proof,
        "seconds": durations(line),
        "sessions_ended": line.sessions_ended,
        "addresses": list(line.addresses),
        "unproven": list(line.unproven),
        "resurrections": line.resurrections,
        **({"events": [of_event(event) for event in line.events]} if events else {}),
    }


def durations(line: Timeline) -> dict[str, float | None]:
    """Return the seconds from the report to each proof; None for what has not happened."""
    moments = {
        "rejected": line.rejected_at,
        "published": line.published_at,
        "proven": line.proven_at,
    }
    return {
        key: passed.total_seconds() if (passed := line.after(moment)) is not None else None
        for key, moment in moments.items()
    }
