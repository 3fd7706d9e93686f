"""Consoles, tables and text formats for the terminal."""

from __future__ import annotations

import os
import sys
from itertools import zip_longest
from typing import IO, TYPE_CHECKING, Final, cast

from rich.cells import cell_len
from rich.console import Console
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from rotator.core.printable import printable
from rotator.core.secret import scrub

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import ConsoleOptions, RenderableType

GOOD: Final = "green"
BAD: Final = "bold red"
WARN: Final = "yellow"
QUIET: Final = "dim"
# Piped text is for grep, so a row stays on its line.
_PIPED_WIDTH: Final = 10_000


class _Scrubbed:
    """A stream that masks every secret in memory: the second line of defence on the screen."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream: IO[str] = stream

    def write(self, text: str) -> int:
        """Write the text with its secrets masked."""
        return self._stream.write(scrub(text))

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


class _Console(Console):
    """A console that prints no control characters of others, and stops when its reader is gone.

    Names, reasons and errors come from databases, backends and journals that others may write to.
    """

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Return the segments with printable characters only."""
        for segment in super().render(renderable, options):
            # Control segments come from rich and hold no text of others.
            text = printable(segment.text, lines=True)
            yield segment if segment.control else segment._replace(text=text)

    def on_broken_pipe(self) -> None:
        """Continue without a reader (`| head`): the rotation must not stop."""
        self.quiet = True
        silence(self.file)


class Screen:
    """Standard output for answers, standard error for everything else."""

    def __init__(self, *, color: bool | None = None) -> None:
        """`color` False: never; None: on a terminal, unless NO_COLOR is set."""
        self.out: Console = _console(color=color, stderr=False)
        self.err: Console = _console(color=color, stderr=True)

    @property
    def live(self) -> bool:
        """Whether the answer goes to a terminal that can be drawn on."""
        return self.out.is_terminal and not self.out.is_dumb_terminal

    def sign(self, name: str) -> Text:
        """Return the sign in front of a line: good, bad, warn or wait."""
        fancy = (self.out.encoding or "").lower().startswith("utf")
        signs = {
            "good": ("✓", "ok", GOOD),
            "bad": ("✗", "FAILED", BAD),
            "warn": ("!", "!", WARN),
            "wait": ("…", "...", WARN),
        }
        pretty, plain, style = signs[name]
        return Text(pretty if fancy else plain, style=style)


class _PipedTable:
    """A table that is not drawn on a terminal: aligned columns, without styles, in milliseconds for 10,000 rows."""

    def __init__(self, columns: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> None:
        texts = [
            tuple(one.plain if isinstance(one, Text) else cell(one) for one in row) for row in rows
        ]
        self._rows: list[tuple[str, ...]] = [tuple(columns), *texts]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[Segment]:
        """Yield a line for each row; what has several lines continues below itself."""
        lines = [line for row in self._rows for line in _lines_of(row)]
        widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            padded = (
                f"{text}{' ' * (width - cell_len(text))}"
                for text, width in zip(line, widths, strict=True)
            )
            yield Segment("  ".join(padded).rstrip())
            yield Segment.line()


def _lines_of(row: tuple[str, ...]) -> Iterable[tuple[str, ...]]:
    if not any("\n" in text for text in row):
        return [row]
    return zip_longest(*(text.split("\n") for text in row), fillvalue="")


def table(
    screen: Screen, columns: Sequence[str], rows: Iterable[Sequence[str | Text]]
) -> RenderableType:
    """Return a table: folded to the width of a terminal, one line per row when piped."""
    if not screen.out.is_terminal:
        return _PipedTable(columns, rows)
    grid = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        grid.add_column(Text(column), overflow="fold")
    for row in rows:
        grid.add_row(*(value if isinstance(value, Text) else Text(cell(value)) for value in row))
    return grid


def cell(text: str) -> str:
    """Return text for a table: without secrets, and escaped before its width is measured."""
    return printable(scrub(text), lines=True)


def line(sign: Text, name: str, text: str) -> Text:
    """Return `sign name: text`."""
    return Text.assemble(sign, " ", (f"{printable(name)}: ", "bold"), further(text))


def further(text: str) -> str:
    """Return a text without secrets whose second and later lines are indented.

    This way no line of it looks like a line of rotator.
    """
    return scrub(text).replace("\n", "\n    ")


class _Indented:
    """A renderable moved to the right; unlike rich's `Padding`, nothing follows its lines."""

    def __init__(self, what: RenderableType, by: int) -> None:
        self._what: RenderableType = what
        self._by: int = by

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[Segment]:
        """Yield the lines of the renderable, each after its margin."""
        inner = options.update_width(max(1, options.max_width - self._by))
        for one in console.render_lines(self._what, inner, pad=False):
            yield Segment(" " * self._by)
            yield from one
            yield Segment.line()


def indented(what: RenderableType, by: int = 2) -> RenderableType:
    """Return the renderable moved to the right."""
    return _Indented(what, by)


def silence(stream: IO[str]) -> None:
    """Discard further output to `stream`."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, stream.fileno())
    except (OSError, ValueError):
        # Not a real file, so no buffer is flushed at exit.
        return
    finally:
        os.close(nowhere)


def _console(*, color: bool | None, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    piped = not stream.isatty() and "FORCE_COLOR" not in os.environ
    return _Console(
        file=cast("IO[str]", _Scrubbed(stream)),
        no_color=True if color is False or "NO_COLOR" in os.environ else None,
        width=_PIPED_WIDTH if piped else None,
        markup=False,
        highlight=False,
        emoji=False,
        soft_wrap=piped,
    )
