"""After a rotation of the signing key only the new key counts, whoever has the old one."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from rotator.core.errors import JournalBroken, LockLost, UsageError
from rotator.core.model import Kind, Lock, NewEvent
from rotator.core.secret import Secret
from rotator.journal import audit, chain, handovers, rows, tables
from rotator.journal.checkpoints import Anchor, checkpoint, hand_over, introduce, newest
from rotator.journal.event_key import EventKey
from rotator.journal.export import export, verify_export
from rotator.journal.key_ring import KeyRing
from rotator.journal.report import AuditReport
from rotator.journal.sql import SqlJournal
from tests.journal.attacker import (
    at,
    changed,
    drop_triggers,
    named,
    place_of,
    request_log,
    rows_of,
    undone,
)
from tests.journal.conftest import NOW, TTL, MakeJournal, ask, rotate


@dataclass
class Store:
    """What the backend of the signing key holds."""

    ring: Secret
    old: Secret
    new: Secret = field(default_factory=chain.new_signing_key)
    anchor: Anchor | None = None

    def key(self, journal: SqlJournal) -> EventKey:
        """Return the key as a process reads it."""
        introduce(journal, self.ring, NOW)
        return KeyRing.parse(self.ring).key(journal.key_id())

    def rotate(self, journal: SqlJournal, *, leaked: bool = False) -> Anchor:
        """Replace the signing key, as `rotator audit rotate-key` does."""
        lock = journal.acquire(audit.JOURNAL, "an operator", TTL)
        ring = KeyRing.parse(self.ring).with_successor(self.new)
        self.ring = ring.text()
        made = hand_over(journal, self.ring, NOW, lock=lock, leaked=leaked)
        self.ring = ring.handed_over().text()
        journal.reload_key()
        journal.release(lock)
        assert made is not None
        self.anchor = made
        return made

    def verify(self, journal: SqlJournal, trusted: Secret | None = None) -> AuditReport:
        key = KeyRing.parse(self.ring).key(None)
        return audit.verify(
            journal,
            public_key=key.public if trusted is None else chain.public_key(trusted),
            anchor=self.anchor,
            key=key,
            trusts=request_log(journal, self.ring, own_key=self.old).trusts,
        )

    def places(self, journal: SqlJournal, trusted: Secret | None = None) -> list[str]:
        found = self.verify(journal, trusted).damage
        return [f"{one.where}: {one.what}" for one in found if "trigger " not in one.where]


@pytest.fixture
def store(signing_key: Secret) -> Store:
    return Store(ring=signing_key, old=signing_key)


@pytest.fixture
def rotated(make_journal: MakeJournal, store: Store) -> SqlJournal:
    """A journal with a rotation, a request and a checkpoint of the old key, and the same of the new one."""
    journal = make_journal(key=store.key)
    rotate(journal, "web", 1)
    ask(journal, store.ring, "first")
    rotate(journal, "batch", 1)
    store.rotate(journal)
    rotate(journal, "web", 2)
    ask_engine(journal, store, "second")
    store.anchor = checkpoint(journal, store.ring, NOW)
    return journal


@pytest.fixture
def attacked(rotated: SqlJournal) -> SqlJournal:
    """The same without triggers."""
    drop_triggers(rotated)
    return rotated


def ask_engine(journal: SqlJournal, store: Store, request: str) -> None:
    log = request_log(journal, store.ring, own_key=store.old)
    first = log.of("first")
    taken = next(one for one in first if one.writer == "rotator")
    log.append(type(taken)(**{**_fields(taken), "request": request}))


def _fields(entry: Any) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in type(entry).__dataclass_fields__}


def test_a_journal_is_sound_after_a_handover(rotated: SqlJournal, store: Store):
    """With the new public key, and with the old one, which names the new one."""
    assert store.places(rotated) == []
    assert store.places(rotated, store.old) == []
    (handover,) = store.verify(rotated).handovers
    keys = [chain.key_id(chain.public_key(one)) for one in (store.old, store.new)]
    assert [handover.previous, handover.key] == keys
    assert not handover.leaked
    assert len(KeyRing.parse(store.ring).private) == 1


def test_a_second_handover_follows_the_first(rotated: SqlJournal, store: Store):
    """The first key still leads to the third, which vouches for all before."""
    first, store.new = store.new, chain.new_signing_key()
    store.rotate(rotated, leaked=True)
    rotate(rotated, "web", 3)
    for trusted in (None, first, store.old):
        assert store.places(rotated, trusted) == []
    assert [one.leaked for one in store.verify(rotated).handovers] == [False, True]


def test_a_process_with_the_old_key_goes_on_with_the_new_one(
    make_journal: MakeJournal, store: Store
):
    """In the middle of a rotation, with a new secret, with a lock to give back: no false alarm, no gap."""
    journal, others = make_journal(key=store.key), [make_journal(key=store.key) for _ in range(4)]
    rotate(journal, "web", 1)
    ask(journal, store.ring, "first")
    event = NewEvent(kind=Kind.PARKED, data={"reason": "an operator"})
    held = [one.acquire(f"held {number}", "them", TTL) for number, one in enumerate(others)]
    for one, lock in zip(others, held, strict=True):
        one.append(lock, [event], TTL)
    store.rotate(journal)
    others[0].append(held[0], [event, event], TTL)
    others[0].release(held[0])
    others[1].release(held[1])
    rotate(others[2], "new", 1)
    others[2].append(held[2], [event], TTL)
    assert others[3].secret("held 3") is not None
    assert [one.request for one in request_log(others[3], store.ring).of("first") if one.trusted]
    checkpoint(others[3], store.ring, NOW)
    assert store.places(journal) == []


def test_a_request_of_before_is_trusted_and_one_by_the_old_key_after_it_is_not(
    attacked: SqlJournal, store: Store
):
    """The checkpoint of the handover says which was the last one of that key."""
    log = request_log(attacked, store.ring, own_key=store.old)
    assert all(one.trusted for one in log.of("first"))
    row = rows_of(attacked, tables.requests)[-1]
    forged = row | {"seq": row["seq"] + 1, "prev_hash": row["hash"], "request": "forged"}
    forged["hash"] = chain.digest(
        "rotator requested 1", [forged[one] for one in list(forged)[: list(forged).index("hash")]]
    )
    forged["signature"] = EventKey.derive(store.old).mac(forged["hash"])
    with attacked.writing() as db:
        db.execute(sa.insert(tables.requests), forged)
    assert [one.trusted for one in log.of("forged")] == [False]
    assert named(place_of(tables.requests, forged), store.places(attacked))


@pytest.mark.parametrize("value", [[1], [], 1, None, "x", [1, "x", 2], {"a": 1}, [[], []]])
def test_marks_that_are_no_pair_are_damage(attacked: SqlJournal, store: Store, value: object):
    """Whoever writes to the database chooses them; `audit verify` names the place."""
    for mark in ("(key)", "(next key)", "(previous key)"):
        heads = {"heads": chain.canonical({mark: value})}  # pyright: ignore[reportArgumentType]
        change = sa.update(tables.checkpoints).values(heads)
        found = undone(
            attacked, lambda db, change=change: db.execute(change), lambda: store.places(attacked)
        )
        assert named("checkpoint 1", found), mark
        assert undone(
            attacked, lambda db, change=change: db.execute(change), lambda: [str(attacked.key_id())]
        )


# -- who has the old key ---------------------------------------------------------------------------


def _sign(db: sa.Connection, key: Secret, heads: dict[str, Any], *, number: int, prev: str) -> str:
    text, when = chain.canonical(heads), rows.stamp(NOW)
    hashed = chain.checkpoint_hash(number, when, text, prev)
    row = {"number": number, "at": when, "heads": text, "prev_hash": prev, "hash": hashed}
    key_id = chain.key_id(chain.public_key(key))
    row |= {"key_id": key_id, "signature": chain.sign(key, hashed)}
    db.execute(sa.insert(tables.checkpoints), row)
    return hashed


def _cut(db: sa.Connection, checkpoints: list[dict[str, Any]], keep: int) -> str:
    number = tables.checkpoints.c.number
    db.execute(sa.delete(tables.checkpoints).where(number > keep))
    return checkpoints[keep - 1]["hash"]


def _attacks(journal: SqlJournal, store: Store) -> Iterator[tuple[str, Callable[..., object]]]:
    """Yield what a thief of the old key writes, who may change everything in the database."""
    held, old, evil = rows_of(journal, tables.checkpoints), store.old, chain.new_signing_key()
    last = len(held)
    (first,) = (one["number"] for one in held if handovers.PREVIOUS in one["heads"])
    old_key, old_public = EventKey.derive(old), handovers.encoded(chain.public_key(old))

    def extend(db: sa.Connection) -> None:
        _sign(db, old, {"batch": [14, "0" * 64]}, number=last + 1, prev=held[-1]["hash"])

    def back(db: sa.Connection) -> None:
        number = last + 1
        marks = {"(next key)": [number, old_public]}
        hashed = _sign(db, old, marks, number=number, prev=held[-1]["hash"])
        marks = {"(key)": [number + 1, old_key.id], "(previous key)": [number + 1, old_public]}
        _sign(db, old, marks, number=number + 1, prev=hashed)

    def reintroduced(db: sa.Connection) -> None:
        marks = {"(key)": [last + 1, old_key.id]}
        _sign(db, old, marks, number=last + 1, prev=held[-1]["hash"])

    def forked(db: sa.Connection) -> None:
        prev = _cut(db, held, first - 2)
        _sign(db, old, json.loads(held[first - 2]["heads"]), number=first - 1, prev=prev)

    def handed_to_another(db: sa.Connection) -> None:
        prev = _cut(db, held, first - 2)
        named = {"(next key)": [first - 1, handovers.encoded(chain.public_key(evil))]}
        prev = _sign(db, old, named, number=first - 1, prev=prev)
        marks = {"(key)": [first, chain.key_id(chain.public_key(evil))]}
        _sign(db, evil, marks | {"(previous key)": [first, old_public]}, number=first, prev=prev)

    def handed_to_the_new_one(db: sa.Connection) -> None:
        prev = _cut(db, held, first - 2)
        named = {"(next key)": [first - 1, handovers.encoded(chain.public_key(store.new))]}
        prev = _sign(db, old, named, number=first - 1, prev=prev)
        moved = held[first - 1] | {"prev_hash": prev}
        db.execute(sa.insert(tables.checkpoints), moved)

    yield "extend the chain", extend
    yield "hand over back to the old key", back
    yield "introduce the old key again", reintroduced
    yield "fork before the handover", forked
    yield "end before the handover", lambda db: _cut(db, held, first - 2)
    yield "end in the middle of the handover", lambda db: _cut(db, held, first - 1)
    yield "hand over to a key of the thief", handed_to_another
    yield "hand over to the new key at another state", handed_to_the_new_one
    for row in held[first - 2 : first]:
        yield from _changes(row, old, evil)


def _changes(
    row: dict[str, Any], old: Secret, evil: Secret
) -> Iterator[tuple[str, Callable[..., object]]]:
    """Yield what a thief makes of a checkpoint of the handover."""
    where = at(tables.checkpoints, row)
    yield "remove it", lambda db: db.execute(sa.delete(tables.checkpoints).where(where))
    heads = json.loads(row["heads"])
    for mark in [name for name in heads if "key)" in name]:
        for value in (None, [row["number"], handovers.encoded(chain.public_key(evil))]):
            new = {name: head for name, head in heads.items() if name != mark}
            new |= {mark: value} if value else {}
            text = chain.canonical(new)
            hashed = chain.checkpoint_hash(row["number"], row["at"], text, row["prev_hash"])
            forged = {"heads": text, "hash": hashed, "signature": chain.sign(old, hashed)}
            act = sa.update(tables.checkpoints).where(where).values(forged)
            yield f"change {mark}", lambda db, act=act: db.execute(act)


def _writes(journal: SqlJournal, store: Store) -> Iterator[tuple[str, Callable[..., object]]]:
    """Yield what the same thief makes of events and records."""
    old_key = EventKey.derive(store.old)
    event = next(one for one in rows_of(journal, tables.events) if one["secret"] == "batch")

    def written_with_the_old_code(db: sa.Connection) -> None:
        newest_ = [one for one in rows_of(journal, tables.events) if one["secret"] == "web"][-1]
        where = at(tables.events, newest_)
        mac = old_key.mac(newest_["hash"])
        db.execute(sa.update(tables.events).where(where).values(mac=mac))

    def sealed(db: sa.Connection) -> None:
        row = next(one for one in rows_of(journal, tables.secrets) if one["name"] == "batch")
        new = old_key.sealed(tables.secrets, row | {"next_due": "2999-01-01T00:00:00+00:00"})
        db.execute(sa.update(tables.secrets).where(at(tables.secrets, row)).values(new))

    yield "write an event with the code of the old key", written_with_the_old_code
    yield "seal a record with the old key", sealed
    for value in (*changed(event["mac"]), None):
        change = sa.update(tables.events).where(at(tables.events, event)).values(mac=value)
        yield "change the code of an event of before", lambda db, change=change: db.execute(change)


def test_a_thief_of_the_old_key_is_found_and_nothing_of_it_is_signed(
    attacked: SqlJournal, store: Store
):
    """Also one who may write to the database. Nothing but the ring and the public key is needed for it."""
    anchor, store.anchor = store.anchor, None
    missed, signed = [], []

    def look() -> list[str]:
        found = store.places(attacked)
        try:
            newest(attacked, store.ring)
            signed.append(name)
        except JournalBroken:
            pass
        return found

    for name, act in [*_attacks(attacked, store), *_writes(attacked, store)]:
        if not undone(attacked, act, look):
            missed.append(name)
    assert missed == []
    # These change no checkpoint, and so are not found by those. The records and events are read before
    # anything new is signed.
    assert set(signed) == {
        "write an event with the code of the old key",
        "seal a record with the old key",
        "change the code of an event of before",
    }
    store.anchor = anchor
    assert store.places(attacked) == []


def test_only_the_anchor_tells_who_trusts_the_old_key_of_a_fork_before_the_handover(
    attacked: SqlJournal, store: Store
):
    """As `rotator docs journal-security` says: after a leak, verify with the new public key."""
    fork = dict(_attacks(attacked, store))["end before the handover"]

    def look() -> list[str]:
        kept, store.anchor = store.anchor, None
        try:
            return [
                one for one in store.places(attacked, store.old) if one.startswith("checkpoint")
            ]
        finally:
            store.anchor = kept

    assert undone(attacked, fork, look) == [
        "checkpoints: they introduce another writers' key" + _tail(store)
    ]
    with_anchor = undone(attacked, fork, lambda: store.places(attacked, store.old))
    assert any("stored beside the signing key" in one for one in with_anchor)


def _tail(store: Store) -> str:
    return f" ({chain.key_id(chain.public_key(store.old))})"


# -- around it -------------------------------------------------------------------------------------


def test_who_lost_the_lease_hands_nothing_over(make_journal: MakeJournal, store: Store):
    """Another operator may have stored another key."""
    journal = make_journal(key=store.key)
    rotate(journal, "web", 1)
    lock = journal.acquire(audit.JOURNAL, "an operator", TTL)
    lost = Lock(secret=lock.secret, holder=lock.holder, fence=lock.fence - 1, expires=NOW)
    ring = KeyRing.parse(store.ring).with_successor(store.new)
    with pytest.raises(LockLost):
        hand_over(journal, ring.text(), NOW, lock=lost)
    assert journal.key_id() == chain.key_id(chain.public_key(store.old))


def test_a_damaged_journal_is_not_handed_over(attacked: SqlJournal, store: Store):
    """The checkpoint would cover what somebody else wrote."""
    with attacked.writing() as db:
        db.execute(sa.update(tables.events).where(tables.events.c.seq == 3).values(actor="x"))
    store.new = chain.new_signing_key()
    with pytest.raises(JournalBroken, match="the journal is damaged"):
        store.rotate(attacked)


def test_an_export_is_verified_with_either_public_key(
    rotated: SqlJournal, store: Store, tmp_path: Path
):
    """The new key signed it, and the old one names the new one. Another one does neither."""
    key = KeyRing.parse(store.ring).key(None)
    export(rotated, tmp_path / "out", "jsonl", now=NOW, signing_key=key.signing_key)
    for trusted in (store.old, store.new):
        report = verify_export(tmp_path / "out", chain.public_key(trusted))
        assert report.damage == []
        assert len(report.handovers) == 1
    assert verify_export(tmp_path / "out").damage == []
    stranger = chain.public_key(chain.new_signing_key())
    found = [one.where for one in verify_export(tmp_path / "out", stranger).damage]
    assert "checkpoints" in found
    thief = tmp_path / "thief"
    export(rotated, thief, "jsonl", now=NOW, signing_key=store.old)
    report = verify_export(thief, chain.public_key(store.new))
    assert [one.where for one in report.damage] == ["manifest.json"]


def test_a_backup_of_before_is_verified_with_the_key_of_then(
    make_journal: MakeJournal, store: Store
):
    """An older copy of the database with an older copy of the key."""
    journal = make_journal(key=store.key)
    rotate(journal, "web", 1)
    before, anchor = store.ring, checkpoint(journal, store.ring, NOW)
    kept = {table: rows_of(journal, table) for table in tables.AUDITED}
    store.rotate(journal)
    drop_triggers(journal)
    with journal.writing() as db:
        for table, found in kept.items():
            db.execute(sa.delete(table))
            if found:
                db.execute(sa.insert(table), found)
    store.ring, store.anchor = before, anchor
    assert store.places(journal) == []


def test_a_key_of_an_unknown_kind_is_refused_with_a_hint(store: Store):
    """Its algorithm is one that no library knows."""
    der = base64.b64decode("".join(store.old.reveal().splitlines()[1:-1]))
    text = base64.b64encode(der.replace(b"\x2b\x65\x70", b"\x2b\x65\x01")).decode()
    pem = Secret(f"-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
    with pytest.raises(UsageError, match="not an Ed25519 private key"):
        KeyRing.parse(pem).key(None)


def test_a_ring_is_read_as_it_was_written(store: Store):
    """With its retired keys; a key is selected by its id also where no library computes that."""
    alone = KeyRing.parse(store.old)
    both = KeyRing.parse(alone.with_successor(store.new).text())
    ids = [chain.key_id(chain.public_key(one)) for one in (store.old, store.new)]
    assert list(both.ids) == ids
    assert [both.key(id_).raw for id_ in ids] == [
        EventKey.derive(one).raw for one in (store.old, store.new)
    ]
    after = KeyRing.parse(both.handed_over().text())
    assert [one.id for one in after.retired] == ids[:1]
    assert after.retired[0].raw == EventKey.derive(store.old).raw
    assert store.old.reveal().splitlines()[1] not in after.text().reveal()
    assert after.text() == KeyRing.parse(after.text()).text()
    assert "PRIVATE" not in repr(after)
