"""plugins: installed plugins, their abilities, and a template for a new one."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any

import pytest

from rotator import plugins
from rotator.testing.templates import COMMAND_FILES, FILES, text_of

if TYPE_CHECKING:
    from tests.cli.conftest import Cli


def _one(cli: Cli, name: str) -> dict[str, Any]:
    data = cli.json("plugins", name).data
    [found] = data["rotations"] + data["backends"]
    return found


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin whose driver is missing."""
    installed = plugins._points

    def points(group: str) -> list[EntryPoint]:
        added = [EntryPoint("oracle", "a_driver_that_is_not_there:PLUGIN", group)]
        return [*installed(group), *(added if group == plugins.ROTATIONS else [])]

    monkeypatch.setattr(plugins, "_points", points)


def test_plugins_shows_the_strategies_of_a_plugin(bare: Cli):
    """Needs no configuration."""
    found = _one(bare, "postgresql")
    assert found["engines"] == ["postgres", "aurora-postgresql"]
    assert {one["name"]: one["overlaps"] for one in found["strategies"]} == {
        "new-user": True,
        "alternating-users": True,
        "single-user": False,
    }
    for one in found["strategies"]:
        own = {"new-user": ["ExpiresLogins"], "alternating-users": ["TakesTurns"]}
        assert one["abilities"] == [
            "ClosesLogins",
            "Contains",
            "CountsSessions",
            "Explains",
            "ExplainsRejections",
            "Examines",
            *own.get(one["name"], []),
        ]
    told = bare("plugins", "postgresql").out
    assert (
        "closes logins, contains, counts sessions, explains, explains rejections, examines" in told
    )
    assert "Also for: postgres, aurora-postgresql" in told


@pytest.mark.parametrize(
    ("name", "abilities"),
    [
        (
            "local",
            {
                "KeepsPrevious",
                "KeepsValues",
                "ListsRights",
                "OffersNext",
                "RemovesSecrets",
                "Reseals",
                "TellsRotations",
                "DetectsRestores",
                "ExaminesBackend",
            },
        ),
        (
            "vault",
            {
                "KeepsPrevious",
                "KeepsValues",
                "ListsRights",
                "OffersNext",
                "RemovesSecrets",
                "TellsRotations",
                "ExaminesBackend",
                "WritesPolicy",
            },
        ),
        (
            "aws",
            {
                "KeepsPrevious",
                "KeepsValues",
                "ListsRights",
                "OffersNext",
                "RotatesOnRequest",
                "TellsRotations",
                "ExaminesBackend",
                "WritesPolicy",
            },
        ),
    ],
)
def test_plugins_shows_the_abilities_of_a_backend(bare: Cli, name: str, abilities: set[str]):
    """Without opening it."""
    assert set(_one(bare, name)["abilities"]) == abilities


def test_plugins_shows_options_as_in_the_configuration(bare: Cli):
    """Types in words, durations with units, references, and nested options by their path."""
    options = {one["name"]: one for one in _one(bare, "vault")["target_options"]}
    assert options["timeout"]["type"] == "duration"
    assert options["timeout"]["default"] == "10s"
    assert options["auth.secret_id"]["type"] == "reference"
    assert "token or approle" in options["auth.method"]["type"]
    assert options["address"]["help"]
    told = bare("plugins", "vault").out
    assert "auth.secret_id" in told
    assert "token or approle" in told


@pytest.mark.usefixtures("broken")
def test_a_plugin_that_does_not_load_is_listed_with_the_reason(bare: Cli):
    """The others are listed as usual."""
    listed = {one["name"]: one for one in bare.json("plugins").data["rotations"]}
    assert "a_driver_that_is_not_there" in listed["oracle"]["error"]
    assert "Install what" in listed["oracle"]["error"]
    assert listed["postgresql"]["error"] is None
    assert "a_driver_that_is_not_there" in bare("plugins").out


@pytest.mark.usefixtures("broken")
def test_a_named_plugin_that_does_not_load_is_an_error_with_the_remedy(bare: Cli):
    """No details can be shown."""
    [error] = bare.json("plugins", "oracle", code=2).errors
    assert "a_driver_that_is_not_there" in error["what"]
    assert "Install what" in error["hint"]


@pytest.mark.parametrize(("slip", "meant"), [("postgres", "postgresql"), ("vualt", "vault")])
def test_an_unknown_plugin_suggests_similar_names(bare: Cli, slip: str, meant: str):
    """Of rotation plugins and of backends."""
    [error] = bare.json("plugins", slip, code=2).errors
    assert f"Did you mean `{meant}`?" in error["hint"]
    assert "Backends: aws, local, vault." in error["hint"]


def test_the_template_overwrites_no_file(bare: Cli):
    """All files are written, or none if one exists."""
    told = bare.json("plugins", "--template", "mine")
    assert [bare.folder / "mine" / one for one in FILES] == [
        bare.folder / one for one in told.data["files"]
    ]
    assert all((bare.folder / "mine" / one).read_text() == text_of(one) for one in FILES)
    ours = bare.folder / "theirs" / "pyproject.toml"
    ours.parent.mkdir()
    ours.write_text("mine")
    assert "there already" in bare("plugins", "--template", "theirs", code=2).err
    assert list(ours.parent.iterdir()) == [ours]
    assert ours.read_text() == "mine"
    assert "cannot be combined" in bare("plugins", "local", "--template", "new", code=2).err
    assert not (bare.folder / "new").exists()


def test_the_template_of_a_program_is_executable(bare: Cli):
    """Its own tests start it, and so does rotator."""
    told = bare.json("plugins", "--template", "mine", "--command")
    assert [bare.folder / "mine" / one for one in COMMAND_FILES] == [
        bare.folder / one for one in told.data["files"]
    ]
    assert (bare.folder / "mine" / COMMAND_FILES[0]).stat().st_mode & 0o777 == 0o755
    assert "plugin: command" in bare("plugins", "--template", "other", "--command").out
    assert "requires --template" in bare("plugins", "--command", code=2).err


def test_plugins_shows_the_abilities_that_depend_on_an_option(bare: Cli):
    """They are not those that every rotation has."""
    strategies = _one(bare, "command")["strategies"]
    assert [one["abilities"] for one in strategies] == [[]] * 4
    assert [one["optional_abilities"] for one in strategies] == [["CountsSessions"]] * 4
    assert "by option counts sessions" in bare("plugins", "command").out
