"""Applications under load while their logins rotate: `make applications`.

The adapters of the client work without end on a real server, all of them on one login, in a process of
their own, while one strategy rotates again and again. Printed for each: errors that the application saw,
work begun with a revoked login after its revoke, refused logins a rotation, and how long a piece of work took at
rest, during the rotations, and at most in each rotation.

With `--table`, in place of that: the strategy that has one login, under our client with the next version
(pair) and without it (patience), beside two clients that people write by hand.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import multiprocessing
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from array import array
from collections import Counter, deque
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pymysql
import redis

from rotator.client import Credential
from rotator.client import redis as redis_client
from rotator.client.sources import LocalSource
from rotator.testing.postgres import ScratchPostgres
from tests.client import shop as shops
from tests.load.chaos_targets import MariaChaosTarget, PostgresChaosTarget, ValkeyChaosTarget
from tests.load.programs import end_in_order, end_with_parent, scratch_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from multiprocessing.connection import Connection
    from pathlib import Path

    from rotator.client import Login
    from tests.client.shop import Shop

_REST_SECONDS: Final = 1.0
_PATIENCE: Final = 60.0
_PROGRESS_SECONDS: Final = 10.0
_SERVERS: Final = ("postgresql", "mysql", "valkey")
_STRATEGIES: Final = {
    "postgresql": tuple(PostgresChaosTarget.names),
    "mysql": tuple(MariaChaosTarget.names),
    "valkey": tuple(ValkeyChaosTarget.names),
}
_SINGLE: Final = "single-user"


# -- clients by hand ---------------------------------------------------------------------------------


def _log_in(place: Any, login: Login) -> str:
    """Log in, ask who that is, and hang up."""
    name, password = login.username, login.password.reveal()
    if place.kind == "postgresql":
        with psycopg.connect(
            host=place.host, port=place.port, dbname="shop", user=name, password=password
        ) as connection:
            _ = connection.execute("SELECT session_user")
    elif place.kind == "mysql":
        pymysql.connect(
            host=place.host,
            port=place.port,
            database="shop",
            user=name,
            password=password,
            # Else PyMySQL reads the system's authorities for each connection.
            ssl_disabled=True,
        ).close()
    else:
        client = redis.Redis(host=place.host, port=place.port, username=name, password=password)
        with closing(client):
            _ = client.get("cache:one")
    return name


class _ByHand:
    """A client that people write: it logs in for each piece of work."""

    def __init__(self, credential: Credential, place: Any) -> None:
        self._credential = credential
        self._place = place
        self.refused = 0

    def _connected(self, login: Login) -> str:
        try:
            return _log_in(self._place, login)
        except (psycopg.Error, pymysql.MySQLError, redis.RedisError):
            self.refused += 1
            raise

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
        except (psycopg.Error, pymysql.MySQLError, redis.RedisError):
            return self._connected(self._credential.refresh())


class _RedisEach:
    """redis-py, with a connection for each piece of work."""

    def __init__(self, credential: Credential, place: Any) -> None:
        self._credential = credential
        self._place = place
        self._following = redis_client.following(credential, redis.Connection, redis)

    def work(self) -> str:
        connection = self._following(host=self._place.host, port=self._place.port)
        try:
            connection.connect()
            connection.send_command("GET", "cache:one")
            _ = connection.read_response()
        finally:
            connection.disconnect()
        return self._credential.current().username

    def close(self) -> None:
        """Nothing is kept open."""


class _WithoutNext:
    """The source of a backend that does not show the next version."""

    def __init__(self, source: LocalSource) -> None:
        self.refresh = source.refresh
        self._source = source

    def read(self) -> Login:
        return self._source.read()


_EACH: Final = {"postgresql": shops.Psycopg, "mysql": shops.PyMySql, "valkey": _RedisEach}
_ADAPTERS: Final[dict[str, dict[str, Any]]] = {
    "postgresql": {
        kind.__name__: kind
        for kind in (shops.SqlAlchemy, shops.PsycopgPool, shops.Django, shops.DjangoPool)
    },
    "mysql": {kind.__name__: kind for kind in (shops.SqlAlchemy, shops.PyMySql, shops.DjangoMySql)},
    "valkey": {"Valkey": shops.Valkey},
}
_OURS: Final = ("ours, pair", "ours, patience alone")


def _table(server: str) -> dict[str, Any]:
    by_hand = {
        "by hand: reads before each login": ReadsBeforeEachLogin,
        "by hand: one fresh read, one retry": RetriesOnce,
    }
    return by_hand | dict.fromkeys(_OURS, _EACH[server])


# -- the process of the applications -----------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where the applications find their server and their secret."""

    kind: str
    host: str
    port: int
    secret: str
    folder: Path
    is_table: bool
    threads: int
    pause: float

    def server(self) -> Any:
        more = {"root_password": ""} if self.kind == "mysql" else {}
        return SimpleNamespace(kind=self.kind, host=self.host, port=self.port, **more)

    def credential(self, client: str) -> Credential:
        source = LocalSource(
            self.secret, file=self.folder / "secrets.db", key_file=self.folder / "rotator.key"
        )
        has_next = client != "ours, patience alone"
        return Credential(source if has_next else _WithoutNext(source), refresh=0.2)


class _Running:
    """One application: threads that work without end, and what came of it."""

    def __init__(self, name: str, kind: Any, place: _Place) -> None:
        self.credential: Credential = place.credential(name)
        self._name: str = name
        self._application: Any = kind(self.credential, place.server())
        self._pause: float = place.pause
        self._stop: threading.Event = threading.Event()
        self._changed: threading.Condition = threading.Condition()
        self._threads: list[threading.Thread] = [
            threading.Thread(target=self._work, daemon=True) for _ in range(place.threads)
        ]
        self._is_rotating: bool = False
        self._begun: float = 0.0
        self._recent: deque[tuple[float, str]] = deque(maxlen=10_000)
        self._revoked: dict[str, float] = {}
        # Of logins that this rotation may serve again: certain once it says which that is.
        self._tentative: Counter[str] = Counter()
        self._slowest: float = 0.0
        self._rest: array[float] = array("f")
        self._rotating: array[float] = array("f")
        self._slowest_each: array[float] = array("f")
        self.late: int = 0
        self.errors: Counter[str] = Counter()
        for thread in self._threads:
            thread.start()

    def _work(self) -> None:
        while not self._stop.wait(self._pause):
            begun = time.perf_counter()
            login = None
            try:
                login = self._application.work()
            except Exception as error:  # noqa: BLE001 # whatever an application would see
                self.errors[type(error).__name__] += 1
            self._note(begun, time.perf_counter() - begun, login)

    def _note(self, begun: float, seconds: float, login: str | None) -> None:
        with self._changed:
            self._begun = max(self._begun, begun)
            self._slowest = max(self._slowest, seconds)
            if login is not None:
                (self._rotating if self._is_rotating else self._rest).append(seconds)
                self._recent.append((begun, login))
                if begun > self._revoked.get(login, math.inf):
                    self._tentative[login] += 1
            self._changed.notify_all()

    def begin(self) -> None:
        """Take note that a rotation begins: what was late before it is certain."""
        with self._changed:
            self._commit()
            self._slowest, self._is_rotating = 0.0, True

    def end(self, at: float, before: str, served: str) -> None:
        """Take note that a rotation is over, and wait until work has begun since."""
        with self._changed:
            _ = self._revoked.pop(served, None), self._tentative.pop(served, None)
            self._commit()
            if before != served:
                self._revoked[before] = at
                self.late += sum(begun > at and login == before for begun, login in self._recent)
            _ = self._changed.wait_for(lambda: self._begun > at, _PATIENCE)
            self._slowest_each.append(self._slowest)

    def _commit(self) -> None:
        self.late += self._tentative.total()
        self._tentative.clear()

    def outcome(self) -> dict[str, Any]:
        """Stop, and return what came of it."""
        self._stop.set()
        for thread in self._threads:
            thread.join(_PATIENCE)
        self.begin()
        rotations = max(1, len(self._slowest_each))
        refused = self.credential.health().refused + getattr(self._application, "refused", 0)
        self._application.close()
        self.credential.close()
        return {
            "client": self._name,
            "rotations": len(self._slowest_each),
            "work": len(self._rotating),
            "errors": self.errors.total(),
            "kinds_of_errors": sorted(self.errors),
            "after_its_revoke": self.late,
            "refused_a_rotation": round(refused / rotations, 2),
            "rest_ms": _quantiles(self._rest),
            "rotating_ms": _quantiles(self._rotating),
            "slowest_of_each_rotation_ms": _quantiles(self._slowest_each),
        }


def _applications(pipe: Connection, place: _Place) -> None:
    """Run all applications of a server, until the pipe is closed."""
    end_with_parent(signal.SIGKILL)
    # It warns of each connection that the client has closed because its login is outdated.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    kinds = _table(place.kind) if place.is_table else _ADAPTERS[place.kind]
    running = [_Running(name, kind, place) for name, kind in kinds.items()]
    time.sleep(_REST_SECONDS)  # the load at rest is what the rotations are compared with
    pipe.send("at work")
    while True:
        match pipe.recv():
            case "begin":
                for one in running:
                    one.begin()
            case "published":
                # As a daemon announces it; those of the table find out by themselves.
                for one in running:
                    _ = one.credential.refresh()
                continue
            case "finish":
                pipe.send([one.outcome() for one in running])
                return
            case at, before, served:
                for one in running:
                    one.end(at, before, served)
            case message:
                raise ValueError(message)
        pipe.send([one.errors.total() + one.late for one in running])


def _quantiles(seconds: array[float]) -> dict[str, float]:
    if len(seconds) < 2:
        return {}
    cuts = statistics.quantiles(seconds, n=100)
    found = {"p50": cuts[49], "p99": cuts[98], "max": max(seconds)}
    return {name: round(one * 1000, 2) for name, one in found.items()}


# -- the rotations -----------------------------------------------------------------------------------


def measured(
    shop: Shop, place: _Place, rotations: int, report: Callable[[int, int], None]
) -> list[dict[str, Any]]:
    """Rotate under load, and return what each application saw."""
    secret = shop.app.secret(place.secret)

    def served() -> str:
        found = secret.backend.current(secret.path)
        assert found is not None
        return found.credential.username

    with _started(place) as ask:
        before = served()
        for number in range(1, rotations + 1):
            _ = ask("begin")
            result = shop.app.engine.rotate(secret)
            if not place.is_table:
                ask("published", answers=False)
            deadline = time.monotonic() + _PATIENCE
            while result is not None and result.outcome is None:
                assert result.error is None, result.error
                assert time.monotonic() < deadline, result.waiting
                result = shop.app.engine.resume(secret, patience=timedelta(seconds=5))
            before, old = served(), before
            bad = ask((time.perf_counter(), old, before))
            report(number, sum(bad))
        return ask("finish")


@contextmanager
def _started(place: _Place) -> Generator[Callable[..., Any]]:
    """Start the applications; yield what sends a message and returns their answer."""
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe()
    process = context.Process(target=_applications, args=(far, place), daemon=True)
    process.start()
    far.close()

    def ask(message: object, *, answers: bool = True) -> Any:
        near.send(message)
        return near.recv() if answers else None

    try:
        _ = near.recv()
        yield ask
    finally:
        near.close()
        process.kill()
        process.join()


def _opened(stack: ExitStack, server: str) -> tuple[Shop, Path]:
    folder = stack.enter_context(scratch_folder("rotator-applications-"))
    if server == "postgresql":
        target: Any = PostgresChaosTarget(stack.enter_context(ScratchPostgres()))
    else:
        target = MariaChaosTarget() if server == "mysql" else ValkeyChaosTarget()
    return stack.enter_context(shops.opened(target, folder)), folder


class _Progress:
    """Says now and then how far a case is."""

    def __init__(self, case: str, rotations: int) -> None:
        self._case = case
        self._rotations = rotations
        self._begun = self._said = time.monotonic()
        self._processor = time.process_time()

    def __call__(self, number: int, bad: int) -> None:
        now = time.monotonic()
        if now - self._said < _PROGRESS_SECONDS and number < self._rotations:
            return
        self._said = now
        pace = number / (now - self._begun)
        cost = (time.process_time() - self._processor) / number * 1000
        print(
            f"{self._case}: {number:,} of {self._rotations:,} rotations, {pace:.1f} a second,"
            f" {cost:.0f} ms of processor time each beside the applications',"
            f" {bad} errors and late pieces of work",
            file=sys.stderr,
            flush=True,
        )


def main() -> int:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="rotations of each strategy")
    parser.add_argument("--threads", type=int, default=2, help="of each application")
    parser.add_argument("--pause", type=float, default=0.02, help="seconds after a piece of work")
    parser.add_argument("--servers", default=",".join(_SERVERS))
    parser.add_argument("--strategies", help="default: all that the server has")
    parser.add_argument("--table", action="store_true", help="beside clients by hand, single-user")
    given = parser.parse_args()
    servers = given.servers.split(",")
    return _one(servers[0], given) if len(servers) == 1 else _side_by_side(servers)


def _side_by_side(servers: list[str]) -> int:
    """Measure each server in a process of its own, all at the same time; return the worst exit code."""
    command = [sys.executable, "-m", "tests.load.applications", *sys.argv[1:], "--servers"]
    with ExitStack() as stack:
        started: list[subprocess.Popen[bytes]] = []
        for server in servers:
            process = subprocess.Popen([*command, server], env=os.environ | {"MAKELEVEL": "1"})
            _ = stack.callback(_end, process)
            started.append(process)
        return max(process.wait() for process in started)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let it stop its server and remove its folder."""
    process.terminate()
    _ = process.wait()


def _one(server: str, given: argparse.Namespace) -> int:
    failures = 0
    wanted = given.strategies.split(",") if given.strategies else _STRATEGIES[server]
    strategies = [one for one in _STRATEGIES[server] if one in wanted]
    with ExitStack() as stack:
        shop, folder = _opened(stack, server)
        for strategy in [_SINGLE] if given.table else strategies:
            place = _Place(
                kind=server,
                host=shop.target.server.host,
                port=shop.target.server.port,
                secret=shop.target.names[strategy],
                folder=folder,
                is_table=given.table,
                threads=given.threads,
                pause=given.pause,
            )
            progress = _Progress(f"{server}, {strategy}", given.count)
            for outcome in measured(shop, place, given.count, progress):
                if not given.table or outcome["client"] in _OURS:
                    failures += outcome["errors"] + outcome["after_its_revoke"]
                line = {"server": server, "strategy": strategy} | outcome
                print(json.dumps(line), flush=True)
    print(json.dumps({"server": server, "failures_of_the_client": failures}), flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    end_in_order()
    sys.exit(main())
