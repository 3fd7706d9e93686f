"""Signed checkpoints: what makes a cut tail, a dropped secret or a rewritten chain visible."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from rotator.core.errors import JournalError
from rotator.journal import chain, rows, tables

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

    from rotator.core.secret import Secret
    from rotator.journal.sql import SqlJournal

_RACES: Final = 20
_checkpoints: Final = tables.checkpoints


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """The newest checkpoint's number and hash, kept outside the database."""

    number: int
    hash: str

    def text(self) -> str:
        """Return it as it is kept beside the signing key."""
        return json.dumps({"number": self.number, "hash": self.hash})

    @staticmethod
    def parse(text: str) -> Anchor:
        """Read what `text` wrote."""
        data = json.loads(text)
        return Anchor(number=int(data["number"]), hash=str(data["hash"]))


def checkpoint(journal: SqlJournal, signing_key: Secret, now: datetime) -> Anchor | None:
    """Sign the heads of the chains that grew since the newest checkpoint; None when none did.

    Any number of processes may do this at once: a checkpoint's number is unique, and whoever
    comes second looks again.
    """
    key_id = chain.key_id(chain.public_key(signing_key))
    for _ in range(_RACES):
        try:
            return _try(journal, signing_key, key_id, rows.stamp(now))
        except JournalError as error:
            cause = error.__cause__
            if not isinstance(cause, IntegrityError):
                raise
    raise JournalError("the checkpoint could not be written: others were always faster.")


def signed_heads(db: Connection) -> dict[str, tuple[int, str]]:
    """Return the head of each secret's chain that the checkpoints speak for."""
    heads: dict[str, tuple[int, str]] = {}
    query = sa.select(_checkpoints.c.heads).order_by(_checkpoints.c.number)
    for text in db.execute(query).scalars():
        heads |= {name: (seq, head) for name, (seq, head) in json.loads(text).items()}
    return heads


def _try(journal: SqlJournal, signing_key: Secret, key_id: str, at: str) -> Anchor | None:
    secrets = tables.secrets.c
    with journal.writing() as db:
        newest = (
            db.execute(sa.select(_checkpoints).order_by(_checkpoints.c.number.desc()).limit(1))
            .mappings()
            .first()
        )
        known = signed_heads(db)
        query = sa.select(secrets.name, secrets.seq, secrets.head).where(secrets.seq > 0)
        grown = {
            name: [seq, head]
            for name, seq, head in db.execute(query)
            if known.get(name) != (seq, head)
        }
        if not grown:
            return None
        number, prev = (newest["number"] + 1, newest["hash"]) if newest else (1, chain.START)
        heads = chain.canonical(grown)
        hashed = chain.checkpoint_hash(number, at, heads, prev)
        db.execute(
            sa.insert(_checkpoints).values(
                number=number,
                at=at,
                heads=heads,
                prev_hash=prev,
                hash=hashed,
                key_id=key_id,
                signature=chain.sign(signing_key, hashed),
            )
        )
    return Anchor(number=number, hash=hashed)
