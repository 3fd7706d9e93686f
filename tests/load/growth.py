"""`make growth`: what a look and a day cost over a thousand, a hundred thousand and a million secrets.

The real dispatcher over a real journal (SQLite), in one process: looks with nothing due, the look that
asks for everything again, the look that finds a thousand due, and rotations over fakes, so that only
our own work is measured. A day is what was measured times what a day has of it: 86,400 looks, and one
rotation in thirty secrets.
"""

from __future__ import annotations

import json
import resource
import statistics
import time
from datetime import timedelta

import sqlalchemy as sa

from rotator import logs
from rotator.core.daemon_settings import DaemonSettings
from rotator.core.history import SecretRecord
from rotator.core.model import Policy
from rotator.core.schedule import timing
from rotator.dispatch.dispatcher import Dispatcher
from rotator.dispatch.executor import ThreadExecutor
from rotator.dispatch.worker import Worker
from rotator.engine import Engine, ManagedSecret
from rotator.journal import rows, tables
from rotator.journal.sql import SqlJournal
from rotator.journal.worklist import SqlWorklist
from rotator.testing.fake_backend import FakeBackend
from rotator.testing.fake_rotations import fake_rotation
from rotator.testing.fake_target import FakeTarget
from rotator.testing.fakes import START, ListLog, ManualClock, SeededEntropy
from tests.dispatch.sandboxes import Entry, Inline
from tests.load.programs import end_in_order, scratch_folder

_POLICY = Policy(every=timedelta(days=30), grace=timedelta(0))
_FREE = {"lease_holder": None, "lease_fence": 0, "lease_expires": None}
_ROTATIONS = 200
_DUE = 1000


def main() -> None:
    """Measure and print."""
    logs.set_up(level="off")
    found = {f"{count:,}": measured(count) for count in (1_000, 100_000, 1_000_000)}
    small, large = found["1,000"], found["1,000,000"]
    found["a look, a million against a thousand"] = round(  # pyright: ignore[reportArgumentType]
        large["look_ms"] / small["look_ms"], 2
    )
    print(json.dumps(found, indent=2))


def measured(count: int) -> dict[str, float]:
    """Return what it costs over so many secrets."""
    with scratch_folder("rotator-growth-") as folder:
        file = folder / "journal.db"
        clock, log, backend = ManualClock(), ListLog(), FakeBackend()
        journal = SqlJournal(f"sqlite:///{file}", clock=clock, actor="growth", upgrade=True)
        _register(journal, count)
        engine = Engine(
            journal=journal,
            clock=clock,
            entropy=SeededEntropy(),
            log=log,
            holder=lambda: "growth",
        )
        entries = dict.fromkeys((f"s{number:07}" for number in range(count)), Entry(_POLICY))

        def secret(name: str) -> ManagedSecret:
            return ManagedSecret(
                name=name,
                path=name,
                backend_name="vault",
                backend=backend,
                target_name="db",
                rotation=fake_rotation("new-user", FakeTarget(stored=backend.holds)),
                plugin="fake",
                strategy="new-user",
                policy=_POLICY,
            )

        worker = Worker(
            engine=engine,
            journal=journal,
            clock=clock,
            log=log,
            holder=lambda: "growth",
            secret=secret,
            partners={},
            tell=lambda *_: None,
        )
        dispatcher = Dispatcher(
            secrets=entries,
            secret=secret,
            hands=ThreadExecutor(Inline(), worker),
            engine=engine,
            journal=journal,
            agenda=SqlWorklist(journal),
            duty=DaemonSettings(verify_every=None),
            clock=clock,
            log=log,
            tell=lambda *_: None,
        )
        begun = _timed(dispatcher.begin)
        looks = [_look(dispatcher, clock) for _ in range(300)]
        assert not log.lines, log.lines[0]
        _make_due(journal, clock, _DUE)
        finding = _timed(lambda: SqlWorklist(journal).due(clock.now(), 100_000))
        new = [f"new{number}" for number in range(_ROTATIONS)]
        rotating = _timed(lambda: [engine.rotate(secret(name)) for name in new])
        look, each = statistics.mean(looks), rotating / _ROTATIONS
        journal.close()
        return {
            "begin_s": round(begun, 3),
            "look_ms": round(1000 * statistics.median(looks), 3),
            "slowest_look_ms": round(1000 * max(looks), 1),
            "find_a_thousand_due_ms": round(1000 * finding, 1),
            "rotation_ms": round(1000 * each, 2),
            "day_of_looks_s": round(86_400 * look, 1),
            "day_of_rotations_s": round(count / 30 * each, 1),
            "journal_mb": round(file.stat().st_size / 1e6, 1),
            "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        }


def _timed(work: object) -> float:
    begun = time.perf_counter()
    work()  # pyright: ignore[reportCallIssue]
    return time.perf_counter() - begun


def _look(dispatcher: Dispatcher, clock: ManualClock) -> float:
    clock.at += timedelta(seconds=1)
    before = dispatcher.ticked_at
    taken = _timed(dispatcher.tick)
    assert dispatcher.ticked_at != before
    return taken


def _register(journal: SqlJournal, count: int) -> None:
    """Write each as the journal has it after a rotation; the due dates lie over the month to come."""
    with journal.writing() as db:
        for start in range(0, count, 10_000):
            many = [_row(number, count) for number in range(start, min(count, start + 10_000))]
            db.execute(sa.insert(tables.secrets), many)


def _row(number: int, count: int) -> rows.Row:
    ahead = timedelta(hours=1) + timedelta(days=30) * number / count
    record = SecretRecord(
        name=f"s{number:07}",
        login=f"s{number:07}",
        rotated_at=START,
        since=START,
        next_due=START + ahead,
        timing=timing(_POLICY),
        seq=1,
    )
    return rows.sealed(tables.secrets, rows.secret_row(record) | _FREE)


def _make_due(journal: SqlJournal, clock: ManualClock, count: int) -> None:
    with journal.writing() as db:
        named = tables.secrets.c.name < f"s{count:07}"
        db.execute(sa.update(tables.secrets).where(named).values(next_due=rows.stamp(clock.now())))


if __name__ == "__main__":
    end_in_order()
    main()
