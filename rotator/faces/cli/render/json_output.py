"""The JSON object that `--json` prints. Its shape is stable: see docs/reference/cli.md."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from rotator.config.model import ConfigError
from rotator.core.errors import RotatorError
from rotator.core.secret import scrub
from rotator.faces.answers import Data, plain

if TYPE_CHECKING:
    from rotator.core.model import Finding
    from rotator.engine import Health, Plan, Result

VERSION: Final = 1


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
