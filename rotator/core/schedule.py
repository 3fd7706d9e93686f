"""When a secret is due. Pure functions over what the journal knows and what the policy says."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from rotator.core.history import SecretRecord
    from rotator.core.model import Policy


def next_due(policy: Policy, last: datetime | None) -> datetime | None:
    """Return when a secret last rotated (or adopted) at `last` is due next.

    None is 'not due': without a period, or when nothing is known. Unknown is never 'now'.
    """
    return None if policy.every is None or last is None else last + policy.every


def is_due(record: SecretRecord | None, now: datetime) -> bool:
    """Return whether the secret is due: known to the journal, not parked, its time has come."""
    return (
        record is not None
        and record.parked is None
        and record.next_due is not None
        and record.next_due <= now
    )
