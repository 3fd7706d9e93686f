"""Ten thousand instances acknowledge within a minute: `make acknowledgements`.

The daemon's real listener and registry, over a journal with many finished rotations, on SQLite and on
PostgreSQL. The instances are a process of their own: each sends one request, evenly over the minute, and then all
of them send another at once. Printed: transactions and rows a second in the busiest second, how long an
answer took, what the chain grew by, and what the gate's question costs beside few and many others.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from rotator import logs
from rotator.core.consumers import Consumer, Gate, Report, assess
from rotator.core.secret import Secret
from rotator.faces.consumer_reports import ConsumerReports, ReportingConsumers
from rotator.faces.http_server import Server
from rotator.journal import tables
from rotator.journal.consumers import SqlConsumers
from rotator.journal.sql import SqlJournal
from rotator.system import SystemClock
from rotator.testing.postgres import ScratchPostgres
from tests.load.filled_journal import fill
from tests.load.programs import child, end_in_order, scratch_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_TOKEN: Final = "web-token-of-the-load-program"
_MOST_WRITES: Final = 200
_OF_A_SECRET: Final = 100
_CLIENT_THREADS: Final = 256
_QUESTIONS: Final = 200


class _Counted(SqlConsumers):
    """The registry, which counts what it writes in each second."""

    def __init__(self, journal: SqlJournal) -> None:
        super().__init__(journal, SystemClock())
        self._guard = threading.Lock()
        self.transactions: Counter[int] = Counter()
        self.rows: Counter[int] = Counter()

    def report(self, reports: Sequence[Report]) -> set[str]:
        second = int(time.monotonic())
        with self._guard:
            self.transactions[second] += 1
            self.rows[second] += len(reports)
        return super().report(reports)


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instances", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=60.0, help="in which they acknowledge")
    parser.add_argument("--rotations", type=int, default=20, help="finished, of each secret")
    parser.add_argument("--client", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.client:
        print(json.dumps(_acknowledge(given.client, given.instances, given.seconds)))
        return
    logs.set_up(level="off")
    is_good = True
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder("rotator-acknowledgements-"))
        server = stack.enter_context(ScratchPostgres())
        with server.connect() as admin:
            admin.execute("CREATE DATABASE journal")
        urls = {
            "sqlite": (f"sqlite:///{folder}/journal.db", None),
            "postgresql": (
                f"postgresql://postgres@{server.host}:{server.port}/journal",
                Secret(server.superuser_password),
            ),
        }
        for name, (url, password) in urls.items():
            journal = SqlJournal(
                url, clock=SystemClock(), actor="load", password=password, upgrade=True
            )
            with closing(journal):
                found = _measured(journal, folder, given)
            is_good = is_good and found.pop("is_good")
            print(json.dumps({"journal": name} | found), flush=True)
    sys.exit(not is_good)


def _measured(journal: SqlJournal, folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    secrets = max(1, given.instances // _OF_A_SECRET)
    events = fill(journal, secrets=secrets, rotations=given.rotations)
    names = frozenset(_secret(number) for number in range(given.instances))
    consumers = ReportingConsumers(
        by_token={hashlib.sha256(_TOKEN.encode()).digest(): "web"}, secrets={"web": names}
    )
    registry = _Counted(journal)
    reports = ConsumerReports(
        consumers=lambda: consumers, registry=lambda: registry, on_news=lambda _: None
    )
    server = Server("127.0.0.1:0", reports.answer, accepts=("GET", "POST"))
    gate = _gate(registry)
    reports.start()
    server.start()
    try:
        # As many as one secret has, and nothing else.
        _ = _client(server.address, folder, _OF_A_SECRET, 1.0)
        few = _milliseconds(gate)
        registry.transactions.clear()
        registry.rows.clear()
        spread = _client(server.address, folder, given.instances, given.seconds)
        in_a_minute = max(registry.transactions.values()), max(registry.rows.values())
        registry.transactions.clear()
        registry.rows.clear()
        at_once = _client(server.address, folder, given.instances, 0.0)
        burst = max(registry.transactions.values()), max(registry.rows.values())
        many = _milliseconds(gate)
    finally:
        reports.close()
        server.close()
    with journal.reading() as db:
        grown = db.execute(sa.select(sa.func.count()).select_from(tables.events)).scalar_one()
    return {
        "instances": given.instances,
        "events_before": events,
        "events_written": grown - events,
        "spread": spread
        | {"transactions_a_second": in_a_minute[0], "rows_a_second": in_a_minute[1]},
        "at_once": at_once | {"transactions_a_second": burst[0], "rows_a_second": burst[1]},
        "gate_ms": {f"of {_OF_A_SECRET} reports": few, f"of {given.instances}": many},
        "is_good": not spread["errors"]
        and not at_once["errors"]
        and max(in_a_minute[0], burst[0]) <= _MOST_WRITES
        and grown == events,
    }


def _gate(registry: SqlConsumers) -> Callable[[], object]:
    """Return what the engine asks of the registry before a revoke of one secret."""
    web = [Consumer(name="web", instances=_OF_A_SECRET, gate=Gate.HOLD)]
    name = _secret(0)

    def ask() -> object:
        verdict = assess(web, registry.instances(name), (), version="1")
        assert verdict.standings[0].acknowledged == _OF_A_SECRET
        return verdict

    return ask


def _milliseconds(work: Callable[[], object]) -> float:
    took: list[float] = []
    for _ in range(_QUESTIONS):
        begun = time.perf_counter()
        _ = work()
        took.append(time.perf_counter() - begun)
    return round(statistics.median(took) * 1000, 2)


def _secret(number: int) -> str:
    return f"secret-{number // _OF_A_SECRET:06}"


# -- the instances -----------------------------------------------------------------------------------


def _client(address: str, folder: Path, instances: int, seconds: float) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.load.acknowledgements", "--client", address]
    command += ["--instances", str(instances), "--seconds", str(seconds)]
    with child(command, folder, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        text = process.stdout.read()
        assert text, f"the instances ended with {process.wait()}"
        return json.loads(text)


def _acknowledge(address: str, instances: int, seconds: float) -> dict[str, Any]:
    """Let each instance send its own request at its time; return what it waited for, from then on."""
    begun = time.monotonic()
    errors: Counter[str] = Counter()

    def one(number: int) -> float:
        due = begun + seconds * number / instances
        time.sleep(max(0.0, due - time.monotonic()))  # the load is paced by the clock
        row = {
            "secret": _secret(number),
            "version": "1",
            "level": "used",
            "instance": f"web-{number}",
            "kind": "client",
        }
        link = http.client.HTTPConnection(address, timeout=60)
        try:
            body = json.dumps({"acknowledgements": [row]})
            headers = {"Authorization": f"Bearer {_TOKEN}"}
            link.request("POST", "/v1/acknowledgements", body, headers)
            answer = link.getresponse()
            _ = answer.read()
            if answer.status != http.client.NO_CONTENT:
                errors[str(answer.status)] += 1
        except OSError as error:
            errors[type(error).__name__] += 1
        finally:
            link.close()
        return time.monotonic() - due

    with ThreadPoolExecutor(_CLIENT_THREADS) as pool:
        took = sorted(pool.map(one, range(instances)))
    return {
        "seconds": round(time.monotonic() - begun, 1),
        "errors": dict(errors),
        "answer_ms": {
            name: round(took[min(len(took) - 1, int(len(took) * part))] * 1000)
            for name, part in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
        },
    }


if __name__ == "__main__":
    end_in_order()
    main()
