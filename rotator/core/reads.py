"""Reads of secrets, as the backends' own audit logs show them: who read which version, and who is behind.

Reads are counted, never kept one by one, and beside the journal's chain. No value of a secret is among them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from rotator.core.consumers import LONGEST_TEXT
from rotator.core.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from rotator.core.consumers import Consumer

# Reads whose last one is older are forgotten.
KEPT: Final = timedelta(days=400)
# The version of a read for which neither the log nor the journal has one.
UNKNOWN: Final = ""


class LogKind(StrEnum):
    """What wrote an audit log."""

    VAULT = "vault"
    OPENBAO = "openbao"
    CLOUDTRAIL = "cloudtrail"
    AGENT = "agent"


@dataclass(frozen=True, slots=True)
class Read:
    """One read. `version` is None where the log does not show it; `back`: versions before the current."""

    secret: str
    identity: str
    address: str
    at: datetime
    version: str | None = None
    back: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedReads:
    """The reads of one version by one identity from one address."""

    secret: str
    version: str
    identity: str
    address: str
    first: datetime
    last: datetime
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """A version of a secret, and from when on it was served. None: before the journal begins."""

    version: str
    at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """One identity at one address: what it read last, and whether it still uses an older version."""

    identity: str
    address: str
    version: str
    first: datetime
    last: datetime
    count: int
    is_behind: bool
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Somebody who had a login: by a read of its version, before the moment that was asked for."""

    secret: str
    login: str
    version: str
    identity: str
    address: str
    first: datetime
    last: datetime
    count: int


def text(value: object) -> str:
    """Return a text of a log as it is kept: printable, and of bounded length."""
    return printable(value)[:LONGEST_TEXT] if isinstance(value, str) else ""


def served_at(publications: Sequence[Publication], at: datetime, back: int = 0) -> str:
    """Return the version that was served at a time, or one before it; `UNKNOWN` where none is known.

    `publications` is in the order of time.
    """
    known = [one.version for one in publications if one.at is None or one.at <= at]
    return known[-1 - back] if len(known) > back else UNKNOWN


def readers(
    reads: Iterable[CountedReads], publications: Sequence[Publication], current: str | None
) -> list[Reader]:
    """Return who read a secret, those that are behind first.

    An identity at an address is behind if its last read was of an older version, or if it has not
    read since the current version was published.
    """
    by_reader: dict[tuple[str, str], list[CountedReads]] = {}
    for one in reads:
        by_reader.setdefault((one.identity, one.address), []).append(one)
    published = next((one.at for one in reversed(publications) if one.version == current), None)
    found = [_reader(own, published, current) for own in by_reader.values()]
    return sorted(found, key=lambda one: (not one.is_behind, one.identity, one.address))


def _reader(own: list[CountedReads], published: datetime | None, current: str | None) -> Reader:
    newest = max(own, key=lambda one: one.last)
    why = ""
    if current is not None and newest.version != current:
        if published is not None and newest.last < published:
            why = "has not read since the current version was published"
        elif newest.version != UNKNOWN:
            why = "still reads an older version"
    return Reader(
        identity=newest.identity,
        address=newest.address,
        version=newest.version,
        first=min(one.first for one in own),
        last=newest.last,
        count=sum(one.count for one in own),
        is_behind=bool(why),
        why=why,
    )


def is_of(pattern: str, identity: str) -> bool:
    """Return whether an identity is meant: as a whole, by `*`, or by the last part of its name.

    So `web` means `approle/web` and `arn:aws:sts::1:assumed-role/web`.
    """
    return (
        pattern == identity
        or identity.endswith(f"/{pattern}")
        or ("*" in pattern and fnmatchcase(identity, pattern))
    )


def is_declared(identity: str, consumers: Iterable[Consumer], declared: Iterable[str]) -> bool:
    """Return whether an identity may read a secret, by the configuration."""
    return consumer_of(identity, consumers) is not None or any(
        is_of(pattern, identity) for pattern in declared
    )


def consumer_of(identity: str, consumers: Iterable[Consumer]) -> Consumer | None:
    """Return the consumer that reads with an identity; by default its own name is one."""
    for one in consumers:
        if any(is_of(pattern, identity) for pattern in one.identities or (one.name,)):
            return one
    return None
