"""When a secret is due. Pure functions over the journal's records and the policy.

A rotation is due a period after the last one, or at a cron line's next moment, later by a jitter
that is the same each time for one secret, and then at the first moment at which the policy's
windows allow work to begin. An unknown date is never 'now'.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from rotator.core.backoff import backoff, stable_part

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from rotator.core.history import SecretRecord
    from rotator.core.model import Json, Policy

# After this many undone rotations in a row the wait between two of them no longer grows.
_MOST_DOUBLINGS: Final = 6
# The estimated duration of a rotation up to its publish, with logins over a network.
ROTATION_TAKES: Final = timedelta(seconds=5)


def next_due(policy: Policy, last: datetime | None, name: str) -> datetime | None:
    """Return when a secret last rotated (or adopted) at `last` is due next.

    None is 'not due': without a period, when nothing is known, or when no window ever opens.
    """
    if last is None:
        return None
    base = policy.cron.after(last) if policy.cron is not None else None
    if policy.every is not None:
        base = last + policy.every
    if base is None:
        return None
    return policy.windows.next_open(base + stable_part(name, policy.jitter))


def timing(policy: Policy) -> str:
    """Return a fingerprint of the times in a policy: another one means another due date."""
    times = repr((policy.every, policy.cron, policy.jitter, policy.windows))
    return hashlib.sha256(times.encode()).hexdigest()[:16]


def as_data(policy: Policy, due: datetime | None) -> dict[str, Json]:
    """Return a due date as events carry it."""
    return {"next_due": due.isoformat() if due else None, "timing": timing(policy)}


def retry_data(again: datetime | None) -> dict[str, Json]:
    """Return the next try of what is due already, as events carry it: the due date stays."""
    return {"next_try": again.isoformat() if again else None}


def retry_due(policy: Policy, now: datetime, failures: int, name: str) -> datetime | None:
    """Return when to begin anew after the `failures`-th undone rotation in a row.

    The longest wait of a step doubles with each of them, up to a quarter of the period.
    """
    first = policy.backoff_cap
    longest = first * 2**_MOST_DOUBLINGS
    if policy.every is not None:
        longest = min(longest, max(policy.every / 4, first))
    wait = backoff(failures, first=first, longest=longest, key=name, sooner=False)
    return policy.windows.next_open(now + wait)


def is_due(record: SecretRecord | None, now: datetime, *, at_once: bool = False) -> bool:
    """Return whether the secret is to be rotated now: known to the journal, not parked, due.

    After a failure it is not, until its next try; `at_once` does not wait for that.
    """
    if record is None or record.parked is not None:
        return False
    when = record.due if at_once else record.next_due
    return when is not None and when <= now


def caught_up(policy: Policy, now: datetime, spread: timedelta, name: str) -> datetime | None:
    """Return when to do what was missed while nothing ran: within `spread` from now."""
    return policy.windows.next_open(now + stable_part(f"{name} catch-up", spread))


def after_partners(
    policy: Policy, now: datetime, rotated: Iterable[datetime | None], apart: timedelta
) -> datetime | None:
    """Return the first moment from now on that is `apart` from every rotation of a partner."""
    known = [moment + apart for moment in rotated if moment is not None]
    return policy.windows.next_open(max([now, *known]))


def room(policy: Policy, start: datetime, parallel: int) -> int | None:
    """Return how many rotations fit into the windows of one period; None without a period.

    Each takes `ROTATION_TAKES`, `parallel` at a time.
    """
    period = policy.every
    if policy.cron is not None and (first := policy.cron.after(start)) is not None:
        second = policy.cron.after(first)
        period = second - first if second is not None else None
    if period is None:
        return None
    return int(open_seconds(policy, start, period) * parallel / ROTATION_TAKES.total_seconds())


def open_seconds(policy: Policy, start: datetime, period: timedelta) -> float:
    """Return for how many seconds of a period that begins at `start` work may begin."""
    windows = policy.windows
    if not (windows.allow or windows.deny or windows.blackouts):
        return period.total_seconds()
    found, at, end = 0.0, start, start + period
    while (opened := windows.next_open(at)) is not None and opened < end:
        at = min(windows.open_until(opened), end)
        found += (at - opened).total_seconds()
    return found
