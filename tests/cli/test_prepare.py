"""init, check, doctor, plugins: before the first rotation."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

    from tests.cli.conftest import Cli


def test_init_writes_a_valid_configuration(bare: Cli):
    """The files are private, the configuration passes `check`, the journal is intact."""
    files = bare.json("init").data["files"]
    assert {"rotator.yaml", "rotator.key", "rotator.db"} <= set(files)
    assert all((bare.folder / one).stat().st_mode & 0o077 == 0 for one in files)
    assert "is valid" in bare("check").out
    assert bare.config.read_text().count("#") > 10
    assert bare.json("audit", "verify").data["ok"] is True
    assert bare.json("status").data["secrets"] == []


def test_init_accepts_a_folder_and_never_overwrites(bare: Cli):
    """A second `init` fails and changes nothing."""
    bare("init", "etc")
    config = bare.folder / "etc" / "rotator.yaml"
    config.write_text(config.read_text() + "# mine\n")
    before = config.read_bytes()
    assert "exists already" in bare("init", "etc", code=2).err
    assert config.read_bytes() == before
    bare("check", "-c", str(config))
    bare("-c", str(config), "check")


def test_the_configuration_is_found_by_the_environment(bare: Cli, monkeypatch: pytest.MonkeyPatch):
    """`--config` precedes $ROTATOR_CONFIG, which precedes ./rotator.yaml."""
    bare("init", "etc")
    monkeypatch.setenv("ROTATOR_CONFIG", str(bare.folder / "etc" / "rotator.yaml"))
    bare("check")
    bare("check", "-c", "elsewhere.yaml", code=2)


def test_check_reports_every_problem_with_its_place(cli: Cli):
    """Each with file, line, key and remedy, as text and as data."""
    cli.edit("plugin: paper", "plugin: papre")
    cli.edit("strategy: alternating-users", "strategie: alternating-users")
    told = cli.json("check", code=2)
    assert {one["kind"] for one in told.errors} == {"config"}
    assert len(told.errors) >= 2
    for one in told.errors:
        assert one["file"].endswith("rotator.yaml")
        assert one["line"] > 1
    assert any("`paper`" in one["hint"] for one in told.errors)
    lines = cli("check", code=2).err.splitlines()
    assert "problems" in lines[0]
    assert any(line.strip().startswith("rotator.yaml:") for line in lines)


def test_a_missing_configuration_suggests_init(bare: Cli):
    """With exit code 2, from every command that needs one."""
    for arguments in (("check",), ("status",), ("rotate", "app"), ("db", "upgrade")):
        assert "rotator init" in bare(*arguments, code=2).err


def test_doctor_reports_findings_with_remedies(cli: Cli):
    """An error makes exit code 1."""
    told = cli.json("doctor")
    assert told.data["errors"] == 0
    assert any(one["subject"] == "journal" for one in told.data["findings"])
    cli.server.open_door = True
    found = cli.json("doctor", code=1).data
    bad = [one for one in found["findings"] if one["severity"] == "error"]
    assert any("wrong password" in one["message"] and one["remedy"] for one in bad)
    assert found["errors"] == len(bad)
    assert "Next:" in cli("doctor", code=1).out


def test_doctor_changes_nothing(cli: Cli):
    """Neither on the target, nor in the backend, nor in the journal."""
    cli("rotate", "app")
    state, events = cli.server.target.state(), cli.json("audit", "show").data["events"]
    cli("doctor")
    assert cli.server.target.state() == state
    assert cli.json("audit", "show").data["events"] == events


def test_plugins_lists_strategies_and_options(cli: Cli):
    """Of each installed plugin."""
    data = cli.json("plugins").data
    paper = next(one for one in data["rotations"] if one["name"] == "paper")
    assert {one["name"] for one in paper["strategies"]} >= {"new-user", "single-user"}
    assert paper["target_options"][0]["help"] == "The name of the server in memory."
    assert any(one["name"] == "local" for one in data["backends"])
    told = cli("plugins", "paper").out
    assert "What login names start with." in told
    assert "local" not in told
    assert "`paper`" in cli("plugins", "papr", code=2).err


def test_plan_and_doctor_report_windows_that_are_too_short(cli: Cli):
    """Otherwise such a policy would be noticed only when secrets are late."""
    assert cli.json("plan", "app").data["warnings"] == []
    cli.edit("every: 30d", 'every: 30d, windows: {allow: [{opens: "0 1 1 * *", lasts: 1s}]}')
    [warning] = cli.json("plan", "app").data["warnings"]
    assert "3 secrets have the policy of app" in warning
    assert "room for" in warning
    assert "room for" in cli("plan", "app").err
    assert "room for" in cli("doctor", "app", code=None).out
