"""The progress of rotations: live on a terminal, one line for each step when piped."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from rich.live import Live
from rich.table import Table
from rich.text import Text

from rotator.core.model import Kind, Step
from rotator.core.state_machine import DELEGATED, FORWARD
from rotator.faces.cli.render.console import BAD, GOOD, QUIET, WARN

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from types import TracebackType

    from rotator.core.model import Event
    from rotator.faces.cli.render.console import Screen

_SHAPES: Final = {
    True: {"done": "●", "now": "◐", "failed": "✗", "waits": "◔", "ahead": "○"},
    False: {"done": "#", "now": ">", "failed": "x", "waits": "~", "ahead": "."},
}
_STYLES: Final = {"done": GOOD, "now": "bold", "failed": BAD, "waits": WARN, "ahead": QUIET}
_STATES: Final = {
    Kind.STARTED: "now",
    Kind.FINISHED: "done",
    Kind.FAILED: "failed",
    Kind.WAITING: "waits",
}
_SUFFIXES: Final = {
    Kind.STARTED: "",
    Kind.FINISHED: " done",
    Kind.FAILED: " failed",
    Kind.WAITING: " waits",
}
_FRAMES_A_SECOND: Final = 8


@dataclass(slots=True)
class _Line:
    """The progress of one secret."""

    begun: datetime
    latest: datetime
    text: str = ""
    steps: dict[Step, str] = field(default_factory=dict[Step, str])
    forward: tuple[Step, ...] = tuple(
        step for step in FORWARD if step not in (Step.PREPARE, Step.COPY)
    )


def _forward(requested: Event) -> tuple[Step, ...]:
    """Return the steps of a rotation that goes forward."""
    if requested.data.get("delegated"):
        return DELEGATED
    optional = {Step.PREPARE: "prepare", Step.COPY: "copies"}
    return tuple(
        step for step in FORWARD if step not in optional or requested.data.get(optional[step])
    )


class Progress:
    """Shows the engine's events. They hold no secret values.

    `total` is the number of secrets. `listen` receives each event afterwards.
    """

    def __init__(self, screen: Screen, *, quiet: bool = False) -> None:
        """`quiet`: show nothing."""
        self.total: int = 1
        self.listen: Callable[[Event], None] = lambda _event: None
        self._screen: Screen = screen
        self._quiet: bool = quiet
        self._ended: int = 0
        self._lines: dict[str, _Line] = {}
        self._begun: set[str] = set()
        self._guard: threading.Lock = threading.Lock()
        self._fancy: bool = (screen.out.encoding or "").lower().startswith("utf")
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self._screen.live and not self._quiet:
            self._live = Live(
                get_renderable=self._drawn,
                console=self._screen.out,
                transient=True,
                refresh_per_second=_FRAMES_A_SECOND,
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def observe(self, event: Event) -> None:
        """Show an event that the engine has written; called from its threads."""
        with self._guard:
            self._begun.add(event.secret)
            line = self._lines.setdefault(event.secret, _Line(begun=event.at, latest=event.at))
            line.latest = event.at
            if event.kind is Kind.REQUESTED:
                line.forward = _forward(event)
            if event.step is not None and event.kind in _STATES:
                line.steps[event.step] = _STATES[event.kind]
                line.text = f"{event.step.value}{_SUFFIXES[event.kind]}"
        if self._live is None and not self._quiet:
            self._print(event)
        self.listen(event)

    def begun(self, secret: str) -> bool:
        """Return whether this call wrote an event of the secret."""
        with self._guard:
            return secret in self._begun

    def over(self, secret: str) -> None:
        """Remove a secret, because its result is about to be printed."""
        with self._guard:
            self._ended += 1
            self._lines.pop(secret, None)

    def _print(self, event: Event) -> None:
        if event.step is None or event.kind is Kind.STARTED or event.kind not in _STATES:
            return
        seconds = event.data.get("seconds")
        took = f" in {seconds:.3f} s" if isinstance(seconds, float | int) else ""
        word = "waits" if event.kind is Kind.WAITING else event.kind.value
        self._screen.out.print(Text(f"{event.secret}: {event.step.value} {word}{took}"))

    def _drawn(self) -> Table:
        grid = Table.grid(padding=(0, 1))
        with self._guard:
            for name, line in self._lines.items():
                grid.add_row(Text(name, style="bold", overflow="ellipsis"), *self._row(line))
            if self.total > 1:
                grid.add_row(Text(f"{self._ended} of {self.total}", style=QUIET))
        return grid

    def _row(self, line: _Line) -> tuple[Text, Text, Text]:
        backward = [step for step in line.steps if step not in line.forward]
        marks = Text()
        for step in (*line.forward, *backward):
            state = line.steps.get(step, "ahead")
            marks.append(_SHAPES[self._fancy][state], style=_STYLES[state])
        spent = (line.latest - line.begun).total_seconds()
        return marks, Text(line.text), Text(f"{spent:.1f} s", style=QUIET)
