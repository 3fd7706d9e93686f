"""Only holders of the key write events: what a stolen database password makes is found, and not acted on."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa

from rotator.core.errors import JournalBroken, JournalError, UsageError
from rotator.core.history import SecretRecord, fold_secret
from rotator.core.model import Kind, NewEvent, Step
from rotator.core.secret import Secret
from rotator.journal import audit, chain, rows, tables
from rotator.journal.checkpoints import Anchor, checkpoint, introduce
from rotator.journal.event_key import EventKey
from rotator.journal.sql import SqlJournal
from tests.journal.attacker import at, changed, drop_triggers, named, place_of, request_log, rows_of
from tests.journal.conftest import NOW, TTL, MakeJournal, ask, rotate

_SAMPLE = 60


def _provider(signing_key: Secret) -> Callable[[SqlJournal], EventKey]:
    def provide(journal: SqlJournal) -> EventKey:
        introduce(journal, signing_key, NOW)
        return EventKey.derive(signing_key)

    return provide


@dataclass(frozen=True)
class Sandbox:
    """A journal with a key, as it is and as it was before its last events."""

    journal: SqlJournal
    signing_key: Secret
    anchor: Anchor
    earlier: dict[str, list[dict[str, Any]]]

    def places(self, journal: Any = None) -> list[str]:
        key = EventKey.derive(self.signing_key)
        report = audit.verify(
            journal or self.journal,
            public_key=key.public,
            anchor=self.anchor,
            key=key,
            trusts=request_log(self.journal, self.signing_key).trusts,
        )
        found = [one for one in report.damage if not one.where.startswith("trigger ")]
        return [f"{one.where}: {one.what}" for one in found]

    @contextmanager
    def attacked(self, act: Callable[[sa.Connection], object]) -> Iterator[SqlJournal]:
        """Yield a journal that reads what `act` has done; it is undone afterwards."""
        with self.journal.database.connect() as db:
            if db.dialect.name == "sqlite":
                db.exec_driver_sql("BEGIN IMMEDIATE")
            act(db)
            yield _Inside(self.journal, db)  # pyright: ignore[reportReturnType] # as far as it is read
            db.rollback()


class _Inside:
    """What reads a journal within one transaction."""

    def __init__(self, journal: SqlJournal, db: sa.Connection) -> None:
        self._db = db
        self.lock_horizon = journal.lock_horizon

    @contextmanager
    def snapshot(self) -> Iterator[sa.Connection]:
        yield self._db


@pytest.fixture
def keyed(make_journal: MakeJournal, signing_key: Secret) -> Sandbox:
    """Two secrets, three rotations of which one is open, a parked one; two checkpoints, no triggers."""
    journal = make_journal(key=_provider(signing_key))
    rotate(journal, "web", 1)
    rotate(journal, "batch", 1)
    ask(journal, signing_key, "first")
    checkpoint(journal, signing_key, NOW)
    earlier = {table.name: rows_of(journal, table) for table in tables.AUDITED}
    rotate(journal, "web", 2)
    lock = journal.acquire("batch", "somebody", TTL)
    requested = {"plugin": "p", "strategy": "s", "reason": "r", "old_version": "1"}
    journal.append(
        lock,
        [
            NewEvent(kind=Kind.REQUESTED, rotation_id="batch-9", data=requested),
            NewEvent(kind=Kind.STARTED, rotation_id="batch-9", step=Step.STAGE),
            NewEvent(kind=Kind.PARKED, rotation_id="batch-9", data={"reason": "an operator"}),
        ],
        TTL,
    )
    journal.release(lock)
    anchor = checkpoint(journal, signing_key, NOW)
    assert anchor is not None
    drop_triggers(journal)
    return Sandbox(journal, signing_key, anchor, earlier)


def test_an_untouched_journal_is_authentic(keyed: Sandbox):
    """With its key, its public key and its anchor; and with the public key alone."""
    assert keyed.places() == []
    report = audit.verify(keyed.journal, public_key=chain.public_key(keyed.signing_key))
    assert [one.where for one in report.damage if not one.where.startswith("trigger ")] == []
    assert not report.authenticated


# -- every single row ------------------------------------------------------------------------------


def _acts(sandbox: Sandbox) -> Iterator[tuple[str, list[str], Callable[[sa.Connection], object]]]:
    """Yield what is done, the places of which one must be named, and what does it."""
    for table in tables.AUDITED:
        found = rows_of(sandbox.journal, table)
        numbers = {c.name for c in table.columns if isinstance(c.type, sa.Integer)}
        for row in found:
            place = place_of(table, row)
            yield f"remove {place}", [place], _removing(table, row)
            for column in row:
                others = (
                    [0, 7] if row[column] is None and column in numbers else changed(row[column])
                )
                if row[column] is not None and table.c[column].nullable:
                    others.append(None)
                for value in others:
                    new = row | {column: value}
                    name = f"{place}: {column} is {value!r}"
                    yield name, [place, place_of(table, new)], _putting(table, row, new)
            if table in (tables.secrets, tables.rotations):
                yield from _rewritten(table, row)
        for row in sandbox.earlier[table.name]:
            now = next(one for one in found if place_of(table, one) == place_of(table, row))
            if now != row:
                place = place_of(table, row)
                yield f"replay an older {place}", [place], _putting(table, now, row)
    events = rows_of(sandbox.journal, tables.events)
    for one, other in itertools.pairwise(events):
        if one["secret"] == other["secret"]:
            yield (
                f"swap {place_of(tables.events, one)}",
                [place_of(tables.events, one)],
                _swapping(one, other),
            )
    for row in events:
        last = max(one["seq"] for one in events if one["secret"] == row["secret"])
        again = row | {"seq": last + 1}
        place = place_of(tables.events, again)
        yield f"replay {place_of(tables.events, row)}", [place], _adding(tables.events, again)
        strange = row | {"secret": "stranger"}
        place = place_of(tables.events, strange)
        yield (
            f"{place} of another secret",
            [place, "secrets, row stranger"],
            _adding(tables.events, strange),
        )


def _rewritten(
    table: sa.Table, row: dict[str, Any]
) -> Iterator[tuple[str, list[str], Callable[[sa.Connection], object]]]:
    """Yield each change of a column with the seal that needs no key, as an attacker can make it."""
    place = place_of(table, row)
    for column, held in row.items():
        if column in ("seal", table.primary_key.columns[0].name):
            continue
        for value in changed(held):
            new = rows.sealed(table, row | {column: value})
            yield f"{place}: {column} is {value!r}, sealed", [place], _putting(table, row, new)


def _removing(table: sa.Table, row: dict[str, Any]) -> Callable[[sa.Connection], object]:
    return lambda db: db.execute(sa.delete(table).where(at(table, row)))


def _putting(
    table: sa.Table, row: dict[str, Any], new: dict[str, Any]
) -> Callable[[sa.Connection], object]:
    return lambda db: db.execute(sa.update(table).where(at(table, row)).values(new))


def _adding(table: sa.Table, new: dict[str, Any]) -> Callable[[sa.Connection], object]:
    return lambda db: db.execute(sa.insert(table), new)


def _swapping(one: dict[str, Any], other: dict[str, Any]) -> Callable[[sa.Connection], object]:
    def swap(db: sa.Connection) -> None:
        for row in (one, other):
            db.execute(sa.delete(tables.events).where(at(tables.events, row)))
        moved = [one | {"seq": other["seq"]}, other | {"seq": one["seq"]}]
        db.execute(sa.insert(tables.events), moved)

    return swap


def _missed(sandbox: Sandbox, acts: list[Any]) -> list[str]:
    missed = []
    for name, places, act in acts:
        try:
            with sandbox.attacked(act) as journal:
                found = sandbox.places(journal)
        except sa.exc.DBAPIError:
            continue  # the database itself refuses it
        if not any(named(place, found) for place in places):
            missed.append((name, found[:2]))
    return missed


def test_forged_changed_removed_and_replayed_rows_are_found(keyed: Sandbox):
    """A sample, another one at each run; its seed is printed where one is missed."""
    seed = random.randrange(2**32)
    acts = random.Random(seed).sample(list(_acts(keyed)), _SAMPLE)
    assert (seed, _missed(keyed, acts)) == (seed, [])


@pytest.mark.slow
def test_every_forged_changed_removed_and_replayed_row_is_found(keyed: Sandbox):
    """All of them."""
    acts = list(_acts(keyed))
    assert len(acts) > 1_000
    assert _missed(keyed, acts) == []


# -- whole stories ---------------------------------------------------------------------------------


def _forge(*events: NewEvent, secret: str, mac: str | None = None) -> Callable[..., None]:
    """Add events with right hashes, and make the record agree: everything but what needs the key."""

    def act(db: sa.Connection) -> None:
        query = sa.select(tables.secrets).where(tables.secrets.c.name == secret)
        row = db.execute(query).mappings().first()
        record = SecretRecord(name=secret) if row is None else rows.secret_from(row)
        lock: dict[str, Any] = {"lease_holder": None, "lease_fence": 9, "lease_expires": None}
        for event in events:
            step = event.step and event.step.value
            values = (
                *(secret, record.seq + 1, rows.stamp(NOW), "mallory", 9, event.kind.value),
                *(event.rotation_id, step, chain.canonical(event.data), record.head),
            )
            hashed = chain.event_hash(*values)
            new = dict(zip(rows.EVENT_COLUMNS, (*values, hashed, mac), strict=True))
            db.execute(sa.insert(tables.events), new)
            record = fold_secret(record, rows.event_from(new))
        changed = rows.sealed(tables.secrets, rows.secret_row(record) | lock)
        if row is None:
            db.execute(sa.insert(tables.secrets), changed)
        else:
            db.execute(sa.update(tables.secrets).where(query.whereclause).values(changed))  # pyright: ignore[reportArgumentType] # it has one

    return act


_NEVER = NewEvent(kind=Kind.SCHEDULED, data={"next_due": "2999-01-01T00:00:00+00:00"})
_THEIRS = NewEvent(kind=Kind.ADOPTED, data={"login": "payroll", "version": "7"})
_STORIES = {
    "never due again": (_forge(_NEVER, secret="web"), "web", "event 29"),
    "never due again, with a code": (_forge(_NEVER, secret="web", mac="0" * 64), "web", "event 29"),
    "a stranger's login": (_forge(_THEIRS, secret="web"), "web", "event 29"),
    "an invented secret": (_forge(_THEIRS, _NEVER, secret="payroll"), "payroll", "event 1"),
    "unparked": (
        _forge(NewEvent(kind=Kind.UNPARKED, data={"reason": "x"}), secret="batch"),
        "batch",
        "event 18",
    ),
}


@pytest.mark.parametrize("name", _STORIES)
def test_a_forgery_is_found_never_signed_and_never_acted_on(keyed: Sandbox, name: str):
    """All that needs no key agrees: hashes, records, plain seals."""
    forge, secret, place = _STORIES[name]
    with keyed.journal.writing() as db:
        forge(db)
    assert named(f"secret {secret}, {place}", keyed.places())
    with pytest.raises(JournalBroken, match="was not written by rotator"):
        checkpoint(keyed.journal, keyed.signing_key, NOW)
    for look in (keyed.journal.secret, keyed.journal.events, keyed.journal.open_rotation):
        with pytest.raises(JournalBroken, match="was not written by rotator") as refused:
            look(secret)
        assert refused.value.secret == secret
    with pytest.raises(JournalBroken, match="was not written by rotator"):
        keyed.journal.acquire(secret, "somebody", TTL)
    rotate(keyed.journal, "other", 5)  # everything else goes on


def test_the_history_of_an_open_rotation_is_complete(keyed: Sandbox):
    """An event that is removed, changed, or given to another rotation is never left out quietly."""
    events = [row for row in rows_of(keyed.journal, tables.events) if row["secret"] == "batch"]
    journal = keyed.journal
    assert [one.seq for one in journal.history("batch-9")] == [15, 16, 17]
    for row in events[14:]:
        for change in ({"rotation_id": "batch-1"}, {"data": "{}"}, {"kind": "failed"}, None):
            if change is not None and row["data"] == change.get("data"):
                continue
            with journal.writing() as db:
                statement = sa.delete(tables.events) if change is None else sa.update(tables.events)
                if change is not None:
                    statement = statement.values(change)
                db.execute(statement.where(at(tables.events, row)))
            with pytest.raises(JournalBroken):
                journal.history("batch-9")
            with journal.writing() as db:
                db.execute(sa.delete(tables.events).where(at(tables.events, row)))
                db.execute(sa.insert(tables.events), row)
    with journal.writing() as db:
        db.execute(sa.delete(tables.rotations).where(tables.rotations.c.id == "batch-9"))
    with pytest.raises(JournalBroken, match="open rotation"):
        journal.open_rotation("batch")


def test_a_chain_that_was_put_back_is_not_gone_on_with(keyed: Sandbox):
    """Older rows have seals of the key, too: the process that wrote the newer ones knows better."""
    with keyed.journal.writing() as db:
        for table in tables.AUDITED:
            db.execute(sa.delete(table))
            if keyed.earlier[table.name]:
                db.execute(sa.insert(table), keyed.earlier[table.name])
    assert named("checkpoint 3", keyed.places())
    with pytest.raises(JournalBroken, match="restored to a state before event 28"):
        keyed.journal.secret("web")
    with pytest.raises(JournalBroken, match="does not contain checkpoint 3"):
        checkpoint(keyed.journal, keyed.signing_key, NOW, anchor=keyed.anchor)


def test_a_checkpoint_that_we_did_not_sign_is_not_followed(keyed: Sandbox):
    """A forged one would make forged events look as if they were signed."""
    forge, _, _ = _STORIES["never due again"]
    with keyed.journal.writing() as db:
        forge(db)
        heads = chain.canonical({"web": [29, "0" * 64]})
        at_, number, prev = rows.stamp(NOW), keyed.anchor.number + 1, keyed.anchor.hash
        hashed = chain.checkpoint_hash(number, at_, heads, prev)
        new = {"number": number, "at": at_, "heads": heads, "prev_hash": prev, "hash": hashed}
        key_id = chain.key_id(chain.public_key(keyed.signing_key))
        new |= {"key_id": key_id, "signature": chain.sign(chain.new_signing_key(), hashed)}
        db.execute(sa.insert(tables.checkpoints), new)
    rotate(keyed.journal, "other", 5)
    with pytest.raises(JournalBroken, match=f"checkpoint {number} is not signed"):
        checkpoint(keyed.journal, keyed.signing_key, NOW, anchor=keyed.anchor)


# -- the key ---------------------------------------------------------------------------------------


def test_a_process_without_the_key_writes_nothing(keyed: Sandbox, make_journal: MakeJournal):
    """Also not for a secret that is new."""
    for secret in ("web", "new"):
        with pytest.raises(JournalError, match="has no key"):
            make_journal().acquire(secret, "somebody", TTL)
    assert keyed.places() == []


def test_another_key_is_refused(keyed: Sandbox, make_journal: MakeJournal):
    """It neither replaces the one that is there, nor writes beside it."""
    other = make_journal(key=_provider(chain.new_signing_key()))
    with pytest.raises(JournalError):
        other.acquire("web", "somebody", TTL)
    assert keyed.places() == []


def test_the_key_is_not_introduced_a_second_time_after_a_cut(keyed: Sandbox):
    """Who takes away every trace of it must not have everything blessed that is there then."""
    with keyed.journal.writing() as db:
        db.execute(sa.delete(tables.checkpoints))
    with pytest.raises(JournalBroken, match="introduced the key"):
        introduce(keyed.journal, keyed.signing_key, NOW)
    with keyed.journal.writing() as db:
        db.execute(sa.update(tables.events).values(mac=None))
        for table in (tables.secrets, tables.rotations):
            for row in db.execute(sa.select(table)).mappings().all():
                plain = rows.sealed(table, dict(row))
                db.execute(sa.update(table).where(at(table, dict(row))).values(plain))
    with pytest.raises(JournalBroken, match="does not contain checkpoint"):
        introduce(keyed.journal, keyed.signing_key, NOW, anchor=keyed.anchor)
    found = keyed.places()
    assert any("introduces the writers' key" in one for one in found), found


def test_a_damaged_journal_gets_no_key(audited: SqlJournal, signing_key: Secret):
    """What was forged before must be found first."""
    with audited.writing() as db:
        db.execute(sa.update(tables.events).where(tables.events.c.seq == 3).values(actor="x"))
    with pytest.raises(JournalBroken, match="event 3"):
        introduce(audited, signing_key, NOW)


def test_no_key_appears_in_a_representation(signing_key: Secret):
    """It is as secret as the signing key."""
    key = EventKey.derive(signing_key)
    assert key.raw.hex() not in repr(key)
    assert repr(key.raw) not in repr(key)
    assert signing_key.reveal() not in repr(key)


def test_the_key_is_the_same_without_a_package(signing_key: Secret):
    """A rotation function reads the PEM text itself."""
    known = chain._private(signing_key).private_bytes_raw()
    text = signing_key.reveal()
    for written in (text, text.strip(), text.replace("\n", "\r\n")):
        assert chain.private_bytes(Secret(written)) == known
    with pytest.raises(UsageError):
        chain.private_bytes(Secret("no key"))
