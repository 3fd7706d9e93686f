"""One call of a command: its options, its screen, and the one answer it gives."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rotator.core.errors import UsageError
from rotator.core.frames import forget_variables
from rotator.faces.cli import envelope, exits
from rotator.faces.cli.screen import BAD, QUIET, Screen, further, indented, silence

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import RenderableType

    from rotator.bootstrap import App
    from rotator.core.model import Event
    from rotator.engine import ManagedSecret

CONFIG_VARIABLE: Final = "ROTATOR_CONFIG"
DEFAULT_CONFIG: Final = "rotator.yaml"
# Commands that have `--due`.
_KNOWS_DUE: Final = ("plan", "rotate")


@dataclass(slots=True, kw_only=True)
class Shared:
    """The options that every command takes, before its name or after it."""

    config: Path | None = None
    as_json: bool = False
    verbose: int = 0
    log_level: str | None = None
    no_color: bool = False
    debug: bool = False

    def over(self, under: Shared) -> Shared:
        """Return these options, and `under` where these say nothing."""
        return Shared(
            config=self.config or under.config,
            as_json=self.as_json or under.as_json,
            verbose=max(self.verbose, under.verbose),
            log_level=self.log_level or under.log_level,
            no_color=self.no_color or under.no_color,
            debug=self.debug or under.debug,
        )


@dataclass(slots=True, kw_only=True)
class Run:
    """What a command works with. It collects `data` and errors; `finish` gives the answer once."""

    command: str
    shared: Shared
    screen: Screen
    data: envelope.Data = field(default_factory=dict[str, object])
    # What --json leaves unscrubbed, because a person asked to see it.
    revealed: bool = False
    # Work goes on in a thread that cannot be waited for: leave without tidying up.
    abandoned: bool = False
    _faults: list[envelope.Fault] = field(default_factory=list[envelope.Fault])
    _codes: list[int] = field(default_factory=list[int])

    @property
    def config(self) -> Path:
        """The configuration file: named, or by the environment, or the usual one."""
        return self.shared.config or Path(os.environ.get(CONFIG_VARIABLE) or DEFAULT_CONFIG)

    @property
    def as_json(self) -> bool:
        """Whether the answer is one JSON object and nothing else."""
        return self.shared.as_json

    def open_app(self, observer: Callable[[Event], None] | None = None) -> App:
        """Open what the configuration describes."""
        from rotator.bootstrap import open_app  # noqa: PLC0415 # brings in everything

        return open_app(self.config, face="cli", observer=observer)

    def say(self, *what: RenderableType) -> None:
        """Show the answer to a person, on standard output."""
        if not self.as_json:
            for one in what:
                self.screen.out.print(one)

    def note(self, *what: RenderableType) -> None:
        """Tell a person something that is not the answer, on standard error."""
        if not self.as_json:
            for one in what:
                self.screen.err.print(one)

    def ended(self, code: int) -> None:
        """Note how one part of the work went."""
        self._codes.append(code)

    def fail(
        self,
        error: BaseException,
        *,
        secret: str | None = None,
        begun: bool = False,
        code: int | None = None,
    ) -> int:
        """Note an error and tell of it; return its exit code."""
        if isinstance(error, ModuleNotFoundError):
            from rotator.plugins import missing_package  # noqa: PLC0415

            error = missing_package(error) or error
        code = exits.of_error(error, begun=begun) if code is None else code
        self._codes.append(code)
        found = envelope.faults(error, secret=secret)
        self._faults += found
        self.note(*_told(self.screen, found))
        return code

    def blame(self, error: BaseException, code: int, *, secret: str) -> None:
        """Note an error that the screen tells of already."""
        self._codes.append(code)
        self._faults += envelope.faults(error, secret=secret)

    def finish(self) -> int:
        """Print the answer, if it is not on the screen already; return the exit code."""
        code = exits.worst(self._codes)
        if self.as_json:
            answer = envelope.envelope(
                self.command, ok=code == exits.DONE, data=self.data, errors=self._faults
            )
            pretty = self.screen.out.is_terminal
            self.write(envelope.dumped(answer, pretty=pretty, revealed=self.revealed) + "\n")
        self.write("")
        return code

    @staticmethod
    def write(text: str) -> None:
        """Write to standard output as it stands."""
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except BrokenPipeError:
            silence(sys.stdout)


def chosen(
    app: App,
    names: Sequence[str],
    *,
    tags: Sequence[str] = (),
    everything: bool = False,
    due: bool = False,
    verb: str,
) -> list[str]:
    """Return the names that a command works on; refuse to guess when none are given."""
    if not (names or tags or everything or due):
        options = "--tag TAG, --due or --all" if verb in _KNOWS_DUE else "--tag TAG or --all"
        raise UsageError(
            "no secrets selected.",
            hint=f"Name them, or choose with {options}: rotator {verb} --help",
            safety="Nothing was changed.",
        )
    if names and (tags or everything or due):
        raise UsageError(
            "names and --tag, --due or --all do not go together.",
            hint="Give one or the other.",
            safety="Nothing was changed.",
        )
    return app.names(only=names, tags=tags, everything=everything, due=due)


def each(run: Run, app: App, names: Sequence[str], do: Callable[[ManagedSecret], None]) -> None:
    """Do it for each secret; an error with one does not keep the others from their turn."""
    for name in names:
        try:
            do(app.secret(name))
        except Exception as error:  # noqa: BLE001 # told as a fault of this secret, never swallowed
            forget_variables(error)
            run.fail(error, secret=name)
            if run.shared.debug:
                show_traceback(run, error)


def show_traceback(run: Run, error: BaseException) -> None:
    """Show where an error came from, without locals and scrubbed (`--debug`)."""
    from rotator.observe import plain_traceback  # noqa: PLC0415

    run.screen.err.print(plain_traceback(error), style=QUIET)


def _told(screen: Screen, found: Sequence[envelope.Fault]) -> list[RenderableType]:
    """Return errors as a person reads them: what happened, is the application safe, what next."""
    from rich.text import Text  # noqa: PLC0415

    lines: list[RenderableType] = []
    if found and found[0].kind == "config":
        count = len(found)
        head = f"the configuration cannot be used: {count} problem{'s' * (count > 1)}."
        lines.append(Text.assemble(screen.sign("bad"), " ", (head, BAD)))
        for one in found:
            place = f"{one.file}:{one.line}" if one.line else str(one.file)
            text = Text.assemble((place, "bold"), f"  {one.key}: " if one.key else "  ", one.what)
            lines.append(indented(text))
            lines += [indented(Text(one.hint, style=QUIET), 4)] if one.hint else []
        lines.append(indented(Text("Nothing was changed.")))
        return lines
    for one in found:
        where = ", ".join(part for part in (one.secret, one.step and f"step {one.step}") if part)
        head = Text.assemble(screen.sign("bad"), " ", (f"{where}: " if where else "", "bold"))
        lines.append(Text.assemble(head, further(one.what)))
        lines += [indented(Text(one.safety))] if one.safety else []
        lines += [indented(Text.assemble(("Next: ", "bold"), one.hint))] if one.hint else []
    return lines
