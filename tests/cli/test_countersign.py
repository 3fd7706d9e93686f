"""A witness with a key of its own signs only a journal that holds all that it signed before."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from rotator.core.secret import Secret
from rotator.journal import chain

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Cli


@pytest.fixture
def witness(cli: Cli, tmp_path: Path) -> list[str]:
    """Return the options of a witness; its public key is in `witness.pub`, the journal's in `journal.pub`."""
    key = tmp_path / "witness.key"
    cli("keygen", str(key))
    (tmp_path / "witness.pub").write_text(chain.public_key(Secret(key.read_text())))
    cli("rotate", "app")
    with cli.app() as app:
        (tmp_path / "journal.pub").write_text(app.public_key() or "")
    public = str(tmp_path / "journal.pub")
    return ["--key", str(key), "--out", str(tmp_path / "seen"), "--public-key", public]


def _verify(cli: Cli, tmp_path: Path, code: int = 0) -> list[str]:
    seen, key = str(tmp_path / "seen"), str(tmp_path / "witness.pub")
    data = cli.json("audit", "verify", "--witness", seen, "--witness-key", key, code=code).data
    return [one["where"] for one in data["damage"]]


def test_a_countersigned_journal_is_verified(cli: Cli, witness: list[str], tmp_path: Path):
    """Each run adds a line; without the private key nobody adds one."""
    first = cli.json("audit", "countersign", *witness).data
    cli("rotate", "web")
    second = cli.json("audit", "countersign", *witness).data
    assert second["number"] > first["number"]
    assert _verify(cli, tmp_path) == []
    file = tmp_path / "seen"
    line = json.loads(file.read_text().splitlines()[0])
    with file.open("a") as out:
        out.write(json.dumps(line | {"number": line["number"] + 1}) + "\n")
    assert _verify(cli, tmp_path, 1) == [f"{file}, line 3"]
    assert "this key did not sign it" in cli("audit", "countersign", *witness, code=2).err
    file.write_text(json.dumps({"number": 1, "hash": "0" * 64}) + "\n")
    seen = ["--witness", str(file), "--witness-key", str(tmp_path / "witness.pub")]
    assert "no checkpoint with a signature" in cli("audit", "verify", *seen, code=2).err


def test_a_restored_journal_is_not_countersigned(cli: Cli, witness: list[str], tmp_path: Path):
    """Journal, backend and anchor are restored together; only the witness has seen more."""
    files = [
        one for one in cli.folder.iterdir() if one.name.startswith(("rotator.db", "secrets.db"))
    ]
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in files:
        shutil.copy(file, copy)
    cli("rotate", "web")
    number = cli.json("audit", "countersign", *witness).data["number"]
    for file in files:
        file.unlink(missing_ok=True)
    for file in copy.iterdir():
        shutil.copy(file, cli.folder)
    refused = cli("audit", "countersign", *witness, code=None)
    assert refused.code not in (0, 2)
    assert f"checkpoint {number}" in refused.err
    assert len((tmp_path / "seen").read_text().splitlines()) == 1
    assert _verify(cli, tmp_path, 1) == [f"checkpoint {number}"]


def test_a_witness_goes_on_after_the_journals_key_was_replaced(
    cli: Cli, witness: list[str], tmp_path: Path
):
    """The public key that it has names the new one."""
    cli("audit", "countersign", *witness)
    cli("audit", "rotate-key", "--reason", "yearly")
    cli("audit", "countersign", *witness)
    assert _verify(cli, tmp_path) == []


def test_a_missing_key_of_the_witness_is_named(cli: Cli, witness: list[str], tmp_path: Path):
    """With the command that creates one."""
    (tmp_path / "witness.key").unlink()
    assert "rotator keygen FILE" in cli("audit", "countersign", *witness, code=2).err
