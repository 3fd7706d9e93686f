"""The first event of a rotation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rotator.core.contracts.backend import OffersNext
from rotator.core.contracts.rotation import DrawsKeys
from rotator.core.model import Kind, NewEvent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rotator.core.model import Json
    from rotator.engine.steps import ManagedSecret


def requested(
    secret: ManagedSecret,
    rotation_id: str,
    reason: str,
    *,
    old_version: str | None,
    old_login: str | None,
    has_registry: bool = False,
    delegated: bool = False,
    noticed: str | None = None,
    leak: Mapping[str, Json] | None = None,
) -> NewEvent:
    """Return the event that begins a rotation: everything that is needed to complete or undo it.

    `has_registry`: consumers can report. `delegated`: another system rotates; `noticed`: the version that
    it serves, where nobody requested that. `leak`: the incident that it is part of.
    """
    prepares = has_registry and leak is None and old_version is not None and prepares_for(secret)
    copies = secret.copies and not delegated
    return NewEvent(
        kind=Kind.REQUESTED,
        rotation_id=rotation_id,
        data={
            "reason": reason,
            "plugin": secret.plugin,
            "strategy": secret.strategy,
            "overlaps": secret.rotation.overlaps,
            "target": secret.target_name,
            "backend": secret.backend_name,
            "path": secret.path,
            "old_version": old_version,
            "old_login": old_login,
            **({"draws": True} if isinstance(secret.rotation, DrawsKeys) else {}),
            **({"prepare": True} if prepares else {}),
            **({"copies": [str(copy) for copy in secret.copies]} if copies else {}),
            **({"delegated": True} if delegated else {}),
            **({"noticed": noticed} if noticed is not None else {}),
            **({"entry": secret.entry} if secret.entry else {}),
            **({"leak": leak} if leak else {}),
        },
    )


def prepares_for(secret: ManagedSecret) -> bool:
    """Return whether a rotation lets consumers read the next version before the target changes."""
    return (
        secret.policy.prepare is not None
        and not secret.rotation.overlaps
        and bool(secret.consumers)
        and isinstance(secret.backend, OffersNext)
    )
