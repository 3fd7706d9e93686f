"""Requests in the journal's database: a table that only grows, with a chain and a key for each writer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from rotator.core.access import Actor, Permission
from rotator.core.errors import JournalError, NoKey
from rotator.core.requests import ENDS, KINDS, LONGEST, Entry, EntryKind
from rotator.journal import rows, tables
from rotator.journal.chain import START, canonical, digest, sign, signed
from rotator.journal.current_key import current_key
from rotator.journal.handovers import newest_handover
from rotator.journal.signed_heads import UNREADABLE, of_requests, place

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection, Select

    from rotator.core.ports import Clock
    from rotator.core.secret import Secret
    from rotator.journal.event_key import EventKey
    from rotator.journal.report import AuditReport
    from rotator.journal.signed_heads import SignedHeads
    from rotator.journal.sql import SqlJournal

_requests: Final = tables.requests
_DOMAIN: Final = "rotator requested 1"
# The writer that every process with the signing key is.
ENGINE: Final = "rotator"
_ASKING: Final = [kind.value for kind in dict.fromkeys(KINDS.values())]
_ENDING: Final = [kind.value for kind in ENDS]
# Only an engine knows what was done.
_OF_ENGINES: Final = (EntryKind.TAKEN, EntryKind.FAILED)
# Of one writer at once: the second process takes the next place of the chain.
_TRIES: Final = 20
_COLUMNS: Final = tuple(column.name for column in _requests.columns)
_HASHED: Final = _COLUMNS[: _COLUMNS.index("hash")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """A writer with a key of its own: Ed25519, PEM."""

    name: str
    key: Secret


class SqlRequests:
    """The log of requests. A process signs with its own key, or with the key of all engines."""

    def __init__(
        self,
        journal: SqlJournal,
        clock: Clock,
        *,
        own: Callable[[], Writer | None] = lambda: None,
        writers: Mapping[str, str] | None = None,
        event_key: Callable[[], EventKey | None] | None = None,
    ) -> None:
        """`own` returns the key of this process, None where it has none of its own. `writers`: the public
        keys (PEM) that are trusted, by name. `event_key` returns the key of all engines, which is used
        where there is no other, and is None where this process must not have it.
        """
        self.journal: SqlJournal = journal
        # The key that found it, the id of the key before, and the last entry of engines of that one.
        self._handed_over: tuple[EventKey, EventKey | None, int] | None = None
        self._clock: Clock = clock
        self._own: Callable[[], Writer | None] = own
        self._writers: Mapping[str, str] = writers or {}
        self._event_key: Callable[[], EventKey | None] | None = event_key

    @current_key
    def append(self, entry: Entry) -> Entry:
        """Write an entry, durably, signed by this process."""
        for _ in range(_TRIES):
            try:
                return self._append(entry)
            except JournalError as error:
                if not isinstance(error.__cause__, IntegrityError):
                    raise
                # Another process of the same writer was first.
        raise JournalError(
            f"the journal {self.journal.place} did not take the request: too many at once.",
            safety="Nothing was requested.",
            hint="Try again.",
        )

    def open(self) -> list[Entry]:
        """Return the entries of the requests that nothing has ended, oldest first."""
        asked, end = _requests.alias("asked"), _requests.alias("ended")
        ended = sa.exists().where(
            end.c.request == asked.c.request,
            end.c.kind.in_(_ENDING),
        )
        since = rows.stamp(self._clock.now() - LONGEST)
        open_ = sa.select(asked.c.request).where(
            asked.c.kind.in_(_ASKING), asked.c.at >= since, ~ended
        )
        return self._entries(_ordered(sa.select(_requests).where(_requests.c.request.in_(open_))))

    def of(self, request: str) -> list[Entry]:
        """Return the entries of one request."""
        return self._entries(_ordered(sa.select(_requests).where(_requests.c.request == request)))

    def recent(self, limit: int, secret: str | None = None) -> Sequence[Entry]:
        """Return the entries of the newest requests, and the newest denied attempts."""
        first = sa.select(_requests.c.request).where(
            _requests.c.kind.in_([*_ASKING, EntryKind.DENIED.value])
        )
        if secret is not None:
            first = first.where(_requests.c.secret == secret)
        newest = first.order_by(_requests.c.at.desc()).limit(limit).subquery()
        chosen = _requests.c.request.in_(sa.select(newest.c.request))
        return self._entries(_ordered(sa.select(_requests).where(chosen)))

    def denied(self, since: datetime) -> list[Entry]:
        """Return the attempts since a moment that were not permitted, oldest first."""
        recent = sa.and_(
            _requests.c.at >= rows.stamp(since), _requests.c.kind == EntryKind.DENIED.value
        )
        return self._entries(_ordered(sa.select(_requests).where(recent)))

    def between(self, start: datetime, end: datetime) -> list[Entry]:
        """Return the entries of a period, oldest first."""
        inside = sa.and_(_requests.c.at >= rows.stamp(start), _requests.c.at < rows.stamp(end))
        return self._entries(_ordered(sa.select(_requests).where(inside)))

    def trusts(self, row: rows.Read, era: str | None = None) -> bool:
        """Return whether the writer of a row is one of ours and has signed it.

        Without the key of engines an entry of theirs cannot be checked, and is only shown. `era`: the id
        of the older key of engines that wrote it, where the checkpoints say so.
        """
        writer, signature = row["writer"], row["signature"]
        if writer == ENGINE:
            key = self._key_of_engines()
            if key is not None and era is not None:
                # Where nothing is left of that key, the checkpoint speaks for the entry.
                key = key.by_id().get(era)
            return key is None or key.made(row["hash"], signature)
        public = self._writers.get(writer)
        if public is None or not isinstance(signature, str):
            return False
        return row["kind"] not in _OF_ENGINES and signed(public, row["hash"], signature)

    def _is_trusted(self, row: rows.Read) -> bool:
        if self.trusts(row):
            return True
        key = self._key_of_engines()
        if row["writer"] != ENGINE or key is None:
            return False
        if self.journal.reload_key() and self.trusts(row):
            return True
        key = self._key_of_engines()
        return key is not None and self._wrote_before(key, row)

    def _wrote_before(self, key: EventKey, row: rows.Read) -> bool:
        """Return whether the key before this one wrote an entry, in its time."""
        if not key.older:
            return False
        if self._handed_over is None or self._handed_over[0].raw != key.raw:
            with self.journal.reading() as db:
                found = newest_handover(db, key)
            id_, heads = found or ("", {})
            last = heads.get(of_requests(ENGINE), (0, ""))[0]
            self._handed_over = key, key.by_id().get(id_), last
        _, older, last = self._handed_over
        return (
            older is not None and row["seq"] <= last and older.made(row["hash"], row["signature"])
        )

    def _append(self, entry: Entry) -> Entry:
        own = self._own()
        writer = ENGINE if own is None else own.name
        event_key = self._key_of_engines() if own is None else None
        if own is None and event_key is None and self.journal.has_key():
            raise NoKey(
                "the entries of this journal are authenticated, but this process has no key for that.",
                safety="Nothing was requested.",
                hint="Set `requests.key`, or `journal.signing_key`. See `rotator docs roles`.",
            )
        newest = (
            sa.select(_requests.c.seq, _requests.c.hash)
            .where(_requests.c.writer == writer)
            .order_by(_requests.c.seq.desc())
            .limit(1)
        )
        now = self._clock.now()
        with self.journal.writing() as db:
            if event_key is not None and db.dialect.name != "sqlite":
                # The key is not replaced meanwhile.
                _ = db.exec_driver_sql("LOCK TABLE leases IN ROW EXCLUSIVE MODE")
            last = db.execute(newest).one_or_none()
            row = {
                "writer": writer,
                "seq": 1 if last is None else last[0] + 1,
                "at": rows.stamp(now),
                "kind": entry.kind.value,
                "request": entry.request,
                "secret": entry.secret,
                "actor": canonical({**entry.actor.as_data(), "groups": list(entry.actor.groups)}),
                "data": canonical(
                    {
                        **({"reason": entry.reason} if entry.reason else {}),
                        **({"action": entry.action.value} if entry.action else {}),
                        **({"options": dict(entry.data)} if entry.data else {}),
                    }
                ),
                "prev_hash": START if last is None else last[1],
            }
            row["hash"] = hashed = _hash(row)
            if own is not None:
                row["signature"] = sign(own.key, hashed)
            else:
                row["signature"] = None if event_key is None else event_key.mac(hashed)
            _ = db.execute(sa.insert(_requests), row)
            if event_key is not None:
                self.journal.require_newest_key(db)
        return _entry(row, trusted=True)

    def _entries(self, query: Select[tuple[object, ...]]) -> list[Entry]:
        with self.journal.reading() as db:
            found = [dict(row) for row in db.execute(query).mappings()]
        return [
            _entry(row, trusted=_hash(row) == row["hash"] and self._is_trusted(row))
            for row in found
        ]

    def _key_of_engines(self) -> EventKey | None:
        """Return the key that engines share; None for a writer of another kind."""
        if self._event_key is None or self._own() is not None:
            return None
        return self._event_key()


def check(
    db: Connection,
    report: AuditReport,
    heads: SignedHeads,
    trusts: Callable[[rows.Read, str | None], bool] | None = None,
) -> set[str]:
    """Report each entry that was changed, is missing, or that its writer did not sign.

    `trusts` returns the latter of an unchanged row. Returns the chains that there are, by their names
    among `heads`.
    """
    found = set[str]()
    query = sa.select(_requests).order_by(_requests.c.writer, _requests.c.seq)
    rows_ = db.execute(query).mappings()
    for writer, chained in groupby(rows_, key=itemgetter("writer")):
        name, next_, prev = of_requests(writer), 1, START
        found.add(name)
        eras = heads.eras(name) if writer == ENGINE else []
        for row in chained:
            seq, where = row["seq"], place(name, row["seq"])
            try:
                if seq != next_:
                    report.add(place(name, next_, seq - 1), "missing")
                if row["prev_hash"] != prev:
                    report.add(where, "does not follow the entry before it")
                if _hash(row) != row["hash"]:
                    report.add(where, "was changed: its hash does not match")
                elif trusts is not None and not trusts(row, _era(eras, seq)):
                    report.add(where, "its writer did not sign it, or is not trusted")
                heads.check_entry(name, seq, row["hash"])
                next_, prev = seq + 1, row["hash"]
            except UNREADABLE:
                report.add(where, "is unreadable")
                next_ += 1
        _ = heads.check_end(name, next_ - 1)
    return found


def _era(eras: Sequence[tuple[int, str | None]], seq: int) -> str | None:
    return next((key for until, key in eras if seq <= until), None)


def ends(db: Connection) -> dict[str, tuple[int, str]]:
    """Return the number and the hash of the newest entry of each writer, as checkpoints name them."""
    newest = (
        sa.select(_requests.c.writer, sa.func.max(_requests.c.seq).label("seq"))
        .group_by(_requests.c.writer)
        .subquery()
    )
    query = sa.select(_requests.c.writer, _requests.c.seq, _requests.c.hash).join(
        newest, sa.and_(_requests.c.writer == newest.c.writer, _requests.c.seq == newest.c.seq)
    )
    return {of_requests(writer): (seq, hashed) for writer, seq, hashed in db.execute(query)}


def _ordered(query: Select[tuple[object, ...]]) -> Select[tuple[object, ...]]:
    return query.order_by(_requests.c.at, _requests.c.writer, _requests.c.seq)


def _hash(row: rows.Read) -> str:
    return digest(_DOMAIN, [row[name] for name in _HASHED])


def _entry(row: rows.Read, *, trusted: bool) -> Entry:
    data = json.loads(row["data"])
    action = data.get("action")
    return Entry(
        request=row["request"],
        kind=EntryKind(row["kind"]),
        secret=row["secret"],
        actor=Actor.from_data(json.loads(row["actor"]))
        or Actor(subject="", method="", face="", host=""),
        reason=str(data.get("reason", "")),
        action=None if action is None else Permission(action),
        data=data.get("options", {}),
        at=rows.moment(row["at"]),
        writer=row["writer"],
        seq=row["seq"],
        trusted=trusted,
    )
