"""find --kill: a valid password that was found is made invalid, and another one is served."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rotator.testing.fake_target import Account

if TYPE_CHECKING:
    from tests.cli.conftest import Cli

_CANARY = "Kanarie7-vogel"


def _prepare(cli: Cli, login: str = "old") -> None:
    folder = cli.folder / "tree"
    folder.mkdir()
    text = f"DB_USER={login}\nDB_HOST=main\nDB_PASSWORD={_CANARY}\n"
    (folder / ".env").write_text(text)
    cli.server.target.accounts[login] = Account(passwords=[_CANARY])


def test_kill_makes_a_found_password_invalid(cli: Cli):
    """Of a managed secret; the exit code still reports that a valid one was found."""
    _prepare(cli)
    value = cli.folder / "value"
    value.write_text(_CANARY)
    value.chmod(0o600)
    cli("adopt", "old", "--username", "old", "--password-from", f"file:{value}")
    value.unlink()
    outcome = cli.json("find", "tree", "--try", "--kill", code=1)
    assert outcome.data["candidates"][0]["verdict"] == "valid"
    assert outcome.data["results"][0]["proven"] is True
    assert not cli.server.target.accepts("old", _CANARY)
    assert "tree/.env:3" in cli("incident", "show", "old").out
    assert _CANARY not in outcome.out + outcome.err
    for file in cli.folder.glob("*.db*"):
        assert _CANARY.encode() not in file.read_bytes()


def test_kill_and_fix_take_over_and_replace(cli: Cli):
    """The password is adopted, replaced in the file, and then made invalid."""
    _prepare(cli)
    cli("find", "tree", "--try", "--fix", "--patch", "fix.patch", "--kill", code=1)
    assert not cli.server.target.accepts("old", _CANARY)
    assert cli.json("verify", "old").answer["ok"]


def test_kill_changes_nothing_where_nothing_is_valid(cli: Cli):
    """A password of no managed secret is left to the operator, too."""
    _prepare(cli)
    cli.server.target.accounts["old"] = Account(passwords=["another"])
    assert "No incident was opened" in cli("find", "tree", "--try", "--kill").out
    cli("find", "tree", "--kill", code=2)


def test_kill_names_a_valid_password_that_is_not_managed(cli: Cli):
    """It stays valid."""
    _prepare(cli, "shop")
    outcome = cli("find", "tree", "--try", "--kill", code=1)
    assert "no version of a managed secret has this value" in outcome.err
    assert cli.server.target.accepts("shop", _CANARY)
