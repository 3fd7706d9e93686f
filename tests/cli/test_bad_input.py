"""Faults before or during a first rotation: message, exit code, and nothing changed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from rotator.testing.postgres import ScratchPostgres
from tests.cli.installed_program import Real, prepare

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cli.conftest import Outcome


@pytest.fixture(scope="module")
def server() -> Iterator[ScratchPostgres]:
    """A server with an application's roles."""
    with ScratchPostgres() as started:
        prepare(started)
        yield started


@pytest.fixture
def rotator(tmp_path: Path, server: ScratchPostgres) -> Iterator[Real]:
    """A folder with a login under our care; nothing that a test does may change it or the server."""
    real = Real(folder=tmp_path, server=server)
    real("init")
    real.configure()
    real("adopt", "app", "--username", "app", "--password-from", "env:APP_PASSWORD")
    before, served = real.roles(), real("get", "app", "--reveal").out
    yield real
    assert real.roles() == before
    real.configure()
    real.environ = Real(folder=tmp_path, server=server).environ
    (tmp_path / "rotator.key").chmod(0o600)
    assert real("get", "app", "--reveal").out == served
    assert real.json("audit", "verify").data["ok"] is True


def _error(outcome: Outcome) -> dict[str, str]:
    (error,) = outcome.errors
    return error


def test_an_unknown_secret_is_rejected(rotator: Real):
    """The error suggests similar names."""
    error = _error(rotator.json("rotate", "apps", code=2))
    assert "unknown secret `apps`" in error["what"]
    assert "`app`" in error["hint"]


def test_an_unknown_plugin_is_rejected(rotator: Real):
    """The error names the file, the line, the key, similar names and the installed plugins."""
    config = rotator.folder / "rotator.yaml"
    config.write_text(config.read_text().replace("plugin: postgresql", "plugin: postgres"))
    error = _error(rotator.json("rotate", "app", code=2))
    assert error["kind"] == "config"
    assert error["key"] == "targets.main.plugin"
    assert "`postgresql`" in error["hint"]
    assert int(error["line"]) > 1


def test_an_unreachable_host_undoes_the_rotation(rotator: Real):
    """The error names the address and what was changed."""
    rotator.configure(port=1)
    error = _error(rotator.json("rotate", "app", code=1))
    assert error["kind"] == "transient"
    assert ":1" in error["what"]
    assert error["safety"]
    assert "is safe" not in error["safety"]


def test_a_wrong_admin_password_makes_the_target_wait(rotator: Real):
    """Nothing is parked. The error names the admin and the target, not the password."""
    rotator.environ["ROTATOR_ADMIN_PASSWORD"] = "wrong-password-of-the-admin"
    told = rotator.json("rotate", "app", code=3)
    error = _error(told)
    assert error["kind"] == "unavailable"
    assert "rotator_admin" in error["what"]
    assert "target main" in error["what"]
    assert "wrong-password" not in told.out + told.err
    assert "no secret was parked" in error["safety"]


def test_a_missing_admin_password_stops_the_rotation(rotator: Real):
    """The error names the variable and where to set it."""
    del rotator.environ["ROTATOR_ADMIN_PASSWORD"]
    events = rotator.json("audit", "show").data["events"]
    error = _error(rotator.json("rotate", "app", code=3))
    assert error["kind"] == "unavailable"
    assert rotator.json("audit", "show").data["events"] == events
    assert "ROTATOR_ADMIN_PASSWORD" in error["what"]


def test_a_missing_right_of_the_admin_is_named(rotator: Real):
    """Both `doctor` and the rotation name it."""
    rotator.configure(admin="weak_admin")
    found = rotator.json("doctor", "app", code=1).data["findings"]
    assert any(one["severity"] == "error" and "CREATEROLE" in str(one) for one in found)
    error = _error(rotator.json("rotate", "app", code=3))
    assert error["kind"] == "unavailable"
    assert "CREATEROLE" in error["what"] + error["hint"]


def test_a_server_that_accepts_any_password_is_an_error(tmp_path: Path):
    """`trust` in pg_hba.conf makes every check meaningless."""
    with ScratchPostgres(
        hba=["local all all trust", "host all all 127.0.0.1/32 trust"]
    ) as trusting:
        prepare(trusting)
        real = Real(folder=tmp_path, server=trusting)
        real("init")
        real.configure()
        before = real.roles()
        arguments = ("adopt", "app", "--username", "app", "--password-from", "env:APP_PASSWORD")
        told = real.json(*arguments, code=3)
        assert _error(told)["kind"] == "unprovable"
        assert "pg_hba" in _error(told)["hint"]
        error = _error(real.json("rotate", "app", code=3))
        assert error["kind"] == "unprovable"
        assert real.json("doctor", "app", code=1).data["errors"] >= 1
        assert real.roles() == before


def test_a_full_disk_stops_the_rotation_before_any_effect(rotator: Real):
    """The backend cannot be written."""
    before = rotator.roles()
    error = _error(rotator.limited("rotate", "app", "--json", code=3))
    assert error["kind"] == "unavailable"
    assert "rotator-secrets.db" in error["what"]
    assert rotator.roles() == before


def test_a_full_disk_leaves_the_journal_readable(rotator: Real):
    """`history` and `status` work while the disk is full."""
    rotator("adopt", "app", "--username", "app", "--password-from", "env:APP_PASSWORD")
    told = rotator.limited("status", "--json", code=0)
    assert told.data["secrets"][0]["login"] == "app"


def test_a_read_only_journal_stops_the_rotation(rotator: Real):
    """It stops before its first step."""
    with rotator.server.connect() as admin:
        admin.execute("CREATE ROLE journal LOGIN PASSWORD 'password-of-the-journal'")
        admin.execute("CREATE DATABASE journal OWNER journal")
    try:
        config = rotator.folder / "rotator.yaml"
        original = config.read_text()
        place = f"postgresql://journal@127.0.0.1:{rotator.server.port}/journal"
        text = original.replace("sqlite:///rotator.db", place)
        # Unsigned: beside its key the newest checkpoint of the other journal is kept.
        config.write_text(re.sub(r"  signing_key: .*", "  password: env:JOURNAL", text))
        rotator.environ["JOURNAL"] = "password-of-the-journal"
        error = _error(rotator.json("rotate", "app", code=1, process=True))
        assert "rotator db upgrade" in error["hint"]
        assert rotator.json("db", "upgrade").data["upgraded"] is True
        with rotator.server.connect() as admin:
            admin.execute("ALTER ROLE journal SET default_transaction_read_only = on")
        error = _error(rotator.json("rotate", "app", code=3, process=True))
        assert error["kind"] == "unavailable"
        assert "is read-only" in error["what"]
        config.write_text(original)
    finally:
        with rotator.server.connect() as admin:
            admin.execute("DROP DATABASE journal WITH (FORCE)")
            admin.execute("DROP ROLE journal")


def test_a_key_file_that_others_can_read_is_rejected(rotator: Real):
    """The embedded backend does not start, and the error contains the command that fixes the mode."""
    (rotator.folder / "rotator.key").chmod(0o644)
    error = _error(rotator.json("rotate", "app", code=2))
    assert "rotator.key" in error["what"]
    assert "chmod 600" in error["hint"]


def test_a_role_that_rotator_does_not_own_is_not_changed(rotator: Real):
    """The secret is parked, and the error names the role."""
    error = _error(rotator.json("rotate", "taken", code=3))
    assert error["kind"] == "conflict"
    assert "stranger_a" in error["what"]
    assert rotator.json("status", "taken", code=3).data["secrets"][0]["state"] == "parked"


def test_a_password_in_the_configuration_is_rejected(rotator: Real):
    """The error does not repeat it."""
    config = rotator.folder / "rotator.yaml"
    text = config.read_text().replace('"env:ROTATOR_ADMIN_PASSWORD"', '"hunter2hunter2"')
    config.write_text(text)
    told = rotator.json("rotate", "app", code=2)
    assert "expected a secret reference" in _error(told)["what"]
    assert "hunter2" not in told.out + told.err
