"""The documentation: its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rotator.api import WritesGrants
from rotator.plugins import rotation_plugin_for

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path(__file__).parents[1]
_PAGES = sorted([_ROOT / "README.md", _ROOT / "SECURITY.md", *(_ROOT / "docs").glob("*.md")])
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
    assert "\n".join(lines) in (_ROOT / "docs" / f"{page}.md").read_text()


def test_every_test_that_a_page_names_is_there():
    """So that what is claimed can be looked up."""
    named = {
        (page.name, found)
        for page in _PAGES
        if page.name != "plugins.md"  # which speaks of an author's own
        for found in re.findall(r"`(tests/[\w/*.]+)`", page.read_text())
    }
    assert named
    assert [one for one in sorted(named) if not list(_ROOT.glob(one[1]))] == []
