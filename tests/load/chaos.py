"""SIGKILL at random over a real server: `make chaos`, and a shorter form in the tests.

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
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path

from rotator import logs
from rotator.api import Credential, Denied, Transient
from rotator.bootstrap import App, initialise, open_app
from rotator.core.errors import Parked, RotatorError
from rotator.core.history import newest_step
from rotator.demo.client import Client
from rotator.testing.postgres import ScratchPostgres
from tests.load.chaos_targets import GROUNDS, ChaosTarget, PostgresChaosTarget, chaos_target_of
from tests.load.programs import child, end_in_order, scratch_folder
from tests.load.troubles import Troublemaker
from tests.servers.openbao import ScratchOpenBao
from tests.servers.secrets_manager import SecretsManager

CONFIG = """\
version: 1
journal: {{url: "{journal}", signing_key: "local:rotator/audit#private_key"{password}}}
backends:
  local: {{type: local, path: secrets.db, key: "file:rotator.key"}}
  {vault}
targets:
  shop: {target}
policies:
  default: {{grace: 250ms, step_timeout: {timeout}, drain: {{wait: 1s, then: terminate, poll: 50ms}}, retry: {{attempts: 8, backoff: 50ms, backoff_cap: 1s}}}}
secrets:
"""

# A line of progress after so many kills.
_TOLD = 20


@dataclass(slots=True, kw_only=True)
class ChaosReport:
    """What came of it. `killed_in`: the newest step that the journal knew when the signal came."""

    kills: int = 0
    plugin: str = ""
    journal: str = ""
    backend: str = ""
    backend_kills: int = 0
    troubles: dict[str, int] = field(default_factory=dict)
    killed_in: dict[str, int] = field(default_factory=dict)
    outcomes: dict[str, int] = field(default_factory=dict)
    rotations: int = 0
    client_logins: dict[str, int] = field(default_factory=dict)
    client_failures: dict[str, int] = field(default_factory=dict)
    orphans: list[str] = field(default_factory=list)
    changed_rights: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    locked_out: list[str] = field(default_factory=list)
    audit_events: int = 0
    damage: list[str] = field(default_factory=list)
    no_trouble: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        overlapping = {s: n for s, n in self.client_failures.items() if s != "single-user"}
        return (
            not any(overlapping.values())
            and all(self.client_logins.values())
            and not (self.orphans or self.unfinished or self.locked_out or self.damage)
            and not (self.changed_rights or self.no_trouble)
        )


def run(
    kills: int,
    *,
    seed: int,
    plugin: str = "postgresql",
    target: str | None = None,
    postgresql_journal: bool = False,
    backend: str = "local",
    troubled: bool = False,
) -> ChaosReport:
    """Kill a rotating process `kills` times; an OpenBao that keeps the secrets every third time.

    `troubled`: backups, locks and pauses are taken on the target at random meanwhile, many of them
    for longer than a step may last.
    """
    logs.set_up(level="off")
    chance = random.Random(seed)
    report, begun = ChaosReport(kills=kills, plugin=plugin), time.monotonic()
    killed_in: collections.Counter[str] = collections.Counter()
    outcomes: collections.Counter[str] = collections.Counter()
    held: collections.Counter[str] = collections.Counter()
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder("rotator-chaos-"))
        wanted = postgresql_journal or plugin == "postgresql"
        server = stack.enter_context(ScratchPostgres()) if wanted else None
        bao = stack.enter_context(ScratchOpenBao(durable=True)) if backend == "openbao" else None
        aws = stack.enter_context(SecretsManager()) if backend == "aws" else None
        chaos_target = stack.enter_context(
            PostgresChaosTarget(server)
            if plugin == "postgresql" and server
            else chaos_target_of(plugin, target)
        )
        journal = server if postgresql_journal else None
        config = configure(folder, chaos_target, bao, aws, journal=journal, troubled=troubled)
        app = stack.enter_context(open_app(config, face="chaos"))
        report.journal = app.journal.url.get_backend_name()
        report.backend = backend
        read, names = Reader(app), chaos_target.names
        for name in names.values():
            assert app.engine.rotate(app.secret(name)).published
            chaos_target.enrich(serves(app, name).username)
        before = {name: chaos_target.rights(serves(app, name).username) for name in names.values()}
        clients = [
            stack.enter_context(
                Client(
                    strategy,
                    chaos_target.connect,
                    lambda name=name: read(name),
                    chaos_target.failure,
                )
            )
            for strategy, name in names.items()
        ]
        for turn in range(kills):
            name = list(names.values())[turn % len(names)]
            outage = bao if turn % 3 == 0 else None
            report.backend_kills += outage is not None
            with Troublemaker(chaos_target.troubles() if troubled else {}, chance) as trouble:
                killed_in[kill_one(app, config, name, chance, outage, long=troubled)] += 1
                ended = finish(app, name)
            held += trouble.held
            report.no_trouble += trouble.failed
            if app.journal.open_rotation(name) is not None:
                # What is left once the trouble is over ends without it, and waits for no breaker.
                ended = finish(app, name, at_once=True)
            outcomes[ended] += 1
            inspect(report, app, chaos_target, before, f"kill {turn}: {name}: {ended}", name)
            if (turn + 1) % _TOLD == 0:
                seconds = time.monotonic() - begun
                print(f"{turn + 1} of {kills} kills, {seconds:.0f} s", file=sys.stderr, flush=True)
        time.sleep(0.2)
        for client in clients:
            report.client_logins[client.report.strategy] = client.report.logins
            report.client_failures[client.report.strategy] = client.report.failures
        report.rotations = sum(len(app.journal.rotations(n, 100_000)) for n in names.values())
        app.checkpoint()
        audited = app.verify_journal()
        report.audit_events = audited.events
        report.damage = [f"{one.where}: {one.what}" for one in audited.damage]
    report.killed_in, report.outcomes = dict(killed_in), dict(outcomes)
    report.troubles = dict(held)
    report.seconds = round(time.monotonic() - begun, 1)
    return report


def inspect(
    report: ChaosReport,
    app: App,
    chaos_target: ChaosTarget,
    before: dict[str, set[str]],
    where: str,
    name: str,
) -> None:
    """Look for what must not be there after a rotation has been resumed."""
    if app.journal.open_rotation(name) is not None:
        report.unfinished.append(where)
    if not app.engine.check(app.secret(name)).accepted:
        report.locked_out.append(where)
    left = chaos_target.logins() - {
        serves(app, one).username for one in chaos_target.names.values()
    }
    report.orphans += [f"{where}: {one}" for one in sorted(left)]
    rights = chaos_target.rights(serves(app, name).username)
    if rights != before[name]:
        lost, gained = sorted(before[name] - rights), sorted(rights - before[name])
        report.changed_rights.append(f"{where}: lost {lost}, gained {gained}")
        before[name] = rights  # each change once


def finish(app: App, name: str, *, at_once: bool = False) -> str:
    """Bring the open rotation of a secret to its end; return how it ended."""
    patience = timedelta(seconds=20)
    try:
        result = app.engine.resume(app.secret(name), patience=patience, at_once=at_once)
    except Parked as parked:
        return str(parked)
    return str(result.outcome if result.error is None else result.error) if result else "nothing"


def kill_one(
    app: App,
    config: Path,
    name: str,
    chance: random.Random,
    bao: ScratchOpenBao | None,
    *,
    long: bool = False,
) -> str:
    """Start a process that rotates without a pause, kill it at a random instant.

    `bao`: killed at a random instant too, and started again. `long`: it may live for some steps'
    time limits, so that it gives up on some of them.
    """
    command = [sys.executable, "-m", "tests.load.chaos", "--worker", str(config), name]
    with child(command, config.parent, stdout=subprocess.PIPE, start_new_session=True) as worker:
        assert worker.stdout is not None
        worker.stdout.readline()
        moments = (
            chance.uniform(0, 3 if long else 0.45),
            chance.uniform(0, 0.3),
            chance.uniform(0, 0.4),
        )
        outage = threading.Thread(target=_outage, args=(bao, *moments[1:]))
        outage.start()
        time.sleep(moments[0])
        worker.kill()
        outage.join()
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
    logs.set_up(level="off")
    with open_app(config, face="worker") as app:
        secret = app.secret(name)
        print("ready", flush=True)
        while True:
            # Its backend may have been killed.
            with suppress(RotatorError):
                app.engine.rotate(secret, patience=timedelta(seconds=20))


def configure(
    folder: Path,
    chaos_target: ChaosTarget,
    bao: ScratchOpenBao | None = None,
    aws: SecretsManager | None = None,
    *,
    journal: ScratchPostgres | None,
    troubled: bool = False,
) -> Path:
    """Write a configuration with its keys. `journal`: the server that keeps it, None for SQLite.

    `troubled`: steps give up sooner than the troubles do.
    """
    _keep(folder / "admin-password", chaos_target.password)
    url, password = "sqlite:///journal.db", ""
    if journal is not None:
        with journal.connect() as admin:
            admin.execute("CREATE DATABASE audit")
        _keep(folder / "journal-password", journal.superuser_password)
        url = f"postgresql://postgres@{journal.host}:{journal.port}/audit"
        password = ', password: "file:journal-password"'
    backend, vault = "local", ""
    if bao is not None:
        _keep(folder / "bao-token", bao.root_token)
        backend = "vault"
        auth = '{token: "file:bao-token"}'
        vault = f'vault: {{type: vault, address: "{bao.address}", timeout: 3s, auth: {auth}}}'
    if aws is not None:
        backend = "aws"
        os.environ |= {"AWS_ACCESS_KEY_ID": "AKIATESTING", "AWS_SECRET_ACCESS_KEY": "made-up"}
        options = f'region: eu-central-1, endpoint: "{aws.endpoint}", writes_a_second: 1000'
        vault = f"aws: {{type: aws, {options}}}"
    config = folder / "rotator.yaml"
    text = CONFIG.format(
        journal=url,
        password=password,
        target=chaos_target.target,
        vault=vault,
        timeout="2s" if troubled else "30s",
    )
    initialise(config, text + chaos_target.secrets.format(backend=backend))
    return config


def _keep(file: Path, text: str) -> None:
    file.touch(mode=0o600)
    file.write_text(text)


def serves(app: App, name: str):
    current = app.secret(name).backend.current(name)
    assert current is not None
    return current.credential


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=210)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--plugin", choices=["postgresql", *GROUNDS], default="postgresql")
    parser.add_argument("--server", choices=["mariadb", "mysql"], help="of the plugin mysql")
    parser.add_argument("--journal", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--backend", choices=["local", "openbao", "aws"], default="local")
    parser.add_argument("--troubles", action="store_true", help="backups and locks meanwhile")
    parser.add_argument("--worker", nargs=2, metavar=("CONFIG", "NAME"))
    given = parser.parse_args()
    if given.worker:
        work(Path(given.worker[0]), given.worker[1])
        return
    seed = given.seed if given.seed is not None else random.randrange(2**32)
    report = run(
        given.kills,
        seed=seed,
        plugin=given.plugin,
        target=given.server,
        postgresql_journal=given.journal == "postgresql",
        backend=given.backend,
        troubled=given.troubles,
    )
    print(json.dumps({"seed": seed, "ok": report.ok, **asdict(report)}, indent=2))
    sys.exit(not report.ok)


if __name__ == "__main__":
    end_in_order()
    main()
