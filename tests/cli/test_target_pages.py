"""The configurations on the pages of `sql`, `http`, `ldap`, `rabbitmq`, `command`, `aws-iam` are valid, and a slip in one is found."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from rotator.testing.templates import COMMAND_FILES, write_template

if TYPE_CHECKING:
    from tests.cli.conftest import Cli

_PAGES = Path(__file__).parents[2] / "docs" / "reference"
_HEAD = """\
version: 1
journal: {url: "sqlite:///rotator.db"}
backends: {local: {type: local}}
"""
_LOGIN = "admin: {username: root, password: 'env:ADMIN_PASSWORD'}"


def _blocks(page: str) -> list[str]:
    return re.findall(r"(?ms)^```yaml\n(.*?)^```$", (_PAGES / f"{page}.md").read_text())


def _whole(block: str, plugin: str) -> str:
    """Return a block as a configuration: some show a whole one, some one target."""
    if "targets:" in block:
        return _HEAD + block
    target = {"plugin": plugin, **yaml.safe_load(_LOGIN), **yaml.safe_load(block)}
    strategy = "new-user" if "create" in target else "alternating-users"
    key = "identifiers" if plugin == "sql" else "values"
    options = {"users": ["A", "B"], key: {"group": "readers"}}
    secret = {"target": "main", "backend": "local", "strategy": strategy, "options": options}
    return _HEAD + yaml.safe_dump({"targets": {"main": target}, "secrets": {"shop": secret}})


@pytest.mark.parametrize(
    ("plugin", "block"),
    [
        (page, block)
        for page in ("sql", "http", "ldap", "rabbitmq", "command", "aws-iam")
        for block in _blocks(page)
    ],
)
def test_each_configuration_of_a_page_is_valid(bare: Cli, plugin: str, block: str):
    """Also those for databases that are not here: their statements parse, with known placeholders."""
    write_template(bare.folder / "my-program", COMMAND_FILES)
    bare.write(_whole(block, plugin))
    assert bare("check").out


@pytest.mark.parametrize(
    ("plugin", "old", "new", "shown"),
    [
        ("sql", "IN ROLE {group}", "IN ROLE {team}", "unknown placeholder {team}"),
        ("sql", "IN ROLE {group}", "IN ROLE '{group}'", "inside quotes"),
        ("http", "/v1/auth/userpass/login/{login}", "/v1/login/{password}", "contains {password}"),
        ("http", "token_policies: [shop]", "token_policies: ['{team}']", "placeholder {team}"),
    ],
)
def test_a_slip_is_found_before_anything_is_sent(
    bare: Cli, plugin: str, old: str, new: str, shown: str
):
    """By `rotator check`."""
    block = _blocks(plugin)[0]
    assert old in block
    bare.write(_whole(block.replace(old, new), plugin))
    outcome = bare("check", code=2)
    assert shown in outcome.err + outcome.out
