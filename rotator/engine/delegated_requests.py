"""What the journal knows of rotations that another was asked for: intent first, then what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rotator.core.errors import RETRIED, Unavailable
from rotator.core.history import moment, text
from rotator.core.model import Kind, NewEvent
from rotator.core.schedule import retry_data

if TYPE_CHECKING:
    from datetime import datetime

    from rotator.core.errors import RotatorError
    from rotator.core.model import Event, Json
    from rotator.core.ports import Journal
    from rotator.engine.steps import ManagedSecret

# Whoever rotates may write into the same journal: so many events of its are looked past.
_LOOKED_AT: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class DelegatedRequest:
    """A rotation that was asked for and not seen through yet.

    `asked`: its number in a row, because the target refused what the ones before it made.
    `due`: when the secret was due before it was asked for.
    """

    id: str
    reason: str = ""
    old_version: str | None = None
    old_login: str | None = None
    asked: int = 1
    due: datetime | None = None


def pending(journal: Journal, secret: str) -> DelegatedRequest | None:
    """Return what was asked for and is not over, also by a process that has died since."""
    adopted: str | None = None
    for event in reversed(journal.events(secret, _LOOKED_AT)):
        if event.kind is Kind.DELEGATED:
            found = _request(event)
            # Somebody has taken over another version since: that ends it.
            over = found is not None and adopted not in (None, found.old_version)
            return None if over else found
        if event.kind is Kind.FOLLOWED or _is_final(event):
            return None
        if event.kind is Kind.ADOPTED:
            adopted = adopted or text(event.data, "version")
    return None


def outcomes(journal: Journal, secret: str, limit: int) -> list[Event]:
    """Return the newest events of such rotations, oldest first."""
    found = [one for one in journal.events(secret, limit * 4) if is_delegated(one)]
    return found[-limit:]


def delegated(secret: ManagedSecret, request: DelegatedRequest, now: datetime) -> NewEvent:
    """Return the intent. The secret is due from now on: whoever looks next sees it through."""
    data: dict[str, Json] = {
        "request": request.id,
        "reason": request.reason,
        "backend": secret.backend_name,
        "path": secret.path,
        "old_version": request.old_version,
        "old_login": request.old_login,
        "asked": request.asked,
        "due": request.due.isoformat() if request.due else None,
        **retry_data(now),
    }
    return NewEvent(kind=Kind.DELEGATED, data=data)


def failed(request: DelegatedRequest, error: RotatorError, due: dict[str, Json]) -> NewEvent:
    """Return what kept it from being done. `due`: when it is looked at again, as events carry it."""
    data: dict[str, Json] = {
        "request": request.id,
        "kind": error.kind,
        "what": error.what,
        "hint": error.hint,
        "safety": error.safety,
        "origin": error.origin,
        **({"counts": False} if error.kind == Unavailable.kind else {}),
        **due,
    }
    return NewEvent(kind=Kind.FAILED, data=data)


def is_delegated(event: Event) -> bool:
    """Return whether this event tells of a rotation that another does."""
    own = event.rotation_id is None and event.step is None
    return event.kind in (Kind.DELEGATED, Kind.FOLLOWED) or (event.kind is Kind.FAILED and own)


def _is_final(event: Event) -> bool:
    return (
        event.kind is Kind.FAILED
        and is_delegated(event)
        and text(event.data, "kind") not in RETRIED
    )


def _request(event: Event) -> DelegatedRequest | None:
    asked = event.data.get("asked")
    found = text(event.data, "request")
    if found is None:
        return None
    return DelegatedRequest(
        id=found,
        reason=text(event.data, "reason") or "",
        old_version=text(event.data, "old_version"),
        old_login=text(event.data, "old_login"),
        asked=asked if isinstance(asked, int) else 1,
        due=moment(event.data, "due"),
    )
