"""find --fix: what is valid goes into the backend, and references into a patch or a branch."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from rotator.testing.fake_target import Account

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Cli

_PROGRAM = shutil.which("git") or "git"
_CANARY = "Kanarie7-vogel"
_TEXT = f"DB_USER=old\nDB_HOST=main\nDB_PASSWORD={_CANARY}\n"


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [_PROGRAM, "-C", str(folder), *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout


@pytest.fixture
def tree(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with the password of login `old`, which no backend holds yet."""
    for one in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{one}_NAME", "a")
        monkeypatch.setenv(f"GIT_{one}_EMAIL", "a@example.org")
    folder = cli.folder / "tree"
    folder.mkdir()
    (folder / ".env").write_text(_TEXT)
    _git(folder, "init", "-q")
    _git(folder, "add", ".")
    _git(folder, "commit", "-qm", "first")
    cli.server.target.accounts["old"] = Account(passwords=[_CANARY])
    return folder


def _no_canary(cli: Cli, tree: Path, *outputs: str) -> None:
    assert not any(_CANARY in one for one in outputs)
    for file in cli.folder.rglob("*"):
        if file.is_file() and tree not in file.parents:
            assert _CANARY.encode() not in file.read_bytes(), file


def test_fix_adopts_a_valid_password_and_writes_a_patch(cli: Cli, tree: Path):
    """The file stays until the patch is applied; the backend then serves what was written down."""
    outcome = cli.json("find", "tree", "--try", "--fix", "--patch", "fix.patch", code=1)
    assert outcome.data["adopted"] == ["old"]
    assert [(one["line"], one["reference"]) for one in outcome.data["changes"]] == [
        (3, "${DB_PASSWORD}")
    ]
    assert (tree / ".env").read_text() == _TEXT
    _git(cli.folder, "apply", "fix.patch")
    assert (tree / ".env").read_text() == _TEXT.replace(_CANARY, "${DB_PASSWORD}")
    assert cli("get", "old", "--reveal", "--field", "password").out.strip() == _CANARY
    assert cli.json("verify", "old").answer["ok"]
    _no_canary(cli, tree, outcome.out, outcome.err)
    assert (cli.folder / "fix.patch").stat().st_mode & 0o077 == 0


def test_fix_replaces_a_known_value_on_a_branch(cli: Cli, tree: Path):
    """The text explains why history is not rewritten, and how the application gets the password."""
    cli("adopt", "old", "--username", "old", "--password-from", f"file:{_value(cli)}")
    outcome = cli("find", "tree", "--try", "--fix", "--branch", "fixed", code=1)
    assert "history is not rewritten" in outcome.out
    assert "rotator exec old --env" in outcome.out
    assert _git(tree, "show", "fixed:.env") == _TEXT.replace(_CANARY, "${DB_PASSWORD}")
    assert _git(tree, "status", "--porcelain") == ""
    assert (tree / ".env").read_text() == _TEXT
    (cli.folder / "value").unlink()
    _no_canary(cli, tree, outcome.out, outcome.err)
    cli("find", "tree", "--try", "--fix", "--branch", "fixed", code=2)


def _value(cli: Cli) -> Path:
    file = cli.folder / "value"
    file.write_text(_CANARY)
    file.chmod(0o600)
    return file


def test_fix_prints_the_patch(cli: Cli, tree: Path):
    """Git ignores the report before it."""
    outcome = cli("find", "tree", "--try", "--fix", "--patch", "-", code=1)
    _no_canary(cli, tree, outcome.out, outcome.err)
    subprocess.run([_PROGRAM, "apply"], cwd=cli.folder, input=outcome.out, text=True, check=True)
    assert _CANARY not in (tree / ".env").read_text()


def test_fix_leaves_what_no_secret_is_configured_for(cli: Cli, tree: Path):
    """With the command that adds one."""
    cli.server.target.accounts["shop"] = Account(passwords=[_CANARY])
    (tree / ".env").write_text(_TEXT.replace("old", "shop"))
    outcome = cli("find", "tree", "--try", "--fix", "--patch", "fix.patch", code=1)
    assert "rotator add NAME --target main --username shop" in outcome.out
    assert "Nothing was replaced." in outcome.out
    assert not (cli.folder / "fix.patch").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--fix",),
        ("--fix", "--try"),
        ("--fix", "--patch", "x"),
        ("--try", "--patch", "x"),
        ("--try", "--fix", "--patch", "x", "--branch", "y"),
        ("--try", "--fix", "--branch", "bad..name"),
    ],
)
def test_fix_refuses_wrong_usage(cli: Cli, tree: Path, arguments: tuple[str, ...]):
    """Nothing is adopted."""
    cli("find", "tree", *arguments, code=2)
    assert cli.app().journal.secret("old") is None
