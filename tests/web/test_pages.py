"""What the pages show is what the command line shows, and never a value."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.web.conftest import Site

PAGES = (
    *("/", "/secrets", "/secrets/app", "/calendar", "/consumers", "/incidents"),
    *("/journal", "/journal?secret=app", "/report"),
)


@pytest.mark.parametrize("path", PAGES)
def test_each_page_answers(site: Site, path: str):
    """Every page is a whole HTML page, for a viewer."""
    site.rotate("app")
    answer = site.browser("viewer").get(path)
    assert answer.status_code == 200, answer.text
    assert "</html>" in answer.text
