"""Records and events as rows of text and numbers, and back."""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from rotator.core.history import RotationRecord, SecretRecord
from rotator.core.model import Event, Kind, Outcome, Step
from rotator.journal import tables
from rotator.journal.chain import seal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Table

EVENT_COLUMNS: Final = tuple(column.name for column in tables.events.columns)
SECRET_COLUMNS: Final = tuple(
    column.name for column in tables.secrets.columns if column.name != "seal"
)
ROTATION_COLUMNS: Final = tuple(
    column.name for column in tables.rotations.columns if column.name != "seal"
)

Row = dict[str, Any]
Read: TypeAlias = "Mapping[Any, Any]"


def stamp(at: datetime) -> str:
    """Return a time as the journal writes it: UTC, microseconds, `Z` spelled +00:00."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


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


def secret_row(record: SecretRecord) -> Row:
    """Return the fold of a secret as columns, without lease and seal."""
    return _flat(record)


def rotation_row(record: RotationRecord) -> Row:
    """Return the fold of a rotation as columns, without seal."""
    return _flat(record)


def secret_from(row: Read) -> SecretRecord:
    """Return the fold that a row holds."""
    return SecretRecord(
        name=row["name"],
        version=row["version"],
        login=row["login"],
        adopted=tuple(json.loads(row["adopted"])),
        parked=row["parked"],
        failures=row["failures"],
        rotated_at=_moment(row["rotated_at"]),
        next_due=_moment(row["next_due"]),
        last_outcome=None if row["last_outcome"] is None else Outcome(row["last_outcome"]),
        open_rotation=row["open_rotation"],
        seq=row["seq"],
        head=row["head"],
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
        step=None if row["step"] is None else Step(row["step"]),
        phase=None if row["phase"] is None else Kind(row["phase"]),
        published_at=_moment(row["published_at"]),
        old_refused=None if row["old_refused"] is None else bool(row["old_refused"]),
        ended_at=_moment(row["ended_at"]),
        outcome=None if row["outcome"] is None else Outcome(row["outcome"]),
    )


def sealed(table: Table, row: Row) -> Row:
    """Return the row with the seal over its other columns."""
    names = SECRET_COLUMNS if table is tables.secrets else ROTATION_COLUMNS
    return {**row, "seal": seal(table.name, [row[name] for name in names])}


def _flat(record: SecretRecord | RotationRecord) -> Row:
    return {one.name: _plain(getattr(record, one.name)) for one in fields(record)}


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return stamp(value)
    if isinstance(value, Enum):
        return cast("str", value.value)
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, tuple):
        return json.dumps(cast("tuple[str, ...]", value), ensure_ascii=False)
    return value


def _moment(value: str | None) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value)
