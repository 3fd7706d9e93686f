"""What a rotation or a backend can do beyond its contract, told without making or opening one."""

from __future__ import annotations

import re
from typing import Final

from rotator.core.contracts.backend import (
    DetectsRestores,
    ExaminesBackend,
    KeepsPrevious,
    KeepsValues,
    ListsRights,
    OffersNext,
    RemovesSecrets,
    Reseals,
    TellsRotations,
)
from rotator.core.contracts.delegated import RotatesOnRequest
from rotator.core.contracts.rotation import (
    ClosesLogins,
    Contains,
    CountsSessions,
    DrawsKeys,
    Examines,
    ExpiresLogins,
    Explains,
    ExplainsRejections,
    LocksAccounts,
    TakesTurns,
)

OF_ROTATIONS: Final[tuple[type, ...]] = (
    ClosesLogins,
    Contains,
    CountsSessions,
    DrawsKeys,
    Explains,
    ExplainsRejections,
    Examines,
    ExpiresLogins,
    LocksAccounts,
    TakesTurns,
)
OF_BACKENDS: Final[tuple[type, ...]] = (
    KeepsPrevious,
    KeepsValues,
    OffersNext,
    RemovesSecrets,
    RotatesOnRequest,
    Reseals,
    TellsRotations,
    DetectsRestores,
    ExaminesBackend,
    ListsRights,
)


def abilities_of_rotation(one: object) -> tuple[type, ...]:
    """Return the optional protocols that a rotation, or a class of rotations, implements."""
    return _found(one, OF_ROTATIONS)


def abilities_of_backend(one: object) -> tuple[type, ...]:
    """Return the optional protocols that a backend, or a class of backends, implements."""
    return _found(one, OF_BACKENDS)


def words(ability: type) -> str:
    """Return an ability as a person says it: `CountsSessions` is `counts sessions`."""
    return re.sub(r"(?<!^)(?=[A-Z])", " ", ability.__name__).lower()


def _found(one: object, known: tuple[type, ...]) -> tuple[type, ...]:
    # Rotations and backends have an `examine` each: which is meant, only the asker knows.
    if isinstance(one, type):
        return tuple(ability for ability in known if issubclass(one, ability))
    return tuple(ability for ability in known if isinstance(one, ability))
