"""Signed checkpoints: what makes a cut tail, a dropped secret or a rewritten chain visible."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from rotator.core.errors import JournalBroken, JournalError
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
        try:
            data = json.loads(text)
            return Anchor(number=int(data["number"]), hash=str(data["hash"]))
        except (ValueError, TypeError, KeyError, RecursionError):
            raise JournalBroken(
                "what is kept beside the signing key is not the number and hash of a checkpoint.",
                safety="Nothing was signed.",
                hint="Find out who changed the field `anchor` there, and put back what it was.",
            ) from None


def checkpoint(
    journal: SqlJournal, signing_key: Secret, now: datetime, *, anchor: Anchor | None = None
) -> Anchor | None:
    """Sign the heads of the chains that grew since the newest checkpoint; None when none did.

    `anchor`: the checkpoint that was kept outside of the database; it must still be there. Any
    number of processes may do this at once: a checkpoint's number is unique, and the second one
    reads again. Raises `JournalBroken` when a chain or the checkpoints no longer hold what was signed
    before: a signature must not cover that up.
    """
    key_id = chain.key_id(chain.public_key(signing_key))
    # The long read first, without keeping anybody from writing.
    with journal.snapshot() as db:
        known = _Signed().follow(db)
        if anchor is not None:
            require(db, anchor)
        if not _grown(db, known):
            return None
    for _ in range(_RACES):
        try:
            return _write(journal, signing_key, key_id, rows.stamp(now), known)
        except JournalError as error:
            cause = error.__cause__
            if not isinstance(cause, IntegrityError):
                raise
    raise JournalError("the checkpoint could not be written: others were always faster.")


def require(db: Connection, anchor: Anchor) -> None:
    """Raise `JournalBroken` unless the journal holds this checkpoint."""
    query = sa.select(_checkpoints.c.hash).where(_checkpoints.c.number == anchor.number)
    if db.execute(query).scalar() != anchor.hash:
        raise JournalBroken(
            f"the journal does not hold checkpoint {anchor.number}, which is kept beside the signing"
            " key: the journal was cut, or put back to an older state.",
            safety="Nothing was signed.",
            hint="See what is missing: rotator audit verify. After a restore that you know of:"
            " rotator audit acknowledge --reason WHY",
        )


@dataclass(slots=True)
class _Signed:
    """What the checkpoints speak for: the head of each secret's chain, up to the newest of them."""

    heads: dict[str, tuple[int, str]] = field(default_factory=dict[str, tuple[int, str]])
    number: int = 0
    hash: str = chain.START

    def follow(self, db: Connection) -> _Signed:
        """Take in the checkpoints that have come since."""
        query = (
            sa.select(_checkpoints.c.number, _checkpoints.c.hash, _checkpoints.c.heads)
            .where(_checkpoints.c.number > self.number)
            .order_by(_checkpoints.c.number)
        )
        for number, hashed, text in db.execute(query):
            try:
                self.heads |= {name: (seq, head) for name, (seq, head) in json.loads(text).items()}
            except (ValueError, TypeError, AttributeError) as error:
                raise _broken(f"checkpoint {number} cannot be read") from error
            self.number, self.hash = number, hashed
        return self


def _grown(db: Connection, known: _Signed) -> dict[str, tuple[int, str]]:
    """Return the chains that are longer than what is signed of them, and make sure of the rest."""
    secrets = tables.secrets.c
    query = sa.select(secrets.name, secrets.seq, secrets.head).where(secrets.seq > 0)
    now = {name: (seq, head) for name, seq, head in db.execute(query)}
    grown = {name: head for name, head in now.items() if known.heads.get(name) != head}
    if gone := sorted(known.heads.keys() - now.keys()):
        raise _broken(f"secret {gone[0]} was dropped")
    for name in grown:
        signed = known.heads.get(name)
        if signed is None:
            continue
        event = (tables.events.c.secret == name) & (tables.events.c.seq == signed[0])
        if db.execute(sa.select(tables.events.c.hash).where(event)).scalar() != signed[1]:
            raise _broken(f"secret {name} has lost event {signed[0]}, or it was changed")
    return grown


def _write(
    journal: SqlJournal, signing_key: Secret, key_id: str, at: str, known: _Signed
) -> Anchor | None:
    with journal.writing() as db:
        grown = _grown(db, known.follow(db))
        if not grown:
            return None
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
                key_id=key_id,
                signature=chain.sign(signing_key, hashed),
            )
        )
    return Anchor(number=number, hash=hashed)


def _broken(what: str) -> JournalBroken:
    return JournalBroken(
        f"{what}, though a checkpoint speaks for it: no new one was signed.",
        hint="Somebody may be tampering with the journal: rotator audit verify",
    )
