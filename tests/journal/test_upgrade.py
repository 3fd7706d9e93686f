"""Journals that older programs wrote open, upgrade and verify."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
import sqlalchemy as sa
from alembic import command

from rotator.core.errors import JournalError
from rotator.journal import audit, migrate, tables

if TYPE_CHECKING:
    from rotator.journal.sql import SqlJournal
    from tests.journal.conftest import MakeJournal

_OLD: Final = (Path(__file__).parent / "journal_0001.sql").read_text()
_KEY: Final = """-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAoiekZgpDDsT9mGZRF9KyXYG8TH+5ymy6XkezPQG4uzM=
-----END PUBLIC KEY-----
"""
_TABLES: Final = ("events", "secrets", "rotations", "checkpoints")


@pytest.fixture
def old(make_journal: MakeJournal) -> MakeJournal:
    """Opens a journal whose schema and rows are those of revision 0001."""
    recorded = sqlite3.connect(":memory:")
    recorded.executescript(_OLD)
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
