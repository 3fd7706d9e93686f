"""Pictures of the web console for the documentation: `make screenshots` takes them of a real run of the demo."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rotator import logs
from rotator.demo.console import Visit
from rotator.demo.play import play
from rotator.system import SystemEntropy

if TYPE_CHECKING:
    from rotator.demo.report import DemoReport

_ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = _ROOT / "docs" / "images"
_CHROMIUM: Final = Path(__file__).with_name("in_chromium.py")
_PYTHON: Final = _ROOT / ".venv" / ".browser" / "bin" / "python"


def main() -> int:
    """Run the demo, and take the pictures when it has ended."""
    logs.set_up(level="off")
    password = SystemEntropy().token(12).hex()
    signed_in: list[str] = []

    def take(_: DemoReport) -> None:
        FOLDER.mkdir(exist_ok=True)
        command = [_PYTHON, _CHROMIUM, FOLDER, *signed_in]
        # Not among the arguments, which every process can read.
        _ = subprocess.run(command, input=password, text=True, check=True)

    def opened(url: str, user: str) -> None:
        signed_in.extend((url, user))

    report = play(lambda _scene: None, Visit(password=password, opened=opened, ended=take))
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
