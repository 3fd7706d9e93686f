"""import: it prints or writes entries for secrets in a backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rotator.backends.local import LocalBackend
from rotator.core.errors import Denied
from rotator.core.model import Credential
from rotator.core.secret import Secret

if TYPE_CHECKING:
    from tests.cli.conftest import Cli

_PATHS = ("prod/shop", "test/shop", "prod/search")


@pytest.fixture
def filled(cli: Cli) -> Cli:
    """A backend that holds three secrets nobody has configured."""
    with cli.app() as app:
        backend = app.backend("local")
        for number, path in enumerate(_PATHS):
            login = Credential(username=f"login{number}", password=Secret("of-no-importance"))
            backend.stage(path, path, login)
            backend.publish(path, path, expect=None)
    return cli


def test_import_writes_entries_for_several_paths(filled: Cli):
    """Equal last parts get different names; the file loads, and the rest is unchanged."""
    before = filled.config.read_text()
    data = filled.json("import", "local", *_PATHS).data
    assert [one["name"] for one in data["secrets"]] == ["shop", "test-shop", "search"]
    assert list(data["entry"]["secrets"]) == ["shop", "test-shop", "search"]
    assert filled.config.read_text() == before
    told = filled("import", "local", *_PATHS, "--write").out
    assert "rotator adopt shop test-shop search" in told
    assert "# Add to" not in told
    assert filled.config.read_text().startswith(before.rstrip())
    assert filled.json("check").data["secrets"] == 6
    assert "is already configured" in filled("import", "local", *_PATHS, code=2).err


def test_import_continues_after_a_path_that_cannot_be_read(
    filled: Cli, monkeypatch: pytest.MonkeyPatch
):
    """What is denied names the policy for a path that is not configured yet."""
    read = LocalBackend.current

    def current(self: LocalBackend, path: str) -> object:
        if path == "prod/shop":
            raise Denied("the policy lacks a right.", hint="The policy needs: a line.")
        return read(self, path)

    monkeypatch.setattr(LocalBackend, "current", current)
    told = filled.json("import", "local", *_PATHS, "none", "--write", code=3)
    assert [one["name"] for one in told.data["secrets"]] == ["shop", "search"]
    denied, missing = told.errors
    assert denied["hint"].endswith("rotator policy local --also prod/shop")
    assert "holds nothing at 'none'" in missing["what"]
    assert filled.json("check").data["secrets"] == 5


def test_import_rejects_one_name_for_several_paths(filled: Cli):
    """Two secrets cannot have one name."""
    assert "--name" in filled("import", "local", *_PATHS, "--name", "x", code=2).err
    assert filled.json("import", "local", "prod/shop", "--name", "x").data["name"] == "x"
