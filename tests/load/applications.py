"""Applications under load while their logins rotate: `make applications`.

Each adapter of the client works without a pause on a real server while one strategy rotates again and
again. Printed: errors that the application saw, work done with a revoked login after its revoke, refused
logins a rotation, and how long a piece of work took at rest and during the rotations. Beside it, clients
that people write by hand, for the strategy that has one login.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import threading
import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import psycopg

from rotator.testing.postgres import ScratchPostgres
from tests.client import shop as shops
from tests.load.chaos_targets import MariaChaosTarget, PostgresChaosTarget, ValkeyChaosTarget
from tests.load.programs import end_in_order, scratch_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rotator.client import Credential, Login
    from tests.client.shop import Application, Shop

_REST_SECONDS: Final = 0.5
_AFTER_SECONDS: Final = 0.05
_SERVERS: Final = ("postgresql", "mysql", "valkey")
_STRATEGIES: Final = {
    "postgresql": tuple(PostgresChaosTarget.names),
    "mysql": tuple(MariaChaosTarget.names),
    "valkey": ("single-user",),
}
_ADAPTERS: Final = {
    "postgresql": (shops.SqlAlchemy, shops.PsycopgPool, shops.Django, shops.DjangoPool),
    "mysql": (shops.SqlAlchemy, shops.PyMySql, shops.DjangoMySql),
    "valkey": (shops.Valkey,),
}


class Change(NamedTuple):
    """One rotation: its time, and the login before and after it."""

    begun: float
    ended: float
    before: str
    served: str


class _ByHand:
    """A client that people write: it logs in for each piece of work."""

    def __init__(self, credential: Credential, server: Any) -> None:
        self._credential = credential
        self._server = server
        self.refused = 0

    def _connected(self, login: Login) -> str:
        try:
            with psycopg.connect(
                host=self._server.host,
                port=self._server.port,
                dbname="shop",
                user=login.username,
                password=login.password.reveal(),
            ) as connection:
                row = connection.execute("SELECT session_user").fetchone()
        except psycopg.OperationalError:
            self.refused += 1
            raise
        assert row is not None
        return row[0]

    def close(self) -> None:
        """Nothing is kept open."""


class ReadsBeforeEachLogin(_ByHand):
    """It reads before each login, and does not try again."""

    def work(self) -> str:
        return self._connected(self._credential.refresh())


class RetriesOnce(_ByHand):
    """It keeps what it has read; when it is refused, it reads once and tries once more."""

    def work(self) -> str:
        try:
            return self._connected(self._credential.current())
        except psycopg.OperationalError:
            return self._connected(self._credential.refresh())


class Load:
    """Threads that work without a pause, and what came of it."""

    def __init__(self, application: Application, threads: int) -> None:
        self._application = application
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work) for _ in range(threads)]
        self.errors: list[str] = []
        # Begin, seconds and login of each piece of work.
        self.done: list[tuple[float, float, str]] = []

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _work(self) -> None:
        while not self._stop.is_set():
            begun = time.perf_counter()
            try:
                login = self._application.work()
            except Exception as error:  # noqa: BLE001 # whatever an application would see
                self.errors.append(type(error).__name__)
            else:
                self.done.append((begun, time.perf_counter() - begun, login))


def measured(
    shop: Shop, kind: Any, strategy: str, rotations: int, threads: int, **options: Any
) -> dict[str, Any]:
    """Rotate under load, and return what the application saw."""
    credential = shop.credential(strategy, **options)
    application = kind(credential, shop.target.server)
    changes: list[Change] = []
    with closing(application), Load(application, threads) as load:
        time.sleep(_REST_SECONDS)  # the load at rest is what the rotations are compared with
        begun = time.perf_counter()
        for _ in range(rotations):
            at, before = time.perf_counter(), credential.refresh().username
            shop.rotate(strategy)
            served = credential.refresh().username
            changes.append(Change(at, time.perf_counter(), before, served))
            time.sleep(_AFTER_SECONDS)  # work after the revoke, before the next rotation begins
        ended = time.perf_counter()
    credential.close()
    at_rest = [seconds for at, seconds, _ in load.done if at < begun]
    rotating = [seconds for at, seconds, _ in load.done if begun <= at < ended]
    refused = credential.health().refused + getattr(application, "refused", 0)
    return {
        "rotations": rotations,
        "work": len(rotating),
        "errors": len(load.errors),
        "kinds_of_errors": sorted(set(load.errors)),
        "after_its_revoke": _late(load, changes),
        "refused_a_rotation": round(refused / rotations, 2),
        "rest_ms": _quantiles(at_rest),
        "rotating_ms": _quantiles(rotating),
    }


def _late(load: Load, changes: list[Change]) -> int:
    """Return how much work began with a revoked login, before a rotation that serves it again."""
    late = 0
    for number, change in enumerate(changes):
        if change.served == change.before:
            continue
        again = (later.begun for later in changes[number + 1 :] if later.served == change.before)
        end = next(again, float("inf"))
        late += sum(
            login == change.before and change.ended < begun < end for begun, _, login in load.done
        )
    return late


def _quantiles(seconds: list[float]) -> dict[str, float]:
    if len(seconds) < 2:
        return {}
    cuts = statistics.quantiles(seconds, n=100)
    return {"p50": round(cuts[49] * 1000, 2), "p99": round(cuts[98] * 1000, 2)}


def _cases(servers: list[str]) -> Iterator[tuple[str, Any, str]]:
    for server in servers:
        for strategy in _STRATEGIES[server]:
            for kind in _ADAPTERS[server]:
                yield server, kind, strategy


def _opened(stack: ExitStack, server: str) -> Shop:
    folder = stack.enter_context(scratch_folder("rotator-applications-"))
    if server == "postgresql":
        target: Any = PostgresChaosTarget(stack.enter_context(ScratchPostgres()))
    else:
        target = MariaChaosTarget() if server == "mysql" else ValkeyChaosTarget()
    return stack.enter_context(shops.opened(target, folder))


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="rotations of all cases together")
    parser.add_argument("--each", type=int, help="rotations of each case, in place of --count")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--servers", default=",".join(_SERVERS))
    given = parser.parse_args()
    servers = given.servers.split(",")
    by_hand = (ReadsBeforeEachLogin, RetriesOnce, shops.Psycopg) if "postgresql" in servers else ()
    cases = list(_cases(servers))
    rotations = given.each or max(1, given.count // (len(cases) + len(by_hand)))
    failures = 0
    for server in servers:
        with ExitStack() as stack:
            shop = _opened(stack, server)
            for _, kind, strategy in (case for case in cases if case[0] == server):
                outcome = measured(shop, kind, strategy, rotations, given.threads)
                failures += outcome["errors"] + outcome["after_its_revoke"]
                _print(server, strategy, kind.__name__, outcome)
            for kind in by_hand if server == "postgresql" else ():
                outcome = measured(shop, kind, "single-user", rotations, given.threads)
                _print(server, "single-user", kind.__name__, outcome)
    print(json.dumps({"failures_of_the_client": failures}))
    sys.exit(1 if failures else 0)


def _print(server: str, strategy: str, name: str, outcome: dict[str, Any]) -> None:
    print(
        json.dumps({"server": server, "strategy": strategy, "client": name} | outcome), flush=True
    )


if __name__ == "__main__":
    end_in_order()
    main()
