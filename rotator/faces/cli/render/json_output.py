"""The JSON object that `--json` prints. Its shape is stable: see docs/reference/cli.md."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from rotator.config.model import ConfigError
from rotator.core.errors import RotatorError
from rotator.core.secret import scrub

if TYPE_CHECKING:
    from rotator.core.history import RotationRecord
    from rotator.core.model import Event, Finding
    from rotator.engine import Health, Plan, Result
    from rotator.secret_state import Fleet, SecretState

VERSION: Final = 1


Data: TypeAlias = "dict[str, object]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One entry of `errors`, which is also printed as text."""

    kind: str
    what: str
    secret: str | None = None
    step: str | None = None
    safety: str = ""
    hint: str = ""
    file: str | None = None
    line: int | None = None
    key: str | None = None

    def data(self) -> Data:
        """Return the fault as data, with its place in a file if it has one."""
        place = ("file", "line", "key")
        return {key: one for key, one in asdict(self).items() if key not in place or self.file}


def faults(error: BaseException, *, secret: str | None = None) -> list[Fault]:
    """Return the faults of an error: one, or each problem of a configuration."""
    if isinstance(error, ConfigError):
        return [
            Fault(
                kind="config",
                what=scrub(one.message),
                safety=error.safety,
                hint=scrub(one.remedy),
                file=one.file,
                line=one.line or None,
                key=one.key or None,
            )
            for one in error.problems
        ]
    if isinstance(error, RotatorError):
        return [
            Fault(
                kind=error.kind,
                what=error.what,
                secret=error.secret or secret,
                step=error.step,
                safety=error.safety,
                hint=error.hint,
            )
        ]
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        return [Fault(kind="system", what=scrub(f"{place}{error.strerror}."), secret=secret)]
    return [
        Fault(
            kind="bug",
            what=f"rotator has a bug: unexpected {type(error).__name__}.",
            secret=secret,
            hint="Please report it with the output of `--debug`."
            + (f" Complete the rotation: rotator resume {secret}" if secret else ""),
        )
    ]


def envelope(command: str, *, ok: bool, data: Data, errors: Sequence[Fault]) -> Data:
    """Return the whole object."""
    return {
        "version": VERSION,
        "command": command,
        "ok": ok,
        "data": data,
        "errors": [one.data() for one in errors],
    }


def dumps(answer: Data, *, pretty: bool, revealed: bool = False) -> str:
    """Return the object as text. `revealed`: do not mask secrets, because the operator asked for them."""
    value = plain(answer, scrubbed=not revealed)
    return json.dumps(value, indent=2 if pretty else None)


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


def of_result(result: Result, code: int) -> Data:
    """Return the result of a rotation as data."""
    return {
        "secret": result.secret,
        "exit_code": code,
        "rotation_id": result.rotation_id,
        "outcome": result.outcome,
        "rolling_back": result.rolling_back,
        "published": result.published,
        "login": result.login,
        "old_login": result.old_login,
        "version": result.version,
        "old_refused": result.old_refused,
        "parked": result.parked,
        "resumed": result.resumed,
        "step": result.step,
        "waiting": result.waiting or None,
        "until": result.until,
    }


def of_plan(plan: Plan) -> Data:
    """Return a plan as data."""
    return {
        "secret": plan.secret,
        "login": plan.login,
        "open_rotation": plan.open_rotation,
        "next_due": plan.next_due,
        "steps": [{"step": one.step, "text": one.text} for one in plan.steps],
    }


def of_health(health: Health) -> Data:
    """Return the health of a secret as data."""
    return {
        "secret": health.secret,
        "login": health.login,
        "version": health.version,
        "accepted": health.accepted,
        "known": health.known,
        "recorded": health.recorded,
        "stale_copies": list(health.stale),
        "cause": health.rejection.cause or None,
    }


def of_findings(found: Iterable[Finding]) -> list[Data]:
    """Return findings as data."""
    keys = ("severity", "subject", "message", "remedy")
    return [{key: getattr(one, key) for key in keys} for one in found]


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
