"""find --try: logins at configured targets, verdicts, and no value in what is kept of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rotator.testing.fake_target import Account

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Cli

_CANARY = "Kanarie7-vogel"


@pytest.fixture
def tree(cli: Cli) -> Path:
    """A folder with one hard-coded password of a login on target `main`."""
    folder = cli.folder / "tree"
    folder.mkdir()
    (folder / ".env").write_text(f"DB_USER=shop\nDB_HOST=main\nDB_PASSWORD={_CANARY}\n")
    return folder


def _verdicts(cli: Cli, code: int, *arguments: str) -> list[tuple[str, str]]:
    data = cli.json("find", "tree", "--try", *arguments, code=code).data
    return [(one["verdict"], one["reason"]) for one in data["candidates"]]


def test_find_tries_a_candidate_and_exits_with_1(cli: Cli, tree: Path):
    """The server accepts it, and refuses a wrong password for the same login."""
    cli.server.target.accounts["shop"] = Account(passwords=[_CANARY])
    outcome = cli.json("find", "tree", "--try", code=1)
    (one,) = outcome.data["candidates"]
    assert (one["verdict"], one["server"]) == ("valid", "target main")
    (verdict,) = _verdicts(cli, 3)
    assert verdict[0] == "not-tried"
    assert "within the hour" in verdict[1]
    for file in cli.folder.rglob("*"):
        if file.is_file() and tree not in file.parents:
            assert _CANARY.encode() not in file.read_bytes(), file
    assert _CANARY not in outcome.out + outcome.err


def test_find_exits_with_0_for_a_refused_candidate(cli: Cli, tree: Path):
    """It is listed: somebody should remove it nevertheless."""
    assert _verdicts(cli, 0) == [("refused", "")]


def test_find_calls_nothing_valid_where_any_password_is_accepted(cli: Cli, tree: Path):
    """As `trust` in pg_hba.conf does."""
    cli.server.open_door = True
    ((verdict, reason),) = _verdicts(cli, 3)
    assert verdict == "not-tried"
    assert "does not exist" in reason


def test_find_cannot_tell_while_a_server_is_away(cli: Cli, tree: Path):
    """The exit code is 3, and 0 only if lenient."""
    cli.server.away = True
    ((verdict, _),) = _verdicts(cli, 3)
    assert verdict == "unreachable"
    assert _verdicts(cli, 0, "--lenient")[0][0] == "unreachable"


def test_find_survives_a_plugin_that_fails(cli: Cli, tree: Path):
    """Its server's candidates are not tried."""
    cli.server.bug = ValueError(_CANARY)
    outcome = cli.json("find", "tree", "--try", code=3)
    assert outcome.data["candidates"][0]["verdict"] == "not-tried"
    assert _CANARY not in outcome.out + outcome.err


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("DB_USER=shop\nDB_HOST=elsewhere\nDB_PASSWORD=hunter2x\n", "--allow-host"),
        ("DB_HOST=main\nDB_PASSWORD=hunter2x\n", "no login"),
        ("DATABASE_URL=oracle://shop:hunter2x@main/shop\n", "--allow-host"),
    ],
)
def test_find_tries_only_what_it_can_place(cli: Cli, tree: Path, text: str, reason: str):
    """A host must be that of a configured target, or be allowed."""
    (tree / ".env").write_text(text)
    ((verdict, found),) = _verdicts(cli, 3)
    assert verdict == "not-tried"
    assert reason in found


def test_find_needs_no_host_where_one_target_is_configured(cli: Cli, tree: Path):
    """The login is tried there."""
    (tree / ".env").write_text(f"DB_USER=shop\nDB_PASSWORD={_CANARY}\n")
    cli.server.target.accounts["shop"] = Account(passwords=[_CANARY])
    assert _verdicts(cli, 1)[0][0] == "valid"


def test_find_lists_a_well_known_example_that_is_valid(cli: Cli, tree: Path):
    """Others are only counted."""
    (tree / ".env").write_text("DB_USER=shop\nDB_HOST=main\nDB_PASSWORD=changeme\n")
    cli.server.target.accounts["shop"] = Account(passwords=["changeme"])
    assert _verdicts(cli, 1)[0][0] == "valid"
    cli.server.target.accounts["shop"] = Account(passwords=["other"])
    assert _verdicts(cli, 0) == []


def test_find_names_the_managed_secret_of_a_value(cli: Cli, tree: Path):
    """A current value stays valid where its server is away; its login is that of the secret."""
    cli("rotate", "old")
    password = next(
        one for name, one in cli.server.target.accounts.items() if name.startswith("old")
    ).passwords[-1]
    (tree / ".env").write_text(f"PASSWORD={password}\n")
    data = cli.json("find", "tree", "--try", code=1).data
    (one,) = data["candidates"]
    assert (one["secret"], one["verdict"], one["server"]) == (
        "old (current)",
        "valid",
        "target main",
    )
    cli.server.away = True
    (one,) = cli.json("find", "tree", "--try", code=1).data["candidates"]
    assert one["verdict"] == "valid"
    assert "was not tried" in one["reason"]


def test_find_refuses_an_allowed_host_without_a_try(cli: Cli, tree: Path):
    """Nothing would be tried."""
    cli("find", "tree", "--allow-host", "db", code=2)
