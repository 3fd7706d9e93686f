"""Builds what is published: wheel, source, bill of materials, and a file with their SHA-256.

`make release`. The same commit gives the same bytes, on any machine: the time in every archive is the
commit's, or SOURCE_DATE_EPOCH. The bill of materials (CycloneDX, JSON) lists the packages that the image
installs, with their hashes, from deploy/docker/requirements.txt.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "deploy" / "docker" / "requirements.txt"
SUMS = "SHA256SUMS"
_CYCLONEDX = Path(".release", "bin", "cyclonedx-py")


def build(out: Path, *, epoch: int) -> list[Path]:
    """Write wheel and source into the folder `out`; return both. `epoch`: the time in them."""
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch)}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "hatchling", "build", "-d", folder]
        subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
        out.mkdir(parents=True, exist_ok=True)
        return [Path(shutil.copy(one, out)) for one in sorted(Path(folder).iterdir())]


def bill_of_materials(out: Path, program: Path, *, epoch: int) -> Path:
    """Write the bill of materials beside wheel and source; return it. `program`: cyclonedx-py."""
    file = out / "credential-rotator.cdx.json"
    command = [program, "requirements", LOCK, "--pyproject", ROOT / "pyproject.toml"]
    command += ["--output-reproducible", "--output-file", file]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch)}
    subprocess.run(command, env=environment, check=True)
    return file


def sums(files: list[Path]) -> str:
    """Return the lines that `sha256sum --check` reads."""
    return "".join(f"{_sha256(one)}  {one.name}\n" for one in files)


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _epoch() -> int:
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given:
        return int(given)
    command = ["git", "log", "-1", "--format=%ct"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit("This is no checkout of git: give the time of the release as SOURCE_DATE_EPOCH.")
    return int(done.stdout)


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="default: dist/")
    out = parser.parse_args().out
    program = Path(sys.prefix) / _CYCLONEDX
    if not program.exists():
        sys.exit("cyclonedx-py is missing: `make release` installs it.")
    epoch = _epoch()
    files = [*build(out, epoch=epoch), bill_of_materials(out, program, epoch=epoch)]
    (out / SUMS).write_text(sums(files))
    for line in (out / SUMS).read_text().splitlines():
        print(line)


if __name__ == "__main__":
    main()
