"""`make fleet`: daemons and workers that share the work, one killed every second, and nothing done twice.

Three `rotator daemon` and two `rotator worker` processes over one PostgreSQL journal, secrets in
OpenBao, logins on another PostgreSQL. All secrets come due at once. Every second a process is killed by
SIGKILL and replaced; the target is restarted once, and OpenBao is killed once. An application logs in
all the time. `--workers 0`: the daemons do the work by threads of their own.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from rotator import logs
from rotator.api import Credential, RotatorError
from rotator.bootstrap import App, initialise, open_app
from rotator.testing.postgres import ScratchPostgres
from tests.load.programs import child, end_in_order, scratch_folder
from tests.servers.openbao import ScratchOpenBao

if TYPE_CHECKING:
    from collections.abc import Generator

_CONFIG = """\
version: 1
journal:
  url: postgresql://postgres@{audit_host}:{audit_port}/postgres
  password: file:audit-password
backends:
  vault: {{type: vault, address: "{bao}", timeout: 3s, auth: {{token: "file:bao-token"}}}}
targets:
  main:
    plugin: postgresql
    host: {host}
    port: {port}
    admin: {{username: postgres, password: "file:admin-password"}}
policies:
  default:
    every: 30d
    grace: 2s
    drain: {{wait: 1s, then: terminate, poll: 200ms}}
    retry: {{attempts: 20, cycles: 5, backoff: 200ms, backoff_cap: 2s}}
daemon:
  catch_up: 1h
  verify_every: never
  listen: none
  dispatch: {dispatch}
  limits: {{total: 6, per_target: 5}}
  breaker: {{failures: 8, wait: 500ms, longest: 2s}}
secrets:
"""
# For how many seconds the application uses what it has read: less than `grace`.
_CACHED = 1.5
_REFUSALS = ("authentication failed", "does not exist", "not permitted to log in")


@dataclass(slots=True, kw_only=True)
class FleetReport:
    """What came of it. `twice` and `never`: secrets that were not rotated exactly once."""

    secrets: int = 0
    kills: int = 0
    seconds: float = 0.0
    rotated: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    twice: list[str] = field(default_factory=list)
    never: list[str] = field(default_factory=list)
    unproven: list[str] = field(default_factory=list)
    parked: list[str] = field(default_factory=list)
    logins: int = 0
    refused: list[str] = field(default_factory=list)
    unreachable: int = 0
    orphans: list[str] = field(default_factory=list)
    audit_events: int = 0
    damage: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        wrong = (self.twice, self.never, self.unproven, self.parked, self.refused, self.orphans)
        return not any(wrong) and not self.damage and self.logins > 0


class Application:
    """Logs in as one secret after the other, with what the backend serves.

    While the backend is away it goes on with what it has read, as long as the grace period lasts.
    """

    def __init__(self, app: App, names: list[str], server: ScratchPostgres) -> None:
        self._app, self._names, self._server = app, names, server
        self._read: dict[str, tuple[float, Credential]] = {}
        self._stop = threading.Event()
        self.logins, self.unreachable, self.refused = 0, 0, list[str]()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Application:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        chance = random.Random(1)
        while not self._stop.wait(0.01):
            name, begun = chance.choice(self._names), time.monotonic()
            try:
                current = self._app.backend("vault").current(name)
                assert current is not None
                self._read[name] = begun, current.credential
            except RotatorError:
                if name not in self._read or time.monotonic() - self._read[name][0] > _CACHED:
                    continue
            credential = self._read[name][1]
            try:
                self._server.connect(
                    user=credential.username, password=credential.password.reveal()
                ).close()
                self.logins += 1
            except psycopg.Error as error:
                said = str(error)
                if any(one in said for one in _REFUSALS):
                    age = round(time.monotonic() - self._read[name][0], 1)
                    self.refused.append(f"{name}, read {age} s ago: {said.splitlines()[-1]}")
                else:
                    self.unreachable += 1


def run(count: int, *, daemons: int, workers: int, seed: int) -> FleetReport:
    """Let the fleet do its work under fire."""
    logs.set_up(level="off")
    chance, report = random.Random(seed), FleetReport(secrets=count)
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder("rotator-fleet-"))
        target = stack.enter_context(ScratchPostgres())
        audit = stack.enter_context(ScratchPostgres())
        bao = stack.enter_context(ScratchOpenBao(durable=True))
        with target.connect() as admin:
            admin.execute("CREATE ROLE app_owner NOLOGIN")
        names = [f"s{number:03}" for number in range(count)]
        dispatch = "procrastinate" if workers else "threads"
        config = _configure(folder, target, audit, bao, names, dispatch)
        app = stack.enter_context(open_app(config, face="fleet"))
        for name in names:
            assert app.engine.rotate(app.secret(name)).published
        application = stack.enter_context(Application(app, names, target))
        begun, due = time.monotonic(), datetime.now(UTC) + timedelta(seconds=2)
        for name in names:
            app.engine.schedule(app.secret(name), due, reason="fleet")
        faces = ["daemon"] * daemons + ["worker"] * workers
        fleet = [
            stack.enter_context(_start(config, folder, number, face))
            for number, face in enumerate(faces)
        ]
        number = len(fleet)
        outages = {
            3: threading.Thread(target=target.restart),
            6: threading.Thread(target=_outage, args=(bao,)),
        }
        while _left(app, names, due) and time.monotonic() - begun < 600:
            time.sleep(1)
            victim = chance.randrange(len(fleet))
            fleet[victim].kill()
            fleet[victim].wait()
            started = _start(config, folder, number, faces[victim])
            fleet[victim] = stack.enter_context(started)
            number, report.kills = number + 1, report.kills + 1
            if report.kills in outages:
                outages[report.kills].start()
        for thread in outages.values():
            if thread.ident is not None:
                thread.join()
        end = time.monotonic() + 120
        while any(app.journal.open_rotation(name) for name in names) and time.monotonic() < end:
            time.sleep(0.2)
        for one in fleet:
            one.send_signal(signal.SIGTERM)
        for one in fleet:
            one.wait(60)
        report.seconds = round(time.monotonic() - begun, 1)
        application.__exit__()
        report.logins, report.unreachable = application.logins, application.unreachable
        report.refused = application.refused
        _judge(report, app, names, due, target)
    return report


def _judge(
    report: FleetReport, app: App, names: list[str], due: datetime, target: ScratchPostgres
) -> None:
    outcomes, served = Counter[str](), set[str]()
    for name in names:
        done = [one for one in app.journal.rotations(name) if one.started_at >= due]
        outcomes.update(str(one.outcome) for one in done)
        published = [one for one in done if one.published_at is not None]
        report.rotated += len(published)
        report.twice += [name] * (len(published) > 1)
        report.never += [name] * (not published)
        report.unproven += [name for one in published if not one.old_refused]
        record, current = app.journal.secret(name), app.backend("vault").current(name)
        report.parked += [name] * (record is not None and record.parked is not None)
        if current is not None:
            served.add(current.credential.username)
    with target.connect() as admin:
        found = admin.execute("SELECT rolname FROM pg_roles WHERE rolcanlogin").fetchall()
    report.orphans = sorted({row[0] for row in found} - served - {"postgres"})
    audited = app.verify_journal()
    report.outcomes = dict(outcomes)
    report.audit_events = audited.events
    report.damage = [f"{one.where}: {one.what}" for one in audited.damage]


def _left(app: App, names: list[str], due: datetime) -> bool:
    records = {one.name: one for one in app.journal.secrets()}
    return any(
        (record := records.get(name)) is None
        or record.rotated_at is None
        or record.rotated_at < due
        for name in names
    )


def _outage(bao: ScratchOpenBao) -> None:
    bao.kill()
    time.sleep(1)
    bao.restart()


@contextmanager
def _start(
    config: Path, folder: Path, number: int, face: str
) -> Generator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "rotator", face, "-c", str(config)]
    with (
        (folder / f"{face}-{number}.log").open("wb") as log,
        child(command, folder, stderr=log, stdout=subprocess.DEVNULL) as process,
    ):
        yield process


def _configure(
    folder: Path,
    target: ScratchPostgres,
    audit: ScratchPostgres,
    bao: ScratchOpenBao,
    names: list[str],
    dispatch: str,
) -> Path:
    secrets = {
        "admin-password": target.superuser_password,
        "audit-password": audit.superuser_password,
        "bao-token": bao.root_token,
    }
    for name, value in secrets.items():
        (folder / name).touch(mode=0o600)
        (folder / name).write_text(value)
    entries = "".join(
        f"  {name}: {{target: main, backend: vault, strategy: new-user,"
        f" options: {{group: app_owner, prefix: {name}}}}}\n"
        for name in names
    )
    head = _CONFIG.format(
        audit_host=audit.host,
        audit_port=audit.port,
        bao=bao.address,
        host=target.host,
        port=target.port,
        dispatch=dispatch,
    )
    config = folder / "rotator.yaml"
    initialise(config, head + entries)
    return config


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--secrets", type=int, default=300)
    parser.add_argument("--daemons", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=None)
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else random.randrange(2**32)
    report = run(given.secrets, daemons=given.daemons, workers=given.workers, seed=seed)
    print(json.dumps({"seed": seed, "ok": report.ok, **asdict(report)}, indent=2))
    sys.exit(not report.ok)


if __name__ == "__main__":
    end_in_order()
    main()
