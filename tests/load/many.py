"""From nothing to many managed logins of one server: commands, seconds, lines of YAML (`make many`).

Each count has a folder and logins of its own. The commands are those that an operator would type, each
a process; the last one rotates every login for the first time.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from psycopg import sql

from rotator.testing.postgres import ScratchPostgres
from tests.load.programs import end_in_order, scratch_folder

_COUNTS: Final = (1, 10, 200)
_PASSWORD: Final = "of-the-login-{}"
_ADMIN: Final = "of-the-admin"
_DEFAULTS: Final = (
    'defaults: {target: main, backend: local, strategy: new-user, options: {group: "{name}"}}\n'
)


@dataclass(slots=True, kw_only=True)
class Measured:
    """What it took. `lines`: of the target and the secrets, by the kind of writing."""

    count: int
    commands: list[tuple[str, float]] = field(default_factory=list[tuple[str, float]])
    lines: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def seconds(self) -> float:
        """All commands together."""
        return sum(seconds for _, seconds in self.commands)


def main() -> int:
    """Measure each count and print a table."""
    reader = argparse.ArgumentParser(description=__doc__)
    reader.add_argument("--counts", type=int, nargs="+", default=list(_COUNTS))
    counts: list[int] = reader.parse_args().counts
    with ScratchPostgres() as server, scratch_folder("rotator-many-") as scratch:
        with server.connect() as db:
            db.execute(
                sql.SQL("CREATE ROLE rotator_admin LOGIN CREATEROLE PASSWORD {}").format(
                    sql.Literal(_ADMIN)
                )
            )
        found = [_measure(server, scratch / str(count), count) for count in counts]
    print("\nlogins  commands  seconds  lines: by `add`  by `defaults` and a list")
    for one in found:
        print(
            f"{one.count:6}  {len(one.commands):8}  {one.seconds:7.1f}  {one.lines['add']:15}"
            f"  {one.lines['defaults']:24}"
        )
    return 0


def _measure(server: ScratchPostgres, folder: Path, count: int) -> Measured:
    folder.mkdir()
    names = [f"app{count}_{number}" for number in range(count)]
    with server.connect() as db:
        for name in names:
            login, password = sql.Identifier(name), sql.Literal(_PASSWORD.format(name))
            db.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(login, password))
            db.execute(sql.SQL("GRANT {} TO rotator_admin WITH ADMIN OPTION").format(login))
    rows = [f"{name},{name},{_PASSWORD.format(name)}" for name in names]
    table = folder / "logins.csv"
    table.touch(mode=0o600)
    table.write_text("\n".join(["name,username,password", *rows, ""]))
    url = f"postgresql://rotator_admin@{server.host}:{server.port}/postgres"
    measured = Measured(count=count)
    config = folder / "rotator.yaml"

    def run(*arguments: str) -> None:
        begun = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "rotator", *arguments],
            cwd=folder,
            env={**os.environ, "ADMIN": _ADMIN},
            capture_output=True,
            text=True,
            check=False,
        )
        spent = time.monotonic() - begun
        measured.commands.append((arguments[0], spent))
        print(f"{count:4} {arguments[0]:8} {spent:6.1f} s  exit code {done.returncode}", flush=True)
        if done.returncode:
            raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])

    run("init", "--target", url, "--password-from", "env:ADMIN")
    before = _lines(config)
    run("add", *names)
    measured.lines["add"] = 1 + _lines(config) - before
    run("adopt", "--from", table.name)
    run("rotate", "--all", "--reason", "first rotation")
    listed = f"secrets: [{', '.join(names)}]\n"
    measured.lines["defaults"] = 1 + (_DEFAULTS + listed).count("\n")
    return measured


def _lines(config: Path) -> int:
    """Return how many lines say something."""
    written = [line.strip() for line in config.read_text().splitlines()]
    return sum(bool(line) and not line.startswith("#") for line in written)


if __name__ == "__main__":
    end_in_order()
    sys.exit(main())
