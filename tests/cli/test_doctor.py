"""doctor: findings of status and plan, orphans, and each error once."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from rotator.core.model import Finding, Severity
from rotator.testing.fake_target import Account
from rotator.testing.postgres import ScratchPostgres
from tests.cli.installed_program import Real, prepare

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cli.conftest import Cli


def _remove_entry(cli: Cli, name: str) -> None:
    lines = cli.config.read_text().splitlines(keepends=True)
    cli.config.write_text("".join(one for one in lines if not one.startswith(f"  {name}: ")))


def _findings(cli: Cli, *names: str, code: int | None = None) -> list[dict[str, str]]:
    return cli.json("doctor", *names, code=code).data["findings"]


def _same(cli: Cli, name: str, state: str) -> None:
    """Require that doctor says of a secret what status says of it, with the same remedy."""
    row = next(one for one in cli.json("status", code=3).data["secrets"] if one["secret"] == name)
    assert row["state"] == state
    finding = next(
        one
        for one in _findings(cli, code=1)
        if one["subject"] == f"secret {name}" and one["message"].startswith(state)
    )
    assert finding["severity"] == "error"
    assert finding["message"] == f"{state}: {row['cause'].removesuffix('.')}"
    assert finding["remedy"] == row["hint"]


def test_doctor_shows_a_parked_secret_with_its_remedy(cli: Cli):
    """`doctor` shows it as `status` does."""
    cli("rotate", "web")
    cli.server.target.accounts["web_b"] = Account()
    cli("rotate", "web", code=3)
    _same(cli, "web", "parked")


def test_doctor_shows_a_forgotten_secret(cli: Cli):
    """A secret that is no longer configured is still reported."""
    cli("rotate", "app")
    _remove_entry(cli, "app")
    _same(cli, "app", "forgotten")


def test_doctor_reports_a_rejected_login_that_is_valid_again(cli: Cli):
    """Its check is newer than the recorded one. Another command records it."""
    cli("rotate", "app")
    login = cli("get", "app", "--field", "username").out
    passwords = cli.server.target.accounts[login].passwords
    cli.server.target.accounts[login].passwords = ["by-hand"]
    cli("verify", "app", code=1)
    assert any("rejects login" in one["message"] for one in _findings(cli, "app", code=1))
    cli.server.target.accounts[login].passwords = passwords
    found = _findings(cli, "app", code=0)
    assert any(one["remedy"] == "Record that: rotator verify app" for one in found)
    cli("verify", "app")
    cli("status", code=0)


def test_doctor_does_not_call_a_login_valid_that_it_has_not_tried(cli: Cli):
    """Where the target has errors, what the last check saw still counts."""
    cli("rotate", "app")
    for account in cli.server.target.accounts.values():
        account.passwords = ["changed-by-somebody"]
    cli("verify", "app", code=1)
    said = cli("doctor", "app", code=1).out
    assert "the target rejects login" in said
    cli.server.findings = [
        Finding(severity=Severity.ERROR, subject="target main", message="it is full")
    ]
    said = cli("doctor", "app", code=1).out
    assert "it is full" in said
    assert "works now" not in said
    assert "secret app: refused" in said


def test_doctor_finds_orphan_logins(cli: Cli):
    """An orphan has our mark and no entry in the journal."""
    cli("rotate", "app")
    cli("rotate", "app")
    cli.server.target.accounts["app_rlost"] = Account(passwords=["x"], owner="app")
    cli.server.target.accounts["theirs"] = Account(passwords=["x"], owner="a secret of others")
    found = [one for one in _findings(cli, code=1) if one["message"].startswith("orphan:")]
    assert ["app_rlost" in one["message"] for one in found] == [True]
    assert found[0]["remedy"] == "If nothing uses it, on main: DROP LOGIN app_rlost"
    told = cli.json("status", code=3).data
    assert [(one["target"], one["login"]) for one in told["orphans"]] == [("main", "app_rlost")]
    assert told["totals"]["orphan"] == 1
    assert "orphan app_rlost on main" in cli("status", code=3).out
    del cli.server.target.accounts["app_rlost"]
    _findings(cli, code=0)
    assert cli.json("status", code=0).data["orphans"] == []


def test_doctor_checks_the_rest_when_a_backend_is_unavailable(cli: Cli):
    """It reports the error once, without promising a retry."""
    cli("rotate", "app")
    cli.edit("targets:", '  lost: {type: local, path: lost.db, key: "file:lost.key"}\ntargets:')
    cli.edit("web: {target: main, backend: local", "web: {target: main, backend: lost")
    cli.edit("old: {target: main, backend: local", "old: {target: main, backend: lost")
    found = _findings(cli, code=1)
    assert len([one for one in found if one["severity"] == "error"]) == 1, found
    assert any(one["subject"] == "secret app" and "works" in one["message"] for one in found), found
    assert any(one["subject"] == "journal" for one in found)


def test_doctor_promises_no_retry_for_an_unavailable_target(cli: Cli):
    """The remedy names the next command, and the error appears once."""
    cli.server.away = True
    found = [one for one in _findings(cli, code=1) if one["severity"] == "error"]
    assert len(found) == 1
    shown = cli("doctor", code=1).out
    assert "tried again" not in shown
    assert "retries automatically" not in shown


# -- a journal that was put back ----------------------------------------------------------------------


def test_acknowledge_accepts_a_restored_backup(cli: Cli):
    """`audit verify` and `doctor` then pass and still list it; other damage cannot be acknowledged."""
    cli("rotate", "app")
    cli("audit", "acknowledge", "--reason", "nothing", code=2)
    for name in ("rotator.db", "rotator.db-wal", "rotator.db-shm"):
        if (cli.folder / name).exists():
            shutil.copy(cli.folder / name, cli.folder / f"old-{name}")
    cli("rotate", "app")
    for name in ("rotator.db", "rotator.db-wal", "rotator.db-shm"):
        (cli.folder / name).unlink(missing_ok=True)
        if (cli.folder / f"old-{name}").exists():
            shutil.copy(cli.folder / f"old-{name}", cli.folder / name)
    damaged = cli("audit", "verify", code=1)
    assert "rotator audit acknowledge --reason WHY" in damaged.out
    assert any("acknowledge" in one["remedy"] for one in _findings(cli, code=1))
    cli("audit", "acknowledge", "--reason", "restored Monday")
    told = cli.json("audit", "verify").data
    assert {one["reason"] for one in told["acknowledged"]} == {"restored Monday"}
    assert any("rotation" in one["what"] for one in told["acknowledged"])
    assert "restored Monday" in cli("audit", "verify").out
    journal = [one for one in _findings(cli) if one["subject"] == "journal"]
    assert [one["severity"] for one in journal] == ["ok"]
    # The login that the restored journal knows is served by nothing any more: doctor finds it then.
    lost = cli.json("history", "app").data["rotations"][0]["new_login"]
    assert cli.json("status", code=0).data["orphans"] == []
    cli("adopt", "app")
    cli("audit", "verify")
    _findings(cli, code=1)
    assert [one["login"] for one in cli.json("status", code=3).data["orphans"]] == [lost]


# -- on a real server ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[ScratchPostgres]:
    with ScratchPostgres() as started:
        prepare(started)
        yield started


@pytest.fixture
def rotator(tmp_path: Path, server: ScratchPostgres) -> Real:
    real = Real(folder=tmp_path, server=server)
    real("init")
    real.configure()
    return real


def test_doctor_reports_what_plan_rejects(rotator: Real):
    """Example: the pair's second login exists and has another owner."""
    refused = rotator.json("plan", "taken", code=3).errors[0]
    found = rotator.json("doctor", code=1).data["findings"]
    same = [one for one in found if one["remedy"] == refused["hint"]]
    assert [one["severity"] for one in same] == ["error"], (refused, found)


def test_an_orphan_of_postgresql_is_found_and_dropped_as_printed(
    rotator: Real, server: ScratchPostgres
):
    """The journal of a lost rotation is gone; its role bears our mark, and the hint drops it."""
    rotator("adopt", "app", "--username", "app", "--password-from", "env:APP_PASSWORD")
    rotator("rotate", "app", "--timeout", "0s")
    mark = 'managed by rotator {"secret": "app", "rotation": "r-lost"}'
    with server.connect() as admin:
        admin.execute("CREATE ROLE app_rlost LOGIN PASSWORD 'x'")
        admin.execute(f"COMMENT ON ROLE app_rlost IS '{mark}'")
    rotator.json("doctor", "app", code=1)
    orphans = rotator.json("status", code=3).data["orphans"]
    assert [one["login"] for one in orphans] == ["app_rlost"]
    statement = orphans[0]["hint"].partition("main: ")[2]
    with server.connect() as admin:
        admin.execute(statement.encode())
    assert rotator.json("doctor", "app").data["errors"] == 0
    rotator("status", code=0)
