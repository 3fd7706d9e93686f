"""docs and deploy: what comes with rotator is read and written without a configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.cli.conftest import Cli


def test_docs_lists_topics_and_prints_a_page(bare: Cli):
    """The page as it is written."""
    assert "first-rotation" in bare("docs").out
    assert bare("docs", "glossary").out.startswith("# Glossary")
    assert bare.json("docs", "glossary").data["text"].startswith("# Glossary")


def test_docs_names_an_unknown_topic(bare: Cli):
    """With the command that lists them."""
    assert "rotator docs" in bare("docs", "nothing", code=2).err


def test_deploy_writes_files_and_overwrites_none(bare: Cli):
    """A second call changes nothing and says which file exists."""
    written = bare.json("deploy", "systemd", "--out", "unit").data["files"]
    assert all((bare.folder / file).exists() for file in written)
    assert "exists already" in bare("deploy", "systemd", "--out", "unit", code=2).err
    assert "kubernetes" in bare("deploy", "nomad", "--out", "x", code=2).err
