"""Records and events as rows of text and numbers, and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, cast

from rotator.core.history import RotationRecord, SecretRecord
from rotator.core.leases import LeaseOutcome, LeaseRecord, LeaseState
from rotator.core.model import Event, Kind, Outcome, Step
from rotator.journal import tables
from rotator.journal.chain import canonical, seal, stamp

if TYPE_CHECKING:
    from sqlalchemy import Table

EVENT_COLUMNS: Final = tuple(column.name for column in tables.events.columns)
# What the hash of an event covers.
HASHED_COLUMNS: Final = EVENT_COLUMNS[: EVENT_COLUMNS.index("hash")]
SECRET_COLUMNS: Final = tuple(
    column.name for column in tables.secrets.columns if column.name != "seal"
)
ROTATION_COLUMNS: Final = tuple(
    column.name for column in tables.rotations.columns if column.name != "seal"
)
LEASE_COLUMNS: Final = tuple(
    column.name for column in tables.leases.columns if column.name != "seal"
)
# Of each table whose rows are sealed, the columns that the seal covers.
_SEALED: Final[Mapping[str, tuple[str, ...]]] = {
    "secrets": SECRET_COLUMNS,
    "rotations": ROTATION_COLUMNS,
    "leases": LEASE_COLUMNS,
}

# The facts of a `SecretRecord` that share the column `details`: texts, times and lists of texts.
_TEXTS: Final = (
    *("refused", "refused_hint", "parked_hint"),
    *("drift", "retiring", "retired", "renamed_to"),
    *("incident", "incident_state", "incident_mode"),
    *("leaked_version", "leaked_login", "leaked_moment"),
)
_TIMES: Final = (
    *("refused_at", "retired_at", "former_rotated_at", "former_since", "due_since"),
    *("incident_at", "prove_at"),
)
_LISTS: Final = ("stale", "former_names")
DETAILS: Final = (*_TEXTS, *_TIMES, *_LISTS)

_KINDS: Final = {kind.value: kind for kind in Kind}
_STEPS: Final[Mapping[str | None, Step | None]] = {
    None: None,
    **{step.value: step for step in Step},
}
# What json.loads calls, without its looks for spaces around a text.
_SCAN: Final[Callable[[str, int], tuple[Any, int]]] = cast("Any", json.JSONDecoder()).scan_once

# No secret gets that many leases; PostgreSQL's integer has room for twice as many.
FENCE_LIMIT: Final = 2**30

Row = dict[str, Any]
Read: TypeAlias = "Mapping[Any, Any]"


def event_from(row: Read) -> Event:
    """Return the event that a row holds."""
    return Event(
        secret=row["secret"],
        seq=row["seq"],
        at=datetime.fromisoformat(row["at"]),
        actor=row["actor"],
        fence=row["fence"],
        kind=Kind(row["kind"]),
        rotation_id=row["rotation_id"],
        step=None if row["step"] is None else Step(row["step"]),
        data=json.loads(row["data"]),
        prev_hash=row["prev_hash"],
        hash=row["hash"],
    )


class _ReadEvent(NamedTuple):
    """What an `Event` is, made in a third of its time."""

    secret: str
    seq: int
    at: datetime
    actor: str
    fence: int
    kind: Kind
    rotation_id: str | None
    step: Step | None
    data: Mapping[str, Any]
    prev_hash: str
    hash: str


_NEW_EVENT: Final = partial(tuple.__new__, _ReadEvent)


def read_event(row: tuple[Any, ...]) -> Event:
    """Return the event in a row of the driver, its columns in the order of the table; to be read only."""
    secret, seq, at, actor, fence, kind, rotation_id, step, text, prev, hashed, _ = row
    try:
        data, end = _SCAN(text, 0)
    except StopIteration:
        data, end = None, -1
    if end != len(text):
        data = json.loads(text)
    when, kind_, step_ = datetime.fromisoformat(at), _KINDS[kind], _STEPS[step]
    values = (secret, seq, when, actor, fence, kind_, rotation_id, step_, data, prev, hashed)
    return cast("Event", cast("object", _NEW_EVENT(values)))


def secret_row(record: SecretRecord) -> Row:
    """Return the fold of a secret as columns, without lock and seal."""
    return {
        "name": record.name,
        "version": record.version,
        "login": record.login,
        "adopted": json.dumps(record.adopted, ensure_ascii=False),
        "parked": record.parked,
        "failures": record.failures,
        "rotated_at": _stamped(record.rotated_at),
        "next_due": _stamped(record.next_due),
        "since": _stamped(record.since),
        "timing": record.timing,
        "last_outcome": record.last_outcome and record.last_outcome.value,
        "open_rotation": record.open_rotation,
        "seq": record.seq,
        "head": record.head,
        "details": _details(record),
    }


def rotation_row(record: RotationRecord) -> Row:
    """Return the fold of a rotation as columns, without seal."""
    return {
        "id": record.id,
        "secret": record.secret,
        "plugin": record.plugin,
        "strategy": record.strategy,
        "reason": record.reason,
        "actor": record.actor,
        "started_at": stamp(record.started_at),
        "old_version": record.old_version,
        "old_login": record.old_login,
        "new_version": record.new_version,
        "new_login": record.new_login,
        "published_at": _stamped(record.published_at),
        "old_refused": None if record.old_refused is None else int(record.old_refused),
        "ended_at": _stamped(record.ended_at),
        "outcome": record.outcome and record.outcome.value,
    }


def secret_from(row: Read) -> SecretRecord:
    """Return the fold that a row holds."""
    return SecretRecord(
        name=row["name"],
        version=row["version"],
        login=row["login"],
        adopted=tuple(json.loads(row["adopted"])),
        parked=row["parked"],
        failures=row["failures"],
        rotated_at=moment(row["rotated_at"]),
        next_due=moment(row["next_due"]),
        since=moment(row["since"]),
        timing=row["timing"],
        last_outcome=None if row["last_outcome"] is None else Outcome(row["last_outcome"]),
        open_rotation=row["open_rotation"],
        seq=row["seq"],
        head=row["head"],
        **_from_details(row["details"]),
    )


def rotation_from(row: Read) -> RotationRecord:
    """Return the fold that a row holds."""
    return RotationRecord(
        id=row["id"],
        secret=row["secret"],
        plugin=row["plugin"],
        strategy=row["strategy"],
        reason=row["reason"],
        actor=row["actor"],
        started_at=datetime.fromisoformat(row["started_at"]),
        old_version=row["old_version"],
        old_login=row["old_login"],
        new_version=row["new_version"],
        new_login=row["new_login"],
        published_at=moment(row["published_at"]),
        old_refused=None if row["old_refused"] is None else bool(row["old_refused"]),
        ended_at=moment(row["ended_at"]),
        outcome=None if row["outcome"] is None else Outcome(row["outcome"]),
    )


def lease_row(record: LeaseRecord) -> Row:
    """Return the fold of a lease as columns, without seal."""
    return {
        "id": record.id,
        "secret": record.secret,
        "target": record.target,
        "state": record.state.value,
        "holder": record.holder,
        "purpose": record.purpose,
        "login": record.login,
        "requested_at": stamp(record.requested_at),
        "begun_at": stamp(record.begun_at),
        "ends_at": stamp(record.ends_at),
        "latest": stamp(record.latest),
        "instances": json.dumps(record.instances, ensure_ascii=False),
        "next_at": _stamped(record.next_at),
        "failures": record.failures,
        "problem": record.problem,
        "hint": record.hint,
        "outcome": record.outcome and record.outcome.value,
        "ended_at": _stamped(record.ended_at),
    }


def lease_from(row: Read) -> LeaseRecord:
    """Return the fold that a row holds."""
    return LeaseRecord(
        id=row["id"],
        secret=row["secret"],
        target=row["target"],
        state=LeaseState(row["state"]),
        holder=row["holder"],
        purpose=row["purpose"],
        login=row["login"],
        requested_at=datetime.fromisoformat(row["requested_at"]),
        begun_at=datetime.fromisoformat(row["begun_at"]),
        ends_at=datetime.fromisoformat(row["ends_at"]),
        latest=datetime.fromisoformat(row["latest"]),
        instances=tuple(json.loads(row["instances"])),
        next_at=moment(row["next_at"]),
        failures=row["failures"],
        problem=row["problem"],
        hint=row["hint"],
        outcome=None if row["outcome"] is None else LeaseOutcome(row["outcome"]),
        ended_at=moment(row["ended_at"]),
    )


def lock_end(row: Read) -> datetime | None:
    """Return when the lock in a row ends; None where that is not a time."""
    try:
        end = datetime.fromisoformat(row["lease_expires"])
    except (ValueError, TypeError):
        return None
    return end if end.tzinfo is not None else None


def sealed(table: Table, row: Row) -> Row:
    """Return the row with the seal over its other columns."""
    return {**row, "seal": plain_seal(table, row)}


def plain_seal(table: Table, row: Row) -> str:
    """Return the digest of the columns of a row, which needs no key."""
    return seal(table.name, [row[name] for name in _SEALED[table.name]])


def _details(record: SecretRecord) -> str | None:
    """Return what there is of the facts that few secrets have; None for nothing."""
    found: Row = {}
    for name in DETAILS:
        value = getattr(record, name)
        if value is not None and value != ():
            found[name] = stamp(value) if isinstance(value, datetime) else value
    return canonical(found) if found else None


def _from_details(written: str | None) -> Row:
    if written is None:
        return {}
    found: Row = json.loads(written)
    for name in _TIMES:
        if name in found:
            found[name] = moment(found[name])
    for name in _LISTS:
        if name in found:
            found[name] = tuple(found[name])
    return found


def _stamped(at: datetime | None) -> str | None:
    return None if at is None else stamp(at)


def moment(value: str | None) -> datetime | None:
    """Return a time that the journal has written; None for none."""
    return None if value is None else datetime.fromisoformat(value)
