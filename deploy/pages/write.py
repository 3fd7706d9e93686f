"""Which page gets which generated part, and whether it is fresh.

A page holds a generated part between `<!-- generated: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from deploy.pages import cli, errors, python_api, state_machine
from rotator.config import schema, tables

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs"
_PART: Final = re.compile(r"(<!-- generated: (\S+) -->\n).*?(?=<!-- end -->)", re.DOTALL)
_PARTS: Final[dict[str, Callable[[], str]]] = {
    "commands": cli.commands,
    "errors": errors.table,
    "python-api": python_api.listing,
    "state-machine-failures": state_machine.failures,
    "state-machine-rollback": state_machine.rollbacks,
    "state-machine-delegated": state_machine.delegated_failures,
}


@dataclass(frozen=True, slots=True)
class Page:
    """A file under docs/ and the text that it must have."""

    file: Path
    text: str

    @property
    def fresh(self) -> bool:
        """Whether the file has that text already."""
        return self.file.exists() and self.file.read_text("utf-8") == self.text

    def write(self) -> Path:
        """Write the text; return the file's path in the repository."""
        self.file.write_text(self.text, "utf-8")
        return self.file.relative_to(ROOT)


def pages() -> list[Page]:
    """Return every page that has a generated part, as it must be."""
    found = [
        Page(file, filled(text))
        for file in sorted(DOCS.rglob("*.md"))
        if "<!-- generated: " in (text := file.read_text("utf-8"))
    ]
    reference = DOCS / "reference"
    configuration = reference / "configuration.md"
    return [
        *found,
        Page(configuration, tables.fill(configuration.read_text("utf-8"))),
        Page(reference / "rotator.schema.json", schema.text()),
        Page(DOCS / "explanation" / "state-machine.svg", state_machine.picture()),
    ]


def stale() -> list[Page]:
    """Return the pages that differ from what the code says."""
    return [page for page in pages() if not page.fresh]


def filled(text: str) -> str:
    """Return a page's text with its generated parts made again."""
    return _PART.sub(lambda part: f"{part[1]}\n{_PARTS[part[2]]().strip()}\n\n", text)
