"""Builds the zip of the rotation function from wheels: no compiler, and the same bytes each time.

`make lambda`; with `--python 3.12` or `--arch arm64` for others, and with `--ca FILE` for the authorities of
your databases. Only what the function needs is in it: of botocore the services that are called, of rotator
no command line, daemon or tests.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Everything by its name: nothing comes in because something else would like to have it.
PACKAGES = (
    "botocore",
    "jmespath",
    "python-dateutil",
    "six",
    "urllib3",
    "psycopg",
    "psycopg-binary",
    "pymysql",
    "typing_extensions",
    "sqlalchemy",
)
PLATFORMS = {
    "x86_64": ("manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64"),
    "arm64": ("manylinux2014_aarch64", "manylinux_2_17_aarch64", "manylinux_2_28_aarch64"),
}
PYTHONS = ("3.12", "3.13")
# The services of botocore that are called, and what it reads at any rate.
SERVICES = ("secretsmanager", "rds", "sts")
ALWAYS = ("endpoints.json", "partitions.json", "_retry.json", "sdk-default-configuration.json")
UNUSED = (
    "rotator/__main__.py",
    "rotator/config/",
    "rotator/demo/",
    "rotator/dispatch/",
    "rotator/faces/cli/",
    "rotator/faces/daemon.py",
    "rotator/faces/service.py",
    "rotator/faces/signals.py",
    "rotator/faces/consumer_reports.py",
    "rotator/faces/http_server.py",
    "rotator/faces/worker.py",
    "rotator/backends/local.py",
    "rotator/backends/manifest.py",
    "rotator/backends/encryption.py",
    "rotator/backends/vault/",
    "rotator/core/daemon_settings.py",
    "rotator/journal/consumers.py",
    "rotator/journal/worklist.py",
    "rotator/journal/audit.py",
    "rotator/journal/checkpoints.py",
    "rotator/journal/export.py",
    "rotator/journal/migrations/",
    "rotator/testing/",
    "rotator/bootstrap/",
    "rotator/metrics.py",
    "rotator/notify.py",
    "rotator/logs.py",
    # For `doctor`.
    "rotations/mysql/doctor.py",
    "rotations/postgresql/doctor.py",
    "sqlalchemy/testing/",
    "sqlalchemy/dialects/mssql/",
    "sqlalchemy/dialects/mysql/",
    "sqlalchemy/dialects/oracle/",
)
METADATA = ("METADATA", "entry_points.txt")
_EPOCH = (1980, 1, 1, 0, 0, 0)


def build(out: Path, *, python: str, arch: str, authorities: Sequence[Path] = ()) -> Path:
    """Write the zip into the folder `out`; return its path. `authorities` lie beside the code."""
    with tempfile.TemporaryDirectory(prefix="rotator-lambda-") as folder:
        wheels = Path(folder)
        _pip("wheel", "--no-deps", "--wheel-dir", folder, str(ROOT))
        platforms = [f"--platform={one}" for one in PLATFORMS[arch]]
        _pip(
            *("download", "--no-deps", "--only-binary=:all:", "--implementation=cp"),
            *(f"--python-version={python}", *platforms, f"--dest={folder}"),
            *("--constraint", str(ROOT / "constraints.txt"), *PACKAGES),
        )
        files = {one.name: one.read_bytes() for one in authorities}
        for wheel in sorted(wheels.glob("*.whl")):
            with zipfile.ZipFile(wheel) as opened:
                files |= {name: opened.read(name) for name in opened.namelist() if _wanted(name)}
    out.mkdir(parents=True, exist_ok=True)
    target = out / f"rotator-lambda-python{python}-{arch}.zip"
    with zipfile.ZipFile(target, "w") as written:
        for name in sorted(files):
            about = zipfile.ZipInfo(name, _EPOCH)
            about.compress_type, about.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            about.create_system = 3  # as on Linux, wherever it is built
            written.writestr(about, files[name], compresslevel=9)
    return target


def _wanted(name: str) -> bool:
    if name.endswith("/") or name.startswith(UNUSED):
        return False
    if ".dist-info/" in name:
        return name.rpartition("/")[2] in METADATA or "/licenses/" in name
    if name.startswith("botocore/data/"):
        rest = name.removeprefix("botocore/data/")
        return rest in ALWAYS or rest.startswith(tuple(f"{one}/" for one in SERVICES))
    return True


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    # The times in a wheel's own zip; the bytes of the files do not depend on them. What builds ours is
    # pinned too: it writes the METADATA. pip takes that from the environment only, by an old and a new name.
    pinned = {
        name: str(ROOT / "constraints.txt") for name in ("PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT")
    }
    environ = os.environ | {"SOURCE_DATE_EPOCH": "315532800"} | pinned
    if subprocess.run(command, check=False, env=environ).returncode:
        sys.exit("The packages of the function could not be had; pip says why above.")


def _authorities(text: str) -> Path:
    file = Path(text)
    if not file.is_file() or b"-----BEGIN CERTIFICATE-----" not in file.read_bytes():
        msg = f"{text} is not a file of certificates (PEM)"
        raise argparse.ArgumentTypeError(msg)
    return file


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", action="append", metavar="3.13", help="default: 3.12 and 3.13")
    parser.add_argument("--arch", action="append", choices=PLATFORMS, help="default: both")
    parser.add_argument(
        "--ca",
        type=_authorities,
        action="append",
        default=[],
        metavar="FILE",
        help="PEM file with authorities, such as RDS's global-bundle.pem: name it in ROTATOR_SSLROOTCERT",
    )
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    given = parser.parse_args()
    for python in given.python or PYTHONS:
        for arch in given.arch or PLATFORMS:
            file = build(given.out, python=python, arch=arch, authorities=given.ca)
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            print(f"{file}  {file.stat().st_size / 1e6:.1f} MB  sha256 {digest}")


if __name__ == "__main__":
    main()
