"""Observations beside the chain: who is alive, which host is away, which logins nobody knows.

An observation is what was seen last. It proves nothing, may be rewritten at any time, and is no part of
what `audit verify` checks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from rotator.core.model import Json


class ObservationKind(StrEnum):
    """What an observation is about.

    `process`: a daemon or worker that was alive; subject is the holder of its locks, such as
    `vm/15611`, and `data` has its `face`. `fault`: a target or backend that cannot be used; subject
    is `target NAME` or `backend NAME`, `until` the next try, and `data` has `what` and `hint`.
    `orphan`: a login that bears our mark and that the journal does not know; subject is
    `TARGET/LOGIN`. `refused-login`: a login that `rotator find --try` may have had refused; subject is
    `HOST:PORT/LOGIN`, and `until` then no other may be tried.
    """

    PROCESS = "process"
    FAULT = "fault"
    ORPHAN = "orphan"
    REFUSED_LOGIN = "refused-login"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What was seen last of one subject, and when."""

    kind: ObservationKind
    subject: str
    at: datetime
    until: datetime | None = None
    data: Mapping[str, Json] = field(default_factory=dict)


class Observations(Protocol):
    """Keeps observations. Raises `JournalError` when it cannot."""

    def put(self, observation: Observation) -> bool:
        """Write an observation in the place of the one before it; return whether there was none.

        Of several processes that put the first one, True is returned to one.
        """
        ...

    def remove(self, kind: ObservationKind, subject: str) -> Observation | None:
        """Forget an observation and return it; None where there is none. Only one process is given it."""
        ...

    def replace(
        self, kind: ObservationKind, prefix: str, observations: Sequence[Observation]
    ) -> None:
        """Put `observations` in the place of all of this kind whose subject begins with `prefix`."""
        ...

    def all(self, kind: ObservationKind) -> list[Observation]:
        """Return the observations of a kind, by subject."""
        ...
