"""Gives the rows of secrets facts that an older program did not fold from their events."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from rotator.core.history import SecretRecord, fold_secret
from rotator.core.model import Kind
from rotator.journal import rows, tables
from rotator.journal.chain import seal

if TYPE_CHECKING:
    from sqlalchemy import Connection

_secrets, _events = tables.secrets, tables.events
# The columns that a seal covered before there were details.
_BEFORE: Final = tuple(name for name in rows.SECRET_COLUMNS if name != "details")
_PAGE: Final = 1_000


def refold(db: Connection) -> None:
    """Fill `details` of each secret from its events, and seal what was sealed before.

    Nothing else of a row is touched: what does not follow from the events must be found later too.
    """
    after = ""
    query = sa.select(_secrets).where(_secrets.c.name > sa.bindparam("after"))
    while page := (
        db.execute(query.order_by(_secrets.c.name).limit(_PAGE), {"after": after}).mappings().all()
    ):
        after = page[-1]["name"]
        details = _folded(db, page[0]["name"], after)
        for row in page:
            was_sealed = seal("secrets", [row[name] for name in _BEFORE]) == row["seal"]
            filled = {**row, "details": details.get(row["name"])}
            changed = {"details": filled["details"]}
            if was_sealed:
                changed["seal"] = rows.sealed(_secrets, filled)["seal"]
            _ = db.execute(
                sa.update(_secrets).where(_secrets.c.name == row["name"]).values(changed)
            )


def _folded(db: Connection, first: str, last: str) -> dict[str, str | None]:
    """Return the details of the secrets between two names, from their events."""
    found: dict[str, str | None] = {}
    # Intents change no record.
    query = (
        sa.select(_events)
        .where(_events.c.secret.between(first, last), _events.c.kind != Kind.STARTED.value)
        .order_by(_events.c.secret, _events.c.seq)
    )
    for name, chained in groupby(db.execute(query).mappings(), key=itemgetter("secret")):
        record = SecretRecord(name=name)
        for row in chained:
            try:
                record = fold_secret(record, rows.event_from(row))
            except (ValueError, TypeError, KeyError):
                # Damage is for `audit verify` to tell of, not for an upgrade to stop at.
                continue
        found[name] = rows.secret_row(record)["details"]
    return found
