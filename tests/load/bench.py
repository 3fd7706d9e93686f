"""`make bench`: the engine against a bare loop that makes the same remote calls.

Everything is measured in one run on one machine; what counts are the ratios.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from rotations.postgresql import PLUGIN
from rotations.postgresql.options import SecretOptions, TargetOptions
from rotator import logs, system
from rotator.api import Credential, Secret, StepContext
from rotator.backends.aws.backend import AwsBackend
from rotator.backends.aws.client import Client
from rotator.backends.aws.options import AwsOptions
from rotator.backends.encryption import Keys, new_key
from rotator.backends.local import LocalBackend
from rotator.backends.vault.backend import VaultBackend
from rotator.backends.vault.options import VaultOptions
from rotator.backends.vault.session import VaultClient
from rotator.core.identifiers import new_id
from rotator.core.model import Outcome, Policy
from rotator.engine import Engine, ManagedSecret
from rotator.journal import audit, chain
from rotator.journal.checkpoints import checkpoint
from rotator.journal.sql import SqlJournal
from rotator.testing.postgres import ScratchPostgres
from tests.load.client_bench import client
from tests.load.filled_journal import fill
from tests.load.programs import end_in_order, scratch_folder
from tests.servers.openbao import ScratchOpenBao

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SERVICE = """
import sys
from tests.servers.secrets_manager import SecretsManager

with SecretsManager() as service:
    print(service.endpoint, flush=True)
    sys.stdin.read()
"""
POLICY = Policy(grace=timedelta(0))
CLOCK, ENTROPY = system.SystemClock(), system.SystemEntropy()


class Place:
    """One backend and one target with a number of secrets, for one kind of run."""

    def __init__(self, name: str, backend: Any, server: ScratchPostgres, secrets: int) -> None:
        self.backend = backend
        admin = Credential(username="postgres", password=Secret(server.superuser_password))
        self.target = PLUGIN.target(
            name, TargetOptions(host=server.host, port=server.port), lambda: admin
        )
        self.secrets = [
            ManagedSecret(
                name=f"{name}-{uuid4()}",
                path=f"{name}/{uuid4()}",
                backend_name=name,
                backend=self.backend,
                target_name=name,
                rotation=self.target.rotation("new-user", SecretOptions(group="app")),
                plugin="postgresql",
                strategy="new-user",
                policy=POLICY,
            )
            for _ in range(secrets)
        ]

    def close(self) -> None:
        self.target.close()
        self.backend.close()


def engine_over(journal: SqlJournal) -> Callable[[ManagedSecret], None]:
    """Return what rotates a secret by an engine over this journal."""
    engine = Engine(
        journal=journal,
        clock=CLOCK,
        entropy=ENTROPY,
        log=logs.get_log(),
        holder=system.holder,
    )

    def run(secret: ManagedSecret) -> None:
        result = engine.rotate(secret)
        assert result.outcome is Outcome.DONE, result.error

    return run


def bare(secret: ManagedSecret) -> None:
    """Make the remote calls of one rotation, in the engine's order; no engine, no journal."""
    rotation, backend, path = secret.rotation, secret.backend, secret.path
    rotation_id = new_id(ENTROPY)

    def context(current: Credential | None) -> StepContext:
        return StepContext(
            secret=secret.name,
            rotation_id=rotation_id,
            current=current,
            deadline=CLOCK.monotonic() + 30,
            clock=CLOCK,
            entropy=ENTROPY,
            log=logs.get_log(),
            new_password=lambda: POLICY.password.generate(ENTROPY),
        )

    version = backend.current(path)
    old = version.credential if version else None
    ctx = context(old)
    new = backend.stage(path, rotation_id, rotation.propose(old, ctx))
    rotation.create(new, ctx)
    assert rotation.verify(new, ctx).ok
    published = backend.publish(path, rotation_id, expect=version.id if version else None)
    assert backend.read(path, published) is not None
    if old is None or version is None:
        return
    assert not rotation.sessions(old.username, ctx)  # pyright: ignore[reportAttributeAccessIssue]
    current = backend.current(path)
    held = backend.read(path, version.id)
    assert current is not None and held is not None
    ctx = context(current.credential)
    rotation.revoke(held.credential, ctx)
    assert not rotation.probe(held.credential, ctx)
    assert rotation.probe(current.credential, ctx)


def rate(do, secrets: list[ManagedSecret], threads: int, rounds: int) -> float:
    """Return rotations a second: each thread works on secrets of its own."""
    mine = secrets[:threads]
    start = threading.Barrier(threads + 1)

    def work(secret: ManagedSecret) -> None:
        start.wait()
        for _ in range(rounds):
            do(secret)

    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(work, secret) for secret in mine]
        start.wait()
        begun = time.perf_counter()
        for future in futures:
            future.result()
    return threads * rounds / (time.perf_counter() - begun)


@contextmanager
def opened(kind: str, folder: Path) -> Iterator[Callable[[str], Any]]:
    """Yield what opens backends of a kind, over one real server where it needs one."""
    if kind == "openbao":
        with ScratchOpenBao(durable=True) as bao:
            secrets = {"env:VAULT_TOKEN": Secret(bao.root_token)}
            options = VaultOptions(address=bao.address)
            yield lambda name: VaultBackend(
                name, options, VaultClient(options, secrets.__getitem__)
            )
    elif kind == "aws":
        os.environ |= {"AWS_ACCESS_KEY_ID": "AKIATESTING", "AWS_SECRET_ACCESS_KEY": "made-up"}
        # In a process of its own: here it would share the interpreter with what is measured.
        with subprocess.Popen(
            [sys.executable, "-c", _SERVICE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as service:
            assert service.stdout is not None
            endpoint = service.stdout.readline().strip()
            given = AwsOptions(region="eu-central-1", endpoint=endpoint, writes_a_second=10_000)
            yield lambda name: AwsBackend(name, given, Client(given))
            service.kill()
    else:
        yield lambda name: LocalBackend(name, folder / f"{name}.db", Keys([new_key()]))


class Counted:
    """A backend whose calls are counted."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.calls: collections.Counter[str] = collections.Counter()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return found

        def call(*given: Any, **named: Any) -> Any:
            self.calls[name] += 1
            return found(*given, **named)

        return call


def engines(
    folder: Path, server: ScratchPostgres, repeats: int, rotations: int, make: Callable[[str], Any]
) -> dict:
    """Measure the bare loop and the engine with both journals, in turn, several times."""
    with ExitStack() as stack:
        names = ("bare", "sqlite", "postgresql")
        places = {name: Place(name, make(name), server, 8) for name in names}
        for place in places.values():
            stack.callback(place.close)
        url = f"postgresql://postgres@{server.host}:{server.port}/audit"
        journals = {
            "sqlite": SqlJournal(f"sqlite:///{folder}/{uuid4()}.db", clock=CLOCK, actor="bench"),
            "postgresql": SqlJournal(
                url,
                clock=CLOCK,
                actor="bench",
                password=Secret(server.superuser_password),
                upgrade=True,
            ),
        }
        runs = {"bare": bare}
        for name, journal in journals.items():
            stack.callback(journal.close)
            runs[name] = engine_over(journal)
        for name, do in runs.items():
            rate(do, places[name].secrets, 8, 3)
        found: dict[str, dict[str, object]] = {
            "backend_calls_a_rotation": counted(server, make, runs)
        }
        for threads in (1, 8):
            measured: dict[str, list[float]] = {name: [] for name in runs}
            for turn in range(repeats):
                _tell(f"{threads} thread(s), {turn + 1} of {repeats}")
                for name, do in runs.items():
                    rounds = max(1, rotations // threads)
                    measured[name].append(rate(do, places[name].secrets, threads, rounds))
            paired = {
                name: sorted(
                    round(one / base, 3)
                    for one, base in zip(measured[name], measured["bare"], strict=True)
                )
                for name in journals
            }
            found[f"{threads} thread(s)"] = {
                "rotations_a_second": {
                    name: round(statistics.median(values), 1) for name, values in measured.items()
                },
                # Each a pair measured one after the other: the spread is that of the machine.
                "engine_divided_by_bare": {
                    name: {"median": statistics.median(ratios), "all": ratios}
                    for name, ratios in paired.items()
                },
            }
        return found


def counted(server: ScratchPostgres, make: Callable[[str], Any], runs: dict[str, Any]) -> dict:
    """Return how often the engine calls the backend in one rotation, by method."""
    place = Place("counted", Counted(make("counted")), server, 1)
    for _ in range(2):
        runs["sqlite"](place.secrets[0])
    place.backend.calls.clear()
    runs["sqlite"](place.secrets[0])
    calls = dict(place.backend.calls)
    place.close()
    return calls


def version_seconds(repeats: int) -> float:
    """Return the median wall time of `rotator --version`."""
    program = str(Path(sys.executable).parent / "rotator")
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        subprocess.run([program, "--version"], check=True, capture_output=True)
        times.append(time.perf_counter() - begun)
    return round(statistics.median(times), 4)


def audits(folder: Path, events: int) -> dict:
    """Fill a SQLite journal and verify it with its signatures."""
    journal = SqlJournal(f"sqlite:///{folder}/audit.db", clock=CLOCK, actor="bench")
    rotations = 100
    count = fill(journal, secrets=-(-events // (rotations * 14)), rotations=rotations)
    key = chain.new_signing_key()
    checkpoint(journal, key, CLOCK.now())
    begun, cpu = time.perf_counter(), time.process_time()
    report = audit.verify(journal, public_key=chain.public_key(key))
    wall, cpu = time.perf_counter() - begun, time.process_time() - cpu
    journal.close()
    assert report.ok and report.events == count
    return {
        "events": count,
        "seconds": round(wall, 2),
        "events_a_second": round(count / wall),
        "events_a_cpu_second": round(count / cpu),
    }


def _tell(what: str) -> None:
    sys.stderr.write(f"bench: {what}\n")


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rotations", type=int, default=160)
    parser.add_argument("--events", type=int, default=280_000)
    parser.add_argument("--backends", default="local", help="of local,openbao,aws; empty for none")
    given = parser.parse_args()
    logs.set_up(level="warning", human=False)
    with (
        scratch_folder("rotator-bench-") as folder,
        ScratchPostgres() as server,
    ):
        with server.connect() as admin:
            admin.execute("CREATE ROLE app NOLOGIN")
            admin.execute("CREATE DATABASE audit")
        rotations = {}
        for kind in filter(None, given.backends.split(",")):
            with opened(kind, folder) as make:
                _tell(f"rotations with the backend {kind}")
                rotations[kind] = engines(folder, server, given.repeats, given.rotations, make)
        found: dict[str, object] = {"rotations": rotations, "version_seconds": version_seconds(11)}
        _tell("the client library")
        found["client"] = client(server, given.repeats)
        _tell(f"verification of {given.events:,} events")
        found["audit_verify"] = audits(folder, given.events)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    end_in_order()
    main()
