"""SIGKILL at random while static roles and a root login are rotated: `make vault-chaos`.

A worker process has a real OpenBao rotate without a pause and is killed at a random instant; every
fourth time OpenBao is killed too, and started again on what it kept. Then `resume` and one look
must leave what is served logging in, each rotation known to the journal, and nothing half done.
"""

from __future__ import annotations

import argparse
import collections
import json
import random
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from rotator import logs
from rotator.api import RotatorError
from rotator.bootstrap import initialise, open_app
from rotator.core.model import Kind, Step
from rotator.testing.postgres import ScratchPostgres
from tests.load.programs import child, end_in_order, scratch_folder
from tests.servers.openbao import ScratchOpenBao
from tests.vault_database.sandboxes import MOUNT, Shop

if TYPE_CHECKING:
    from rotator.core.model import Event

CONFIG = """\
version: 1
journal: {{url: "sqlite:///journal.db", signing_key: "local:rotator/audit#private_key"}}
backends:
  local: {{type: local, path: secrets.db, key: "file:rotator.key"}}
  vault: {{type: vault, address: "{bao.address}", timeout: 3s, auth: {{token: "file:bao-token"}}}}
targets:
  main:
    plugin: postgresql
    host: {server.host}
    port: {server.port}
    admin: {{username: postgres, password: "file:admin-password"}}
  engine: {{plugin: vault-database, through: vault}}
policies:
  default: {{retry: {{attempts: 50, backoff: 50ms, backoff_cap: 500ms}}}}
secrets:
  one: {{target: engine, strategy: static-role, path: {roles[0]}, options: {{logs_in_on: main}}}}
  two: {{target: engine, strategy: static-role, path: {roles[1]}, options: {{logs_in_on: main}}}}
  root: {{target: engine, strategy: root, path: {shop.connection}, options: {{logs_in_on: main, recover: true}}}}
"""
NAMES = ("one", "two", "root")
PATIENCE = timedelta(seconds=30)


@dataclass(slots=True, kw_only=True)
class Report:
    """What came of it. `killed_in`: the newest word of the journal when the signal came.

    `locked_out_engines`: how often the engine no longer knew its own password. `proofs`: rotations after which the password before was tried and refused. `lost`: how often
    OpenBao, killed between database and storage, served what was refused; `brought_back`: how often
    that was mended. `needless`: rotations of a static role that no request of the journal and no
    death of OpenBao accounts for.
    """

    kills: int = 0
    engine_kills: int = 0
    killed_in: dict[str, int] = field(default_factory=dict)
    rotations: int = 0
    proofs: int = 0
    lost: int = 0
    locked_out_engines: int = 0
    brought_back: int = 0
    needless: int = 0
    unfinished: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    locked_out: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    audit_events: int = 0
    damage: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        wrong = (self.unfinished, self.unknown, self.locked_out, self.told, self.damage)
        return (
            not any(wrong)
            and not self.needless
            and self.lost + self.locked_out_engines == self.brought_back
        )


class Chaos:
    """One run."""

    def __init__(self, stack: ExitStack, seed: int) -> None:
        self.chance = random.Random(seed)
        self.folder = stack.enter_context(scratch_folder("rotator-vault-chaos-"))
        server = stack.enter_context(ScratchPostgres())
        self.bao = stack.enter_context(ScratchOpenBao(durable=True))
        self.bao.call("POST", f"sys/mounts/{MOUNT}", type="database")
        self.shop = Shop(bao=self.bao, server=server).set_up()
        second = f"{self.shop.role}b"
        self.shop.sql(f"CREATE ROLE {second} LOGIN PASSWORD 'not-served-yet'")
        self.shop.make_role(second, second)
        # So that a death of OpenBao has a chance to fall between the database and its storage.
        self.shop.make_slow_commits(0.1)
        self.shop.make_role(second, second, rotation_statements=self.shop.slow_change())
        self.roles = (self.shop.role, second)
        self.config = self._configure(server)
        self.app = stack.enter_context(open_app(self.config, face="chaos"))
        self.report = Report()
        self.passwords: set[str] = set()

    def _configure(self, server: ScratchPostgres) -> Path:
        for name, value in (
            ("admin-password", server.superuser_password),
            ("bao-token", self.bao.root_token),
        ):
            file = self.folder / name
            file.touch(mode=0o600)
            file.write_text(value)
        config = self.folder / "rotator.yaml"
        place = {"bao": self.bao, "server": server, "shop": self.shop, "roles": self.roles}
        initialise(config, CONFIG.format(**place))
        return config

    def run(self, kills: int) -> Report:
        report, begun = self.report, time.monotonic()
        killed_in: collections.Counter[str] = collections.Counter()
        for name in NAMES:
            self.app.engine.adopt(self.app.secret(name))
        made = {role: self._made(role) for role in self.roles}
        for turn in range(kills):
            outage = turn % 4 == 3
            name = NAMES[turn % 3]
            killed_in[self._kill(name, outage=outage)] += 1
            self._look(f"kill {turn}: {name}", name)
        report.kills, report.killed_in = kills, dict(killed_in)
        self._sum_up({role: self._made(role) - before for role, before in made.items()})
        report.seconds = round(time.monotonic() - begun, 1)
        return report

    def _kill(self, name: str, *, outage: bool) -> str:
        """Start a process that rotates without a pause, kill it, and OpenBao where there is an outage."""
        command = [
            sys.executable,
            "-m",
            "tests.load.vault_chaos",
            "--worker",
            str(self.config),
            name,
        ]
        with (
            (self.folder / "worker.log").open("ab") as log,
            child(
                command,
                self.folder,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            ) as worker,
        ):
            assert worker.stdout is not None
            worker.stdout.readline()
            after, lasting = self.chance.uniform(0, 0.5), self.chance.uniform(0, 0.2)
            ended = threading.Thread(target=self._outage, args=(after, lasting))
            if outage:
                self.report.engine_kills += 1
                ended.start()
            time.sleep(self.chance.uniform(0, 0.4) + (after if outage else 0))
            worker.kill()
            if outage:
                ended.join()
        newest = self.app.journal.events(name, 1)
        return str(newest[0].kind) if newest else "nothing"

    def _outage(self, after: float, lasting: float) -> None:
        time.sleep(after)
        self.bao.kill()
        time.sleep(lasting)
        self.bao.restart()

    def _look(self, place: str, name: str) -> None:
        """Resume, as the next process does, and try what is served, as a daemon does."""
        engine, secret = self.app.engine, self.app.secret(name)
        lost = not engine.check(secret).accepted
        self.report.lost += lost and name != "root"
        self.report.locked_out_engines += lost and name == "root"
        try:
            engine.resume(secret, patience=PATIENCE)
        except RotatorError as error:
            self.report.unfinished.append(f"{place}: {error}")
        health = engine.check(secret)
        if not health.accepted:
            engine.rotate(secret, patience=PATIENCE)
            health = engine.check(secret)
        self.report.brought_back += lost and health.accepted
        if not health.accepted:
            self.report.locked_out.append(place)
        if not health.known:
            self.report.unknown.append(place)
        if self.app.journal.open_rotation(name) is not None:
            self.report.unfinished.append(place)
        self.passwords |= {self.shop.serves(role).password.reveal() for role in self.roles}

    def _made(self, role: str) -> int:
        """Count how often OpenBao was asked to rotate a role and did, by its own audit log."""
        wanted = f"{MOUNT}/rotate-role/{role}"
        lines = [line for line in self.bao.audit_text.splitlines() if wanted in line]
        found = []
        for line in lines:
            with suppress(ValueError):  # the last line of a log whose writer was killed
                found.append(json.loads(line))
        return sum(
            one["type"] == "response" and one["request"]["path"] == wanted and not one.get("error")
            for one in found
        )

    def _sum_up(self, made: dict[str, int]) -> None:
        report = self.report
        events: list[Event] = [one for name in NAMES for one in self.app.journal.events(name)]
        finished = [one for one in events if one.kind is Kind.FINISHED]
        report.rotations = sum(one.step is Step.PROVE for one in finished)
        report.proofs = sum(
            one.step is Step.REVOKE and one.data.get("refused") is True for one in finished
        )
        for name, role in zip(NAMES, self.roles, strict=False):
            asked = {
                (one.rotation_id, one.data["asked"])
                for one in finished
                if one.secret == name and one.step is Step.REQUEST
            }
            # One that OpenBao died over may be answered, and not kept.
            report.needless += max(0, made[role] - len(asked) - report.engine_kills)
        self.app.checkpoint()
        audited = self.app.verify_journal()
        report.audit_events = audited.events
        report.damage = [f"{one.where}: {one.what}" for one in audited.damage]
        for file in ("journal.db", "worker.log"):
            text = (self.folder / file).read_bytes().decode(errors="replace")
            report.told += [file for one in self.passwords if one in text]


def work(config: Path, name: str) -> None:
    """Rotate until killed."""
    logs.set_up(level="info")
    with open_app(config, face="worker") as app:
        secret = app.secret(name)
        print("ready", flush=True)
        while True:
            with suppress(RotatorError):
                app.engine.rotate(secret, patience=PATIENCE)


def run(kills: int, *, seed: int) -> Report:
    """Kill `kills` times."""
    logs.set_up(level="off")
    with ExitStack() as stack:
        return Chaos(stack, seed).run(kills)


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--worker", nargs=2, metavar=("CONFIG", "NAME"))
    given = parser.parse_args()
    if given.worker:
        work(Path(given.worker[0]), given.worker[1])
        return
    seed = given.seed if given.seed is not None else random.randrange(2**32)
    report = run(given.kills, seed=seed)
    print(json.dumps({"seed": seed, "ok": report.ok, **asdict(report)}, indent=2))
    sys.exit(not report.ok)


if __name__ == "__main__":
    end_in_order()
    main()
