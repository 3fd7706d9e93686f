"""Which key must have signed each checkpoint: the first one, and each successor that the one before named."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from rotator.journal import chain, rows, tables
from rotator.journal.signed_heads import KEY, LEAKED, NEXT, PREVIOUS, UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection

    from rotator.journal.event_key import EventKey
    from rotator.journal.report import AuditReport

_RAW: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """The checkpoint from which another key signs. `leaked`: the one before must not be trusted."""

    number: int
    at: str
    previous: str
    key: str
    leaked: bool


def encoded(public: str) -> str:
    """Return a public key (PEM) as a checkpoint names it."""
    return base64.b64encode(chain.public_bytes(public)).decode()


def may_hand_over(heads: object) -> bool:
    """Return whether a checkpoint with these heads may be of a handover; cheap."""
    return isinstance(heads, str) and (f'"{NEXT}":' in heads or f'"{PREVIOUS}":' in heads)


class Signers:
    """Follows the handovers of a chain of checkpoints, from the first one on.

    A checkpoint is signed by one key. Only the checkpoint before the first of another key can name that
    key, by its own signature; from there on no signature of the older key is accepted. The key that the
    reader trusts must be one of them: what is signed after its time, it vouches for by the handover, and
    what was signed before, by the hash of the checkpoint before its first.
    """

    def __init__(self, trusted: str, first: str | None) -> None:
        """`trusted`: the reader's public key (PEM). `first`: what `first_of` returned."""
        self._trusted: str = chain.key_id(trusted)
        self.public: str = first or trusted
        self._ids: list[str] = [chain.key_id(self.public)]
        self._next: str | None = None
        self.handovers: list[Handover] = []

    def check(self, report: AuditReport, row: rows.Read) -> None:
        """Check the signature of the checkpoint that comes next."""
        number = row["number"]
        where, marks = f"checkpoint {number}", _marks(row["heads"])
        if self._next is not None or PREVIOUS in marks:
            self._hand_over(report, number, row["at"], marks)
        if row["key_id"] != self._ids[-1]:
            report.add(where, f"was signed with another key ({row['key_id']})")
        if not chain.signed(self.public, row["hash"], row["signature"]):
            report.add(where, "its signature is invalid")
        named = marks.get(NEXT)
        self._next = None if named is None else _pem(named)
        if named is not None and self._next is None:
            report.add(where, "names a successor of the signing key that is no public key")

    def end(self, report: AuditReport) -> None:
        """Report a chain that the trusted key has no part in."""
        if self._next is not None:
            report.add(
                "checkpoints",
                "the last one names a successor of the signing key, which signed none",
            )
        if self._trusted not in self._ids:
            names = ", ".join(self._ids)
            report.add(
                "checkpoints",
                f"the key {self._trusted}, which is trusted, signed none of them; signed by {names}:"
                " the journal was restored to a state before that key, or forged with an older one",
            )

    def _hand_over(self, report: AuditReport, number: int, at: str, marks: dict[str, str]) -> None:
        where = f"checkpoint {number}"
        previous = _pem(marks.get(PREVIOUS, ""))
        if self._next is None or previous is None:
            what = "begins with another signing key, which the checkpoint before does not name"
            if self._next is not None:
                what = "is not of the signing key that the checkpoint before names"
            report.add(where, what)
            return
        key = chain.key_id(self._next)
        if chain.key_id(previous) != self._ids[-1] or marks.get(KEY) != key:
            report.add(where, "names other signing keys than the checkpoint before")
        handover = Handover(
            number=number, at=at, previous=self._ids[-1], key=key, leaked=LEAKED in marks
        )
        self.handovers.append(handover)
        self.public = self._next
        self._ids.append(key)


def first_of(heads: Iterable[object]) -> str | None:
    """Return the public key (PEM) that signed the first checkpoint; None where no handover names it.

    `heads`: of the checkpoints with `may_hand_over`, in their order.
    """
    for text in heads:
        named = _marks(text).get(PREVIOUS)
        if named is not None:
            return _pem(named)
    return None


def newest_handover(db: Connection, key: EventKey) -> tuple[str, dict[str, tuple[int, str]]] | None:
    """Return the id of the key before this one, and the heads in the last checkpoint of that one.

    None unless this key has signed that it took over from it.
    """
    checkpoints = tables.checkpoints
    named = checkpoints.c.heads.contains(f'"{PREVIOUS}":')
    first = (
        sa.select(checkpoints.c.number).where(named).order_by(checkpoints.c.number.desc()).limit(1)
    )
    number = db.execute(first).scalar() or 0
    pair = sa.select(checkpoints).where(checkpoints.c.number.in_((number - 1, number)))
    rows_ = db.execute(pair.order_by(checkpoints.c.number)).mappings().all()
    if len(rows_) != len(("last", "first")):
        return None
    for row in rows_:
        hashed = chain.checkpoint_hash(row["number"], row["at"], row["heads"], row["prev_hash"])
        if hashed != row["hash"]:
            return None
    last, begins = rows_
    if begins["prev_hash"] != last["hash"] or not chain.signed(
        key.public, begins["hash"], begins["signature"]
    ):
        return None
    previous = _pem(_marks(begins["heads"]).get(PREVIOUS, ""))
    if previous is None:
        return None
    heads = {
        name: (int(seq), str(head)) for name, (seq, head) in json.loads(str(last["heads"])).items()
    }
    return chain.key_id(previous), heads


def _marks(heads: object) -> dict[str, str]:
    if not may_hand_over(heads):
        return {}
    try:
        return {
            name: str(head)
            for name, (_, head) in json.loads(str(heads)).items()
            if name.startswith("(")
        }
    except UNREADABLE:
        return {}


def _pem(text: str) -> str | None:
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return chain.public_pem(raw) if len(raw) == _RAW else None
