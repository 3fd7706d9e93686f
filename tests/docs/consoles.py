"""The commands that pages show in their console blocks."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Final

DOCS: Final = Path(__file__).parents[2] / "docs"
_BETWEEN: Final = {"|", ">", ">>", "&&"}
_BLOCK: Final = re.compile(r"(?ms)^```console\n(.*?)^```$")


def commands(page: Path) -> list[list[str]]:
    """Return each command of a page's console blocks, in words; comments are left out."""
    lines: list[str] = []
    for block in _BLOCK.findall(page.read_text("utf-8")):
        text = re.sub(r"\\\n\s*", "", block)
        lines += [line[2:] for line in text.splitlines() if line.startswith("$ ")]
    return [shlex.split(line, comments=True) for line in lines]


def rotator_commands(page: Path) -> list[list[str]]:
    """Return the arguments of each call of rotator; pipes and redirections are left out."""
    return [
        part[1:] for words in commands(page) for part in _parts(words) if part[:1] == ["rotator"]
    ]


def _parts(words: list[str]) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    for word in words:
        if word in _BETWEEN:
            parts.append([])
        else:
            parts[-1].append(word)
    return parts
