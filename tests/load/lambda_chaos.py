"""`make lambda-chaos`: AWS rotates, and the function's process is killed at random instants.

The real runtime client, Secrets Manager's rules kept strictly, a real PostgreSQL. For each strategy: some
rotations undisturbed, timed; then rotations whose function is killed, whose answers are lost, whose steps
come twice and in another order, until all kills are done. An application logs in all the time.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rotator import logs
from rotator.api import Secret
from rotator.journal import audit
from rotator.journal.log import verify_log
from rotator.journal.sql import SqlJournal
from rotator.testing.fakes import ManualClock
from rotator.testing.postgres import ScratchPostgres
from tests.aws_lambda.runtime import InvocationError, Killed, Runtime
from tests.aws_lambda.sandboxes import ROLES, Client, MariaWorld, Sandbox
from tests.load.programs import end_in_order, scratch_folder
from tests.servers.mariadb import ScratchMariaDB
from tests.servers.secrets_manager import CURRENT, PENDING, STEPS, SecretsManager

_MOST_TRIES = 40
# What a step may answer with on such a day: a killed process still holds the lock, or the login
# that is to be revoked first is in use.
_EXPECTED = ("Busy", "NotDue")
_SECRETS: dict[str, dict[str, Any]] = {
    "single-user": {},
    "alternating-users": {"masterarn": True},
    "new-user": {
        "masterarn": True,
        "rotator": {"strategy": "new-user"},
    },
}


class LostError(Exception):
    """The function did it, and its answer did not come back."""


@dataclass(slots=True, kw_only=True)
class ChaosReport:
    """One strategy's. `refused`: logins with what was just read, and read again, that were refused."""

    strategy: str
    journal: str
    undisturbed: int = 0
    undisturbed_logins: int = 0
    undisturbed_refused: int = 0
    rotation_ms: float = 0.0
    kills: int = 0
    lost: int = 0
    tries: int = 0
    ended: int = 0
    logins: int = 0
    refused: int = 0
    wrong: list[str] = field(default_factory=list)
    events: int = 0
    damage: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        overlapping = self.strategy != "single-user"
        locked_out = overlapping and (self.refused or self.undisturbed_refused)
        return not (self.wrong or self.damage or locked_out) and self.ended > 0


class Disturbed:
    """The function as AWS sees it on a bad day."""

    def __init__(self, runtime: Runtime, chance: random.Random, report: ChaosReport) -> None:
        self._runtime, self._chance, self._report = runtime, chance, report
        self.on = False

    def __call__(self, event: dict[str, Any]) -> object:
        if not self.on:
            return self._runtime(event)
        timer = None
        if self._chance.random() < 0.5:
            timer = threading.Timer(self._chance.uniform(0, 0.25), self._kill)
            timer.start()
        try:
            answer = self._runtime(event)
        except Killed:
            self._report.kills += 1
            raise
        finally:
            if timer is not None:
                timer.cancel()
                timer.join()
        if self._chance.random() < 0.1:
            self._report.lost += 1
            raise LostError
        return answer

    def _kill(self) -> None:
        process = self._runtime.process
        if process is not None and process.poll() is None:
            process.kill()

    def steps(self) -> list[str]:
        """Return the four steps, some twice, or with earlier ones again between them."""
        if not self.on or self._chance.random() < 0.5:
            return list(STEPS)
        found: list[str] = []
        for number, step in enumerate(STEPS):
            found.append(step)
            if self._chance.random() < 0.4:
                found += [self._chance.choice(STEPS[: number + 1]), step]
        return found


def run(
    strategy: str, journal: str, *, engine: str, rotations: int, kills: int, seed: int
) -> ChaosReport:
    """Let one strategy go through it."""
    chance = random.Random(f"{seed} {strategy} {journal}")
    report = ChaosReport(strategy=strategy, journal=journal)
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder("rotator-lambda-"))
        server = stack.enter_context(ScratchPostgres())
        aws = stack.enter_context(SecretsManager())
        sandbox = _sandbox(stack, server, aws, engine, strategy)
        sandbox.environ |= {"SECRETS_MANAGER_ENDPOINT": aws.endpoint, "ROTATOR_GRACE": "0s"}
        kept = sandbox.keep_journal_in(server) if journal == "postgresql" else None
        runtime = stack.enter_context(Runtime(environ=sandbox.environ, log=folder / "log"))
        sweeping = stack.enter_context(
            Runtime(
                "rotator.faces.aws_lambda.sweep", environ=sandbox.environ, log=folder / "sweep.log"
            )
        )
        function = Disturbed(runtime, chance, report)
        aws.secret(sandbox.name).function, aws.steps = function, function.steps
        with Client(sandbox) as client:
            times = [_timed(sandbox, runtime, sweeping) for _ in range(rotations)]
            report.undisturbed, report.rotation_ms = (
                rotations,
                round(1000 * statistics.median(times)),
            )
        report.undisturbed_logins, report.undisturbed_refused = client.logins, client.refused
        function.on, aws.retries = True, _MOST_TRIES
        with Client(sandbox) as client:
            while report.kills < kills:
                before = sandbox.current_id()
                failed = sandbox.rotate()
                report.tries += 1 + len(failed)
                report.wrong += unexpected(failed)
                _sweep(sweeping, chance, report)
                report.ended += sandbox.current_id() != before
                report.wrong += _judge(sandbox, strategy)
        report.logins, report.refused = client.logins, client.refused
        _verify(report, folder, kept, Secret(server.superuser_password))
    return report


def unexpected(failed: list[BaseException]) -> list[str]:
    """Return what neither the disturbances explain nor the function is meant to answer with."""
    return [
        str(one)
        for one in failed
        if not isinstance(one, (Killed, LostError))
        and not (isinstance(one, InvocationError) and one.payload.get("errorType") in _EXPECTED)
    ]


def _timed(sandbox: Sandbox, runtime: Runtime, sweeping: Runtime) -> float:
    begun = time.perf_counter()
    failed = sandbox.rotate()
    taken = time.perf_counter() - begun
    assert not failed, failed
    assert runtime.starts == 1
    sweeping({})
    return taken


def _sweep(sweeping: Runtime, chance: random.Random, report: ChaosReport) -> None:
    for _ in range(_MOST_TRIES):
        timer = threading.Timer(chance.uniform(0, 0.3), sweeping.kill)
        if chance.random() < 0.4:
            timer.start()
        try:
            answer = sweeping({})
        except Killed:
            report.kills += 1
        else:
            # One that was killed while it closed a login may still be at it, as far as others know.
            if not isinstance(answer, dict) or not answer["waiting"]:
                return
            time.sleep(1)
        finally:
            timer.cancel()
            if timer.ident is not None:
                timer.join()
    report.wrong.append("the sweep never ended")


def _judge(sandbox: Sandbox, strategy: str) -> list[str]:
    """Return what is not as it must be between two rotations."""
    wrong: list[str] = []
    served, stages = sandbox.served(), sandbox.stages()
    if not sandbox.accepts(served):
        wrong.append("what is current does not log in")
    if any(PENDING in labels and CURRENT not in labels for labels in stages.values()):
        wrong.append("AWSPENDING is stuck")
    left = sandbox.logins() - {served["username"]}
    if left:
        wrong.append(f"left behind: {sorted(left)} ({strategy})")
    return wrong


def _sandbox(
    stack: ExitStack, server: ScratchPostgres, aws: SecretsManager, engine: str, strategy: str
) -> Sandbox:
    if engine == "mariadb":
        sandbox = MariaWorld.on(stack.enter_context(ScratchMariaDB()), aws)
        sandbox.put(strategy)
        return sandbox
    with server.connect() as admin:
        admin.execute(ROLES.encode())
        admin.execute(b"REASSIGN OWNED BY app TO app_owner; DROP OWNED BY app")
    sandbox = Sandbox(server=server, aws=aws, dbname="postgres")
    given = dict(_SECRETS[strategy])
    if given.get("masterarn"):
        given["masterarn"] = sandbox.master()
    sandbox.secret(**given)
    if strategy == "new-user":
        sandbox.tag(group="app_owner")
    return sandbox


def _verify(report: ChaosReport, folder: Path, url: str | None, password: Secret) -> None:
    if url is None:
        lines = [*(folder / "log").open(), *(folder / "sweep.log").open()]
        found, _ = verify_log(lines)
    else:
        journal = SqlJournal(
            url, clock=ManualClock(), actor="chaos", password=password, check=False
        )
        found = audit.verify(journal)
        journal.close()
    report.events = found.events
    report.damage = [f"{one.where}: {one.what}" for one in found.damage]


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rotations", type=int, default=20)
    parser.add_argument("--kills", type=int, default=210, help="in all, shared by the strategies")
    parser.add_argument("--journal", choices=("log", "postgresql"), default="log")
    parser.add_argument("--engine", choices=("postgres", "mariadb"), default="postgres")
    parser.add_argument("--seed", type=int, default=None)
    given = parser.parse_args()
    logs.set_up(level="off")
    seed = given.seed if given.seed is not None else random.randrange(2**32)
    begun = time.monotonic()
    strategies = MariaWorld.KINDS if given.engine == "mariadb" else _SECRETS
    reports = [
        run(
            strategy,
            given.journal,
            engine=given.engine,
            rotations=given.rotations,
            kills=-(-given.kills // len(strategies)),
            seed=seed,
        )
        for strategy in strategies
    ]
    found = [{"ok": one.ok, **asdict(one)} for one in reports]
    print(
        json.dumps(
            {"seed": seed, "seconds": round(time.monotonic() - begun), "runs": found}, indent=2
        )
    )
    sys.exit(not all(one.ok for one in reports))


if __name__ == "__main__":
    end_in_order()
    main()
