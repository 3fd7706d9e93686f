"""The documentation: its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path(__file__).parents[1]
_PAGES = sorted([_ROOT / "README.md", *(_ROOT / "docs").glob("*.md")])
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
