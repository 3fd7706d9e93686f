"""How a rotation ends: its last event, when the secret is due again, whether it is parked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rotator.core.errors import RETRIED, Refused, Unavailable
from rotator.core.history import text
from rotator.core.model import Kind, NewEvent, Outcome, Step
from rotator.core.schedule import as_data, next_due, retry_data, retry_due
from rotator.core.state_machine import progress

if TYPE_CHECKING:
    from rotator.core.model import Event, Json, Policy
    from rotator.engine.context import SecretContext


def ended(
    access: SecretContext,
    rotation_id: str,
    outcome: Outcome,
    cause: Event | None,
    history: list[Event],
    *,
    more_candidates: bool,
) -> NewEvent:
    """Return the last event of a rotation. `more_candidates`: another follows a refused one."""
    data: dict[str, Json] = {"outcome": outcome.value}
    if cause is not None:
        data["cause"] = text(cause.data, "kind")
        data["what"] = text(cause.data, "what")
    data |= _due_after(access, outcome, history)
    if outcome is Outcome.UNDONE and cause is not None and cause.kind is Kind.FAILED:
        data |= _after_undone(access, cause, history, more_candidates=more_candidates)
    return NewEvent(kind=Kind.ENDED, rotation_id=rotation_id, data=data)


def _after_undone(
    access: SecretContext, cause: Event, history: list[Event], *, more_candidates: bool
) -> dict[str, Json]:
    """Return whether this end counts as a failure of the secret, and what follows it."""
    kind, what = text(cause.data, "kind") or "", text(cause.data, "what") or ""
    if kind in RETRIED and (kind == Unavailable.kind or Step.CREATE not in progress(history).begun):
        # The host was away, and nothing was changed there: that is no failure of this secret.
        return {"counts": False}
    record = access.record()
    if kind == Refused.kind and more_candidates:
        return {"follows": "another candidate"}
    parks = why_park(access.secret.policy, kind, what, (record.failures if record else 0) + 1)
    return {"follows": "parked"} if parks is not None else {}


def _due_after(access: SecretContext, outcome: Outcome, history: list[Event]) -> dict[str, Json]:
    """Return when the secret is due after this end, or is tried again; nothing leaves it as it is."""
    policy, name = access.secret.policy, access.name
    record = access.record()
    if outcome is Outcome.ROLLED_BACK:
        # Due from the publication of the credential that is served again.
        return as_data(policy, next_due(policy, record.since if record else None, name))
    if outcome is not Outcome.UNDONE:
        return as_data(policy, next_due(policy, progress(history).pivot_at, name))
    if record is None or record.next_due is None:
        return {}
    # Not at once again, and not earlier than it was due.
    again = retry_due(policy, access.clock.now(), record.failures + 1, name)
    return {} if again is None else retry_data(max(again, record.next_due))


def why_park(policy: Policy, kind: str, what: str, failures: int) -> str | None:
    """Return why the secret is parked after `failures` undone rotations in a row; None if it is not."""
    if kind in ("denied", "current-rejected", "unprovable", "conflict"):
        return f"{kind}: {what}"
    if failures >= policy.cycles and kind != Unavailable.kind:
        return f"{failures} rotations in a row failed; the last one: {what}"
    return None
