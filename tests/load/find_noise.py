"""Candidates in public code, and the time that a long history takes: make find-noise.

    make find-noise COMMITS=10000

The packages are installed into a cache folder by pip, and read there. Public code has hardly any passwords of
databases: nearly every candidate in it is a false one.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rotator.find.files import Tree
from rotator.find.history import Repository
from rotator.find.scan import Scan

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGES: Final = (
    "django==5.2.19",
    "sqlalchemy==2.1.9",
    "botocore==1.44.8",
    "ansible-core==2.19.14",
)
# Candidates per 10,000 lines.
MOST_CANDIDATES: Final = 1.0
MOST_SECONDS: Final = 60.0
GIT: Final = shutil.which("git") or "git"
_LARGEST: Final = 5_000_000
# One file in so many commits holds a password.
_PASSWORD_EVERY: Final = 100
_FILES: Final = 400
_WORDS: Final = (
    "order", "customer", "invoice", "price", "total", "stock", "item", "cart", "city", "street", "name", "count",
    "page", "list",
)  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Return 0 where both limits are kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commits", type=int, default=10_000)
    parser.add_argument("--packages", nargs="*", default=list(PACKAGES))
    parser.add_argument(
        "--verbose", action="store_true", help="print each candidate, without its value"
    )
    given = parser.parse_args(arguments)
    kept = True
    for package in given.packages:
        scan, seconds = of_package(package)
        report = scan.report
        strong = [one for one in report.candidates if not one.is_weak]
        rate = len(strong) / max(1, report.lines) * 10_000
        kept &= rate <= MOST_CANDIDATES
        print(
            f"{package}: {len(strong)} candidates in {report.lines:,} lines of {report.files:,} files,"
            f" {rate:.2f} per 10,000 lines, {seconds:.0f} s",
            flush=True,
        )
        for one in strong if given.verbose else ():
            print(f"  {one.place}: {one.without_value(one.match.role)}")
    if given.commits:
        with tempfile.TemporaryDirectory() as folder:
            commits, found, wanted, seconds = of_history(Path(folder), given.commits)
        kept &= seconds <= MOST_SECONDS and found == wanted
        print(
            f"history: {commits:,} commits in {seconds:.1f} s of processor time, {found} of {wanted} passwords found",
            flush=True,
        )
    return 0 if kept else 1


def of_package(package: str) -> tuple[Scan, float]:
    """Search one installed package."""
    cache = (
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rotator" / "packages"
    )
    folder = cache / package
    if not folder.exists():
        new = folder.with_name(f"{folder.name}.new")
        pip = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
        ]
        _ = subprocess.run([*pip, "--target", str(new), package], check=True)
        _ = new.rename(folder)
    scan, start = Scan(), time.process_time()
    scan.tree([folder], Tree(everything=True))
    return scan, time.process_time() - start


def of_history(folder: Path, count: int) -> tuple[int, int, int, float]:
    """Search a history of so many commits: how many, passwords found and hidden, seconds of all processes."""
    _ = subprocess.run([GIT, "init", "-q", "--bare", str(folder)], check=True)
    with subprocess.Popen(
        [GIT, "-C", str(folder), "fast-import", "--quiet"], stdin=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        for part in _commits(count):
            _ = process.stdin.write(part)
    before = _processor_time()
    repository = Repository(folder)
    commits = repository.commits()
    scan = Scan()
    scan.history(repository.blobs(commits, largest=_LARGEST))
    return (
        len(commits),
        len(scan.report.candidates),
        count // _PASSWORD_EVERY,
        _processor_time() - before,
    )


def _commits(count: int) -> Iterator[bytes]:
    """Yield commits as git fast-import reads them: each changes one to three files of some hundred lines."""
    files: dict[str, list[str]] = {}
    for number in range(1, count + 1):
        head = f"commit refs/heads/main\nmark :{number}\ncommitter a <a@example.org> {1_600_000_000 + number} +0000\ndata 1\nx\n"
        yield head.encode()
        for part in range(1 + number % 3):
            index = (number * 7 + part * 131) % _FILES
            path = f"shop/part{index % 20}/module{index}.{('py', 'yaml', 'js', 'md')[index % 4]}"
            lines = files.setdefault(path, [_line(path, one) for one in range(60 + index)])
            lines[number % len(lines)] = _line(path, number)
            yield _file(path, "\n".join(lines) + "\n")
        if number % _PASSWORD_EVERY == 0:
            yield _file(
                f"deploy/{number}.env", f"DB_USER=shop\nDB_HOST=db\nDB_PASSWORD=Fly-{number}-away\n"
            )


def _file(path: str, text: str) -> bytes:
    content = text.encode()
    return f"M 100644 inline {path}\ndata {len(content)}\n".encode() + content + b"\n"


def _line(path: str, number: int) -> str:
    first, second = _WORDS[number % len(_WORDS)], _WORDS[number // 3 % len(_WORDS)]
    if path.endswith(".py"):
        # Some files speak of passwords, as real ones do.
        check = (
            f"check_password(form.password, {second})"
            if number % 40 == 0
            else f"{second} + {number}"
        )
        return f"{first}_{number} = {check}"
    if path.endswith(".yaml"):
        return f"{first}_{number}: {second}"
    return (
        f"const {first}{number} = {second}.get('{first}');"
        if path.endswith(".js")
        else f"The {first} of {second}."
    )


def _processor_time() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())
