"""Requests: what somebody without access to targets and backends asks an engine to do.

A request is a few entries in a table of the journal that only grows: the request itself, approvals or
a refusal, and what an engine answered. Each entry is signed by its writer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

from rotator.core.access import REQUEST_LASTS, Actor, Permission, Subject, missing_approvals

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from rotator.core.access import Access, ApprovalRule
    from rotator.core.model import Json


class EntryKind(StrEnum):
    """What an entry says."""

    ROTATE = "rotate-requested"
    ROLLBACK = "rollback-requested"
    REVOKE = "revoke-requested"
    PARK = "park-requested"
    UNPARK = "unpark-requested"
    INCIDENT = "incident-requested"
    APPROVED = "approved"
    REFUSED = "refused"
    # An actor was not permitted to do something.
    DENIED = "denied"
    # An engine has acted: what it did is in the secret's own chain.
    TAKEN = "taken"
    # An engine could not do it, and does not try again.
    FAILED = "failed"


# `kill` is an incident in that mode.
KINDS: Final[Mapping[Permission, EntryKind]] = {
    Permission.ROTATE: EntryKind.ROTATE,
    Permission.ROLLBACK: EntryKind.ROLLBACK,
    Permission.REVOKE: EntryKind.REVOKE,
    Permission.PARK: EntryKind.PARK,
    Permission.UNPARK: EntryKind.UNPARK,
    Permission.INCIDENT: EntryKind.INCIDENT,
    Permission.KILL: EntryKind.INCIDENT,
}
# The option of a request, and the fact of an event, that no approval was waited for.
GLASS: Final = "break_glass"
# No request waits longer, whatever the configuration says.
LONGEST: Final = timedelta(days=30)
# What ends a request: an engine, or an approver.
ENDS: Final = (EntryKind.REFUSED, EntryKind.TAKEN, EntryKind.FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry, as the journal holds it. `seq` counts from 1 in its writer's own chain.

    `request`: the id of the request that it belongs to. `action`: what is requested, or was denied.
    `trusted`: whether its signature was found to be its writer's.
    """

    request: str
    kind: EntryKind
    secret: str
    actor: Actor
    reason: str = ""
    action: Permission | None = None
    data: Mapping[str, Json] = field(default_factory=dict[str, "Json"])
    at: datetime | None = None
    writer: str = ""
    seq: int = 0
    trusted: bool = True


class RequestState(StrEnum):
    """How far a request is."""

    NEEDS_APPROVAL = "needs-approval"
    QUEUED = "queued"
    TAKEN = "taken"
    FAILED = "failed"
    REFUSED = "refused"
    EXPIRED = "expired"


# A request in one of these waits for somebody.
OPEN_STATES: Final = (RequestState.NEEDS_APPROVAL, RequestState.QUEUED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request with everything that belongs to it.

    `ended`: the entry that ended it. `options`: of the action, such as `mode` of an incident.
    """

    id: str
    action: Permission
    secret: str
    actor: Actor
    reason: str
    at: datetime
    options: Mapping[str, Json] = field(default_factory=dict[str, "Json"])
    approvals: tuple[Entry, ...] = ()
    ended: Entry | None = None

    def rules(self, access: Access, subject: Subject) -> tuple[ApprovalRule, ...]:
        """Return the rules by which it needs approvals."""
        return access.rules_for(self.action, subject)

    @property
    def breaks_glass(self) -> bool:
        """Whether it wants no approval."""
        return self.options.get(GLASS) is True

    def missing(self, access: Access, subject: Subject) -> int:
        """Return how many approvals are missing, of actors who may approve."""
        if self.breaks_glass and access.may(self.actor, Permission.BREAK_GLASS, subject):
            return 0
        approvers = [
            one.actor
            for one in self.approvals
            if access.may(one.actor, Permission.APPROVE, subject)
        ]
        return missing_approvals(self.rules(access, subject), self.actor, approvers)

    def expires(
        self, access: Access, subject: Subject, lasts: timedelta = REQUEST_LASTS
    ) -> datetime:
        """Return when it is not carried out any more."""
        limits = [rule.expires for rule in self.rules(access, subject)]
        return self.at + min([lasts, *limits])

    def state(
        self, access: Access, subject: Subject, now: datetime, lasts: timedelta = REQUEST_LASTS
    ) -> RequestState:
        """Return how far it is."""
        if self.ended is not None:
            return RequestState(self.ended.kind.value)
        if now >= self.expires(access, subject, lasts):
            return RequestState.EXPIRED
        missing = self.missing(access, subject)
        return RequestState.NEEDS_APPROVAL if missing else RequestState.QUEUED

    def as_data(self) -> dict[str, Json]:
        """Return what the event of the engine that acts on it records: who asked, and who approved."""
        approved = [one.actor.as_data() for one in self.approvals]
        data: dict[str, Json] = {"request": self.id, "by": self.actor.as_data()}
        data |= {GLASS: True} if self.breaks_glass else {}
        return data | ({"approved_by": approved} if approved else {})


def fold(entries: Iterable[Entry]) -> list[Request]:
    """Return the requests that entries add up to, oldest first. Entries that nobody signed do not count."""
    asked: dict[str, Entry] = {}
    further: dict[str, list[Entry]] = {}
    for one in entries:
        if not one.trusted or one.kind is EntryKind.DENIED:
            continue
        if one.kind in KINDS.values():
            _ = asked.setdefault(one.request, one)
        else:
            further.setdefault(one.request, []).append(one)
    found: list[Request] = []
    for id_, first in asked.items():
        if first.at is None or first.action is None:
            continue
        rest = further.get(id_, ())
        found.append(
            Request(
                id=id_,
                action=first.action,
                secret=first.secret,
                actor=first.actor,
                reason=first.reason,
                at=first.at,
                options=first.data,
                approvals=tuple(one for one in rest if one.kind is EntryKind.APPROVED),
                ended=next((one for one in rest if one.kind in ENDS), None),
            )
        )
    return sorted(found, key=lambda one: (one.at, one.id))


class RequestLog(Protocol):
    """Where entries are kept. Raises `JournalError` when it cannot be used."""

    def append(self, entry: Entry) -> Entry:
        """Write an entry, durably, signed by this process; return it as it is kept."""
        ...

    def open(self) -> list[Entry]:
        """Return the entries of the requests that nothing has ended, oldest first."""
        ...

    def of(self, request: str) -> list[Entry]:
        """Return the entries of one request."""
        ...

    def denied(self, since: datetime) -> list[Entry]:
        """Return the attempts since a moment that were not permitted, oldest first."""
        ...

    def recent(self, limit: int, secret: str | None = None) -> Sequence[Entry]:
        """Return the entries of the newest requests, and the newest denied attempts."""
        ...
