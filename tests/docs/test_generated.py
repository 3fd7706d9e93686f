"""The generated parts of the documentation are what the code says; if not: make reference."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.pages import cli, errors, state_machine, terminal, write
from rotator.core.daemon_settings import Topic
from rotator.core.model import Kind, Step
from rotator.faces.cli import program

_ROOT = Path(__file__).parents[2]
_DOCS = _ROOT / "docs"


def test_every_generated_part_is_fresh():
    """If not: make reference."""
    assert [str(page.file.relative_to(_ROOT)) for page in write.stale()] == []


def test_every_kind_of_error_has_a_remedy_and_no_remedy_is_without_a_kind():
    """A kind that is added needs a sentence that helps."""
    assert set(errors.REMEDIES) == set(errors.meanings())


def test_every_event_is_explained_and_no_other():
    """Those of notifications and those of the journal."""
    text = (_DOCS / "reference" / "events.md").read_text()
    notices, _, journal = text.partition("## Journal events")
    rows = re.compile(r"(?m)^\| `([\w-]+)` \|")
    assert set(rows.findall(notices)) == {topic.value for topic in Topic}
    assert set(rows.findall(journal)) == {kind.value for kind in Kind}
    assert [step.value for step in Step if f"`{step.value}`" not in journal] == []


def test_the_picture_of_the_state_machine_has_every_step():
    """Each arrow is an answer of `decide`."""
    picture = state_machine.picture()
    assert [step.value for step in Step if f">{step.value}<" not in picture] == []


def test_pictures_load_nothing_from_elsewhere():
    """No font, style or script of another host."""
    for file in _DOCS.rglob("*.svg"):
        text = file.read_text()
        assert not re.search(r"@import|@font-face|url\((?!#)|<script|href=", text), file


def test_the_readme_shows_a_demo_that_succeeded():
    """Drawn from a real run: make picture."""
    assert "Nobody&#160;was&#160;locked&#160;out." in terminal.FILE.read_text()


def test_the_command_line_has_a_section_for_each_command():
    """`rotator --help` and the page show the same commands."""
    page = (_DOCS / "reference" / "cli.md").read_text()
    assert re.findall(r"(?m)^### `(rotator .+)`$", page) == [name for name, _ in cli.shown()]
    assert program.build()


def test_the_navigation_names_every_page():
    """A page that is not in it cannot be found on the site."""
    text = (_ROOT / "mkdocs.yml").read_text()
    named = set(re.findall(r"(\S+\.md)$", text, re.MULTILINE))
    assert named == {str(file.relative_to(_DOCS)) for file in _DOCS.rglob("*.md")}


@pytest.mark.slow
def test_the_site_builds_strictly(tmp_path: Path):
    """With every link checked, and nothing of another host in it."""
    program = _ROOT / ".venv" / ".docs" / "bin" / "mkdocs"
    if not program.exists():
        pytest.skip("no mkdocs: make docs installs it")
    command = [program, "build", "--quiet", "--site-dir", tmp_path / "site"]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    index = (tmp_path / "site" / "index.html").read_text()
    loaded = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?:[^"]+)"', index)
    assert loaded == []
    shutil.rmtree(tmp_path / "site")
