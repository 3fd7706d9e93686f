"""The documentation: its links lead somewhere."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rotator.api import WritesGrants
from rotator.metrics import Metrics, StateCollector
from rotator.plugins import rotation_plugin_for
from rotator.testing.fake_journal import MemoryJournal
from rotator.testing.fakes import START, ManualClock

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path(__file__).parents[2]
_BESIDE = ("README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md")
_PAGES = sorted([*(_ROOT / name for name in _BESIDE), *(_ROOT / "docs").rglob("*.md")])
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"(?m)^#+ (.+)$", page.read_text())
    return {re.sub(r"[^\w\- ]", "", one.lower()).strip().replace(" ", "-") for one in headings}


def _links() -> Iterator[Any]:
    for page in _PAGES:
        for found in _LINK.findall(page.read_text()):
            link = found[0] or found[1]
            if "://" not in link:
                yield pytest.param(page, link, id=f"{page.name}:{link}")


@pytest.mark.parametrize(("page", "link"), list(_links()))
def test_every_link_leads_somewhere(page: Path, link: str):
    """To a file of ours, and to a heading where one is named."""
    name, _, anchor = link.partition("#")
    target = (page.parent / name).resolve() if name else page
    assert target.exists()
    assert target.is_relative_to(_ROOT)
    if anchor:
        assert anchor in _anchors(target)


@pytest.mark.parametrize(
    ("page", "engine"),
    [
        ("postgresql", "postgresql"),
        ("mysql", "mariadb"),
        ("mysql", "mysql"),
        ("valkey", "valkey"),
    ],
)
def test_pages_show_the_rights_that_init_prints(page: str, engine: str):
    """The statements have one source, the plugin."""
    plugin = rotation_plugin_for(engine)
    assert isinstance(plugin, WritesGrants)
    options = plugin.info.target_options(host="db.example.org")
    lines = plugin.grants(options, engine=engine, admin="rotator_admin", login="shop")
    assert "\n".join(lines) in (_ROOT / "docs" / "reference" / f"{page}.md").read_text()


def test_every_file_that_a_page_names_exists():
    """A reader can look up each claim."""
    named = {
        (page.name, found)
        for page in _PAGES
        if page.name != "first-plugin.md"  # which names an author's own
        for found in re.findall(
            r"`((?:tests|rotator|rotations|deploy|migrations)/[\w/*.-]+)`", page.read_text()
        )
    }
    assert named
    assert [name for name in sorted(named) if not list(_ROOT.glob(name[1]))] == []


def test_the_readme_is_short():
    """Whoever has more questions follows a link."""
    assert len((_ROOT / "README.md").read_text().split()) <= 400


def test_every_metric_is_explained_and_no_other():
    """By the names that Prometheus shows."""
    text = (_ROOT / "docs" / "reference" / "metrics.md").read_text()
    named = re.findall(r"(?m)^\| `(rotator_\w+)", text)
    metrics = Metrics(lambda _secret: "postgresql")
    journal = MemoryJournal(clock=ManualClock())
    metrics.registry.register(
        StateCollector(
            lambda: journal,
            lambda: START,
            timedelta(days=1),
            lambda: {"running": 0},
            lambda: {"target main": START},
        )
    )
    offered = re.findall(r"(?m)^# TYPE (\S+) ", metrics.text().decode())
    assert sorted(named) == sorted(name for name in offered if not name.endswith("_created"))
