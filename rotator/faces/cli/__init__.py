"""The command line. `main` is the console script; nothing heavy is imported before it must be."""

from __future__ import annotations

import gc
import sys
from typing import Final

from rotator import __version__

# How many objects are allocated until unused ones are searched: by a command, and by a service, which lives on.
COMMAND_THRESHOLD: Final = 500_000
SERVICE_THRESHOLD: Final = 20_000


def main() -> None:
    """Run the command line and leave with its exit code."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        # Before everything else: it has to come in a tenth of a second.
        sys.stdout.write(f"rotator {__version__}\n")
        return
    # Imports and a configuration allocate much and free nothing: the default threshold has them
    # searched a hundred times.
    gc.set_threshold(COMMAND_THRESHOLD)
    from rotator.faces.cli.program import run  # noqa: PLC0415 # 100 ms that --version need not pay

    run(sys.argv[1:])
