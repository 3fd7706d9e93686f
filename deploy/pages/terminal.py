"""Draws what `rotator demo` shows: `make picture` writes docs/demo.svg from a real run."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

from rotator import logs
from rotator.demo.page import page
from rotator.demo.play import play

FILE: Final = Path(__file__).parents[2] / "docs" / "demo.svg"
_FONT: Final = re.compile(r"\s*@font-face \{.*?\}\n", re.DOTALL)


def drawn(console: Console) -> str:
    """Return what a recording console has printed as SVG, which loads no font from elsewhere."""
    svg = console.export_svg(title="rotator demo", unique_id="demo")
    return _FONT.sub("\n", svg).replace("Fira Code, monospace", "monospace")


def main() -> int:
    """Run the demo and draw its last page."""
    logs.set_up(level="off")
    console = Console(record=True, width=80, file=io.StringIO(), force_terminal=True)
    report = play(lambda _scene: None)
    console.print(Text("$ rotator demo", style="bold"))
    console.print(page(report))
    if not report.ok:
        sys.stderr.write(console.export_text())
        return 1
    FILE.write_text(drawn(console), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
