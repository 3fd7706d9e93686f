"""`make profile`: where the processor time of one rotation goes.

Rotations of PostgreSQL logins with the embedded backend, with both journals and without any: processor time
of this process a rotation, what of it each part takes, and how often the journal is asked. Prints the
tables of docs/explanation/scale.md.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import rotator
from rotator import logs
from rotator.backends.encryption import Keys, new_key
from rotator.backends.local import LocalBackend
from rotator.core.secret import Secret
from rotator.journal.sql import SqlJournal
from rotator.testing.postgres import ScratchPostgres
from tests.load.bench import CLOCK, Place, bare, engine_over, rate
from tests.load.programs import end_in_order, scratch_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotator.engine import ManagedSecret

# What each part is, by the functions through which it is entered: file, then names.
_PARTS: Final = {
    "calls to target and backend": ("engine/error_origin.py", ("tag_errors",)),
    "journal: appends": ("journal/sql.py", ("append",)),
    "journal: lease": ("journal/sql.py", ("acquire", "release")),
    "journal: reads": (
        "journal/sql.py",
        ("secret", "rotation", "rotations", "history", "open_rotation"),
    ),
    "decisions": ("core/state_machine.py", ("progress",)),
}
_ASKED: Final = {
    "statements": ("journal/statements.py", ("execute", "all")),
    "transactions": ("journal/sql.py", ("append", "acquire", "release")),
    "durable commits": ("journal/sql.py", ("append",)),
}
_PACKAGE: Final = Path(rotator.__file__).parent


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rotations", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    logs.set_up(level="warning", human=False)
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder("rotator-profile-"))
        server = stack.enter_context(ScratchPostgres())
        with server.connect() as admin:
            admin.execute("CREATE ROLE app NOLOGIN")
            admin.execute("CREATE DATABASE audit")
        runs = _runs(stack, folder, server)
        for do, place in runs.values():
            _ = rate(do, place.secrets, 8, 2)
        _print_processor_time(runs, given.rotations, given.repeats)
        _print_parts({name: _profiled(*runs[name], given.rotations) for name in list(runs)[1:]})


def _runs(
    stack: ExitStack, folder: Path, server: ScratchPostgres
) -> dict[str, tuple[Callable[[ManagedSecret], None], Place]]:
    """Return what rotates once, and over which secrets, by the journal's name."""
    password = Secret(server.superuser_password)
    urls = {
        "SQLite journal": f"sqlite:///{folder}/journal.db",
        "PostgreSQL journal": f"postgresql://postgres@{server.host}:{server.port}/audit",
    }
    runs: dict[str, tuple[Callable[[ManagedSecret], None], Place]] = {}
    for name in ("no engine", *urls):
        backend = LocalBackend(name, folder / f"{len(runs)}.db", Keys([new_key()]))
        place = Place(name, backend, server, 8)
        stack.callback(place.close)
        if name not in urls:
            runs[name] = (bare, place)
            continue
        is_server = urls[name].startswith("postgresql")
        journal = SqlJournal(
            urls[name],
            clock=CLOCK,
            actor="profile",
            password=password if is_server else None,
            upgrade=True,
        )
        stack.callback(journal.close)
        runs[name] = (engine_over(journal), place)
    return runs


def _print_processor_time(runs: dict[str, Any], rotations: int, repeats: int) -> None:
    """Print milliseconds of processor time a rotation; each ratio is of two runs one after the other."""
    print("| processor time of a rotation | 1 thread | 8 threads |\n| --- | --- | --- |")
    spent: dict[str, dict[int, list[float]]] = {name: {1: [], 8: []} for name in runs}
    for threads in (1, 8):
        for turn in range(repeats):
            _tell(f"{threads} thread(s), {turn + 1} of {repeats}")
            for name, (do, place) in runs.items():
                rounds = max(1, rotations // threads)
                begun = time.process_time()
                _ = rate(do, place.secrets, threads, rounds)
                spent[name][threads].append((time.process_time() - begun) / rounds / threads)
    for name, of in spent.items():
        cells = [f"{1000 * statistics.median(of[threads]):.1f} ms" for threads in (1, 8)]
        if name != "no engine":
            for position, threads in enumerate((1, 8)):
                pairs = zip(spent["no engine"][threads], of[threads], strict=True)
                ratios = sorted(base / one for base, one in pairs)
                cells[position] += f", bare ÷ it {ratios[0]:.2f} to {ratios[-1]:.2f}"
        print(f"| {name} | {' | '.join(cells)} |")
    print()


def _profiled(
    do: Callable[[ManagedSecret], None], place: Place, rotations: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the share of each part, and how often the journal is asked in a rotation."""
    _tell("profile")
    profile = cProfile.Profile(time.thread_time)
    for _ in range(rotations):
        profile.runcall(do, place.secrets[0])
    stats: dict[tuple[str, int, str], tuple[int, int, float, float, Any]] = pstats.Stats(
        profile
    ).stats  # pyright: ignore[reportAttributeAccessIssue] # of pstats, without a type
    whole = max(cumulative for _, _, _, cumulative, _ in stats.values())

    def found(file: str, names: tuple[str, ...]) -> list[tuple[int, float]]:
        path = str(_PACKAGE / file)
        return [
            (calls, cumulative)
            for (where, _, name), (_, calls, _, cumulative, _) in stats.items()
            if where == path and name in names
        ]

    shares = {
        part: sum(cumulative for _, cumulative in found(*of)) / whole for part, of in _PARTS.items()
    }
    shares["the rest"] = 1 - sum(shares.values())
    asked = {what: sum(calls for calls, _ in found(*of)) / rotations for what, of in _ASKED.items()}
    return shares, asked


def _print_parts(profiles: dict[str, tuple[dict[str, float], dict[str, float]]]) -> None:
    print(f"| share of a rotation, 1 thread | {' | '.join(profiles)} |\n| --- | --- | --- |")
    first, _ = next(iter(profiles.values()))
    for part in first:
        cells = [f"{100 * shares[part]:.0f} %" for shares, _ in profiles.values()]
        print(f"| {part} | {' | '.join(cells)} |")
    for what in _ASKED:
        cells = [f"{asked[what]:.0f}" for _, asked in profiles.values()]
        print(f"| {what} of the journal | {' | '.join(cells)} |")


def _tell(what: str) -> None:
    sys.stderr.write(f"profile: {what}\n")


if __name__ == "__main__":
    end_in_order()
    main()
