"""An exported journal is verified by somebody who has neither our database nor our code."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from rotator.core.errors import UsageError
from rotator.journal import chain
from rotator.journal.checkpoints import checkpoint
from rotator.journal.export import export, verify_export
from rotator.journal.sql import SqlJournal
from tests.journal.conftest import rotate

NOW = datetime(2026, 1, 2, tzinfo=UTC)
KEY = chain.new_signing_key()


@pytest.fixture
def filled(journal: SqlJournal) -> SqlJournal:
    rotate(journal, "web", 2)
    rotate(journal, "batch", 2)
    checkpoint(journal, KEY, NOW)
    return journal


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_what_was_exported_is_found_sound(filled: SqlJournal, tmp_path: Path, form):
    """In both forms, and with the files for their owner's eyes only."""
    files = export(filled, tmp_path / "out", form, now=NOW, signing_key=KEY)
    report = verify_export(tmp_path / "out", chain.public_key(KEY))
    assert (report.damage, report.events, report.checkpoints) == ([], 28, 1)
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


def test_an_outsider_can_verify_it_with_a_few_lines(filled: SqlJournal, tmp_path: Path):
    """By docs/reference/journal.md alone: nothing of ours is called here."""
    folder = tmp_path / "out"
    export(filled, folder, "jsonl", now=NOW, signing_key=KEY)
    text = (folder / "manifest.json").read_bytes()
    manifest = json.loads(text)
    key = load_pem_public_key(manifest["public_key"].encode())
    key.verify(base64.b64decode((folder / "manifest.sig").read_bytes()), text)
    for name, said in manifest["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == said["sha256"]

    def digest(*parts: object) -> str:
        array = json.dumps(parts, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(array.encode()).hexdigest()

    heads: dict[str, list] = {}
    for line in (folder / "events.jsonl").read_text().splitlines():
        one = json.loads(line)
        seq, prev = heads.get(one["secret"], [0, "0" * 64])
        assert (one["seq"], one["prev_hash"]) == (seq + 1, prev)
        names = [
            "secret",
            "seq",
            "at",
            "actor",
            "fence",
            "kind",
            "rotation_id",
            "step",
            "data",
            "prev_hash",
        ]
        assert one["hash"] == digest("rotator event 1", *(one[name] for name in names))
        heads[one["secret"]] = [one["seq"], one["hash"]]
    assert heads == manifest["heads"]
    prev = "0" * 64
    for line in (folder / "checkpoints.jsonl").read_text().splitlines():
        one = json.loads(line)
        names = ("number", "at", "heads", "prev_hash")
        assert one["prev_hash"] == prev
        assert one["hash"] == digest("rotator checkpoint 1", *(one[name] for name in names))
        key.verify(base64.b64decode(one["signature"]), one["hash"].encode())
        prev = one["hash"]


def edit(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text()))


@pytest.mark.parametrize("form", ["jsonl", "csv"])
@pytest.mark.parametrize("name", ["events", "checkpoints", "manifest"])
def test_a_changed_file_is_found(filled: SqlJournal, tmp_path: Path, form, name: str):
    """One character in any of them."""
    folder = tmp_path / "out"
    export(filled, folder, form, now=NOW, signing_key=KEY)
    file = folder / ("manifest.json" if name == "manifest" else f"{name}.{form}")
    edit(file, lambda text: text.replace("2026-01-0", "2026-01-1", 1))
    assert verify_export(folder, chain.public_key(KEY)).damage


def test_somebody_elses_signature_does_not_pass(filled: SqlJournal, tmp_path: Path):
    """The key must be the owner's, got by another way."""
    other = chain.new_signing_key()
    export(filled, tmp_path / "out", "jsonl", now=NOW, signing_key=other)
    assert verify_export(tmp_path / "out", chain.public_key(KEY)).damage


@pytest.mark.parametrize(
    "manifest",
    [
        '{"format": "rotator journal export 1", "public_key": null, "files": [], "heads": {}}',
        '{"format": "rotator journal export 1", "public_key": null, "files": {}, "heads": {}}',
        '{"format": "rotator journal export 1", "public_key": null, "files": {"../x": {"sha256": ""}}, "heads": {}}',
    ],
)
def test_a_hostile_manifest_is_damage_and_no_crash(tmp_path: Path, manifest: str):
    """Whatever an attacker writes there."""
    (tmp_path / "manifest.json").write_text(manifest)
    assert verify_export(tmp_path).damage


def test_a_folder_in_use_is_not_written_into(filled: SqlJournal, tmp_path: Path):
    """Nothing of yours is overwritten."""
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        export(filled, tmp_path, "csv", now=NOW)


@pytest.mark.parametrize(
    "begins", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\\", "\\="], ids=ascii
)
def test_no_cell_of_a_csv_file_is_a_formula(journal: SqlJournal, tmp_path: Path, begins: str):
    """A spreadsheet computes what begins so: it gets a backslash, which verification takes away."""
    name = f'{begins}HYPERLINK("http://127.0.0.1/")'
    rotate(journal, name, 1)
    _ = export(journal, tmp_path / "out", "csv", now=NOW, signing_key=KEY)
    with (tmp_path / "out" / "events.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["secret"] for row in rows} == {f"\\{name}"}
    assert not [
        cell for row in rows for cell in row.values() if cell[:1] in tuple("=+-@\t\r\n\uff1d")
    ]
    assert verify_export(tmp_path / "out", chain.public_key(KEY)).damage == []
