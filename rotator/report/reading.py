"""Reads the chains of the journal for a report, and checks them on the way: no more than one at a time."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from rotator.core.access import Actor
from rotator.core.incident_timeline import timelines
from rotator.core.lease_chain import is_secret
from rotator.core.model import Kind
from rotator.core.requests import EntryKind
from rotator.core.target_logins import target_of
from rotator.journal import audit, chain, rows, tables
from rotator.journal.report import AuditReport
from rotator.journal.signed_heads import UNREADABLE
from rotator.report.chain_fold import ChainFold
from rotator.report.coverage import coverage

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from datetime import datetime

    from sqlalchemy import Connection

    from rotator.core.incident_timeline import Timeline
    from rotator.core.model import Event
    from rotator.journal.sql import SqlJournal
    from rotator.report.coverage import Coverage
    from rotator.report.model import Period, SecretReport

_SEQ, _AT, _ACTOR, _KIND, _STEP, _DATA, _PREV, _HASH = 1, 2, 3, 5, 7, 8, 9, 10
_STEP_EVENTS: Final = frozenset({"started", "finished", "failed", "waiting"})
_TELLING: Final = frozenset(
    {("finished", "publish"), ("finished", "restore"), ("finished", "revoke")}
)
# Facts that make any event of a step change the record of its secret.
_TELLING_FACTS: Final = ('"next_due"', '"next_try"', '"current_accepted"')
# In the data of a decision: who made it, and that it skipped an approval.
_BY: Final = '"by":{'
_BROKE_GLASS: Final = '"break_glass":true'
# What an operator, or a program for one, requests.
_REQUESTS: Final = frozenset(
    {
        *("requested", "rollback-requested", "revoke-requested", "adopted", "parked", "unparked"),
        *("retire-requested", "renamed", "acknowledged", "leaked", "incident-closed", "revealed"),
    }
)


@dataclass(slots=True, kw_only=True)
class ActorAccess:
    """What one actor did in the period: number of events, of each kind of request, and of attempts that
    were denied.
    """

    actor: str
    events: int = 0
    first: str = ""
    last: str = ""
    requests: Counter[str] = field(default_factory=Counter[str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """An operator documented a restore of the journal."""

    at: datetime
    event: int
    actor: str
    reason: str


class JournalReading:
    """One pass over the journal. Yields one secret after the other, and keeps what concerns all."""

    def __init__(
        self, journal: SqlJournal, period: Period, only: Collection[str] | None = None
    ) -> None:
        """`only`: yield these secrets. The chains of all are checked."""
        self._journal: SqlJournal = journal
        self._period: Period = period
        self._only: Collection[str] | None = only
        self._since: str = chain.stamp(period.since)
        self._until: str = chain.stamp(period.until)
        self.audit: AuditReport = AuditReport()
        self.access: dict[str, ActorAccess] = {}
        self.acknowledged: list[Acknowledged] = []
        # What the looks at targets found, by target; empty where only some secrets are in the report.
        self.coverage: dict[str, Coverage] = {}
        # The time of the earliest event.
        self.known_from: str | None = None

    def secrets(self) -> Iterator[tuple[SecretReport, list[Timeline]]]:
        """Yield each secret that was managed in the period, with its incidents, in the journal's order."""
        with self._journal.snapshot() as db, audit.lenient(db):
            ends = {
                name: (seq, head)
                for name, seq, head in db.execute(
                    sa.select(tables.secrets.c.name, tables.secrets.c.seq, tables.secrets.c.head)
                )
                if seq
            }
            self._count_denied(db)
            for name, chained in groupby(audit.stream(db), key=itemgetter(0)):
                found = list(chained)
                self._check(name, found, ends.pop(name, None))
                if self._only is not None and name not in self._only:
                    continue
                if name == audit.JOURNAL:
                    self._journal_events(found)
                    continue
                self._count(found)
                target = target_of(name)
                if target is not None:
                    self.coverage[target] = coverage(target, self._events(found), self._period)
                if not is_secret(name):
                    continue
                read = self._fold(name, found)
                if read is not None:
                    yield read
        for name in sorted(ends):
            self.audit.add(f"secret {name}", "its events are missing, although its record exists")

    def _check(self, name: str, found: list[tuple[Any, ...]], end: tuple[int, str] | None) -> None:
        """Compute every hash of a chain again, and compare its end with the record of the secret."""
        report, prev, expected = self.audit, chain.START, 1
        hashed = chain.event_hash
        for row in found:
            try:
                intact = hashed(*row[:_HASH]) == row[_HASH]
            except UNREADABLE:
                intact = False
            if not intact:
                report.add(
                    f"secret {name}, event {row[_SEQ]}", "was changed: its hash does not match"
                )
            if row[_SEQ] != expected or row[_PREV] != prev:
                what = "does not follow the event before it"
                report.add(f"secret {name}, event {row[_SEQ]}", what)
            prev = row[_HASH]
            expected = row[_SEQ] + 1 if isinstance(row[_SEQ], int) else expected + 1
        report.events += len(found)
        report.secrets += is_secret(name)
        if end != (expected - 1, prev):
            report.add(f"secret {name}", "its chain does not end where its record states")

    def _count(self, found: list[tuple[Any, ...]]) -> None:
        since, until = self._since, self._until
        first = found[0][_AT]
        if isinstance(first, str) and (self.known_from is None or first < self.known_from):
            self.known_from = first
        for row in found:
            at, kind = row[_AT], row[_KIND]
            if not isinstance(at, str) or not since <= at <= until:
                continue
            data = str(row[_DATA])
            one = self._actor(_decider(data) or str(row[_ACTOR]), at)
            one.events += 1
            if kind in _REQUESTS:
                one.requests[kind] += 1
            if _BROKE_GLASS in data:
                one.requests["break-glass"] += 1

    def _actor(self, actor: str, at: str) -> ActorAccess:
        one = self.access.get(actor)
        if one is None:
            one = self.access[actor] = ActorAccess(actor=actor, first=at, last=at)
        if at < one.first:
            one.first = at
        elif at > one.last:
            one.last = at
        return one

    def _count_denied(self, db: Connection) -> None:
        """Count what actors were not permitted to do."""
        columns = tables.requests.c
        query = sa.select(columns.secret, columns.at, columns.actor).where(
            columns.kind == EntryKind.DENIED.value,
            columns.at >= self._since,
            columns.at <= self._until,
        )
        for secret, at, actor in db.execute(query):
            if self._only is None or secret in self._only:
                name = _decider(f'{{"by":{actor}}}') or "unknown"
                self._actor(name, at).requests["denied"] += 1

    def _fold(
        self, name: str, found: list[tuple[Any, ...]]
    ) -> tuple[SecretReport, list[Timeline]] | None:
        until = self._until
        last = len(found)
        # What was recorded after the period does not belong to it, in the order of the chain.
        while last and isinstance(found[last - 1][_AT], str) and found[last - 1][_AT] > until:
            last -= 1
        found = found[:last]
        fold = ChainFold(name, self._period)
        for event in self._events(row for row in found if _tells(row)):
            try:
                fold.add(event)
            except UNREADABLE:
                self.audit.add(f"secret {name}, event {event.seq}", "is unreadable")
        report = fold.report()
        if report is None:
            return None
        report.seq, report.head = found[-1][_SEQ], found[-1][_HASH]
        incidents: list[Timeline] = []
        if any(row[_KIND] == "leaked" for row in found):
            incidents = self._incidents(name, found)
        return report, incidents

    def _incidents(self, name: str, found: list[tuple[Any, ...]]) -> list[Timeline]:
        try:
            lines = timelines(list(self._events(found)))
        except UNREADABLE:
            self.audit.add(f"secret {name}", "its incidents are unreadable")
            return []
        period = self._period
        return [
            line
            for line in lines
            if line.reported_at is not None and period.overlaps(line.reported_at, line.closed_at)
        ]

    def _journal_events(self, found: list[tuple[Any, ...]]) -> None:
        for event in self._events(found):
            if event.kind is Kind.ACKNOWLEDGED and self._period.contains(event.at):
                self.acknowledged.append(
                    Acknowledged(
                        at=event.at,
                        event=event.seq,
                        actor=event.actor,
                        reason=str(event.data.get("reason") or ""),
                    )
                )

    def _events(self, found: Iterable[tuple[Any, ...]]) -> Iterator[Event]:
        for row in found:
            try:
                event = rows.event_from(dict(zip(rows.EVENT_COLUMNS, row, strict=True)))
            except UNREADABLE:
                event = None
            # A time without a zone cannot be compared.
            if event is None or event.at.tzinfo is None or not isinstance(event.data, dict):
                self.audit.add(f"secret {row[0]}, event {row[_SEQ]}", "is unreadable")
            else:
                yield event


def _decider(data: str) -> str | None:
    """Return who made a decision, by the data of its event; None where it names nobody."""
    if _BY not in data:
        return None
    try:
        found = json.loads(data)
    except ValueError:
        return None
    actor = Actor.from_data(found.get("by")) if isinstance(found, dict) else None
    return None if actor is None else str(actor)


def _tells(row: tuple[Any, ...]) -> bool:
    """Return whether an event may change what a report shows of its secret."""
    if row[_KIND] not in _STEP_EVENTS or (row[_KIND], row[_STEP]) in _TELLING:
        return True
    data = str(row[_DATA])
    return any(fact in data for fact in _TELLING_FACTS)
