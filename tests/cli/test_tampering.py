"""Commands detect a journal or backend that was tampered with."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from rotator.bootstrap import open_app
from rotator.core.model import Kind, Step
from rotator.core.secret import Secret
from rotator.journal import rows, tables
from tests.journal.attacker import drop_triggers, rewrite

if TYPE_CHECKING:
    from pathlib import Path

    from rotator.core.model import Event
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


def test_a_truncated_journal_is_not_signed_and_its_anchor_not_replaced(cli: Cli):
    """Not even by many later commands, whose checkpoints would exceed the anchor's number."""
    for _ in range(2):
        cli("rotate", "app")
    cli("park", "app", "--reason", "an operator looks into it")
    cli("unpark", "app", "--reason", "done")
    _forget(cli, 2, 2)
    for _ in range(4):
        refused = cli("verify", "web", code=None)
        assert refused.code != 0, refused.out
        assert "does not contain checkpoint" in refused.err + refused.out
    found = cli.json("audit", "verify", code=1).data["damage"]
    assert any(
        one["where"].startswith("checkpoint ") and "stored beside" in one["what"] for one in found
    )


@pytest.mark.parametrize("text", ["", "{", "[]", '{"number": 1}', '{"number": "x", "hash": 1}'])
def test_an_unreadable_anchor_is_reported_and_not_replaced(cli: Cli, text: str):
    """Nothing is signed until an operator acts."""
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
def test_a_forged_record_is_found_and_not_used(cli: Cli, name: str):
    """Its secret fails with the next step; the others continue."""
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


# -- the embedded backend ----------------------------------------------------------------------------


def _copied(cli: Cli, name: str = "secrets.db") -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in cli.folder.glob(f"{name}*")}


def _put_back(cli: Cli, copy: dict[str, bytes], name: str = "secrets.db") -> None:
    for file in cli.folder.glob(f"{name}*"):
        file.unlink()
    for file, held in copy.items():
        (cli.folder / file).write_bytes(held)
        (cli.folder / file).chmod(0o600)


def test_an_older_copy_of_the_backend_is_found(cli: Cli):
    """Also one from the middle of a rotation, which holds the next version."""
    cli("rotate", "app")
    older: dict[str, bytes] = {}

    def copy(event: Event) -> None:
        if event.kind is Kind.STARTED and event.step is Step.PUBLISH:
            older.update(_copied(cli))

    with open_app(cli.config, observer=copy) as app:
        app.engine.rotate(app.secret("app"))
    cli("rotate", "web")
    cli("audit", "verify")
    newest = _copied(cli)
    _put_back(cli, older)
    found = cli.json("audit", "verify", code=1).data["damage"]
    places = [one["where"] for one in found if "older copy of the backend" in one["what"]]
    assert places == ["backend local, app", "backend local, web"]
    findings = cli.json("doctor", "app", code=1).data["findings"]
    (told,) = [
        one for one in findings if one["subject"] == "secret app" and "older copy" in one["message"]
    ]
    assert "rotator adopt app" in told["remedy"]
    _put_back(cli, newest)
    cli("audit", "verify")


def test_an_older_copy_from_before_a_rollback_is_found_and_can_be_acknowledged(cli: Cli):
    """Its newest version is newer than the version that the rollback restored."""
    cli("rotate", "app")
    cli("rotate", "app")
    older = _copied(cli)
    cli("rollback", "app")
    with cli.app() as app:
        assert app.verify_journal().damage == []
    _put_back(cli, older)
    found = cli.json("audit", "verify", code=1).data["damage"]
    assert "backend local, app" in [one["where"] for one in found]
    cli("audit", "acknowledge", "--reason", "the disk was lost")
    cli("audit", "verify")


def test_a_moved_secret_is_not_an_older_copy(cli: Cli):
    """Its versions start again at the other path."""
    cli("rotate", "app")
    cli("rotate", "app")
    cli.edit("app: {target: main,", "app: {target: main, path: elsewhere/app,")
    with cli.app() as app:
        assert app.verify_journal().damage == []


def test_verify_and_doctor_check_the_rest_after_a_damaged_path(cli: Cli):
    """Each damaged path is named."""
    cli("rotate", "app", "web")
    with closing(sqlite3.connect(cli.folder / "secrets.db")) as db, db:
        db.execute("UPDATE versions SET rotation_id = 'x' WHERE path = 'app'")
    found = cli.json("audit", "verify", code=1).data["damage"]
    assert [one["where"] for one in found] == ["backend local, app"]
    findings = cli.json("doctor", code=1).data["findings"]
    wrong = {one["subject"] for one in findings if one["severity"] == "error"}
    assert "backend local, app" in wrong
    assert not any("web" in one for one in wrong)
    assert "login 'web" in " ".join(one["message"] for one in findings)


# -- a witness -------------------------------------------------------------------------------------


def _folder(cli: Cli) -> list[Path]:
    return [
        one for one in cli.folder.iterdir() if one.name.startswith(("rotator.db", "secrets.db"))
    ]


def test_an_older_copy_of_everything_is_found_by_a_witness(cli: Cli, tmp_path: Path):
    """Journal, backend and anchor are restored together, so only the witness differs."""
    cli("rotate", "app")
    kept, copy = tmp_path / "checkpoints", tmp_path / "copy"
    copy.mkdir()
    for file in _folder(cli):
        shutil.copy(file, copy)
    seen = cli.json("rotate", "app").data["checkpoint"]
    notice = {"specversion": "1.0", "type": "rotator.checkpoint", "data": seen}
    kept.write_text(f"a line of another program\n2026-01-01 {json.dumps(notice)}\n[1]\n{{\n")
    cli("audit", "verify", "--witness", str(kept))
    for file in _folder(cli):
        file.unlink()
    for file in copy.iterdir():
        shutil.copy(file, cli.folder)
    cli("audit", "verify")
    found = cli.json("audit", "verify", "--witness", str(kept), code=1).data["damage"]
    assert [one["where"] for one in found] == [f"checkpoint {seen['number']}"]
    assert "witness saw" in found[0]["what"]
    kept.write_text("nothing of ours\n")
    cli("audit", "verify", "--witness", str(kept), code=2)
    cli("audit", "verify", "--witness", str(tmp_path / "missing"), code=2)


def test_an_older_copy_of_the_journal_is_found_by_the_anchor(cli: Cli, tmp_path: Path):
    """The backend's file is unchanged."""
    cli("rotate", "app")
    for file in _folder(cli):
        shutil.copy(file, tmp_path / f"copy-{file.name}")
    newest = cli.json("rotate", "app").data["checkpoint"]["number"]
    for file in _folder(cli):
        if file.name.startswith("rotator.db"):
            file.unlink()
    for file in tmp_path.glob("copy-rotator.db*"):
        shutil.copy(file, cli.folder / file.name.removeprefix("copy-"))
    found = cli.json("audit", "verify", code=1).data["damage"]
    assert f"checkpoint {newest}" in [one["where"] for one in found]


def test_doctor_warns_if_one_backup_holds_everything(cli: Cli):
    """Until checkpoints are also sent elsewhere."""
    cli("rotate", "app", "web", "old")
    (found,) = [one for one in cli.json("doctor").data["findings"] if one["subject"] == "witness"]
    assert found["severity"] == "warning"
    assert "one folder" in found["message"]
    key = cli.folder / "witness.key"
    key.write_text("whsec_c2NyYXRjaA==")
    key.chmod(0o600)
    cli.edit(
        "backends:",
        "notifications: [{type: webhook, url: 'https://127.0.0.1:1/', secret: 'file:witness.key',"
        " events: [checkpoint]}]\nbackends:",
    )
    subjects = [one["subject"] for one in cli.json("doctor", code=None).data["findings"]]
    assert "witness" not in subjects
