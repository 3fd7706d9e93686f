"""add: it writes an entry and keeps all other bytes of the file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rotator.config.editing import line_of

if TYPE_CHECKING:
    from tests.cli.conftest import Cli

_ENTRY = "{target: main, backend: local, strategy: dual-password}"


def test_add_writes_a_line_and_keeps_the_rest_of_the_file(cli: Cli):
    """Comments, formatting and mode stay; the only target and backend are used."""
    cli.edit("secrets:\n", "secrets:  # ours\n  # the first\n")
    cli.config.chmod(0o640)
    before = cli.config.read_text()
    told = cli("add", "shop", "search")
    assert "rotator adopt shop search" in told.out
    after = cli.config.read_text()
    assert after == f"{before.rstrip()}\n  shop: {_ENTRY}\n  search: {_ENTRY}\n"
    assert cli.config.stat().st_mode & 0o777 == 0o640
    assert cli.json("check").data["secrets"] == 5
    assert sorted(one.name for one in cli.folder.glob(".rotator*")) == []


def test_add_omits_values_from_the_defaults(cli: Cli):
    """An entry may then be a name only."""
    text = cli.config.read_text().partition("secrets:")[0]
    defaults = "defaults: {target: main, backend: local, strategy: new-user, options: {base: x}}\n"
    cli.config.write_text(f"{text}{defaults}secrets:\n- shop\n\n# end\n")
    cli("add", "search")
    assert cli.config.read_text() == f"{text}{defaults}secrets:\n- shop\n- search\n\n# end\n"


@pytest.mark.parametrize(
    ("secrets", "expected"),
    [
        ("", "\nsecrets:\n  shop: E\n"),
        ("secrets:\n  # none\n", "secrets:\n  shop: E\n  # none\n"),
        ("secrets: {}\n", "secrets: {shop: E}\n"),
        ("secrets: {a: E} # x\n", "secrets: {a: E, shop: E} # x\n"),
        ("secrets:\n    a: E  # x\n\n# y\n", "secrets:\n    a: E  # x\n    shop: E\n\n# y\n"),
        ("secrets:\n  a: E\ndaemon: {}\n", "secrets:\n  a: E\n  shop: E\ndaemon: {}\n"),
    ],
)
def test_add_supports_every_form_of_the_section(secrets: str, expected: str, cli: Cli):
    """Block, flow, empty and missing."""
    text = cli.config.read_text().partition("secrets:")[0]
    cli.config.write_text(text + secrets.replace("E", _ENTRY))
    cli("add", "shop")
    assert cli.config.read_text() == text + expected.replace("E", _ENTRY)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("app",), "`app` already exists under `secrets`"),
        (("shop", "--target", "mian"), "Did you mean `main`?"),
        (("shop", "--strategy", "none"), "unknown strategy"),
        (("shop", "--policy", "slow"), "unknown policy"),
        (("b d",), "invalid name"),
        (("shop", "search", "--username", "x"), "to one secret only"),
    ],
)
def test_an_invalid_entry_is_not_written(arguments: tuple[str, ...], says: str, cli: Cli):
    """Nothing half-written, and the file's own name in the message."""
    before = cli.config.read_bytes()
    told = cli("add", *arguments, code=2)
    assert says in " ".join(told.err.split())
    assert ".new" not in told.err
    assert cli.config.read_bytes() == before
    assert sorted(one.name for one in cli.folder.glob(".rotator*")) == []


def test_a_name_alone_is_written_with_its_colon():
    """The file format needs it."""
    assert line_of("shop", {}) == "shop:"
    assert line_of("shop", {"tags": ["a"]}) == "shop: {tags: [a]}"


def test_a_policy_covers_paths_that_are_not_configured_yet(cli: Cli):
    """`import` can then read them with minimum rights."""
    cli.edit("backends:\n", "backends:\n  vault: {type: vault}\n")
    without = cli("policy", "vault").out
    told = cli("policy", "vault", "--also", "apps/shop", "--also", "apps/search").out
    assert 'path "secret/data/apps/shop"' in told
    assert 'path "secret/data/apps/search"' in told
    assert "apps/" not in without
