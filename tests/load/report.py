"""What a report costs: `make report-load`.

A year of many secrets, read into a report by a process of its own; then an evidence pack with ten thousand
rotations, which a stranger verifies with `python3 -I -S verify.py`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from rotator import logs
from rotator.journal.sql import SqlJournal
from rotator.testing.fakes import ManualClock
from tests.load.filled_journal import fill
from tests.load.programs import end_in_order, scratch_folder

_CONFIG: Final = 'version: 1\njournal: {{url: "sqlite:///{file}"}}\n'
# Secrets, rotations of each, most seconds and megabytes.
_MOST_SECONDS: Final = 60.0
_MOST_MEGABYTES: Final = 500
_MOST_TO_VERIFY: Final = 10.0
_PACK: Final = 1_000
_EACH: Final = 10


def main() -> None:
    """Measure both, print, and fail beyond the limits."""
    options = argparse.ArgumentParser(description=__doc__)
    _ = options.add_argument("--secrets", type=int, default=100_000)
    _ = options.add_argument("--rotations", type=int, default=1)
    given = options.parse_args()
    logs.set_up(level="off")
    with scratch_folder("rotator-report-") as folder:
        _fill(folder / "pack", _PACK, _EACH)
        _ = _run(folder / "pack", "report", "--since", _SINCE, "--pack", "evidence")
        start = time.monotonic()
        verify = [sys.executable, "-I", "-S", "verify.py"]
        done = subprocess.run(verify, cwd=folder / "pack/evidence", capture_output=True, text=True)  # noqa: PLW1510 # its code is printed
        verified = time.monotonic() - start
        said = (done.stdout.strip() or done.stderr.strip()).splitlines()[0]
        print(
            f"{_PACK * _EACH:,} rotations verified: {verified:.1f} s, exit {done.returncode}: {said}"
        )
        _fill(folder / "year", given.secrets, given.rotations)
        seconds, busy, megabytes = _run(
            folder / "year", "report", "--since", _SINCE, "--format", "json", "--out", "report.json"
        )
        size = (folder / "year/report.json").stat().st_size / 1e6
        print(
            f"{given.secrets:,} secrets: {seconds:.1f} s ({busy:.1f} s of a processor), {megabytes:.0f} MB, {size:.0f} MB of JSON"
        )
    is_good = (
        done.returncode == 0
        and verified <= _MOST_TO_VERIFY
        and seconds <= _MOST_SECONDS
        and megabytes <= _MOST_MEGABYTES
    )
    limits = f"{_MOST_TO_VERIFY:.0f} s; {_MOST_SECONDS:.0f} s, {_MOST_MEGABYTES} MB"
    print(f"{'within' if is_good else 'BEYOND'} the limits: {limits}")
    sys.exit(not is_good)


# Before all that `fill` writes.
_SINCE: Final = "2025-12-01"


def _fill(folder: Path, secrets: int, rotations: int) -> None:
    folder.mkdir()
    (folder / "rotator.yaml").write_text(_CONFIG.format(file=folder / "rotator.db"))
    journal = SqlJournal(
        f"sqlite:///{folder}/rotator.db", clock=ManualClock(), actor="fill", upgrade=True
    )
    start = time.monotonic()
    events = fill(journal, secrets=secrets, rotations=rotations)
    journal.close()
    print(
        f"{secrets:,} secrets, {events:,} events filled: {time.monotonic() - start:.0f} s",
        flush=True,
    )


def _run(folder: Path, *arguments: str) -> tuple[float, float, float]:
    """Return the seconds, those of the processor, and the peak memory in MB of a command."""
    start = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-m", "rotator", *arguments], cwd=folder, stdout=subprocess.DEVNULL
    ) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"rotator {' '.join(arguments)}: exit {process.returncode}")
    return time.monotonic() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


if __name__ == "__main__":
    end_in_order()
    main()
