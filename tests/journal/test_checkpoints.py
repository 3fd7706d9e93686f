"""A checkpoint signs only what still agrees with those before it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from rotator.core.errors import JournalBroken
from rotator.core.secret import Secret
from rotator.journal import audit, chain, rows, tables
from rotator.journal.checkpoints import Anchor, checkpoint
from rotator.journal.sql import SqlJournal
from tests.journal.attacker import newest_checkpoint, places, rewrite, rows_of
from tests.journal.conftest import NOW, MakeJournal, rotate


def test_a_checkpoint_speaks_only_for_what_grew(journal: SqlJournal, signing_key: Secret):
    """The second holds one secret; a third, of nothing, is not made."""
    rotate(journal, "web", 1)
    rotate(journal, "batch", 1)
    first = checkpoint(journal, signing_key, NOW)
    rotate(journal, "web", 2)
    second = checkpoint(journal, signing_key, NOW)
    assert first is not None
    assert second is not None
    assert (first.number, second.number) == (1, 2)
    assert checkpoint(journal, signing_key, NOW) is None
    held = [sorted(json.loads(row["heads"])) for row in rows_of(journal, tables.checkpoints)]
    assert held == [["batch", "web"], ["web"]]
    assert Anchor.parse(second.text()) == second


def test_an_empty_journal_needs_no_checkpoint(journal: SqlJournal, signing_key: Secret):
    """Nothing is written, and nothing is amiss."""
    assert checkpoint(journal, signing_key, NOW) is None
    assert audit.verify(journal).ok


def test_checkpoints_written_at_once_make_one_chain(make_journal: MakeJournal, signing_key: Secret):
    """Each from a connection of its own, as processes have them."""
    journals = [make_journal() for _ in range(4)]

    def work(number: int) -> None:
        for turn in range(6):
            rotate(journals[number], f"secret-{number}", turn)
            checkpoint(journals[number], signing_key, NOW)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    report = audit.verify(journals[0], public_key=chain.public_key(signing_key))
    assert (report.damage, report.unsigned_events) == ([], 0)
    numbers = [row["number"] for row in rows_of(journals[0], tables.checkpoints)]
    assert numbers == list(range(1, report.checkpoints + 1))


@pytest.mark.parametrize("keep", [1, 14])
def test_a_cut_chain_is_not_signed_over(audited: SqlJournal, signing_key: Secret, keep: int):
    """However well the attacker has made the rest agree, the next checkpoint refuses."""
    with audited.writing() as db:
        rewrite(db, "web", keep)
    rotate(audited, "other", 9)
    with pytest.raises(JournalBroken, match="secret web, event 28 was deleted or changed"):
        checkpoint(audited, signing_key, NOW)
    assert newest_checkpoint(audited).number == 2


def test_a_cut_chain_that_has_grown_again_is_not_signed_over(
    audited: SqlJournal, signing_key: Secret
):
    """It is as long as before, and another."""
    with audited.writing() as db:
        rewrite(db, "web", 14)
    rotate(audited, "web", 7)
    rotate(audited, "web", 8)
    with pytest.raises(JournalBroken, match="secret web, event 28 was deleted or changed"):
        checkpoint(audited, signing_key, NOW)


def test_a_dropped_secret_is_not_signed_over(audited: SqlJournal, signing_key: Secret):
    """Also where something else has grown."""
    with audited.writing() as db:
        rewrite(db, "batch", 0)
        db.execute(sa.delete(tables.secrets).where(tables.secrets.c.name == "batch"))
    rotate(audited, "web", 9)
    with pytest.raises(JournalBroken, match="secret batch was deleted"):
        checkpoint(audited, signing_key, NOW)


def test_a_checkpoint_that_goes_back_is_found(audited: SqlJournal, signing_key: Secret):
    """Though its signature is right: a careless program signed what an attacker had left."""
    with audited.writing() as db:
        rewrite(db, "web", 14)
        head = db.execute(sa.select(tables.secrets.c.head).where(tables.secrets.c.name == "web"))
        before = newest_checkpoint(audited).hash
        heads = chain.canonical({"web": [14, head.scalar_one()]})
        at = rows.stamp(NOW)
        hashed = chain.checkpoint_hash(3, at, heads, before)
        db.execute(
            sa.insert(tables.checkpoints).values(
                number=3,
                at=at,
                heads=heads,
                prev_hash=before,
                hash=hashed,
                key_id=chain.key_id(chain.public_key(signing_key)),
                signature=chain.sign(signing_key, hashed),
            )
        )
    assert places(audited, signing_key) == [
        "checkpoint 3: ends with secret web, event 14, but checkpoint 2 ended it at 28",
        "secret web, events 15 to 28: missing: checkpoint 2 covers them",
    ]


def test_a_signature_has_one_writing(signing_key: Secret):
    """Base64 that decodes to the same bytes is a changed row all the same."""
    public = chain.public_key(signing_key)
    signature = chain.sign(signing_key, "message")
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    spare = letters[letters.index(signature[-3]) ^ 1]
    assert chain.signed(public, "message", signature)
    assert not chain.signed(public, "message", f"{signature[:-3]}{spare}==")
