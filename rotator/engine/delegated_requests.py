"""What an older release has written down of rotations by another system: events outside of any rotation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rotator.core.errors import RETRIED
from rotator.core.history import text
from rotator.core.model import Kind

if TYPE_CHECKING:
    from rotator.core.model import Event
    from rotator.core.ports import Journal

# Whoever rotates may write into the same journal: so many events of its are looked past.
_LOOKED_AT: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class DelegatedRequest:
    """A rotation that was requested and not completed."""

    id: str
    reason: str = ""
    old_version: str | None = None
    old_login: str | None = None


def pending(journal: Journal, secret: str) -> DelegatedRequest | None:
    """Return what was requested and is not over; None where a rotation of today has gone on with it."""
    adopted: str | None = None
    for event in reversed(journal.events(secret, _LOOKED_AT)):
        if event.kind is Kind.DELEGATED:
            found = _request(event)
            # Somebody has taken over another version since: that ends it.
            over = found is not None and adopted not in (None, found.old_version)
            return None if over else found
        if event.kind is Kind.FOLLOWED or event.data.get("delegated") or _is_final(event):
            return None
        if event.kind is Kind.ADOPTED:
            adopted = adopted or text(event.data, "version")
    return None


def outcomes(journal: Journal, secret: str, limit: int) -> list[Event]:
    """Return the newest events of such rotations, oldest first."""
    found = [one for one in journal.events(secret, limit * 4) if is_delegated(one)]
    return found[-limit:]


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
    found = text(event.data, "request")
    if found is None:
        return None
    return DelegatedRequest(
        id=found,
        reason=text(event.data, "reason") or "",
        old_version=text(event.data, "old_version"),
        old_login=text(event.data, "old_login"),
    )
