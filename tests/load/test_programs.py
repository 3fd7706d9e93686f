"""Load programs that are killed leave no process and no file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATIENCE = 60.0
_STEP = 0.05
_PROGRAM = [sys.executable, "-m", "tests.load.chaos", "--kills", "1000"]
_MAKE = "import subprocess, sys; subprocess.run(sys.argv[1:])"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A place for all that the program makes, with a path that is short enough for PostgreSQL's socket."""
    with tempfile.TemporaryDirectory(prefix="programs-", dir="/tmp") as name:
        # PostgreSQL runs as a user of its own where root runs the tests.
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.fixture
def program(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program with a PostgreSQL and a process that rotates, as make starts it."""
    with subprocess.Popen(
        # What `make` is to the program: a parent that only waits.
        [sys.executable, "-c", _MAKE, *_PROGRAM],
        env=os.environ | {"TMPDIR": str(folder), "MAKELEVEL": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as make:
        yield make
        make.kill()


@pytest.mark.parametrize(
    ("sign", "victim"),
    [(signal.SIGTERM, "program"), (signal.SIGKILL, "program"), (signal.SIGKILL, "its parent")],
    ids=["terminated", "killed", "killed parent"],
)
def test_a_load_program_that_a_signal_ends_leaves_nothing(
    sign: signal.Signals, victim: str, folder: Path, program: subprocess.Popen[bytes]
):
    """Neither a server, nor a process that rotates, nor a folder."""
    _wait_until(lambda: any(b"--worker" in words for words in _processes(folder)))
    assert any(Path(os.fsdecode(words[0])).name == "postgres" for words in _processes(folder))
    os.kill(_child(program.pid) if victim == "program" else program.pid, sign)
    _wait_until(lambda: not [*_processes(folder)] and not [*folder.iterdir()])


def test_a_load_program_that_the_shell_keeps_outlives_its_parent(tmp_path: Path):
    """`python -m tests.load... &` goes on after its shell has ended."""
    mark = tmp_path / "ended"
    work = (
        "from tests.load.programs import end_in_order; end_in_order(); import pathlib, time;"
        f"time.sleep(1); pathlib.Path({str(mark)!r}).touch()"
    )
    environ = {name: value for name, value in os.environ.items() if name != "MAKELEVEL"}
    shell = ["sh", "-c", '"$@" & sleep 0.3', "sh", sys.executable, "-c", work]
    subprocess.run(shell, env=environ, check=True)
    assert not mark.exists()
    _wait_until(mark.exists)


def _child(pid: int) -> int:
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return int(child)


def _processes(folder: Path) -> Iterator[list[bytes]]:
    """Return the command lines that name the folder."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = file.read_bytes().split(b"\0")
            if any(os.fsencode(folder) in word for word in words):
                yield words


def _wait_until(condition) -> None:
    end = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(_STEP)
