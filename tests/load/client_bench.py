"""What the client library costs an application: its import, its memory, each check-out of a pool."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import sqlalchemy

from rotator.client import Credential, Login
from rotator.client import psycopg as psycopg_client
from rotator.client import sqlalchemy as sqlalchemy_client
from rotator.core.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotator.testing.postgres import ScratchPostgres

_MEMORY = """
{work}
with open("/proc/self/status") as status:
    print(*(line.split()[1] for line in status if line.startswith("VmRSS")))
"""
_IMPORT = "import rotator.client"
_CREDENTIALS = """
from rotator.client import Credential, Login
from rotator.core.secret import Secret

class Source:
    refresh = 300.0

    def read(self):
        return Login(username="app", password=Secret("password"), version="1")

kept = [Credential(Source()) for _ in range(10_000)]
for credential in kept:
    credential.current()
"""


class Source:
    """A backend that serves the superuser."""

    refresh = 300.0

    def __init__(self, server: ScratchPostgres) -> None:
        self._server = server

    def read(self) -> Login:
        password = Secret(self._server.superuser_password)
        return Login(username=self._server.superuser, password=password, version="1")


def client(server: ScratchPostgres, repeats: int) -> dict[str, Any]:
    """Measure, each beside what it is added to, in turn."""
    return {
        "import_cpu_milliseconds": _import_milliseconds(4 * repeats + 1),
        "memory_kilobytes": {
            "import": _kilobytes(_IMPORT) - _kilobytes("pass"),
            "a_credential": round((_kilobytes(_CREDENTIALS) - _kilobytes(_IMPORT)) / 10_000, 2),
        },
        "checkout_microseconds_added": {
            "psycopg_pool": _added(*_pools(server), repeats),
            "sqlalchemy": _added(*_engines(server), repeats),
            "current": round(_microseconds(Credential(Source(server)).current, 20_000), 2),
        },
    }


def _import_milliseconds(repeats: int) -> float:
    """Return the median of the CPU time that the import adds to a process that does nothing."""
    added = []
    for _ in range(repeats):
        seconds = []
        for work in ("pass", _IMPORT):
            begun = _cpu_of_children()
            subprocess.run([sys.executable, "-c", work], check=True)
            seconds.append(_cpu_of_children() - begun)
        added.append(seconds[1] - seconds[0])
    return round(statistics.median(added) * 1000, 1)


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _kilobytes(work: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", _MEMORY.format(work=work)],
        check=True,
        capture_output=True,
        text=True,
    )
    return int(done.stdout)


def _pools(server: ScratchPostgres) -> tuple[Callable[[], object], Callable[[], object]]:
    from psycopg_pool import ConnectionPool

    place = f"host={server.host} port={server.port} dbname=postgres"
    credential = Credential(Source(server))
    login = {"user": server.superuser, "password": server.superuser_password}
    ours = psycopg_client.pool(credential, place, min_size=1, max_size=1, open=True)
    plain = ConnectionPool(place, kwargs=login, min_size=1, max_size=1, open=True)

    def checkout(pool: Any) -> Callable[[], object]:
        pool.wait(30)
        return lambda: pool.putconn(pool.getconn())

    return checkout(ours), checkout(plain)


def _engines(server: ScratchPostgres) -> tuple[Callable[[], object], Callable[[], object]]:
    place = f"{server.host}:{server.port}/postgres"
    login = f"{server.superuser}:{server.superuser_password}"
    ours = sqlalchemy.create_engine(f"postgresql+psycopg://{place}")
    sqlalchemy_client.attach(ours, Credential(Source(server)))
    plain = sqlalchemy.create_engine(f"postgresql+psycopg://{login}@{place}")

    def checkout(engine: Any) -> Callable[[], object]:
        return lambda: engine.raw_connection().close()

    return checkout(ours), checkout(plain)


def _added(ours: Callable[[], object], plain: Callable[[], object], repeats: int) -> float:
    """Return the median of what a check-out and its return take more than without the client."""
    for checkout in (ours, plain):
        _microseconds(checkout, 200)
    pairs = [(_microseconds(ours, 1000), _microseconds(plain, 1000)) for _ in range(2 * repeats)]
    return round(statistics.median(one - other for one, other in pairs), 1)


def _microseconds(work: Callable[[], object], times: int) -> float:
    begun = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - begun) / times * 1e6
