"""The how-to guides: their commands, run over a server in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.docs.consoles import DOCS, rotator_commands

if TYPE_CHECKING:
    from tests.cli.conftest import Cli

_GUIDES = DOCS / "how-to"


def _run(cli: Cli, guide: str, names: dict[str, str] | None = None) -> dict[str, int]:
    """Run each command of a guide with its secret called `app`; return the exit codes."""
    names = {"shop": "app", "payments": "prod"} | (names or {})
    codes: dict[str, int] = {}
    for words in rotator_commands(_GUIDES / f"{guide}.md"):
        if words[0] in {"daemon", "worker"}:
            continue
        codes[" ".join(words)] = cli(*(names.get(word, word) for word in words), code=None).code
    return codes


def test_a_leaked_password_is_replaced_and_its_proof_exported(cli: Cli):
    """One command ends it, the receipt verifies."""
    cli("rotate", "app")
    cli("rotate", "web")
    codes = _run(cli, "leaked-password")
    by_value = [codes.pop(one) for one in list(codes) if "--value-from" in one or "--from" in one]
    # Nobody is at a terminal, and no scanner has written a report.
    assert set(by_value) == {2}
    named = [codes.pop(one) for one in list(codes) if "--login" in one or "--version" in one]
    assert set(named) == {2}
    # `app` has had its incident.
    [tagged] = [codes.pop(one) for one in list(codes) if "--tag" in one]
    assert tagged == 2
    assert set(codes.values()) == {0}
    assert cli.json("audit", "verify", "--export", "receipt-INC-42").data["ok"] is True


def test_a_secret_is_retired(cli: Cli):
    """The first command of the guide; the second needs a changed file."""
    cli("rotate", "app")
    [retire, rename] = rotator_commands(_GUIDES / "remove-or-rename.md")
    cli("retire", "app", *retire[2:])
    assert rename[:2] == ["rename", "shop"]
    cli("rotate", "web")
    cli.edit("web: {target: main", "web-shop: {path: web, target: main")
    cli("rename", "web", *rename[2:])
    assert cli.json("history", "web-shop").data["rotations"]


def test_a_parked_secret_is_unparked(cli: Cli):
    """By name, and with all of its target."""
    cli("rotate", "app")
    cli("park", "app", "--reason", "test")
    codes = _run(cli, "respond-to-alerts")
    assert codes["unpark shop --reason granted the missing right"] == 0


def test_many_secrets_are_added(cli: Cli):
    """`add` writes entries for all names of the guide, and they are valid."""
    added = next(one for one in rotator_commands(_GUIDES / "many-secrets.md") if one[0] == "add")
    cli(*added, "--target", "main", "--strategy", "new-user")
    assert cli.json("check").data["secrets"] == 6
