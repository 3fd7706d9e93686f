"""A witness with a key of its own: it verifies the journal, signs the newest checkpoint, and keeps that."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rotator.core.errors import JournalBroken
from rotator.journal import audit, chain, tables
from rotator.journal.checkpoints import Anchor
from rotator.journal.rows import stamp
from rotator.journal.signed_heads import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from rotator.core.secret import Secret
    from rotator.journal.sql import SqlJournal

_DOMAIN: Final = "rotator witness 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Countersignature:
    """A checkpoint that a witness has signed at a time. `key`: the id of its key."""

    number: int
    hash: str
    at: str
    key: str
    signature: str

    def line(self) -> str:
        """Return it as the witness keeps it, which `audit verify --witness` reads."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps(values) + "\n"

    def made_with(self, public: str) -> bool:
        """Return whether the holder of this key (PEM) has signed it."""
        message = _message(self.number, self.hash, self.at)
        return self.key == chain.key_id(public) and chain.signed(public, message, self.signature)

    @property
    def anchor(self) -> Anchor:
        """The checkpoint."""
        return Anchor(number=self.number, hash=self.hash)


def countersign(
    journal: SqlJournal,
    key: Secret,
    now: datetime,
    *,
    public_key: str,
    before: Iterable[Countersignature],
) -> Countersignature | None:
    """Verify the journal and sign its newest checkpoint; None where it has none.

    `key`: of the witness. `public_key`: the journal's. `before`: what the witness signed; a journal that
    does not hold all of that is not signed. Raises `JournalBroken`.
    """
    seen = [one.anchor for one in before]
    report = audit.verify(journal, public_key=public_key, witnessed=seen)
    if not report.ok:
        first = report.damage[0]
        raise JournalBroken(
            f"the journal is damaged in {len(report.damage)} place(s), first {first.where}:"
            f" {first.what}.",
            safety="Nothing was signed.",
            hint="To list all damage: rotator audit verify",
        )
    checkpoints = tables.checkpoints.c
    query = tables.checkpoints.select().where(checkpoints.number == report.checkpoints)
    with journal.reading() as db:
        newest = db.execute(query).mappings().one_or_none()
    if newest is None:
        return None
    number, hashed, at = newest["number"], newest["hash"], stamp(now)
    return Countersignature(
        number=number,
        hash=hashed,
        at=at,
        key=chain.key_id(chain.public_key(key)),
        signature=chain.sign(key, _message(number, hashed, at)),
    )


def read(lines: Iterable[str], public: str) -> tuple[list[Countersignature], list[int]]:
    """Return what the holder of this key (PEM) has signed, and the numbers of the lines with another signature.

    Lines without a signature are skipped.
    """
    found, forged = list[Countersignature](), list[int]()
    for number, line in enumerate(lines, 1):
        try:
            data = json.JSONDecoder().raw_decode(line, line.index("{"))[0]
            one = Countersignature(
                number=int(data["number"]),
                **{name: str(data[name]) for name in ("hash", "at", "key", "signature")},
            )
        except UNREADABLE:
            continue
        if one.made_with(public):
            found.append(one)
        else:
            forged.append(number)
    return found, forged


def _message(number: int, hashed: str, at: str) -> str:
    return chain.digest(_DOMAIN, (number, hashed, at))
