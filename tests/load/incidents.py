"""Many passwords leak at once: `make incidents`.

100 secrets on four real servers, each with an open session, are contained by one command in mode `kill`. Then
passwords are replaced in mode `move` under applications that use a connection pool of the client library.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack, closing
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from rotator.bootstrap import App, initialise, open_app
from rotator.client import Credential
from rotator.demo.client import Client
from rotator.demo.library import BackendSource, PooledLine, pool_of
from rotator.testing.postgres import ScratchPostgres
from tests.load.chaos import serves
from tests.load.chaos_targets import MariaChaosTarget, PostgresChaosTarget, ValkeyChaosTarget
from tests.load.programs import end_in_order, scratch_folder

if TYPE_CHECKING:
    from pathlib import Path

    from rotator.api import Credential as StoredCredential
    from rotator.demo.client import Line
    from tests.load.chaos_targets import ChaosTarget

_HEAD: Final = """\
version: 1
journal: {url: "sqlite:///journal.db", signing_key: "local:rotator/audit#private_key"}
backends:
  local: {type: local, path: secrets.db, key: "file:rotator.key"}
policies:
  default: {grace: 1h}
consumers:
  pool: {gate: hold}
"""
# Seconds for the whole command; those of each secret count from its report, also while others go first.
_LIMIT: Final = 60.0
_POOLS: Final = 3
_QUERY: Final = "SELECT count(*) FROM orders"


def main(arguments: list[str] | None = None) -> int:
    """Return 0 where every leaked password is dead in time, and no application met an error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--secrets", type=int, default=100, help="in all")
    parser.add_argument("--moves", type=int, default=10, help="in mode move, for each application")
    parser.add_argument("--parallel", type=int, default=8)
    given = parser.parse_args(arguments)
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder("rotator-incidents-"))
        servers = [stack.enter_context(ScratchPostgres()) for _ in range(2)]
        targets: list[ChaosTarget] = [PostgresChaosTarget(server) for server in servers]
        targets += [MariaChaosTarget(), ValkeyChaosTarget()]
        for target in targets:
            _ = stack.enter_context(target)
        config, names = _configure(folder, targets, given.secrets)
        app = stack.enter_context(open_app(config, face="load"))
        ok = _kill(app, config, names, given.parallel)
        ok &= _move(app, config, servers[0], given.moves)
    return 0 if ok else 1


def _configure(
    folder: Path, targets: list[ChaosTarget], count: int
) -> tuple[Path, dict[str, ChaosTarget]]:
    """Write a configuration; return it, and the target of each secret."""
    lines, secrets = ["targets:"], ["secrets:"]
    names: dict[str, ChaosTarget] = {}
    for number, target in enumerate(targets):
        file = folder / f"admin-{number}"
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT, 0o600), "w") as stream:
            _ = stream.write(target.password)
        lines.append(f"  t{number}: {target.target.replace('admin-password', file.name)}")
    for number in range(count):
        index = number % len(targets)
        fresh, like = number // len(targets) % 2, "like: model"
        group = isinstance(targets[index], PostgresChaosTarget)
        options = (
            f"group: app_owner, username: s{number}" if group else f"username: s{number}, {like}"
        )
        if fresh:
            options = "group: app_owner" if group else f"prefix: s{number}, {like}"
        strategy = "new-user" if fresh else "single-user"
        secrets.append(
            f"  s{number}: {{target: t{index}, backend: local, strategy: {strategy}, options: {{{options}}}}}"
        )
        names[f"s{number}"] = targets[index]
    secrets += [
        f"  pool{number}: {{target: t0, backend: local, strategy: new-user, options: {{group: app_owner}},"
        " consumers: [pool]}"
        for number in range(_POOLS)
    ]
    config = folder / "rotator.yaml"
    initialise(config, _HEAD + "\n".join([*lines, *secrets]) + "\n")
    _ = _rotator(config, "rotate", "--all", "--parallel", "8")
    return config, names


def _kill(app: App, config: Path, names: dict[str, ChaosTarget], parallel: int) -> bool:
    leaked = {name: serves(app, name) for name in names}
    sessions = {name: target.connect(leaked[name]) for name, target in names.items()}
    begun = time.monotonic()
    options = ("--mode", "kill", "--max", str(len(names)), "--parallel", str(parallel))
    data = _rotator(config, "incident", "open", *names, *options, "--reason", "load", "--json")
    seconds = time.monotonic() - begun
    results = data["results"]
    worst = {
        key: max((one["seconds"][key] or 9e9 for one in results), default=9e9)
        for key in ("rejected", "proven")
    }
    accepted = [name for name, target in names.items() if _logs_in(target, leaked[name])]
    alive = [name for name, line in sessions.items() if _works(line, names[name])]
    unserved = [name for name, target in names.items() if not _logs_in(target, serves(app, name))]
    proven = sum(one["proven"] for one in results)
    print(
        f"kill: {proven} of {len(names)} proven in {seconds:.1f} s; slowest rejected after"
        f" {worst['rejected']:.1f} s, proven after {worst['proven']:.1f} s; {len(accepted)} leaked ones"
        f" accepted, {len(alive)} sessions of before alive, {len(unserved)} served ones rejected",
        flush=True,
    )
    return proven == len(names) and not (accepted or alive or unserved) and seconds <= _LIMIT


def _move(app: App, config: Path, server: ScratchPostgres, moves: int) -> bool:
    clients: list[Client] = []
    proven, longest = 0, 0.0
    with ExitStack() as stack:
        for number in range(_POOLS):
            name = f"pool{number}"
            credential = Credential(BackendSource(partial(_current, app, name)))
            _ = stack.enter_context(closing(credential))
            pool = stack.enter_context(pool_of(credential, server, "pool"))
            connect = partial(PooledLine, pool, _QUERY)
            client = Client(name, connect, partial(serves, app, name), Exception)
            clients.append(stack.enter_context(client))
        time.sleep(1)
        for number in range(moves):
            names = [f"pool{pool}" for pool in range(_POOLS)]
            version = [app.journal.secret(name) for name in names]
            for name, record in zip(names, version, strict=True):
                assert record is not None
                options = ("--version", str(record.version), "--id", f"move-{number}")
                data = _rotator(
                    config, "incident", "open", name, *options, "--reason", "load", "--json"
                )
                (result,) = data["results"]
                proven += result["proven"]
                longest = max(longest, result["seconds"]["proven"] or 9e9)
    logins, failures = (
        sum(getattr(one.report, key) for one in clients) for key in ("logins", "failures")
    )
    print(
        f"move: {proven} of {moves * _POOLS} proven, slowest after {longest:.1f} s; {logins} queries of"
        f" {_POOLS} pools with the client library, {failures} errors",
        flush=True,
    )
    return proven == moves * _POOLS and failures == 0 and logins > 0


def _current(app: App, name: str) -> Any:
    return app.secret(name).backend.current(name)


def _logs_in(target: ChaosTarget, credential: StoredCredential) -> bool:
    try:
        target.connect(credential).close()
    except target.failure:
        return False
    return True


def _works(line: Line, target: ChaosTarget) -> bool:
    try:
        line.use()
    except (target.failure, OSError):
        return False
    return True


def _rotator(config: Path, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "rotator", "-c", str(config), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stdout[-3000:], done.stderr[-3000:], file=sys.stderr)
    return json.loads(done.stdout)["data"] if "--json" in arguments else {}


if __name__ == "__main__":
    end_in_order()
    sys.exit(main())
