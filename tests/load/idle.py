"""`make idle`: what a daemon costs while nothing is due, and how soon it begins when something is.

Registers secrets in a journal as if each had been rotated, runs the real `rotator daemon` over it,
and reads its CPU time and memory from /proc. Then makes a thousand due at once.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from rotator import logs
from rotator.bootstrap import initialise, load_settings, open_app
from rotator.core.history import SecretRecord
from rotator.core.schedule import timing
from rotator.journal import rows, tables
from rotator.testing.postgres import ScratchPostgres
from tests.load.programs import child, end_in_order, scratch_folder

_HEAD = """\
version: 1
journal: {{url: "sqlite:///journal.db"}}
backends:
  local: {{type: local, path: secrets.db, key: "file:rotator.key"}}
targets:
  main:
    plugin: postgresql
    host: {host}
    port: {port}
    admin: {{username: postgres, password: "env:ADMIN_PASSWORD"}}
policies:
  default: {{every: 30d}}
daemon: {{verify_every: never, listen: none}}
secrets:
"""
_TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--secrets", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=600)
    given = parser.parse_args()
    logs.set_up(level="off")
    found = {
        str(count): _measured(count, given.seconds if count == given.secrets else 30)
        for count in sorted({1_000, given.secrets})
    }
    print(json.dumps(found, indent=2))


def _measured(count: int, seconds: float) -> dict[str, object]:
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder("rotator-idle-"))
        server = stack.enter_context(ScratchPostgres())
        os.environ["ADMIN_PASSWORD"] = server.superuser_password
        config = folder / "rotator.yaml"
        entries = "".join(
            f"  s{number:06}: {{target: main, backend: local, strategy: single-user,"
            f" options: {{username: s{number:06}}}}}\n"
            for number in range(count)
        )
        initialise(config, _HEAD.format(host=server.host, port=server.port) + entries)
        _register(config, count)
        log = stack.enter_context((folder / "log").open("w"))
        command = [sys.executable, "-m", "rotator", "daemon", "-c", str(config)]
        begun = time.monotonic()
        daemon = stack.enter_context(child(command, folder, stderr=log, stdout=subprocess.DEVNULL))
        while "serving" not in (folder / "log").read_text():
            assert daemon.poll() is None, (folder / "log").read_text()
            time.sleep(0.05)
        started = time.monotonic() - begun
        time.sleep(10)
        cpu, since = _cpu(daemon.pid), time.monotonic()
        time.sleep(seconds)
        share = (_cpu(daemon.pid) - cpu) / (time.monotonic() - since)
        memory = _memory(daemon.pid)
        due_at = _make_due(config, 1_000)
        first = _first_after(config, due_at)
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(60)
        return {
            "seconds_to_start": round(started, 2),
            "measured_seconds": seconds,
            "percent_of_a_core": round(100 * share, 3),
            "rss_megabytes": round(memory, 1),
            "a_thousand_due_first_begun_after_seconds": first,
        }


def _register(config: Path, count: int) -> None:
    """Write each secret as the journal has it after a rotation; not the events, which nobody asks for."""
    settings, now = load_settings(config), datetime.now(UTC)
    with open_app(config) as app, app.journal.writing() as db:
        for start in range(0, count, 10_000):
            many = [
                _row(f"s{number:06}", settings, now)
                for number in range(start, min(count, start + 10_000))
            ]
            db.execute(sa.insert(tables.secrets), many)


def _row(name: str, settings: object, now: datetime) -> rows.Row:
    policy = settings.secrets[name].policy  # pyright: ignore[reportAttributeAccessIssue]
    record = SecretRecord(
        name=name,
        login=name,
        rotated_at=now,
        since=now,
        next_due=now + timedelta(days=30),
        timing=timing(policy),
        seq=1,
    )
    free = {"lease_holder": None, "lease_fence": 0, "lease_expires": None}
    return rows.sealed(tables.secrets, rows.secret_row(record) | free)


def _make_due(config: Path, count: int) -> datetime:
    with open_app(config) as app, app.journal.writing() as db:
        now = datetime.now(UTC)
        named = tables.secrets.c.name < f"s{count:06}"
        db.execute(sa.update(tables.secrets).where(named).values(next_due=rows.stamp(now)))
        return now


def _first_after(config: Path, due_at: datetime) -> float | None:
    """Return when the first of them was begun (or refused, and parked)."""
    with open_app(config) as app:
        for _ in range(600):
            with app.journal.reading() as db:
                at = db.execute(sa.select(sa.func.min(tables.events.c.at))).scalar()
            if at is not None:
                return round((datetime.fromisoformat(at) - due_at).total_seconds(), 3)
            time.sleep(0.05)
    return None


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _memory(pid: int) -> float:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


if __name__ == "__main__":
    end_in_order()
    main()
