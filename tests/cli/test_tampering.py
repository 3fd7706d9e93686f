"""What commands do with a journal that somebody has tampered with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rotator.core.secret import Secret
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
