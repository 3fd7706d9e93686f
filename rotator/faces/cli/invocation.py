"""One call of a command: its options, its output and its exit code."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rotator.config.model import ConfigError
from rotator.core.errors import UsageError
from rotator.core.traceback_frames import forget_variables
from rotator.faces import answers
from rotator.faces.cli import exit_codes
from rotator.faces.cli.permissions import APPROVED, NEEDS
from rotator.faces.cli.render import json_output, messages
from rotator.faces.cli.render.console import QUIET, Screen, silence
from rotator.plugins import missing_package

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import RenderableType

    from rotator.bootstrap import App
    from rotator.core.access import Permission
    from rotator.core.model import Event
    from rotator.engine import ManagedSecret

CONFIG_VARIABLE: Final = "ROTATOR_CONFIG"
DEFAULT_CONFIG: Final = "rotator.yaml"
# Commands that have `--due`.
_HAVE_DUE: Final = ("plan", "rotate")


@dataclass(slots=True, kw_only=True)
class SharedOptions:
    """The options that every command takes, before its name or after it."""

    config: Path | None = None
    as_json: bool = False
    verbose: int = 0
    log_level: str | None = None
    no_color: bool = False
    debug: bool = False

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the names of all options."""
        return tuple(one.name for one in fields(cls))

    def over(self, under: SharedOptions) -> SharedOptions:
        """Return these options, and those of `under` where these are not given."""
        return SharedOptions(
            config=self.config or under.config,
            as_json=self.as_json or under.as_json,
            verbose=max(self.verbose, under.verbose),
            log_level=self.log_level or under.log_level,
            no_color=self.no_color or under.no_color,
            debug=self.debug or under.debug,
        )


@dataclass(slots=True, kw_only=True)
class Invocation:
    """What a command works with. It collects `data`, errors and exit codes for the answer."""

    command: str
    shared: SharedOptions
    screen: Screen
    data: answers.Data = field(default_factory=dict[str, object])
    # Whether --json shows secret values, because the operator asked for them.
    revealed: bool = False
    # Whether a thread still works and cannot be waited for: the process then exits without cleanup.
    abandoned: bool = False
    # Whether the operator skips the approvals that rules want.
    breaks_glass: bool = False
    # What this call needs, where that is less or more than the command's own.
    permission: Permission | None = None
    _faults: list[json_output.Fault] = field(default_factory=list[json_output.Fault])
    _codes: list[int] = field(default_factory=list[int])

    @property
    def config(self) -> Path:
        """The configuration file: the option, else the environment, else the default."""
        return self.shared.config or Path(os.environ.get(CONFIG_VARIABLE) or DEFAULT_CONFIG)

    @property
    def as_json(self) -> bool:
        """Whether the answer is one JSON object and nothing else."""
        return self.shared.as_json

    def open_app(
        self,
        observer: Callable[[Event], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> App:
        """Open what the configuration describes; both arguments are the engine's."""
        from rotator.bootstrap import open_app  # noqa: PLC0415 # imports every library

        alarm = None
        if self.breaks_glass:
            from rotator.faces.cli.break_glass import Alarm  # noqa: PLC0415 # imports the engine

            alarm = Alarm(observer)
            observer = alarm.observe
        app = open_app(self.config, face="cli", observer=observer, should_stop=should_stop)
        try:
            if alarm is not None:
                app.break_glass()
                app.call_at_end(partial(alarm.send, app))
            needs = self.permission or NEEDS.get(self.command)
            if needs is not None:
                approved = needs is NEEDS.get(self.command) and self.command in APPROVED
                app.guard(needs, approved=approved)
        except BaseException:
            app.close()
            raise
        return app

    def break_glass(self, reason: str) -> None:
        """Skip the approvals that rules want. Raises `UsageError` without a reason."""
        if not reason.strip():
            raise UsageError(
                "--break-glass needs --reason.",
                hint="Add --reason 'WHY'. It is recorded and reported.",
                safety="Nothing was changed.",
            )
        self.breaks_glass = True

    def print(self, *parts: RenderableType) -> None:
        """Print a part of the answer on standard output, unless it is JSON."""
        if not self.as_json:
            for part in parts:
                self.screen.out.print(part)

    def warn(self, *parts: RenderableType) -> None:
        """Print on standard error what is not part of the answer, unless it is JSON."""
        if not self.as_json:
            for part in parts:
                self.screen.err.print(part)

    def add_code(self, code: int) -> None:
        """Add the exit code of one part of the work."""
        self._codes.append(code)

    def fail(
        self,
        error: BaseException,
        *,
        secret: str | None = None,
        begun: bool = False,
        code: int | None = None,
    ) -> int:
        """Add an error, print it, and return its exit code."""
        if self.shared.debug and error.__traceback__ is not None:
            self._print_traceback(error)
        if isinstance(error, ModuleNotFoundError):
            error = missing_package(error) or error
        code = exit_codes.of_error(error, begun=begun) if code is None else code
        faults = self.add_error(error, code, secret=secret)
        count = error.count if isinstance(error, ConfigError) else len(faults)
        self.warn(*messages.of_faults(self.screen, faults, count))
        return code

    def add_error(
        self, error: BaseException, code: int, *, secret: str | None = None
    ) -> list[json_output.Fault]:
        """Add an error without printing it."""
        faults = json_output.faults(error, secret=secret)
        self._codes.append(code)
        self._faults += faults
        return faults

    def finish(self) -> int:
        """Print the JSON object if one is wanted; return the exit code."""
        code = exit_codes.worst(self._codes)
        if self.as_json:
            answer = json_output.envelope(
                self.command, ok=code == exit_codes.DONE, data=self.data, errors=self._faults
            )
            pretty = self.screen.out.is_terminal
            self.write(json_output.dumps(answer, pretty=pretty, revealed=self.revealed) + "\n")
        self.write("")
        return code

    @staticmethod
    def write(text: str) -> None:
        """Write to standard output without formatting."""
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except BrokenPipeError:
            silence(sys.stdout)

    def _print_traceback(self, error: BaseException) -> None:
        """Print where an error came from, scrubbed and without locals (`--debug`)."""
        from rotator.logs import plain_traceback  # noqa: PLC0415 # structlog takes 30 ms

        self.screen.err.print(plain_traceback(error), style=QUIET)


def select(
    app: App,
    names: Sequence[str],
    *,
    tags: Sequence[str] = (),
    everything: bool = False,
    due: bool = False,
    verb: str,
) -> list[str]:
    """Return the names that a command works on. Raises `UsageError` when none are given."""
    if not (names or tags or everything or due):
        options = "--tag TAG, --due or --all" if verb in _HAVE_DUE else "--tag TAG or --all"
        raise UsageError(
            "no secrets selected.",
            hint=f"Name them, or select them with {options}: rotator {verb} --help",
            safety="Nothing was changed.",
        )
    if names and (tags or everything or due):
        raise UsageError(
            "names cannot be combined with --tag, --due or --all.",
            hint="Give one or the other.",
            safety="Nothing was changed.",
        )
    return app.names(only=names, tags=tags, everything=everything, due=due)


def for_each(
    call: Invocation, app: App, names: Sequence[str], work: Callable[[ManagedSecret], None]
) -> None:
    """Work on each secret. An error with one does not stop the others."""
    for name in names:
        try:
            work(app.secret(name))
        except Exception as error:  # noqa: BLE001 # reported as a fault of this secret
            forget_variables(error)
            call.fail(error, secret=name)
