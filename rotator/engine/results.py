"""What a call to the engine answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rotator.core.model import UNEXPLAINED

if TYPE_CHECKING:
    from datetime import datetime

    from rotator.core.errors import RotatorError
    from rotator.core.model import Outcome, Planned, Rejection, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How far one call to the engine got with one secret.

    `outcome` None: the rotation is open and goes on at `until`, for the reason in `waiting`.
    `old_refused` True: a login with the old credential was tried after revoke and was refused.
    `untried`: why it was not tried. `by`: the backend, where it rotates the secret by itself and was
    asked to. `answered`, `worked`: the hosts (`target NAME`, `backend NAME`) that this call has
    reached, and those where it has written.
    """

    secret: str
    rotation_id: str | None = None
    outcome: Outcome | None = None
    until: datetime | None = None
    waiting: str = ""
    step: Step | None = None
    login: str | None = None
    old_login: str | None = None
    version: str | None = None
    published: bool = False
    old_refused: bool | None = None
    parked: bool = False
    resumed: bool = False
    rolling_back: bool = False
    untried: str = ""
    by: str = ""
    answered: frozenset[str] = frozenset()
    worked: frozenset[str] = frozenset()
    error: RotatorError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a rotation of a secret would do, in order. Nothing in it is secret."""

    secret: str
    login: str | None
    steps: tuple[Planned, ...]
    open_rotation: str | None = None
    next_due: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Whether what the backend serves logs in now, and whether the journal knows it.

    `stale`: the copies that hold something else, or nothing. `rejection`: why it does not log in.
    """

    secret: str
    login: str | None
    version: str | None
    accepted: bool
    known: bool
    recorded: bool
    stale: tuple[str, ...] = ()
    rejection: Rejection = UNEXPLAINED
    answered: frozenset[str] = frozenset()
