"""What goes wrong before or during a first rotation: its own clear text, exit code, nothing changed."""

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


def test_no_such_secret(rotator: Real):
    """A slip of the pen is answered with what resembles it."""
    error = _error(rotator.json("rotate", "apps", code=2))
    assert "there is no secret `apps`" in error["what"]
    assert "`app`" in error["hint"]


def test_an_unknown_plugin(rotator: Real):
    """The file, the line, the key, near matches and what is installed."""
    config = rotator.folder / "rotator.yaml"
    config.write_text(config.read_text().replace("plugin: postgresql", "plugin: postgres"))
    error = _error(rotator.json("rotate", "app", code=2))
    assert error["kind"] == "config"
    assert error["key"] == "targets.main.plugin"
    assert "`postgresql`" in error["hint"]
    assert int(error["line"]) > 1


def test_an_unreachable_host(rotator: Real):
    """The address is named; the rotation is undone; the text says what was changed."""
    rotator.configure(port=1)
    error = _error(rotator.json("rotate", "app", code=1))
    assert error["kind"] == "transient"
    assert ":1" in error["what"]
    assert error["safety"]
    assert "is safe" not in error["safety"]


def test_a_wrong_admin_password(rotator: Real):
    """The target waits, nothing is parked; admin and target are named, and the password nowhere."""
    rotator.environ["ROTATOR_ADMIN_PASSWORD"] = "wrong-password-of-the-admin"
    told = rotator.json("rotate", "app", code=3)
    error = _error(told)
    assert error["kind"] == "unavailable"
    assert "rotator_admin" in error["what"]
    assert "target main" in error["what"]
    assert "wrong-password" not in told.out + told.err
    assert "nothing was parked" in error["safety"]


def test_an_admin_password_that_is_not_set(rotator: Real):
    """The variable is named, and where to set it; the rotation does not begin."""
    del rotator.environ["ROTATOR_ADMIN_PASSWORD"]
    events = rotator.json("audit", "show").data["events"]
    error = _error(rotator.json("rotate", "app", code=3))
    assert error["kind"] == "unavailable"
    assert rotator.json("audit", "show").data["events"] == events
    assert "ROTATOR_ADMIN_PASSWORD" in error["what"]


def test_an_admin_without_the_right(rotator: Real):
    """The missing right is named, by `doctor` beforehand as by the rotation."""
    rotator.configure(admin="weak_admin")
    found = rotator.json("doctor", "app", code=1).data["findings"]
    assert any(one["severity"] == "error" and "CREATEROLE" in str(one) for one in found)
    error = _error(rotator.json("rotate", "app", code=3))
    assert error["kind"] == "unavailable"
    assert "CREATEROLE" in error["what"] + error["hint"]


def test_a_server_that_trusts_everybody(tmp_path: Path):
    """`trust` in pg_hba makes every check vacuous: an error, not a pass."""
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


def test_a_full_disk(rotator: Real):
    """Without a backend that can be written there is no effect."""
    before = rotator.roles()
    error = _error(rotator.limited("rotate", "app", "--json", code=3))
    assert error["kind"] == "unavailable"
    assert "rotator-secrets.db" in error["what"]
    assert rotator.roles() == before


def test_a_full_disk_leaves_the_journal_readable(rotator: Real):
    """Who looks what happened while the disk is full gets an answer."""
    rotator("adopt", "app", "--username", "app", "--password-from", "env:APP_PASSWORD")
    told = rotator.limited("status", "--json", code=0)
    assert told.data["secrets"][0]["login"] == "app"


def test_a_read_only_journal(rotator: Real):
    """A journal that can be read and not written stops the rotation before its first step."""
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


def test_a_key_that_others_can_read(rotator: Real):
    """The embedded backend refuses to start, and says which command closes the file."""
    (rotator.folder / "rotator.key").chmod(0o644)
    error = _error(rotator.json("rotate", "app", code=2))
    assert "rotator.key" in error["what"]
    assert "chmod 600" in error["hint"]


def test_a_role_that_is_there_and_not_ours(rotator: Real):
    """Nothing that we did not make or adopt is touched: parked, with the role named."""
    error = _error(rotator.json("rotate", "taken", code=3))
    assert error["kind"] == "conflict"
    assert "stranger_a" in error["what"]
    assert rotator.json("status", "taken", code=3).data["secrets"][0]["state"] == "parked"


def test_a_value_where_a_reference_belongs(rotator: Real):
    """A password in the configuration is refused, and not repeated."""
    config = rotator.folder / "rotator.yaml"
    text = config.read_text().replace('"env:ROTATOR_ADMIN_PASSWORD"', '"hunter2hunter2"')
    config.write_text(text)
    told = rotator.json("rotate", "app", code=2)
    assert "reference belongs" in _error(told)["what"]
    assert "hunter2" not in told.out + told.err
