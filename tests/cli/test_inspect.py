"""status, history, verify, get, adopt, audit, db: their answers."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING

import pytest

from rotator.backends.encryption import create_key_file
from rotator.bootstrap import open_app
from rotator.core.model import Credential, Rejection
from rotator.core.secret import Secret
from rotator.journal import chain
from rotator.testing.fake_target import Account

if TYPE_CHECKING:
    from tests.cli.conftest import Cli


def _password(cli: Cli, name: str = "app") -> str:
    return cli("get", name, "--field", "password", "--reveal").out


# -- status, history, verify ---------------------------------------------------------------------


def test_status_shows_the_state_of_each_secret(cli: Cli):
    """A secret that was never rotated is unknown, not due; the others have an age and a due date."""
    cli("rotate", "app")
    rows = {one["secret"]: one for one in cli.json("status").data["secrets"]}
    assert rows["app"]["state"] == "ok"
    assert rows["app"]["last_outcome"] == "done"
    assert rows["app"]["age_seconds"] < 60
    assert rows["app"]["next_due"] is not None
    assert rows["web"]["state"] == "unknown"
    assert rows["web"]["next_due"] is None
    told = cli("status").out
    assert "secret" in told
    assert "3 secrets: 1 ok, 2 unknown" in told
    assert "rotator adopt web" in told


def test_status_shows_an_interrupted_rotation(cli: Cli):
    """With the command that completes it."""
    cli("rotate", "app")

    def stop(event: object) -> None:
        raise KeyboardInterrupt

    with open_app(cli.config, observer=stop) as app, pytest.raises(KeyboardInterrupt):
        app.engine.rotate(app.secret("app"))
    row = cli.json("status", "app").data["secrets"][0]
    assert row["state"] == "rotating"
    assert "rotator resume app" in row["says"]
    cli("resume", "app")
    assert cli.json("status", "app").data["secrets"][0]["state"] == "grace"


def test_history_shows_each_step_with_its_time(cli: Cli):
    """Each rotation has its reason."""
    cli("rotate", "app", "--reason", "because")
    rotation = cli.json("history", "app").data["rotations"][0]
    assert rotation["reason"] == "because"
    assert rotation["outcome"] == "done"
    finished = [one["step"] for one in rotation["events"] if one["kind"] == "finished"]
    assert finished == ["stage", "create", "verify", "publish"]
    assert all(one["at"].endswith("+00:00") for one in rotation["events"])
    told = cli("history", "app").out
    assert "reason: because" in told
    assert "publish" in told
    assert "never been rotated" in cli("history", "web").out


def test_verify_tests_the_served_credential(cli: Cli):
    """Exit code 0 if it is valid; otherwise 1, with the application's state."""
    cli("rotate", "app")
    assert cli.json("verify", "app").data["secrets"][0]["accepted"] is True
    for account in cli.server.target.accounts.values():
        account.passwords = ["changed-by-somebody"]
    told = cli("verify", "app", code=1)
    assert "NOT safe" in told.err
    assert cli.json("verify", "app", code=1).data["secrets"][0]["accepted"] is False


def test_verify_shows_the_remedy_of_the_cause(cli: Cli):
    """As `status` does afterwards; for a parked secret with the command that goes on."""
    cli("rotate", "app")
    cli.server.rejection = Rejection(cause="nologin", text="it is closed", hint="OPEN IT")
    for account in cli.server.target.accounts.values():
        account.passwords = ["changed-by-somebody"]
    told = cli("verify", "app", code=1).err
    assert "it is closed" in told
    assert "Next: OPEN IT" in told
    assert "OPEN IT" in cli("status", "app", code=3).out
    cli("park", "app", "--reason", "x")
    assert "OPEN IT Then: rotator unpark app --reason WHY" in cli("status", "app", code=3).out


def test_verify_tells_a_backend_that_lost_a_credential_from_a_new_secret(cli: Cli):
    """The first needs its backup, the second a first rotation."""
    assert "rotator rotate web" in cli("verify", "web", code=1).err
    login = cli.json("rotate", "app").data["results"][0]["login"]
    cli.edit("  app: {target: main,", "  app: {target: main, path: elsewhere,")
    told = cli("verify", "app", code=1).err
    assert f"where it served login '{login}'" in told
    assert "Restore the newest copy of the backend." in told
    hint = cli.json("status", "app", code=3).data["secrets"][0]["hint"]
    assert hint.startswith("Restore it in the backend")
    assert "rotator rotate web" in cli("status", "web").out


# -- get -----------------------------------------------------------------------------------------


def test_get_hides_secret_values(cli: Cli):
    """Without --reveal only the login name is shown, as text and as JSON."""
    cli("rotate", "app")
    password = _password(cli)
    assert len(password) == 32
    told = cli("get", "app")
    assert password not in told.out + told.err
    assert "***" in told.out
    answer = cli.json("get", "app")
    assert password not in answer.out
    assert answer.data["fields"]["password"] == "***"
    assert answer.data["fields"]["username"] in cli.server.target.usable()


def test_get_reveals_values_on_request(cli: Cli):
    """With --reveal every form holds the password; a piped field has no line break."""
    cli("rotate", "app")
    password = _password(cli)
    assert not password.endswith("\n")
    assert password in cli("get", "app", "--reveal").out
    assert cli.json("get", "app", "--reveal").data["fields"]["password"] == password
    answer = cli.json("get", "app", "--field", "password", "--reveal")
    assert answer.data == {
        "secret": "app",
        "field": "password",
        "value": password,
        "revealed": True,
    }


def test_get_rejects_a_secret_field_without_reveal(cli: Cli):
    """A script would use a mask as the password."""
    cli("rotate", "app")
    told = cli("get", "app", "--field", "password", code=2)
    assert told.out == ""
    assert "--reveal" in told.err


def test_other_fields_are_treated_as_secret(cli: Cli):
    """Any field next to the password may be secret."""
    account = Account(passwords=["first-password"], owner=None)
    cli.server.target.accounts["app"] = account
    url = "postgresql://app:first-password@db/app"
    with cli.app() as app:
        backend = app.backend("local")
        first = Credential(
            username="app", password=Secret("first-password"), fields={"url": url, "port": 5432}
        )
        backend.stage("app", "by-hand", first)
        backend.publish("app", "by-hand", expect=None)
    assert url not in cli("get", "app").out
    assert cli("get", "app", "--field", "url", "--reveal").out == url
    assert cli("get", "app", "--field", "port", "--reveal").out == "5432"
    error = cli.json("get", "app", "--field", "passwort", code=2).errors[0]
    assert "`password`" in error["hint"]


def test_get_prints_a_credential_in_a_format(cli: Cli):
    """Only with --reveal, and byte for byte what a file of the format holds."""
    cli("rotate", "app")
    password, username = _password(cli), cli("get", "app", "--field", "username").out
    text = cli("get", "app", "--format", "userlist", "--reveal").out
    assert text == f'"{username}" "{password}"\n'
    answer = cli.json("get", "app", "--format", "json", "--reveal").data
    assert json.loads(answer["text"])["password"] == password
    line = "user={username}"
    shown = cli("get", "app", "--format", "template", "--template", line, "--reveal").out
    assert shown == f"user={username}"
    refused = cli("get", "app", "--format", "env", code=2)
    assert "Add --reveal" in refused.err
    assert password not in refused.out + refused.err
    assert "pgpass" in cli("get", "app", "--format", "pgpas", code=2).err
    assert "--format" in cli("get", "app", "--format", "env", "--field", "x", code=2).err


# -- adopt ---------------------------------------------------------------------------------------


def test_adopt_takes_over_a_login_unchanged(cli: Cli, monkeypatch: pytest.MonkeyPatch):
    """Nothing changes on the target; the backend then serves it and the journal records it."""
    cli.server.target.accounts["legacy"] = Account(passwords=["legacy-password"])
    before = cli.server.target.state()
    monkeypatch.setenv("LEGACY", "legacy-password")
    told = cli.json("adopt", "app", "--username", "legacy", "--password-from", "env:LEGACY")
    assert told.data["login"] == "legacy"
    assert told.data["accepted"] is True
    assert cli.server.target.state() == before
    assert _password(cli) == "legacy-password"
    cli("rotate", "app")
    assert cli("get", "app", "--field", "username").out != "legacy"


def test_adopt_needs_both_login_and_password(cli: Cli):
    """One without the other is misuse."""
    assert "be given together" in cli("adopt", "app", "--username", "legacy", code=2).err


def test_adopt_does_not_prompt_without_a_terminal(cli: Cli):
    """In a script `--password-from prompt` is an error, not a hang."""
    told = cli("adopt", "app", "--username", "x", "--password-from", "prompt", code=2)
    assert "no terminal" in told.err


def test_adopt_rejects_a_password_on_the_command_line_without_repeating_it(cli: Cli):
    """A reference is expected."""
    told = cli("adopt", "app", "--username", "x", "--password-from", "hunter2hunter2", code=2)
    assert "hunter2" not in told.out + told.err


def test_adopt_needs_a_credential(cli: Cli):
    """With an empty backend and no credential the error names the remedies."""
    error = cli.json("adopt", "app", code=2).errors[0]
    assert "--username" in error["hint"]


# -- audit, db -----------------------------------------------------------------------------------


def test_reseal_makes_the_old_key_unnecessary(cli: Cli):
    """Until then a missing old key makes values unreadable."""
    cli("rotate", "app")
    password = cli("get", "app", "--field", "password", "--reveal").out
    create_key_file(cli.folder / "new.key")
    cli.edit('"file:rotator.key"', '"file:new.key"')
    assert "which is not configured" in cli("get", "app", code=3).err
    cli.edit('"file:new.key"', '"file:new.key", old_keys: ["file:rotator.key"]')
    assert cli.json("reseal", "local").data["resealed"] > 1
    assert cli.json("reseal", "local").data["resealed"] == 0
    cli.edit(', old_keys: ["file:rotator.key"]', "")
    assert cli("get", "app", "--field", "password", "--reveal").out == password
    cli("rotate", "web")
    cli("audit", "verify")
    assert "no backend" in cli("reseal", "elsewhere", code=2).err


def test_audit_verify_names_the_place_of_a_change(cli: Cli):
    """A changed row is found: exit code 1, with the event."""
    cli("rotate", "app")
    assert "is intact" in cli("audit", "verify").out
    with sqlite3.connect(cli.folder / "rotator.db") as db:
        for (name,) in db.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall():
            db.execute(f'DROP TRIGGER "{name}"')
        db.execute("UPDATE events SET actor = 'nobody' WHERE seq = 3")
    db.close()
    damage = cli.json("audit", "verify", code=1).data["damage"]
    assert any("event 3" in one["where"] for one in damage)
    assert "DAMAGED" in cli("audit", "verify", code=1).out


def test_audit_verify_accepts_a_public_key(cli: Cli):
    """A key that did not sign the journal is reported."""
    cli("rotate", "app")
    other = cli.folder / "other.pem"
    other.write_text(chain.public_key(chain.new_signing_key()))
    assert cli.json("audit", "verify", "--public-key", str(other), code=1).data["damage"]
    other.write_text("nonsense")
    assert "PEM" in cli("audit", "verify", "--public-key", str(other), code=2).err
    assert "cannot be read" in cli("audit", "verify", "--public-key", "nowhere.pem", code=2).err


def test_audit_show_lists_the_newest_events_of_all_secrets(cli: Cli):
    """Oldest first, with a maximum number."""
    cli("rotate", "--all")
    events = cli.json("audit", "show", "--limit", "7").data["events"]
    assert len(events) == 7
    assert [one["at"] for one in events] == sorted(one["at"] for one in events)
    only = cli.json("audit", "show", "web").data["events"]
    assert {one["secret"] for one in only} == {"web"}
    assert "cli:" in cli("audit", "show").out


def test_db_shows_the_version_of_the_journal(cli: Cli):
    """`upgrade` of a current journal changes nothing."""
    assert cli.json("db", "upgrade").data["upgraded"] is False
    assert cli.json("db", "status").data["revision"]


def test_a_newer_journal_is_rejected_and_not_changed(cli: Cli):
    """It is neither used nor upgraded."""
    with sqlite3.connect(cli.folder / "rotator.db") as db:
        db.execute("UPDATE alembic_version SET version_num = '9999'")
    db.close()
    for arguments in (("status",), ("db", "upgrade"), ("rotate", "app")):
        error = cli.json(*arguments, code=1).errors[0]
        assert error["kind"] == "journal"
        assert "newer" in error["what"]
    assert cli.server.target.usable() == set()


def test_a_template_without_its_format_is_refused(cli: Cli):
    """It would be ignored."""
    cli("rotate", "app")
    told = cli("get", "app", "--template", "{username}", code=2)
    assert "--template needs --format template" in told.err
