"""SIGKILL at random over a real PostgreSQL: `make chaos`, and a shorter form in the tests.

A worker process rotates without a pause and is killed at a random instant; then `resume` must
bring every rotation to its end, while an application that never stops logging in meets no refusal.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path

from rotator import observe
from rotator.api import Credential, Denied, Transient
from rotator.bootstrap import App, initialise, open_app
from rotator.core.history import newest_step
from rotator.demo.client import Client
from rotator.testing.openbao import ScratchOpenBao
from rotator.testing.postgres import ScratchPostgres
from rotator.testing.secrets_manager import SecretsManager

STRATEGIES = {"new-user": "fresh", "alternating-users": "pair", "single-user": "single"}
STANDING = {"postgres", "app_owner", "pair_a", "pair_b"}
CONFIG = """\
version: 1
journal: {{url: "{journal}", signing_key: "local:rotator/audit#private_key"{password}}}
backends:
  local: {{type: local, path: secrets.db, key: "file:rotator.key"}}
  {vault}
targets:
  shop:
    plugin: postgresql
    host: {host}
    port: {port}
    dbname: shop
    admin: {{username: postgres, password: "file:admin-password"}}
policies:
  default: {{grace: 250ms, drain: {{wait: 1s, then: terminate, poll: 50ms}}, retry: {{attempts: 8, backoff: 50ms, backoff_cap: 1s}}}}
secrets:
  fresh: {{target: shop, backend: {backend}, strategy: new-user, options: {{group: app_owner}}}}
  pair:
    target: shop
    backend: {backend}
    strategy: alternating-users
    options: {{group: app_owner, users: [pair_a, pair_b]}}
  single:
    target: shop
    backend: {backend}
    strategy: single-user
    options: {{username: single, group: app_owner}}
"""
QUERY = "SELECT count(*) FROM orders"


@dataclass(slots=True, kw_only=True)
class ChaosReport:
    """What came of it. `killed_in`: the newest step that the journal knew when the signal came."""

    kills: int = 0
    journal: str = ""
    backend: str = ""
    backend_kills: int = 0
    killed_in: dict[str, int] = field(default_factory=dict)
    outcomes: dict[str, int] = field(default_factory=dict)
    rotations: int = 0
    client_logins: dict[str, int] = field(default_factory=dict)
    client_failures: dict[str, int] = field(default_factory=dict)
    orphans: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    locked_out: list[str] = field(default_factory=list)
    audit_events: int = 0
    damage: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        overlapping = {s: n for s, n in self.client_failures.items() if s != "single-user"}
        return (
            not any(overlapping.values())
            and all(self.client_logins.values())
            and not (self.orphans or self.unfinished or self.locked_out or self.damage)
        )


def run(
    kills: int, *, seed: int, postgresql_journal: bool = False, backend: str = "local"
) -> ChaosReport:
    """Kill a rotating process `kills` times; an OpenBao that keeps the secrets every third time."""
    observe.set_up(level="off")
    chance = random.Random(seed)
    report, begun = ChaosReport(kills=kills), time.monotonic()
    killed_in: collections.Counter[str] = collections.Counter()
    outcomes: collections.Counter[str] = collections.Counter()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rotator-chaos-")))
        server = stack.enter_context(ScratchPostgres())
        bao = stack.enter_context(ScratchOpenBao(durable=True)) if backend == "openbao" else None
        aws = stack.enter_context(SecretsManager()) if backend == "aws" else None
        with server.connect() as admin:
            admin.execute("CREATE DATABASE shop")
            admin.execute("CREATE DATABASE audit")
        with server.connect("shop") as admin:
            admin.execute("CREATE ROLE app_owner NOLOGIN")
            admin.execute("CREATE TABLE orders (id int)")
            admin.execute("ALTER TABLE orders OWNER TO app_owner")
            admin.execute("GRANT SELECT ON orders TO PUBLIC")
        config = configure(folder, server, bao, aws, postgresql_journal=postgresql_journal)
        app = stack.enter_context(open_app(config, face="chaos"))
        report.journal = app.journal.url.get_backend_name()
        report.backend = backend
        read = Reader(app)
        for name in STRATEGIES.values():
            assert app.engine.rotate(app.secret(name)).published
        clients = [
            stack.enter_context(Client(strategy, server, lambda name=name: read(name), QUERY))
            for strategy, name in STRATEGIES.items()
        ]
        for turn in range(kills):
            name = list(STRATEGIES.values())[turn % len(STRATEGIES)]
            outage = bao if turn % 3 == 0 else None
            report.backend_kills += outage is not None
            killed_in[kill_one(app, config, name, chance, outage)] += 1
            result = app.engine.resume(app.secret(name), patience=timedelta(seconds=20))
            outcomes[str(result.outcome) if result else "nothing open"] += 1
            if app.journal.open_rotation(name) is not None:
                report.unfinished.append(f"kill {turn}: {name}: {result}")
            if not app.engine.check(app.secret(name)).accepted:
                report.locked_out.append(f"kill {turn}: {name}")
            expected = STANDING | {serves(app, one).username for one in STRATEGIES.values()}
            left = roles(server) - expected
            report.orphans += [f"kill {turn}: {one}" for one in sorted(left)]
        time.sleep(0.2)
        for client in clients:
            report.client_logins[client.report.strategy] = client.report.logins
            report.client_failures[client.report.strategy] = client.report.failures
        report.rotations = sum(len(app.journal.rotations(n, 100_000)) for n in STRATEGIES.values())
        app.checkpoint()
        audited = app.verify_journal()
        report.audit_events = audited.events
        report.damage = [f"{one.where}: {one.what}" for one in audited.damage]
    report.killed_in, report.outcomes = dict(killed_in), dict(outcomes)
    report.seconds = round(time.monotonic() - begun, 1)
    return report


def kill_one(
    app: App, config: Path, name: str, chance: random.Random, bao: ScratchOpenBao | None
) -> str:
    """Start a process that rotates without a pause, kill it at a random instant.

    `bao`: killed at a random instant too, and started again.
    """
    command = [sys.executable, "-m", "tests.chaos", "--worker", str(config), name]
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    assert worker.stdout is not None
    try:
        worker.stdout.readline()
        moments = chance.uniform(0, 0.45), chance.uniform(0, 0.3), chance.uniform(0, 0.4)
        outage = threading.Thread(target=_outage, args=(bao, *moments[1:]))
        outage.start()
        time.sleep(moments[0])
        worker.kill()
        outage.join()
    finally:
        worker.kill()
        worker.wait()
        worker.stdout.close()
    opened = app.journal.open_rotation(name)
    if opened is None:
        return "between rotations"
    last = newest_step(app.journal.history(opened.id))
    return f"{last.step} {last.kind}" if last is not None else "before its first step"


def _outage(bao: ScratchOpenBao | None, after: float, lasting: float) -> None:
    if bao is not None:
        time.sleep(after)
        bao.kill()
        time.sleep(lasting)
        bao.restart()


class Reader:
    """What a consumer does: asks the backend, and keeps what it read while that is away."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._read: dict[str, Credential] = {}

    def __call__(self, name: str) -> Credential:
        try:
            self._read[name] = serves(self._app, name)
        except (Transient, Denied):
            if name not in self._read:
                raise
        return self._read[name]


def work(config: Path, name: str) -> None:
    """Rotate until killed."""
    observe.set_up(level="off")
    with open_app(config, face="worker") as app:
        secret = app.secret(name)
        print("ready", flush=True)
        while True:
            app.engine.rotate(secret, patience=timedelta(seconds=20))


def configure(
    folder: Path,
    server: ScratchPostgres,
    bao: ScratchOpenBao | None = None,
    aws: SecretsManager | None = None,
    *,
    postgresql_journal: bool,
) -> Path:
    """Write a configuration with its keys."""
    file = folder / "admin-password"
    file.touch(mode=0o600)
    file.write_text(server.superuser_password)
    url, password = "sqlite:///journal.db", ""
    if postgresql_journal:
        url = f"postgresql://postgres@{server.host}:{server.port}/audit"
        password = ', password: "file:admin-password"'
    backend, vault = "local", ""
    if bao is not None:
        token = folder / "bao-token"
        token.touch(mode=0o600)
        token.write_text(bao.root_token)
        backend = "vault"
        auth = '{token: "file:bao-token"}'
        vault = f'vault: {{type: vault, address: "{bao.address}", timeout: 3s, auth: {auth}}}'
    if aws is not None:
        backend = "aws"
        os.environ |= {"AWS_ACCESS_KEY_ID": "AKIATESTING", "AWS_SECRET_ACCESS_KEY": "made-up"}
        options = f'region: eu-central-1, endpoint: "{aws.endpoint}", writes_a_second: 1000'
        vault = f"aws: {{type: aws, {options}}}"
    config = folder / "rotator.yaml"
    place = {"host": server.host, "port": server.port, "backend": backend, "vault": vault}
    text = CONFIG.format(journal=url, password=password, **place)
    initialise(config, text)
    return config


def serves(app: App, name: str):
    current = app.secret(name).backend.current(name)
    assert current is not None
    return current.credential


def roles(server: ScratchPostgres) -> set[str]:
    with server.connect() as admin:
        found = admin.execute("SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_'").fetchall()
    return {row[0] for row in found}


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=210)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--journal", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--backend", choices=["local", "openbao", "aws"], default="local")
    parser.add_argument("--worker", nargs=2, metavar=("CONFIG", "NAME"))
    given = parser.parse_args()
    if given.worker:
        work(Path(given.worker[0]), given.worker[1])
        return
    seed = given.seed if given.seed is not None else random.randrange(2**32)
    report = run(
        given.kills,
        seed=seed,
        postgresql_journal=given.journal == "postgresql",
        backend=given.backend,
    )
    print(json.dumps({"seed": seed, "ok": report.ok, **asdict(report)}, indent=2))
    sys.exit(not report.ok)


if __name__ == "__main__":
    main()
