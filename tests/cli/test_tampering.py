"""What commands do with a journal that somebody has tampered with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from rotator.core.secret import Secret
from rotator.journal import rows, tables
from tests.journal.attacker import drop_triggers, rewrite

if TYPE_CHECKING:
    from tests.cli.conftest import Cli


def _forget(cli: Cli, events: int, checkpoints: int) -> None:
    """Cut the newest events and checkpoints, and make everything that is derived agree."""
    with cli.app() as app:
        drop_triggers(app.journal)
        with app.journal.writing() as db:
            kept = db.exec_driver_sql("SELECT max(seq) FROM events WHERE secret = 'app'").scalar()
            newest = db.exec_driver_sql("SELECT max(number) FROM checkpoints").scalar()
            rewrite(db, "app", kept - events)
            db.exec_driver_sql(f"DELETE FROM checkpoints WHERE number > {newest - checkpoints}")


def test_a_cut_journal_is_never_signed_and_its_anchor_is_never_replaced(cli: Cli):
    """Not even by many later commands, whose checkpoints would exceed the anchor's number."""
    for _ in range(2):
        cli("rotate", "app")
    cli("park", "app", "--reason", "an operator looks into it")
    cli("unpark", "app", "--reason", "done")
    _forget(cli, 2, 2)
    for _ in range(4):
        refused = cli("verify", "web", code=None)
        assert refused.code != 0, refused.out
        assert "does not hold checkpoint" in refused.err + refused.out
    found = cli.json("audit", "verify", code=1).data["damage"]
    assert any(
        one["where"].startswith("checkpoint ") and "kept beside" in one["what"] for one in found
    )


@pytest.mark.parametrize("text", ["", "{", "[]", '{"number": 1}', '{"number": "x", "hash": 1}'])
def test_an_anchor_that_cannot_be_read_is_found_and_not_replaced(cli: Cli, text: str):
    """Nothing is signed until somebody has looked."""
    cli("rotate", "app")
    with cli.app() as app:
        app.backend("local").put_value("rotator/audit", "anchor", Secret(text))
    found = cli.json("audit", "verify", code=1).data["damage"]
    assert [one["where"] for one in found] == ["anchor"]
    refused = cli("rotate", "web", code=None)
    assert refused.code != 0
    with cli.app() as app:
        assert app.backend("local").get_value("rotator/audit", "anchor") == Secret(text)


_CHANGES = {
    "due in 2999": {"next_due": "2999-01-01T00:00:00.000000+00:00"},
    "never due": {"next_due": None},
    "parked": {"parked": "by mallory"},
    "a stranger's login is ours": {"adopted": '["payroll"]'},
    "held until 2999": {
        "lease_holder": "mallory",
        "lease_expires": "2999-01-01T00:00:00.000000+00:00",
    },
}


@pytest.mark.parametrize("name", _CHANGES)
def test_a_forged_record_is_found_by_a_look_and_never_acted_on(cli: Cli, name: str):
    """Its secret fails with the next step; the others go on."""
    cli("rotate", "app", "web")
    with cli.app() as app:
        assert app.watch_journal().damage == []
        with app.journal.writing() as db:
            table = tables.secrets
            query = sa.select(table).where(table.c.name == "app")
            row = dict(db.execute(query).mappings().one())
            forged = rows.sealed(table, row | _CHANGES[name])
            db.execute(sa.update(table).where(table.c.name == "app").values(forged))
        found = [one.where for one in app.watch_journal().damage]
        assert "secrets, row app" in found
    refused = cli.json("rotate", "--all", "--due", code=None)
    assert refused.code != 0
    (error,) = [one for one in refused.errors if one["secret"] == "app"]
    assert error["kind"] == "journal-broken"
    assert "rotator audit verify" in error["hint"]
    cli("check")
    assert "secrets, row app" in cli("audit", "verify", code=1).out
