"""The documentation: its links lead somewhere, and its examples do what it says."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from rotator.api import Credential, Secret
from rotator.testing.crash import World
from rotator.testing.rotation_suite import RotationSuite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

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


def _blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", page.read_text())


@pytest.fixture
def userfile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import the example of docs/plugins.md as a module."""
    source = max(_blocks(_ROOT / "docs" / "plugins.md", "python"), key=len)
    (tmp_path / "rotator_userfile.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "rotator_userfile", raising=False)
    return importlib.import_module("rotator_userfile")


class TestExampleOfAPlugin(RotationSuite):
    """What the page tells people to copy keeps the whole contract, crashes included."""

    @pytest.fixture
    def make_world(self, tmp_path: Path, userfile: Any) -> Callable[[], World]:
        """Return what makes a file of its own."""

        def make() -> World:
            path = tmp_path / f"{uuid4()}.json"
            path.write_text("{}")
            options = userfile.TargetOptions(path=str(path))
            target = userfile.PLUGIN.target("main", options, lambda: None)

            def foreign() -> Credential:
                password = Secret("set-by-hand-long-ago")
                entry = {"salt": "s", "hash": userfile.hashed(password, "s"), "owner": None}
                path.write_text(json.dumps(json.loads(path.read_text()) | {"legacy": entry}))
                return Credential(username="legacy", password=password)

            return World(
                rotation=lambda: target.rotation("new-user", userfile.SecretOptions()),
                usable=lambda: set(json.loads(path.read_text())),
                state=lambda: json.loads(path.read_text()),
                foreign=foreign,
            )

        return make
