"""`make leases`: leases on a real PostgreSQL, issued and ended again and again, and ten thousand live ones.

Prints what is left behind (nothing), how long an issue takes beside a bare CREATE ROLE and login, and how
long the daemon's look takes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from rotations.postgresql import PLUGIN
from rotations.postgresql.options import SecretOptions, TargetOptions
from rotator.api import Credential, Secret
from rotator.core.leases import LeaseRecord, LeaseState, LeaseTerms
from rotator.engine import LeaseRequest
from rotator.journal import rows, tables
from rotator.testing.fakes import START
from rotator.testing.postgres import ScratchPostgres
from tests.harness import QUICK, AnyHarness, parts
from tests.load.programs import end_in_order, scratch_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotator.engine import ManagedSecret
    from rotator.journal.sql import SqlJournal

_LIVE = 10_000
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
    given = parser.parse_args()
    with scratch_folder("rotator-leases-") as folder, ScratchPostgres() as server:
        harness = AnyHarness(name="leases", **parts(folder / "parts"))
        try:
            print(json.dumps(_measured(harness, server, given.cycles, given.seconds), indent=2))
        finally:
            harness.end()


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
