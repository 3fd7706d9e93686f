"""Leases: short-lived logins. Pure: what is agreed, what the events of a lease add up to, when it ends."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Protocol

from rotator.core.backoff import backoff
from rotator.core.errors import InUse
from rotator.core.history import moment, text, texts
from rotator.core.lease_chain import secret_of
from rotator.core.model import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from rotator.core.model import Event, Json

# The strategy whose logins can be leased: a fresh login each time.
STRATEGY: Final = "new-user"
# A shorter lease would end while its login is tried.
SHORTEST: Final = timedelta(seconds=30)
# How long a target keeps a login that nobody has ended: nobody is cut off before the end.
BACKSTOP: Final = timedelta(seconds=5)
# A lease that is not issued by then was given up by the process that made it.
ABANDONED: Final = timedelta(seconds=30)
# Between two tries to end a lease.
_FIRST_RETRY: Final = timedelta(seconds=1)
LONGEST_RETRY: Final = timedelta(minutes=5)


def kept_at(path: str) -> str:
    """Return where the backend keeps the values of leases of the secret at a path, staged by their ids."""
    return f"leases/{path}"


class Share(StrEnum):
    """Who gets the same login.

    `none`: each lease has a login of its own. `consumer`: instances of one consumer share one.
    """

    NONE = "none"
    CONSUMER = "consumer"


class AtEnd(StrEnum):
    """What happens to open sessions when a lease ends; new ones are rejected at once."""

    TERMINATE = "terminate"
    DRAIN = "drain"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTerms:
    """How long the logins of a secret are lent, and to how many at once.

    `ttl`: until the first end. `longest`: how far renewals can move it, from the issue on. `overlap`: for how
    long a holder should have the next login beside the old one. `limit`: how many leases at once.
    """

    ttl: timedelta = timedelta(hours=1)
    longest: timedelta = timedelta(hours=24)
    overlap: timedelta = timedelta(minutes=5)
    share: Share = Share.NONE
    at_end: AtEnd = AtEnd.TERMINATE
    limit: int = 100


class LeaseState(StrEnum):
    """How far a lease is. `requested`: its login is being made. `ending`: its login is being dropped."""

    REQUESTED = "requested"
    LIVE = "live"
    ENDING = "ending"
    ENDED = "ended"


# As counted: those that have not ended, and among them those whose end fails.
OPEN_STATES: Final[tuple[str, ...]] = ("requested", "live", "ending", "stranded")


class LeaseOutcome(StrEnum):
    """How a lease ended.

    `undone`: it was never handed out. `lost`: its login was gone already. `abandoned`: nobody could drop
    its login, because its target is gone.
    """

    ENDED = "ended"
    UNDONE = "undone"
    LOST = "lost"
    ABANDONED = "abandoned"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRecord:
    """One lease: what its events add up to. No secret is in it.

    `holder`: whom it was issued for, with the `purpose`. `instances`: which processes hold it now.
    `begun_at`: when it was issued or renewed last. `latest`: no renewal goes beyond. `next_at`: when
    there is something to do about it; None once it has ended. `failures`: how often its end failed in a
    row, and `problem` why.
    """

    id: str
    secret: str
    target: str
    state: LeaseState
    holder: str
    purpose: str
    requested_at: datetime
    begun_at: datetime
    ends_at: datetime
    latest: datetime
    login: str | None = None
    instances: tuple[str, ...] = ()
    next_at: datetime | None = None
    failures: int = 0
    problem: str | None = None
    hint: str | None = None
    outcome: LeaseOutcome | None = None
    ended_at: datetime | None = None

    @property
    def shown_state(self) -> str:
        """Its state in one word: also how it ended, and whether its end fails."""
        return "stranded" if self.is_stranded else (self.outcome or self.state).value

    @property
    def is_stranded(self) -> bool:
        """Whether its end has failed: its login may still be valid."""
        return self.failures > 0 and self.state is not LeaseState.ENDED

    def lasts(self, now: datetime) -> timedelta:
        """Return how long the target itself accepts the login from now on."""
        return self.ends_at - now + BACKSTOP

    def take_next_at(self, terms: LeaseTerms) -> datetime:
        """Return when its holder should take the next lease, where this one is not renewed."""
        two_thirds = self.begun_at + (self.ends_at - self.begun_at) * 2 / 3
        return min(two_thirds, max(self.begun_at, self.ends_at - terms.overlap))

    def can_be_shared(self, holder: str, now: datetime) -> bool:
        """Return whether another instance of the holder may use it: more than a third of its time is left."""
        left = self.ends_at - now
        fresh = left > (self.ends_at - self.begun_at) / 3
        return self.state is LeaseState.LIVE and self.holder == holder and fresh


def renewed_end(record: LeaseRecord, ttl: timedelta, now: datetime) -> tuple[datetime, bool]:
    """Return the end after a renewal now, and whether it is the last one possible."""
    wanted = now + ttl
    return min(wanted, record.latest), wanted >= record.latest


def next_try(record: LeaseRecord, now: datetime) -> datetime:
    """Return when the end of a lease is tried again, after one more failure now."""
    failures = record.failures + 1
    return now + backoff(failures, first=_FIRST_RETRY, longest=LONGEST_RETRY, key=record.id)


# The events of leases, each of one lease.
KINDS: Final = frozenset(
    {
        *(Kind.LEASE_REQUESTED, Kind.LEASE_ISSUED, Kind.LEASE_JOINED, Kind.LEASE_RENEWING),
        *(Kind.LEASE_RENEWED, Kind.LEASE_RELEASED, Kind.LEASE_ENDING, Kind.LEASE_FAILED),
        Kind.LEASE_ENDED,
    }
)


def fold_lease(record: LeaseRecord | None, event: Event) -> LeaseRecord | None:
    """Return the record of a lease after one of its events; None for an event of no lease."""
    data = event.data
    if event.kind is Kind.LEASE_REQUESTED and event.rotation_id is not None:
        return LeaseRecord(
            id=event.rotation_id,
            secret=secret_of(event.secret) or event.secret,
            target=text(data, "target") or "",
            state=LeaseState.REQUESTED,
            holder=text(data, "holder") or "",
            purpose=text(data, "reason") or "",
            requested_at=event.at,
            begun_at=event.at,
            ends_at=moment(data, "ends") or event.at,
            latest=moment(data, "latest") or event.at,
            instances=texts(data, "instances"),
            next_at=event.at + ABANDONED,
        )
    if record is None or event.rotation_id != record.id:
        return record
    return replace(record, **_changes(record, event, data))


def _changes(record: LeaseRecord, event: Event, data: Mapping[str, Json]) -> dict[str, Any]:
    instance = text(data, "instance") or ""
    match event.kind:
        case Kind.LEASE_ISSUED:
            live = {"state": LeaseState.LIVE, "login": text(data, "login")}
            return {**live, "next_at": record.ends_at}
        case Kind.LEASE_JOINED:
            return {"instances": tuple(sorted({*record.instances, instance}))}
        case Kind.LEASE_RELEASED:
            return {"instances": tuple(one for one in record.instances if one != instance)}
        case Kind.LEASE_RENEWED if "ends" in data:
            ends = moment(data, "ends") or record.ends_at
            return {"ends_at": ends, "next_at": ends, "begun_at": event.at}
        case Kind.LEASE_ENDING:
            login = record.login or text(data, "login")
            return {"state": LeaseState.ENDING, "login": login, "next_at": event.at}
        case Kind.LEASE_FAILED:
            problem = {"problem": text(data, "what"), "hint": text(data, "hint")}
            # Open sessions that may end by themselves are no failure.
            failed = text(data, "kind") != InUse.kind
            again = moment(data, "next_try")
            return {**problem, "failures": record.failures + failed, "next_at": again}
        case Kind.LEASE_ENDED:
            outcome = LeaseOutcome(text(data, "outcome") or "")
            ended = {"state": LeaseState.ENDED, "outcome": outcome, "ended_at": event.at}
            return {**ended, "next_at": None, "failures": 0, "problem": None, "hint": None}
        case _:
            return {}


class LeaseBook(Protocol):
    """The leases that a journal knows. Raises `JournalError` when it cannot be asked."""

    def get(self, lease: str) -> LeaseRecord | None:
        """Return one lease by its id."""
        ...

    def open(self, secret: str | None = None) -> list[LeaseRecord]:
        """Return the leases that have not ended, of one secret or of all, by their end."""
        ...

    def count(self, secret: str) -> int:
        """Return how many leases of a secret have not ended."""
        ...

    def due(self, now: datetime, limit: int, secret: str | None = None) -> Sequence[LeaseRecord]:
        """Return the leases, of one secret or of all, about which there is something to do, longest first."""
        ...

    def counts(self) -> Mapping[str, int]:
        """Return how many leases are in which state: those that have not ended, and `stranded` among them."""
        ...

    def recent(self, limit: int, secret: str | None = None) -> Sequence[LeaseRecord]:
        """Return the newest leases, ended or not, newest first."""
        ...
