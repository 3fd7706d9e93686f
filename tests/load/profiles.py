"""Logins drawn at random, rotated by every strategy, compared by an independent oracle: make profiles.

    make profiles ENGINE=postgresql COUNT=2000

Each engine's module offers `servers()`, a context with every server that is to be had here by its
version, and `try_one(server, seed)`, which returns the differences that it saw.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from typing import Final

from tests.load.programs import end_in_order

ENGINES: Final = {
    "mysql": "tests.mysql.profiles",
    "postgresql": "tests.postgresql.profiles",
    "valkey": "tests.valkey.profiles",
}
_SHOWN: Final = 20


def main(arguments: list[str] | None = None) -> int:
    """Return 0 where no login differed in anything but its name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=sorted(ENGINES), default="postgresql")
    parser.add_argument("--count", type=int, default=2000, help="profiles per server version")
    parser.add_argument("--seed", type=int, default=1, help="the first profile")
    parser.add_argument("--version", default="", help="only servers whose version starts so")
    given = parser.parse_args(arguments)
    engine = importlib.import_module(ENGINES[given.engine])
    failed = 0
    with engine.servers() as servers:
        chosen = {one: servers[one] for one in servers if one.startswith(given.version)}
        if not chosen:
            parser.error(
                f"no server {given.version!r} is to be had here, only: {', '.join(servers)}."
            )
        for version, server in chosen.items():
            begun, bad = time.monotonic(), 0
            for number in range(given.count):
                seed = given.seed + number
                differences = engine.try_one(server, seed)
                bad += bool(differences)
                for one in differences[:_SHOWN]:
                    print(f"{given.engine} {version} profile {seed}: {one}", flush=True)
                if (number + 1) % 50 == 0:
                    print(f"  {version}: {number + 1} profiles, {bad} differ", flush=True)
            seconds = time.monotonic() - begun
            print(
                f"{given.engine} {version}: {given.count} profiles, {bad} differ, {seconds:.0f} s"
            )
            failed += bad
    return 1 if failed else 0


if __name__ == "__main__":
    end_in_order()
    sys.exit(main())
