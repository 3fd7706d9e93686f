"""`make leases`: leases on a real PostgreSQL, issued and ended again and again, and ten thousand live ones.

Prints what is left behind (nothing), how long an issue takes beside a bare CREATE ROLE and login, and how
long the daemon's look takes. With --pool N: the errors that a pool meets through N leases (none).
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from rotations.postgresql import PLUGIN
from rotations.postgresql.options import SecretOptions, TargetOptions
from rotator.api import Credential, Secret
from rotator.client import psycopg as psycopg_client
from rotator.core.leases import LeaseRecord, LeaseState, LeaseTerms
from rotator.engine import LeaseRequest
from rotator.journal import rows, tables
from rotator.testing.fakes import START
from rotator.testing.postgres import ScratchPostgres
from tests.client.shop import opened
from tests.harness import QUICK, AnyHarness, parts
from tests.load.chaos_targets import PostgresChaosTarget
from tests.load.programs import end_in_order, scratch_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotator.engine import ManagedSecret
    from rotator.journal.sql import SqlJournal
    from tests.client.shop import Shop

_LIVE = 10_000
_WORKERS = 4
_TRACES = (
    "SELECT (SELECT count(*) FROM pg_roles), (SELECT count(*) FROM pg_shdepend),"
    " (SELECT count(*) FROM pg_auth_members), (SELECT count(*) FROM pg_shdescription)"
)


def main() -> None:
    """Measure and print."""
    end_in_order()
    parser = argparse.ArgumentParser()
    parser.add_argument("--cycles", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--pool", type=int, default=0, help="only move a pool through so many")
    given = parser.parse_args()
    if given.pool:
        with scratch_folder("rotator-leases-") as folder, ScratchPostgres() as server:
            terms = "{ttl: 1h, max: 2h, limit: 10}"
            with opened(PostgresChaosTarget(server), folder, terms) as shop:
                done, errors = pool_through(shop, given.pool)
        found = {
            "leases": given.pool,
            "pieces of work": done,
            "errors": [str(one) for one in errors],
        }
        print(json.dumps(found, indent=2))
        return
    with scratch_folder("rotator-leases-") as folder, ScratchPostgres() as server:
        harness = AnyHarness(name="leases", **parts(folder / "parts"))
        try:
            print(json.dumps(_measured(harness, server, given.cycles, given.seconds), indent=2))
        finally:
            harness.end()


def pool_through(shop: Shop, count: int) -> tuple[int, list[Exception]]:
    """Move a pool that is in use through so many leases, each ended after the next one is in use.

    Returns how much work was done, and the errors that the application met.
    """
    credential = shop.leased()
    place = f"host={shop.target.server.host} port={shop.target.server.port} dbname=shop"
    done, errors, stop = [0] * _WORKERS, list[Exception](), threading.Event()

    def work(number: int, pool: Any) -> None:
        while not stop.is_set():
            try:
                with pool.connection() as connection:
                    connection.execute("SELECT session_user")
            except Exception as error:  # noqa: BLE001 # whatever an application would see
                errors.append(error)
            done[number] += 1

    with psycopg_client.pool(
        credential, place, min_size=2, max_size=_WORKERS, timeout=30, open=True
    ) as pool:
        threads = [threading.Thread(target=work, args=(one, pool)) for one in range(_WORKERS)]
        for one in threads:
            one.start()
        try:
            for _ in range(count):
                before = credential.current().version
                _ = credential.refresh()
                # What was begun by the old login ends before it does.
                reached = list(done)
                while any(now < then + 2 for now, then in zip(done, reached, strict=True)):
                    time.sleep(0.001)
                shop.end_lease(before)
        finally:
            stop.set()
            for one in threads:
                one.join(60)
    credential.close()
    return sum(done), errors


def _measured(
    harness: AnyHarness, server: ScratchPostgres, cycles: int, seconds: float
) -> dict[str, Any]:
    secret = _secret(harness, server)
    harness.engine.rotate(secret)
    leases, asked = harness.engine.leases, LeaseRequest(holder="load")
    until, issued, ended, bare = time.monotonic() + seconds, [], [], []
    with server.connect() as admin:
        before = admin.execute(_TRACES).fetchone()
        while len(issued) < cycles and time.monotonic() < until:
            bare.append(_bare(server, admin, len(bare)))
            began = time.monotonic()
            lease = leases.issue(secret, asked)
            between = time.monotonic()
            leases.end(secret, lease.record.id)
            issued.append(between - began)
            ended.append(time.monotonic() - between)
        after = admin.execute(_TRACES).fetchone()
    found = {"bare": bare, "issue": issued, "end": ended, "look_live": _looks(harness.journal)}
    return {
        "cycles": len(issued),
        "left behind": [new - old for new, old in zip(after or (), before or (), strict=True)],
        "p95 of issue against bare": round(_p95(issued) / _p95(bare), 2),
        **{f"{name}_ms": _spread(values) for name, values in found.items()},
    }


def _secret(harness: AnyHarness, server: ScratchPostgres) -> ManagedSecret:
    with server.connect() as admin:
        admin.execute("CREATE ROLE lent NOLOGIN")
    secret = harness.managed(
        PLUGIN,
        "new-user",
        TargetOptions(host=server.host, port=server.port, dbname="postgres"),
        SecretOptions(group="lent"),
        admin=Credential(username="postgres", password=Secret(server.superuser_password)),
        name="app",
        path="app",
        policy=QUICK,
    )
    return replace(secret, leases=LeaseTerms(limit=100_000))


def _bare(server: ScratchPostgres, admin: Any, number: int) -> float:
    """Return how long a role and a login take without rotator."""
    name, password = f"bare_{number}", "a-bare-one"
    began = time.monotonic()
    admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{password}' IN ROLE lent")
    server.connect("postgres", name, password).close()
    took = time.monotonic() - began
    admin.execute(f"DROP ROLE {name}")
    return took


def _looks(journal: SqlJournal) -> list[float]:
    """Return how long looks take over ten thousand live leases, none of which ends now."""
    ends = START + timedelta(days=30_000)
    record = LeaseRecord(
        id="",
        secret="app",
        target="app",
        state=LeaseState.LIVE,
        holder="load",
        purpose="",
        requested_at=START,
        begun_at=START,
        ends_at=ends,
        latest=ends,
        next_at=ends,
    )
    made = [
        rows.sealed(tables.leases, rows.lease_row(replace(record, id=str(number))))
        for number in range(_LIVE)
    ]
    with journal.writing() as db:
        db.execute(sa.insert(tables.leases), made)
    return [_timed(lambda: journal.leases.due(START, 1_000)) for _ in range(500)]


def _timed(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def _p95(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.95)]


def _spread(values: list[float]) -> dict[str, float]:
    middle, high = statistics.median(values), _p95(values)
    return {"median": round(middle * 1000, 2), "p95": round(high * 1000, 2)}


if __name__ == "__main__":
    main()
