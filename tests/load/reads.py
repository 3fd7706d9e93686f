"""A million lines of an audit log, taken up: `make reads-load`.

Seconds and peak memory of `rotator access ingest` in a process of its own, then again over the same file.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.access.lines import vault

_CONFIG: Final = """
version: 1
journal: {{url: "sqlite:///rotator.db"}}
backends:
  bao: {{type: vault, address: "http://127.0.0.1:1"}}
targets:
  main: {{plugin: postgresql, host: 127.0.0.1, admin: {{username: a, password: "env:NOBODY"}}}}
defaults: {{target: main, backend: bao, path: "apps/{{name}}", strategy: single-user, options: {{username: "{{name}}"}}}}
secrets: [{names}]
"""
_SECRETS: Final = 1000
_MOST_SECONDS: Final = 60.0
_MOST_MEGABYTES: Final = 200


def main() -> None:
    """Write the log, take it up twice, and print what it cost."""
    options = argparse.ArgumentParser(description=__doc__)
    _ = options.add_argument("--lines", type=int, default=1_000_000)
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="rotator-reads-") as name:
        folder = Path(name)
        names = ", ".join(f"s{number}" for number in range(_SECRETS))
        (folder / "rotator.yaml").write_text(_CONFIG.format(names=names))
        size = _write(folder / "audit.log", given.lines)
        print(f"{given.lines:,} lines, {size / 1e6:,.0f} MB", flush=True)
        seconds, megabytes, reads = _ingest(folder)
        print(f"first:  {seconds:6.1f} s  {megabytes:4.0f} MB  {reads:,} reads", flush=True)
        again, most, more = _ingest(folder)
        print(f"again:  {again:6.1f} s  {most:4.0f} MB  {more:,} reads", flush=True)
    is_good = seconds <= _MOST_SECONDS and max(megabytes, most) <= _MOST_MEGABYTES and more == 0
    limits = f"{_MOST_SECONDS:.0f} s, {_MOST_MEGABYTES} MB, nothing twice"
    print(f"{'within' if is_good else 'BEYOND'} the limits: {limits}")
    sys.exit(not is_good)


def _write(file: Path, lines: int) -> int:
    """Write requests and responses in turn: half of them of managed secrets, by 500 applications."""
    padding = {f"field_{number}": "hmac-sha256:" + "0" * 64 for number in range(8)}
    with file.open("wb") as log:
        for number in range(lines // 2):
            managed = f"secret/data/apps/s{number % _SECRETS}"
            path = managed if number % 2 else f"secret/data/other/{number}"
            given = {
                "role": f"app-{number % 500}",
                "address": f"10.0.{number % 7}.{number % 50}",
                "padding": padding,
                "at": f"2026-01-{number % 28 + 1:02}T12:00:00.1Z",
            }
            _ = log.write(vault(path, kind="request", **given) + b"\n")
            _ = log.write(vault(path, version=number % 5 + 1, **given) + b"\n")
    return file.stat().st_size


def _ingest(folder: Path) -> tuple[float, float, int]:
    """Return the seconds, the peak memory in MB, and the reads that were counted."""
    command = ["access", "ingest", "audit.log", "--from", "vault", "--json"]
    start = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-m", "rotator", *command], cwd=folder, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        answer = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - start
    if process.returncode:
        raise SystemExit(answer.decode())
    return seconds, _megabytes(used), json.loads(answer)["data"]["logs"][0]["reads"]


def _megabytes(used: resource.struct_rusage) -> float:
    return used.ru_maxrss / 1024


if __name__ == "__main__":
    main()
