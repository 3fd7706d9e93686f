"""What there is to do: the journal's answers to a daemon, which asks again and again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DueEntry:
    """When a secret is tried next, and by which policy that was reckoned (its fingerprint).

    `due`: since when it is due, or will be; after a failure `next_due` is only its next try.
    """

    name: str
    next_due: datetime | None
    since: datetime | None
    rotated_at: datetime | None
    timing: str | None
    parked: bool = False
    due: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRotation:
    """A rotation that has not ended. `seq` grows with every event of its secret."""

    secret: str
    rotation_id: str
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedSecret:
    """A secret of which a password has leaked. `at`: when that is proven again, or gone on with."""

    secret: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many secrets are in which state. `oldest`: since when the oldest credential is current."""

    known: int
    due: int
    overdue: int
    parked: int
    opened: int
    locked: int
    oldest: datetime | None


class Worklist(Protocol):
    """The questions. Raises `JournalError` when the journal cannot be asked."""

    def due(self, now: datetime, limit: int, after: datetime | None = None) -> list[DueEntry]:
        """Return what is due, longest first: nothing that is parked or has a rotation open.

        `after`: only what has come due since then.
        """
        ...

    def opened(self) -> list[OpenRotation]:
        """Return the rotations that are open, but for parked ones."""
        ...

    def watched(self) -> list[WatchedSecret]:
        """Return the secrets in an incident that is not closed, but for parked ones."""
        ...

    def leaked(self, limit: int) -> list[str]:
        """Return the secrets of which a password was ever reported as leaked, the newest report first."""
        ...

    def reckoned(self) -> Iterable[DueEntry]:
        """Go through every secret that the journal knows, by name."""
        ...

    def counts(self, now: datetime, overdue: datetime) -> Counts:
        """Return how many secrets are in which state. `overdue`: due since before that."""
        ...
