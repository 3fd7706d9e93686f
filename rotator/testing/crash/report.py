"""What an exploration found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

_MOST_TOLD: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One promise that was broken, and the deaths or failures that led there."""

    scenario: str
    place: str
    what: str

    def __str__(self) -> str:
        return f"{self.scenario}, {self.place}: {self.what}"


@dataclass(slots=True, kw_only=True)
class Report:
    """What an exploration found.

    `points`: places in the undisturbed run, `inner` of them around single effects inside a call;
    `runs`: sandboxes tried.
    """

    scenario: str
    points: int = 0
    inner: int = 0
    runs: int = 0
    violations: list[Violation] = field(default_factory=list[Violation])

    def __str__(self) -> str:
        head = f"{self.scenario}: {self.points} points, {self.runs} runs, {len(self.violations)} violations"
        return "\n  ".join([head, *map(str, self.violations[:_MOST_TOLD])])
