"""`make web-load`: how long the console's pages take over 100,000 secrets, and how large they are.

A real process over a journal in SQLite, then over one in PostgreSQL, with a configuration of as many secrets;
one client asks for each page again and again. The goal: 95 of 100 answers within 200 ms, and no page above 300 KB.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import socket
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx2 as httpx
import sqlalchemy as sa

from rotator.core.history import SecretRecord
from rotator.core.model import Policy
from rotator.core.schedule import timing
from rotator.core.secret import Secret
from rotator.faces.web.users import LocalUsers
from rotator.journal import rows, tables
from rotator.journal.sql import SqlJournal
from rotator.system import SystemClock
from rotator.testing.postgres import ScratchPostgres
from tests.load.filled_journal import fill
from tests.load.programs import end_in_order, scratch_folder

if TYPE_CHECKING:
    from pathlib import Path

PHRASE = "l0ad-only correct-horse-5d2e"
_POLICY = Policy(every=timedelta(days=30))
_FREE = {"lease_holder": None, "lease_fence": 0, "lease_expires": None}
_PAGES = (
    *("/", "/secrets", "/secrets?page=1500", "/secrets?q=99", "/secrets?state=parked"),
    *("/secrets?tag=prod&page=2", "/secrets/secret-000007", "/calendar", "/consumers", "/leases"),
    *("/incidents", "/requests", "/journal", "/journal?secret=secret-000007", "/journal?q=revoked"),
    *("/api/v1/fleet", "/api/v1/secrets?limit=100", "/api/v1/journal"),
)
_P95_MS, _MOST_KB = 200, 300
_JOURNALS = ("sqlite", "postgresql")


def main() -> None:
    """Measure and print; exit with 1 where a page misses the goal."""
    parser = argparse.ArgumentParser()
    _ = parser.add_argument("--secrets", type=int, default=100_000)
    _ = parser.add_argument("--rounds", type=int, default=60)
    _ = parser.add_argument("--journals", nargs="+", choices=_JOURNALS, default=_JOURNALS)
    given = parser.parse_args()
    found = {
        one: _measured_over(one, given.secrets, given.rounds)
        for one in dict.fromkeys(given.journals)
    }
    print(json.dumps(found, indent=2))
    slow = [
        page
        for one in found.values()
        for page in one["pages"].values()
        if page["p95_ms"] > _P95_MS or page["kb"] > _MOST_KB
    ]
    sys.exit(1 if slow else 0)


def _measured_over(journal: str, count: int, rounds: int) -> dict[str, Any]:
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder("rotator-web-load-"))
        server = stack.enter_context(ScratchPostgres()) if journal == "postgresql" else None
        return _measured(folder, count, rounds, server)


def _measured(
    folder: Path, count: int, rounds: int, server: ScratchPostgres | None
) -> dict[str, Any]:
    config, url = prepared(folder, count, server)
    command = [sys.executable, "-m", "rotator", "web", "run", "-c", str(config)]
    begun = time.perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        assert process.stderr is not None
        assert process.stderr.readline()
        started = time.perf_counter() - begun
        pages: dict[str, Any] = {}
        with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
            sign_in(client, url)
            for path in _PAGES:
                pages[path] = _page(client, path, rounds)
                print(path, pages[path], file=sys.stderr, flush=True)
        status = open(f"/proc/{process.pid}/status").read()  # noqa: PTH123, SIM115 # of the kernel
        peak = re.search(r"VmHWM:\s+(\d+)", status)
    finally:
        process.kill()
        _ = process.wait()
    return {
        "secrets": count,
        "start_s": round(started, 1),
        "peak_rss_mb": round(int(peak[1]) / 1024) if peak else None,
        "client_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "pages": pages,
    }


def sign_in(client: httpx.Client, url: str) -> None:
    """Sign in as that user."""
    token = re.search(r'name="token" value="([^"]+)"', client.get("/sign-in").text)
    assert token is not None
    values = {"name": "load", "password": PHRASE, "token": token[1]}
    assert client.post("/sign-in", data=values, headers={"origin": url}).status_code == 303


def _page(client: httpx.Client, path: str, rounds: int) -> dict[str, float]:
    times, size = list[float](), 0
    for _ in range(rounds):
        begun = time.perf_counter()
        answer = client.get(path)
        times.append(1000 * (time.perf_counter() - begun))
        assert answer.status_code == 200, path
        size = max(size, len(answer.content))
    return {
        "median_ms": round(statistics.median(times), 1),
        "p95_ms": round(statistics.quantiles(times, n=20)[-1], 1),
        "max_ms": round(max(times), 1),
        "kb": round(size / 1000, 1),
    }


def prepared(folder: Path, count: int, server: ScratchPostgres | None = None) -> tuple[Path, str]:
    """Write a journal and a configuration of so many secrets, and a user; return the file and the URL.

    `server`: where the journal is; None for a file.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    where, password = f"sqlite:///{folder}/rotator.db", None
    section = "journal: {url: 'sqlite:///rotator.db'}"
    if server is not None:
        where = f"postgresql://{server.superuser}@{server.host}:{server.port}/postgres"
        password = Secret(server.superuser_password)
        section = f"journal: {{url: '{where}', password: 'file:journal-password'}}"
        (folder / "journal-password").touch(mode=0o600)
        _ = (folder / "journal-password").write_text(password.reveal())
    journal = SqlJournal(where, clock=SystemClock(), actor="load", password=password, upgrade=True)
    detailed = min(2_000, count // 2)
    fill(journal, secrets=detailed, rotations=2)
    now = datetime.now(UTC)
    with journal.writing() as db:
        for start in range(detailed, count, 10_000):
            many = [_row(number, count, now) for number in range(start, min(count, start + 10_000))]
            db.execute(sa.insert(tables.secrets), many)
    journal.close()
    lines = [
        "version: 1",
        section,
        f"web: {{listen: '127.0.0.1:{port}'}}",
        "backends: {local: {type: local, path: none.db, key: 'file:none.key'}}",
        "targets: {main: {plugin: postgresql, host: 127.0.0.1, admin: {username: a, password: 'env:A'}}}",
        "policies: {default: {every: 30d}}",
        "secrets:",
        *(
            f"  secret-{number:06}: {{target: main, backend: local, strategy: new-user,"
            f" options: {{group: g{number}}}, tags: [{'prod' if number % 3 else 'test'}]}}"
            for number in range(count)
        ),
    ]
    config = folder / "rotator.yaml"
    _ = config.write_text("\n".join(lines) + "\n")
    config.chmod(0o600)
    _ = LocalUsers(folder / "web-users.json").add("load", Secret(PHRASE))
    return config, f"http://127.0.0.1:{port}"


def _row(number: int, count: int, now: datetime) -> rows.Row:
    rotated = now - timedelta(days=29) * number / count
    record = SecretRecord(
        name=f"secret-{number:06}",
        version="1",
        login=f"login-{number}",
        rotated_at=rotated,
        since=rotated,
        next_due=rotated + timedelta(days=30),
        timing=timing(_POLICY),
        parked="a load test" if number % 500 == 0 else None,
        seq=1,
    )
    return rows.sealed(tables.secrets, rows.secret_row(record) | _FREE)


if __name__ == "__main__":
    end_in_order()
    main()
