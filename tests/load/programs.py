"""How load programs start and end: nothing of theirs is left, also where a signal ends them."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rotator.testing.guard import Guard

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

_PR_SET_PDEATHSIG: Final = 1


def end_in_order() -> None:
    """Let SIGTERM unwind the program, so that its `with` blocks clean up; so does the death of make.

    Where make did not start it, the program outlives its parent: a shell may have put it in the background.
    """
    _ = signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    if "MAKELEVEL" in os.environ:
        end_with_parent(signal.SIGTERM)


def end_with_parent(sign: signal.Signals) -> None:
    """Let the kernel send this process a signal when its parent dies, on Linux (prctl(2))."""
    with suppress(OSError, AttributeError):
        _ = ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(sign))


@contextmanager
def scratch_folder(prefix: str) -> Generator[Path]:
    """Yield a temporary folder that is removed also where the program is killed."""
    with tempfile.TemporaryDirectory(prefix=prefix) as name:
        guard = Guard(Path(name))
        try:
            yield Path(name)
        finally:
            guard.release()


@contextmanager
def child(command: Sequence[str], folder: Path, **given: Any) -> Generator[subprocess.Popen[bytes]]:
    """Yield a process that ends with the block, and where this program is killed, with `folder`."""
    process = subprocess.Popen(command, **given)
    guard = Guard(folder)
    guard.watch(process.pid)
    try:
        yield process
    finally:
        process.kill()
        _ = process.wait()
        guard.release()
        if process.stdout is not None:
            process.stdout.close()
