"""Signed checkpoints: what makes a cut tail, a dropped secret or a rewritten chain visible."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from rotator.core.errors import JournalBroken, JournalError
from rotator.journal import audit, chain, handovers, requests, rows, tables
from rotator.journal.event_key import EventKey, broken, require_chain
from rotator.journal.key_ring import KeyRing
from rotator.journal.signed_heads import (
    KEY,
    LEAKED,
    MARKS,
    NEXT,
    PREVIOUS,
    UNREADABLE,
    of_requests,
    place,
    whole,
    writer_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from sqlalchemy import Connection, Select

    from rotator.core.model import Lock
    from rotator.core.secret import Secret
    from rotator.journal.report import AuditReport
    from rotator.journal.sql import SqlJournal

_RACES: Final = 20
_checkpoints: Final = tables.checkpoints


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """The newest checkpoint's number and hash, kept outside the database.

    `key`: the id of the key that authenticates events; None before it was introduced.
    """

    number: int
    hash: str
    key: str | None = None

    def text(self) -> str:
        """Return it as it is kept beside the signing key."""
        more = {} if self.key is None else {"key": self.key}
        return json.dumps({"number": self.number, "hash": self.hash, **more})

    @staticmethod
    def parse(text: str) -> Anchor:
        """Read what `text` wrote."""
        try:
            data = json.loads(text)
            key = data.get("key")
            named = None if key is None else str(key)
            return Anchor(number=int(data["number"]), hash=str(data["hash"]), key=named)
        except UNREADABLE:
            raise JournalBroken(
                "the value stored beside the signing key is not the number and hash of a"
                " checkpoint.",
                safety="Nothing was signed.",
                hint="Find out who can change the field `anchor` there, and restore it.",
            ) from None


def witnessed(lines: Iterable[str]) -> list[Anchor]:
    """Return the checkpoints that a witness saw, in whatever lines it keeps them.

    Lines of rotator's log, bodies of its notices, or what is kept beside the signing key, each also
    behind a time stamp; all else is passed over.
    """
    found: list[Anchor] = []
    for line in lines:
        try:
            data = json.JSONDecoder().raw_decode(line, line.index("{"))[0]
            inner = data.get("data", data)
            number, hashed = inner["number"], inner["hash"]
        except UNREADABLE:
            continue
        if isinstance(number, int) and isinstance(hashed, str) and len(hashed) == len(chain.START):
            found.append(Anchor(number=number, hash=hashed))
    return found


def checkpoint(
    journal: SqlJournal, signing_key: Secret, now: datetime, *, anchor: Anchor | None = None
) -> Anchor | None:
    """Sign the heads of the chains that grew since the newest checkpoint; None when none did.

    `anchor`: the checkpoint that was kept outside of the database; it must still be there. Any
    number of processes may do this at once: a checkpoint's number is unique, and the second one
    reads again. Raises `JournalBroken` when a chain or the checkpoints no longer hold what was signed
    before: a signature must not cover that up.
    """
    authentic: dict[str, tuple[int, str]] = {}
    # The long read first, without keeping anybody from writing.
    with journal.snapshot() as db:
        known = _Signed(ring=KeyRing.parse(signing_key)).follow(db)
        if anchor is not None:
            require(db, anchor)
        grown = _grown(db, known)
        if not grown:
            return None
        _authenticate(db, known, grown, authentic)

    def write() -> Anchor | None:
        with journal.writing() as db:
            grown = _grown(db, known.follow(db))
            if not grown:
                return None
            _authenticate(db, known, grown, authentic)
            return _write(db, known, grown, rows.stamp(now))

    return _in_turn(write)


def introduce(
    journal: SqlJournal, signing_key: Secret, now: datetime, *, anchor: Anchor | None = None
) -> Anchor | None:
    """Have events and records authenticated from now on; None where they are already.

    A checkpoint says so, and covers what was written before. Then every record gets a seal of the key.
    `anchor`: as for `checkpoint`; if it knows of the key, and the journal does not, the journal was cut.
    Raises `JournalBroken` where the journal is damaged: nothing of that may be covered.
    """
    with journal.snapshot() as db:
        known = _Signed(ring=KeyRing.parse(signing_key)).follow(db)
        if anchor is not None:
            require(db, anchor)
        if known.key is not None:
            _require_key(known)
            return None
        if anchor is not None and anchor.key is not None:
            raise _cut("the checkpoint that introduced the key of its writers")
        is_keyed = sa.select(tables.events.c.mac).where(tables.events.c.mac.is_not(None)).limit(1)
        if db.execute(is_keyed).scalar() is not None:
            raise _cut("the checkpoint that introduced the key of its writers")
    key = known.signer
    _require_sound(
        audit.verify(journal, public_key=key.public),
        "the part of the journal from before authentication",
    )

    def write() -> Anchor | None:
        with journal.writing() as db:
            _lock(db)
            known.follow(db)
            if known.key is not None:
                _require_key(known)
                return None
            grown = _grown(db, known) | {KEY: (known.number + 1, key.id)}
            made = _write(db, known, grown, rows.stamp(now))
            _reseal(db, key)
            return made

    return _in_turn(write)


def hand_over(
    journal: SqlJournal,
    signing_key: Secret,
    now: datetime,
    *,
    lock: Lock,
    anchor: Anchor | None = None,
    leaked: bool = False,
) -> Anchor | None:
    """Have the newer of the two keys of a ring sign and authenticate from now on; None if it does already.

    Two checkpoints, of one transaction: the first, by the older key, covers everything so far and names
    the newer one; the second, by the newer key, names the older one. Every record gets a seal of the
    newer key. `lock`: of the chain of the journal; who has lost it hands nothing over. `leaked`: the
    older key must not be trusted. Raises `JournalBroken` where the journal is damaged.
    """
    ring = KeyRing.parse(signing_key)
    new = EventKey.derive(ring.private[-1])
    with journal.snapshot() as db:
        known = _Signed(ring=ring).follow(db)
        if anchor is not None:
            require(db, anchor)
    if known.key == new.id:
        return None
    old = known.signer
    report = audit.verify(journal, public_key=old.public, anchor=anchor, key=old)
    _require_sound(report, "the journal")

    def write() -> Anchor | None:
        with journal.writing() as db:
            _lock(db)
            journal.require_lock(db, lock)
            # Of its own: if this is rolled back, what it has read of itself is not there.
            mine = replace(known, heads=dict(known.heads)).follow(db)
            if mine.key == new.id:
                return None
            _require_key(mine)
            grown = _grown(db, mine)
            _authenticate(db, mine, grown, {})
            number, at = mine.number + 1, rows.stamp(now)
            # With the end of the engines' own requests, also where it is signed already: those that
            # are open are looked up here.
            asked = of_requests(requests.ENGINE)
            named = {name: head for name, head in mine.heads.items() if name == asked}
            named |= grown | {NEXT: (number, handovers.encoded(new.public))}
            _ = _write(db, mine, named, at)
            number += 1
            marks = {KEY: (number, new.id), PREVIOUS: (number, handovers.encoded(old.public))}
            if leaked:
                marks[LEAKED] = marks[PREVIOUS]
            made = _write(db, mine.follow(db), marks, at, signer=new)
            _reseal(db, new)
            return made

    return _in_turn(write)


def newest(journal: SqlJournal, signing_key: Secret) -> Anchor | None:
    """Return the newest checkpoint. Raises `JournalBroken` if a key of the ring did not sign it."""
    with journal.snapshot() as db:
        known = _Signed(ring=KeyRing.parse(signing_key)).follow(db)
    if not known.number:
        return None
    return Anchor(number=known.number, hash=known.hash, key=known.key)


def _lock(db: Connection) -> None:
    """Keep everybody from writing, and from locking a row that they are about to change.

    An event is written after the record of its secret. The two other tables may only grow, and so
    cannot be locked: a checkpoint has its number, and who writes a request locks one of these.
    """
    if db.dialect.name != "sqlite":
        _ = db.exec_driver_sql("LOCK TABLE secrets, rotations, leases IN EXCLUSIVE MODE")


def _require_sound(report: AuditReport, what: str) -> None:
    if not report.ok:
        first = report.damage[0]
        raise JournalBroken(
            f"{what} is damaged: {first.where}: {first.what}.",
            safety="Nothing was done.",
            hint="To list all damage: rotator audit verify",
        )


def _reseal(db: Connection, key: EventKey) -> None:
    for table in (tables.secrets, tables.rotations, tables.leases):
        (name,) = [column.name for column in table.primary_key]
        seals = [
            {"name_": row[name], "seal_": key.sealed(table, dict(row))["seal"]}
            for row in db.execute(sa.select(table)).mappings()
        ]
        if seals:
            update = sa.update(table).where(table.c[name] == sa.bindparam("name_"))
            _ = db.execute(update.values(seal=sa.bindparam("seal_")), seals)


def _in_turn(write: Callable[[], Anchor | None]) -> Anchor | None:
    for _ in range(_RACES):
        try:
            return write()
        except JournalError as error:
            if not isinstance(error.__cause__, IntegrityError):
                raise
    raise JournalError(
        "the checkpoint could not be written: other writers were faster on every attempt."
    )


def require(db: Connection, anchor: Anchor) -> None:
    """Raise `JournalBroken` unless the journal holds this checkpoint."""
    query = sa.select(_checkpoints.c.hash).where(_checkpoints.c.number == anchor.number)
    if db.execute(query).scalar() != anchor.hash:
        raise _cut(f"checkpoint {anchor.number}")


def _cut(what: str) -> JournalBroken:
    return JournalBroken(
        f"the journal does not contain {what}, which is recorded beside the signing key: the"
        " journal was truncated, or restored to an older state.",
        safety="Nothing was signed.",
        hint="To see what is missing: rotator audit verify. After a restore that you intended:"
        " rotator audit acknowledge --reason WHY",
    )


def _require_key(known: _Signed) -> None:
    if known.key != known.signer.id:
        raise JournalError(
            "the events of this journal are authenticated with another signing key"
            f" ({known.key}) than the configured one ({known.signer.id}).",
            safety="Nothing was done.",
            hint="Set journal.signing_key to that key.",
        )


def _authenticate(
    db: Connection,
    known: _Signed,
    grown: dict[str, tuple[int, str]],
    authentic: dict[str, tuple[int, str]],
) -> None:
    """Raise `JournalBroken` unless holders of the key wrote all of these chains that no checkpoint covers.

    `authentic`: the ends that were looked at before, to which these are added.
    """
    if known.key is None:
        return
    _require_key(known)
    key, events = known.signer, tables.events
    for name, (last, head) in grown.items():
        # Whatever checkpoints cover, `audit verify` checks who signed each request.
        if authentic.get(name) == (last, head) or writer_of(name) is not None:
            continue
        of_secret = sa.select(tables.secrets).where(tables.secrets.c.name == name)
        key.require(tables.secrets, dict(db.execute(of_secret).mappings().one()))
        seq, prev = known.heads.get(name, (0, chain.START))
        query = sa.select(events).where(
            events.c.secret == name, events.c.seq > seq, events.c.seq <= last
        )
        found = [dict(row) for row in db.execute(query.order_by(events.c.seq)).mappings()]
        require_chain(found, name, seq=seq + 1, prev=prev)
        for row in found:
            if not key.made(row["hash"], row["mac"]):
                raise broken(f"event {row['seq']} was not written by rotator", name)
        if len(found) != last - seq or found[-1]["hash"] != head:
            raise broken(
                f"it does not end with event {last}, which its row names as the last", name
            )
        authentic[name] = (last, head)


@dataclass(slots=True, kw_only=True)
class _Signed:
    """What the checkpoints speak for: the head of each chain, up to the newest of them.

    `ring`: the keys that may sign them. `key`: the id of the one that authenticates events, None before
    it was introduced.
    """

    ring: KeyRing
    heads: dict[str, tuple[int, str]] = field(default_factory=dict[str, tuple[int, str]])
    number: int = 0
    hash: str = chain.START
    key: str | None = None

    @property
    def signer(self) -> EventKey:
        """Return the key that signed the newest one, or signs the first one."""
        return self.ring.key(self.key)

    def follow(self, db: Connection) -> _Signed:
        """Take in the checkpoints that have come since. Raises `JournalBroken` if we did not sign them.

        The hash of each covers those before it, so the signature of the newest one speaks for all, also
        for those that a retired key signed.
        """
        query = (
            sa.select(_checkpoints)
            .where(_checkpoints.c.number > self.number)
            .order_by(_checkpoints.c.number)
        )
        signature = None
        for row in db.execute(query).mappings():
            number, hashed = row["number"], row["hash"]
            try:
                heads = {
                    name: (seq, head) for name, (seq, head) in json.loads(row["heads"]).items()
                }
                expected = chain.checkpoint_hash(number, row["at"], row["heads"], row["prev_hash"])
            except UNREADABLE as error:
                raise _broken(f"checkpoint {number} is unreadable") from error
            if (number, row["prev_hash"], expected) != (self.number + 1, self.hash, hashed):
                raise _broken(f"checkpoint {number} was changed, or does not follow the one before")
            self.key = heads.pop(KEY, (0, self.key))[1]
            for mark in MARKS & heads.keys():
                del heads[mark]
            self.heads |= heads
            self.number, self.hash, signature = number, hashed, row["signature"]
        if signature is not None and not chain.signed(self.signer.public, self.hash, signature):
            if self.key in {one.id for one in self.ring.retired}:
                raise _cut(f"the checkpoint that replaced the signing key {self.key}")
            raise _broken(f"checkpoint {self.number} is not signed with the signing key")
        return self


def _grown(db: Connection, known: _Signed) -> dict[str, tuple[int, str]]:
    """Return the chains that are longer than what is signed of them, and make sure of the rest."""
    secrets = tables.secrets.c
    query = sa.select(secrets.name, secrets.seq, secrets.head).where(secrets.seq > 0)
    now = {name: (seq, head) for name, seq, head in db.execute(query)} | requests.ends(db)
    grown = {name: head for name, head in now.items() if known.heads.get(name) != head}
    if gone := sorted(known.heads.keys() - now.keys()):
        raise _broken(f"{whole(gone[0])} was deleted, although a checkpoint covers it")
    for name in grown:
        signed = known.heads.get(name)
        if signed is None:
            continue
        if db.execute(_hash_at(name, signed[0])).scalar() != signed[1]:
            raise _broken(
                f"{place(name, signed[0])} was deleted or changed, although a checkpoint covers it"
            )
    return grown


def _hash_at(name: str, seq: int) -> Select[str]:
    """Return what reads the hash of an entry of a chain."""
    events, asked, writer = tables.events.c, tables.requests.c, writer_of(name)
    if writer is None:
        return sa.select(events.hash).where(events.secret == name, events.seq == seq)
    return sa.select(asked.hash).where(asked.writer == writer, asked.seq == seq)


def _write(
    db: Connection,
    known: _Signed,
    grown: dict[str, tuple[int, str]],
    at: str,
    *,
    signer: EventKey | None = None,
) -> Anchor:
    key = signer or known.signer
    number, prev = known.number + 1, known.hash
    heads = chain.canonical(grown)
    hashed = chain.checkpoint_hash(number, at, heads, prev)
    _ = db.execute(
        sa.insert(_checkpoints).values(
            number=number,
            at=at,
            heads=heads,
            prev_hash=prev,
            hash=hashed,
            key_id=key.id,
            signature=key.sign(hashed),
        )
    )
    known_key = grown[KEY][1] if KEY in grown else known.key
    return Anchor(number=number, hash=hashed, key=known_key)


def _broken(what: str) -> JournalBroken:
    return JournalBroken(
        f"{what}: no new checkpoint was signed.",
        hint="The journal may have been tampered with: rotator audit verify",
    )
