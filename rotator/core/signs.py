"""Signs beside the chain: who is alive, which host is away, which logins nobody knows.

A sign is what was seen last. It proves nothing, may be rewritten at any time, and is no part of
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


class SignKind(StrEnum):
    """What a sign is about.

    `process`: a daemon or worker that was alive; subject is the holder of its leases, such as
    `vm/15611`, and `data` has its `face`. `fault`: a target or backend that cannot be used; subject
    is `target NAME` or `backend NAME`, `until` the next try, and `data` has `what` and `hint`.
    `orphan`: a login that bears our mark and that the journal does not know; subject is
    `TARGET/LOGIN`.
    """

    PROCESS = "process"
    FAULT = "fault"
    ORPHAN = "orphan"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """What was seen last of one subject, and when."""

    kind: SignKind
    subject: str
    at: datetime
    until: datetime | None = None
    data: Mapping[str, Json] = field(default_factory=dict)


class Signs(Protocol):
    """Keeps signs. Raises `JournalError` when it cannot."""

    def put(self, sign: Sign) -> bool:
        """Write a sign in the place of the one before it; return whether there was none.

        Of several processes that put the first one, True is returned to one.
        """
        ...

    def remove(self, kind: SignKind, subject: str) -> Sign | None:
        """Forget a sign and return it; None where there is none. Only one process is given it."""
        ...

    def replace(self, kind: SignKind, prefix: str, signs: Sequence[Sign]) -> None:
        """Put `signs` in the place of all of this kind whose subject begins with `prefix`."""
        ...

    def all(self, kind: SignKind) -> list[Sign]:
        """Return the signs of a kind, by subject."""
        ...
