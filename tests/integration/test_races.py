"""Two processes at once, and a process killed at random: on both kinds of journal."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from rotator.bootstrap import open_app
from rotator.core.model import Kind
from rotator.testing.postgres import ScratchPostgres
from tests.load import chaos
from tests.load.chaos_targets import PostgresChaosTarget
from tests.servers import mariadb

# Waits for a line on standard input, so that both begin at the same moment.
_RACER = """
import sys
from rotator.faces.cli import main
print("ready", flush=True)
for line in sys.stdin:
    sys.argv = ["rotator", "-c", sys.argv[-1], "--log-level", "off", "rotate", "fresh", "--json"]
    try:
        main()
    except SystemExit as left:
        print("exit", left.code, flush=True)
    sys.argv.append(sys.argv[2])
"""


@pytest.mark.parametrize("times", [16, pytest.param(50, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_of_two_processes_that_rotate_one_secret_at_once_only_one_works(
    tmp_path: Path, kind: str, times: int
):
    """Never two are at work, and the one that is not answers with exit code 4."""
    with ExitStack() as stack:
        server = stack.enter_context(ScratchPostgres())
        chaos_target = stack.enter_context(PostgresChaosTarget(server))
        journal = server if kind == "postgresql" else None
        config = chaos.configure(tmp_path, chaos_target, journal=journal)
        racers = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", _RACER, str(config)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                )
            )
            for _ in range(2)
        ]
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        codes: list[tuple[int, ...]] = []
        for _ in range(times):
            for racer in racers:
                assert racer.stdin is not None
                racer.stdin.write("go\n")
                racer.stdin.flush()
            codes.append(tuple(sorted(_answer(racer) for racer in racers)))
        for racer in racers:
            racer.kill()
        assert set(codes) <= {(0, 4), (0, 0)}, codes
        assert codes.count((0, 4)) >= times // 2, codes
        app = stack.enter_context(open_app(config))
        # One engine at work at a time: between two `requested` there is always an `ended`.
        turns = [
            event.kind
            for event in app.journal.events("fresh")
            if event.kind in (Kind.REQUESTED, Kind.ENDED)
        ]
        assert turns[::2] == [Kind.REQUESTED] * len(turns[::2])
        assert turns[1::2] == [Kind.ENDED] * len(turns[1::2])
        assert app.verify_journal().ok


def _answer(racer: subprocess.Popen[str]) -> int:
    assert racer.stdout is not None
    text = ""
    while not (line := racer.stdout.readline()).startswith("exit"):
        assert line, text
        text += line
    answer = json.loads(text)
    code = int(line.split()[1])
    if code == 4:
        assert answer["errors"][0]["kind"] in {"busy", "not-due", "lock-lost"}
    return code


@pytest.mark.parametrize(
    ("plugin", "journal", "backend"),
    [
        pytest.param("postgresql", "sqlite", "local", marks=pytest.mark.slow),
        ("postgresql", "postgresql", "local"),
        ("postgresql", "sqlite", "openbao"),
        pytest.param("postgresql", "sqlite", "aws", marks=pytest.mark.slow),
        ("mysql", "sqlite", "local"),
        ("valkey", "sqlite", "local"),
    ],
)
def test_a_process_killed_at_random_loses_nothing(plugin: str, journal: str, backend: str):
    """The short form of `make chaos`; the OpenBao is killed in the middle too."""
    if plugin == "mysql" and not mariadb.is_installed():
        pytest.skip(f"no MariaDB server: apt-get install {mariadb.PACKAGES}")
    report = chaos.run(
        3,
        seed=7,
        plugin=plugin,
        postgresql_journal=journal == "postgresql",
        backend=backend,
    )
    assert report.ok, report
