"""The key that authenticates events and records. The journal's database does not hold it.

It is derived from the signing key, so every process that may sign may write, and no other.
"""

from __future__ import annotations

import hmac
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from sqlalchemy import select

from rotator.core.errors import JournalBroken, UsageError
from rotator.journal import chain, rows, tables
from rotator.journal.signed_heads import KEY, UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, Select, Table

    from rotator.core.secret import Secret

_DERIVE: Final = b"rotator event key 1"
_EVENT: Final = "rotator event mac 1 "
# What a seal begins with that only the key can make; hex digests never do.
KEYED: Final = "mac:"


@dataclass(frozen=True, slots=True, kw_only=True)
class EventKey:
    """Makes and checks authentication codes.

    `signing_key`: None for a retired key, which signs nothing. `older`: the keys before this one.
    """

    raw: bytes = field(repr=False)
    signing_key: Secret | None = field(default=None, repr=False)
    older: tuple[EventKey, ...] = field(default=(), repr=False, compare=False)
    _public: str = field(default="", repr=False)

    @staticmethod
    def derive(signing_key: Secret, *, older: tuple[EventKey, ...] = ()) -> EventKey:
        """Return the key that belongs to a signing key. Raises `UsageError` for another kind of key."""
        raw = hmac.digest(chain.private_bytes(signing_key), _DERIVE, "sha256")
        return EventKey(signing_key=signing_key, raw=raw, older=older)

    @staticmethod
    def of_retired(public: str, raw: bytes) -> EventKey:
        """Return the key of events whose signing key is gone."""
        return EventKey(raw=raw, _public=public)

    def retire(self) -> EventKey:
        """Return the same key without its signing key."""
        return EventKey.of_retired(self.public, self.raw)

    def by_id(self) -> dict[str, EventKey]:
        """Return this key and those before it."""
        return {one.id: one for one in (*self.older, self)}

    @property
    def public(self) -> str:
        """The public half of the signing key, as PEM."""
        return self._public if self.signing_key is None else chain.public_key(self.signing_key)

    @property
    def id(self) -> str:
        """The short name of the signing key."""
        return chain.key_id(self.public)

    def sign(self, message: str) -> str:
        """Sign with the signing key; base64. Raises `UsageError` for a retired one."""
        if self.signing_key is None:
            raise UsageError("a retired signing key signs nothing.")
        return chain.sign(self.signing_key, message)

    def mac(self, hashed: str) -> str:
        """Return the code of the event with this hash: HMAC-SHA-256, in hex."""
        return hmac.digest(self.raw, (_EVENT + hashed).encode(), "sha256").hex()

    def made(self, hashed: str, mac: object) -> bool:
        """Return whether `mac` is the code of the event with this hash."""
        return isinstance(mac, str) and hmac.compare_digest(
            self.mac(hashed).encode(), mac.encode("utf-8", "surrogatepass")
        )

    def sealed(self, table: Table, row: rows.Row) -> rows.Row:
        """Return the row with a seal over its other columns that only this key makes."""
        return {**row, "seal": self.seal(table, row)}

    def require(self, table: Table, row: rows.Row) -> None:
        """Raise `JournalBroken` unless a holder of this key wrote the row."""
        seal = row["seal"]
        if not isinstance(seal, str) or not hmac.compare_digest(
            self.seal(table, row).encode(), seal.encode("utf-8", "surrogatepass")
        ):
            name = row["name"] if "name" in row else row["secret"]
            raise broken(f"its row in `{table.name}` was not written by rotator", str(name))

    def seal(self, table: Table, row: rows.Row) -> str:
        """Return the seal over the other columns of a row."""
        plain = rows.plain_seal(table, row)
        return KEYED + hmac.digest(self.raw, plain.encode(), "sha256").hex()


def newest_id(db: Connection, after: int = 0) -> tuple[int, str] | None:
    """Return the newest key that a checkpoint introduces, by checkpoint and id; None for none since `after`.

    Nothing of it is verified: it only selects among keys that are trusted already.
    """
    checkpoints = tables.checkpoints.c
    query = (
        select(checkpoints.number, checkpoints.heads)
        .where(checkpoints.number > after, checkpoints.heads.contains(f'"{KEY}":'))
        .order_by(checkpoints.number.desc())
        .limit(1)
    )
    row = db.execute(query).one_or_none()
    if row is None:
        return None
    try:
        _, id_ = json.loads(row[1])[KEY]
        return row[0], str(id_)
    except UNREADABLE:
        return None


def introducing() -> Select[tuple[int]]:
    """Return the query for the number of the checkpoint that introduces the key."""
    checkpoints = tables.checkpoints.c
    return select(checkpoints.number).where(checkpoints.heads.contains(f'"{KEY}":')).limit(1)


def require_chain(
    found: Sequence[rows.Row], secret: str, *, seq: int, prev: str | None = None
) -> None:
    """Raise `JournalBroken` unless these events of a secret follow each other, the first being `seq`.

    `prev`: the hash of the event before, where it is known. Each hash covers all events before it, so
    the last one authenticates the others.
    """
    for row in found:
        values = [row[name] for name in rows.HASHED_COLUMNS]
        follows = row["secret"] == secret and row["seq"] == seq
        if not follows or (prev is not None and row["prev_hash"] != prev):
            raise broken(f"event {seq} is missing, or another event is in its place", secret)
        if chain.event_hash(*values) != row["hash"]:
            raise broken(f"event {seq} was changed", secret)
        seq, prev = seq + 1, row["hash"]


def broken(what: str, secret: str) -> JournalBroken:
    """Return the error of a secret whose part of the journal no rotator wrote."""
    error = JournalBroken(
        f"the journal was modified: {what}.",
        safety="rotator did nothing based on it.",
        hint="Find out who can write to the journal's database: rotator audit verify",
    )
    error.secret = secret
    return error
