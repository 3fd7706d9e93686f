"""What is published: the same bytes from the same commit, and packages by their hashes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parents[2]
_LOCK: Final = ROOT / "deploy" / "docker" / "requirements.txt"
_CYCLONEDX: Final = Path(sys.prefix) / ".release" / "bin" / "cyclonedx-py"


@pytest.fixture(scope="module")
def release() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "deploy" / "release.py"))


def _pinned() -> dict[str, list[str]]:
    """Return the hashes of each `name==version` of the lock."""
    found: dict[str, list[str]] = {}
    for entry in re.split(r"\n(?=\S)", _LOCK.read_text().strip()):
        name = entry.split(" ")[0]
        found[name] = re.findall(r"--hash=sha256:([0-9a-f]{64})\b", entry)
    return found


def test_every_package_of_the_image_is_pinned_by_its_hash_to_the_tested_version():
    """Those of constraints.txt, but for what only another system than Linux installs; all the extras'."""
    tested = {
        line.lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    pinned = _pinned()
    assert all(pinned.values())
    elsewhere = {"colorama==0.4.6", "httpx2-jsfetch==1.0"}
    assert {one.lower() for one in pinned} - tested <= elsewhere
    names = {one.split("==")[0] for one in pinned}
    assert {"sqlalchemy", "psycopg-binary", "boto3", "hvac", "cryptography", "apscheduler"} <= names
    assert "://" not in _LOCK.read_text()


def test_the_image_installs_nothing_without_a_hash():
    """But our own wheel, which it has built itself."""
    text = (ROOT / "deploy" / "docker" / "Dockerfile").read_text()
    installs = [line for line in text.splitlines() if "/opt/rotator/bin/pip install" in line]
    assert installs
    for line in installs:
        assert "--require-hashes" in line or "--no-index --no-deps /wheel/" in line


@pytest.mark.slow
def test_the_same_commit_gives_the_same_bytes(release: dict[str, Any], tmp_path: Path):
    """From another folder, with other times and another umask; another epoch gives others."""
    copy = tmp_path / "elsewhere"
    tracked = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(tracked, cwd=ROOT, capture_output=True, check=True, text=True)
    for name in filter(None, listed.stdout.split("\0")):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    before = os.umask(0o077)
    try:
        first = release["build"](tmp_path / "first", epoch=1_700_000_000)
    finally:
        os.umask(before)
    there = runpy.run_path(str(copy / "deploy" / "release.py"))
    second = there["build"](tmp_path / "second", epoch=1_700_000_000)
    later = release["build"](tmp_path / "later", epoch=1_700_000_060)
    assert len(first) == 2
    assert [_digest(one) for one in first] == [_digest(one) for one in second]
    assert [_digest(one) for one in first] != [_digest(one) for one in later]


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_the_checksums_are_read_by_sha256sum(release: dict[str, Any], tmp_path: Path):
    """And a changed file is found."""
    file = tmp_path / "a.whl"
    file.write_bytes(b"one")
    (tmp_path / "SHA256SUMS").write_text(release["sums"]([file]))
    check = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    assert subprocess.run(check, cwd=tmp_path, check=False, capture_output=True).returncode == 0
    file.write_bytes(b"two")
    assert subprocess.run(check, cwd=tmp_path, check=False, capture_output=True).returncode == 1


@pytest.mark.slow
@pytest.mark.skipif(not _CYCLONEDX.exists(), reason="`make release` installs what writes it")
def test_the_bill_of_materials_lists_every_package_with_its_hashes(
    release: dict[str, Any], tmp_path: Path
):
    """In CycloneDX, for this project, the same bytes twice."""
    first = release["bill_of_materials"](tmp_path, _CYCLONEDX, epoch=1_700_000_000).read_bytes()
    assert (
        first
        == release["bill_of_materials"](tmp_path, _CYCLONEDX, epoch=1_700_000_000).read_bytes()
    )
    bill = json.loads(first)
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "credential-rotator"
    listed = {f"{one['name']}=={one['version']}" for one in bill["components"]}
    assert listed == set(_pinned())
    assert "sha-256" in first.decode().lower()
