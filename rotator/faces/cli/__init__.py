"""The command line. `main` is the console script; nothing heavy is imported before it must be."""

from __future__ import annotations

import gc
import sys

from rotator import __version__


def main() -> None:
    """Run the command line and leave with its exit code."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        # Before everything else: it has to come in a tenth of a second.
        sys.stdout.write(f"rotator {__version__}\n")
        return
    # Imports allocate much and free nothing: the default threshold has them searched a hundred times.
    gc.set_threshold(20_000)
    from rotator.faces.cli.program import run  # noqa: PLC0415 # 100 ms that --version need not pay

    run(sys.argv[1:])
