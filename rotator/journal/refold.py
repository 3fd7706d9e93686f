"""Gives the rows of secrets facts that an older program did not fold from their events."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from rotator.core.history import SecretRecord, fold_secret, moment
from rotator.core.model import Kind, Step
from rotator.journal import rows, tables
from rotator.journal.chain import seal, stamp

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from rotator.core.model import Event

_secrets, _events = tables.secrets, tables.events
# The columns that a seal covered before there were details.
_BEFORE: Final = tuple(name for name in rows.SECRET_COLUMNS if name != "details")
# Those that events had then.
_EVENT_COLUMNS: Final = [column for column in _events.columns if column.name != "mac"]
_PAGE: Final = 1_000


def refold(db: Connection) -> None:
    """Fill `details` of each secret from its events, and seal what was sealed before.

    The age of a credential is folded anew where it is what the older program made of the events:
    that counted a rollback as a new credential. Nothing else of a row is touched: what does not
    follow from the events must be found later too.
    """
    after = ""
    query = sa.select(_secrets).where(_secrets.c.name > sa.bindparam("after"))
    while page := (
        db.execute(query.order_by(_secrets.c.name).limit(_PAGE), {"after": after}).mappings().all()
    ):
        after = page[-1]["name"]
        folded = _folded(db, page[0]["name"], after)
        for row in page:
            was_sealed = seal("secrets", [row[name] for name in _BEFORE]) == row["seal"]
            new, old = folded.get(row["name"], ({}, {}))
            changed = {"details": new.get("details")}
            changed |= {name: new[name] for name in old if row[name] == old[name]}
            if was_sealed:
                changed["seal"] = rows.sealed(_secrets, {**row, **changed})["seal"]
            _ = db.execute(
                sa.update(_secrets).where(_secrets.c.name == row["name"]).values(changed)
            )


def _folded(db: Connection, first: str, last: str) -> dict[str, tuple[rows.Row, rows.Row]]:
    """Return the rows of the secrets between two names, and what an older program made of their age."""
    found: dict[str, tuple[rows.Row, rows.Row]] = {}
    # Intents change no record.
    query = (
        sa.select(*_EVENT_COLUMNS)
        .where(_events.c.secret.between(first, last), _events.c.kind != Kind.STARTED.value)
        .order_by(_events.c.secret, _events.c.seq)
    )
    for name, chained in groupby(db.execute(query).mappings(), key=itemgetter("secret")):
        record = SecretRecord(name=name)
        before: rows.Row = {"rotated_at": None, "since": None}
        for row in chained:
            try:
                event = rows.event_from(row)
                record = fold_secret(record, event)
                before |= _age_before(event)
            except (ValueError, TypeError, KeyError):
                # Damage is for `audit verify` to tell of, not for an upgrade to stop at.
                continue
        found[name] = rows.secret_row(record), before
    return found


def _age_before(event: Event) -> rows.Row:
    """Return how an event changed the age of a credential before there were details."""
    match event.kind, event.step:
        case (Kind.FINISHED, Step.PUBLISH) | (Kind.FOLLOWED, _):
            at = stamp(moment(event.data, "rotated_at") or event.at)
            return {"rotated_at": at, "since": at}
        case (Kind.ADOPTED, _) | (Kind.FINISHED, Step.RESTORE):
            return {"since": stamp(event.at)}
        case _:
            return {}
