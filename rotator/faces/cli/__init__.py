"""The command line. `main` is the console script; nothing heavy is imported before it must be."""

from __future__ import annotations

import sys

from rotator import __version__


def main() -> None:
    """Run the command line and leave with its exit code."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        # Before everything else: it has to come in a tenth of a second.
        sys.stdout.write(f"rotator {__version__}\n")
        return
    from rotator.faces.cli.program import run  # noqa: PLC0415 # 100 ms that --version need not pay

    run(sys.argv[1:])
