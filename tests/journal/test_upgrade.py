"""Journals that older programs wrote open, upgrade and verify."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
import sqlalchemy as sa
from alembic import command
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from rotator.core.errors import JournalError
from rotator.core.model import Kind, NewEvent
from rotator.core.secret import Secret
from rotator.journal import audit, migrate, tables
from rotator.journal.checkpoints import Anchor, checkpoint, introduce
from rotator.journal.event_key import EventKey
from tests.journal.conftest import NOW, TTL, rotate

if TYPE_CHECKING:
    from rotator.journal.sql import SqlJournal
    from tests.journal.conftest import MakeJournal

_OLD: Final = (Path(__file__).parent / "journal_0001.sql").read_text()
_BEFORE_KEYS: Final = (Path(__file__).parent / "journal_83f7f47.sql").read_text()
_KEY: Final = """-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAoiekZgpDDsT9mGZRF9KyXYG8TH+5ymy6XkezPQG4uzM=
-----END PUBLIC KEY-----
"""
_TABLES: Final = ("events", "secrets", "rotations", "checkpoints")


@pytest.fixture
def old(make_journal: MakeJournal) -> MakeJournal:
    """Opens a journal whose schema and rows are those of revision 0001."""
    return _put_back(make_journal, _OLD)


def _put_back(make_journal: MakeJournal, dump: str) -> MakeJournal:
    recorded = sqlite3.connect(":memory:")
    recorded.executescript(dump)
    recorded.row_factory = sqlite3.Row
    empty = make_journal(check=False, upgrade=False)
    with empty.database.begin() as db:
        tables.metadata.drop_all(db)
        db.execute(sa.text("DROP TABLE IF EXISTS alembic_version"))
        if db.dialect.name != "sqlite":
            db.execute(sa.text("DROP FUNCTION IF EXISTS rotator_append_only"))
        config = migrate._config()
        config.attributes["connection"] = db
        command.upgrade(config, "0001")
        for name in _TABLES:
            rows = [dict(one) for one in recorded.execute(f"SELECT * FROM {name}")]
            columns = ", ".join(rows[0])
            values = ", ".join(f":{one}" for one in rows[0])
            db.execute(sa.text(f"INSERT INTO {name} ({columns}) VALUES ({values})"), rows)
    return make_journal


def _damage(journal: SqlJournal) -> list[str]:
    return [str(one.where) for one in audit.verify(journal, public_key=_KEY).damage]


def test_an_old_journal_is_refused_until_it_is_upgraded(old: MakeJournal):
    """The error names the command that upgrades it."""
    with pytest.raises(JournalError, match="rotator db upgrade"):
        old(upgrade=False)


def test_an_old_journal_verifies_after_its_upgrade(old: MakeJournal):
    """Chains, folds, seals and signatures: nothing of what was written has another meaning."""
    journal = old()
    assert journal.upgraded_from == "0001"
    assert _damage(journal) == []


def test_the_upgrade_folds_what_old_events_say(old: MakeJournal):
    """What the last check saw is a fact of the record, also where an old program saw it."""
    records = {one.name: one for one in old().secrets()}
    assert records["healthy"].refused is None
    assert "'web'" in (records["refused"].refused or "")
    assert records["drifted"].drift == "7"
    assert records["open"].open_rotation == "r-2"


def test_the_upgrade_does_not_cover_up_damage(old: MakeJournal):
    """A row that was changed before is still found after the upgrade."""
    with old(check=False, upgrade=False).database.begin() as db:
        db.execute(sa.text("UPDATE secrets SET login = 'mallory' WHERE name = 'healthy'"))
    assert _damage(old()) == ["secrets, row healthy", "secrets, row healthy, column login"]


# -- what was written before there was a key of the writers --------------------------------------------

_HEAD: Final = Anchor(
    number=2, hash="f33fffc8ea70e85d784a29242f9826736d6408563c1d27455fb237348d44398b"
)


@pytest.fixture
def signing_key() -> Secret:
    """The key of the journal that the program of commit 83f7f47 wrote."""
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    private = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Secret(key.private_bytes(*private).decode())


def test_a_journal_without_a_key_gets_one(make_journal: MakeJournal, signing_key: Secret):
    """What was written before is marked as such; an open rotation goes on; all of it verifies."""
    key = EventKey.derive(signing_key)

    def provide(journal: SqlJournal) -> EventKey:
        introduce(journal, signing_key, NOW, anchor=_HEAD)
        return key

    journal = _put_back(make_journal, _BEFORE_KEYS)(key=provide, is_dead=lambda _holder: True)
    before = audit.verify(journal, public_key=key.public, anchor=_HEAD, key=key)
    assert (before.damage, before.unsigned_events) == ([], 14)
    journal.authenticate()
    assert [event.seq for event in journal.history("open-1")] == [1]
    assert len(journal.history("web-1")) == 14
    assert len(journal.events("parked")) == 2
    lock = journal.acquire("open", "somebody", TTL)
    ended = NewEvent(kind=Kind.ENDED, rotation_id="open-1", data={"outcome": "undone"})
    journal.append(lock, [ended], TTL)
    assert [event.seq for event in journal.history("open-1")] == [1, 2]
    rotate(journal, "web", 5)
    anchor = checkpoint(journal, signing_key, NOW, anchor=_HEAD)
    after = audit.verify(journal, public_key=key.public, anchor=anchor, key=key)
    assert (after.damage, after.unsigned_events) == ([], 0)
    with journal.reading() as db:
        marked = db.execute(sa.text("SELECT count(*) FROM events WHERE mac IS NULL")).scalar()
    assert marked == before.events


def test_what_was_written_before_the_key_cannot_be_extended(
    make_journal: MakeJournal, signing_key: Secret
):
    """An event without a code is found behind the checkpoint that introduces the key."""
    key = EventKey.derive(signing_key)
    journal = _put_back(make_journal, _BEFORE_KEYS)()
    introduce(journal, signing_key, NOW, anchor=_HEAD)
    with journal.database.begin() as db:
        db.execute(
            sa.text(
                "INSERT INTO events (secret, seq, at, actor, fence, kind, data, prev_hash, hash)"
                " SELECT secret, seq + 1, at, actor, fence, kind, data, hash, hash FROM events"
                " WHERE secret = 'parked' AND seq = 2"
            )
        )
    found = audit.verify(journal, public_key=key.public, anchor=_HEAD, key=key).damage
    assert any(one.what.startswith("was not written by rotator") for one in found), found
