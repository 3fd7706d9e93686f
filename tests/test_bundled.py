"""The pages and deploy files that come with rotator."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from rotator import bundled
from rotator.core.errors import UsageError

_ROOT = Path(__file__).parents[1]


def test_every_page_is_a_topic():
    """Pages under docs/ have names of their own, whatever their folder."""
    files = [file.stem for file in (_ROOT / "docs").rglob("*.md")]
    assert len(files) == len(set(files))
    assert set(bundled.topics()) == {*files, "readme", "security", "changelog"}


def test_a_topic_has_the_title_of_its_page():
    """The first heading."""
    assert bundled.topics()["postgresql"] == "PostgreSQL"
    assert all(bundled.topics().values())


def test_a_page_is_found_by_its_name_or_by_its_path():
    """Links of other pages can be used as they are."""
    text = (_ROOT / "docs" / "reference" / "journal.md").read_text()
    assert bundled.page("journal") == text
    assert bundled.page("../reference/journal.md") == text


def test_an_unknown_topic_is_a_usage_error():
    """With the command that lists topics."""
    with pytest.raises(UsageError) as caught:
        bundled.page("nothing")
    assert "rotator docs" in caught.value.hint


@pytest.mark.parametrize("kind", bundled.DEPLOYMENTS)
def test_a_deployment_is_written_as_in_the_repository(kind: str, tmp_path: Path):
    """Each file, unchanged."""
    written = bundled.write_deployment(kind, tmp_path / "new")
    sources = bundled.DEPLOYMENTS[kind]
    assert [file.read_text() for file in written] == [
        (_ROOT / source).read_text() for source in sources
    ]


def test_a_deployment_overwrites_nothing(tmp_path: Path):
    """And writes nothing where one of its files exists."""
    (tmp_path / "rotator.service").write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        bundled.write_deployment("systemd", tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["rotator.service"]
    assert (tmp_path / "rotator.service").read_text() == "mine"


def test_an_unknown_deployment_is_a_usage_error(tmp_path: Path):
    """With the known ones."""
    with pytest.raises(UsageError) as caught:
        bundled.write_deployment("nomad", tmp_path)
    assert "systemd" in caught.value.hint


def test_the_wheel_carries_every_file_that_is_written():
    """What the build copies covers docs/ and each file of each deployment."""
    build = tomllib.loads((_ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    copied = build["targets"]["wheel"]["force-include"]
    needed = {"docs", "README.md", "SECURITY.md", "CHANGELOG.md"}
    needed |= {source for files in bundled.DEPLOYMENTS.values() for source in files}
    for file in needed:
        source = next(one for one in copied if file == one or file.startswith(f"{one}/"))
        assert copied[source] == f"rotator/data/{source}"
