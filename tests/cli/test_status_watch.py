"""status --watch: redraws on a terminal, one read of the journal for each redraw, ends with Ctrl-C."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from rotator.bootstrap import wiring
from rotator.faces.cli.commands.status import _with_seconds
from rotator.journal.sql import SqlJournal

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Cli


@dataclass
class _Clock:
    """Time passes when a command sleeps. Calls `redrawn` each time; the operator types Ctrl-C at the end."""

    sleeps: int
    redrawn: Callable[[], object] = lambda: None
    slept: list[float] = field(default_factory=list)
    moment: datetime = datetime(2026, 3, 1, 12, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return self.moment.timestamp()

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.moment += timedelta(seconds=seconds)
        self.redrawn()
        if len(self.slept) == self.sleeps:
            raise KeyboardInterrupt


@pytest.fixture
def terminal(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Commands on a terminal that can be drawn on."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("LINES", "30")
    return cli


def _use(monkeypatch: pytest.MonkeyPatch, clock: _Clock) -> _Clock:
    monkeypatch.setattr(wiring.system, "SystemClock", lambda: clock)
    return clock


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_watch_redraws_in_place_until_interrupted_and_exits_with_0(
    terminal: Cli, monkeypatch: pytest.MonkeyPatch
):
    """Code 0 also while there is trouble; the terminal's own screen comes back at the end."""
    terminal("rotate", "app")
    terminal("park", "app", "--reason", "migration")
    clock = _use(monkeypatch, _Clock(sleeps=3))
    outcome = terminal("status", "--watch", "5", code=0)
    assert clock.slept == [5.0, 5.0, 5.0]
    drawn = _plain(outcome.out)
    for second in ("00", "05", "10"):
        assert f"2026-03-01 12:00:{second} UTC, every 5 s. Ctrl-C ends it." in drawn
    assert drawn.count("app, parked: migration") == 3
    assert outcome.out.count("\x1b[?1049h") == outcome.out.count("\x1b[?1049l") == 1
    # Nothing is erased between two redraws, so nothing flickers.
    assert "\x1b[2J" not in outcome.out.partition("Ctrl-C")[2].rpartition("Ctrl-C")[0]
    assert outcome.err == ""


def test_watch_shows_a_change(terminal: Cli, monkeypatch: pytest.MonkeyPatch):
    """What another process has done since."""
    terminal("rotate", "app")
    changes = iter([True, False])

    def change() -> None:
        if next(changes):
            with terminal.app() as app:
                app.engine.park(app.secret("app"), reason="migration")

    _use(monkeypatch, _Clock(sleeps=2, redrawn=change))
    drawn = _plain(terminal("status", "--watch", code=0).out)
    assert drawn.count("parked: migration") == 1
    assert drawn.count("1 ok") == 1


@pytest.mark.parametrize("selection", [(), ("app", "web"), ("*",), ("--tag", "prod")])
def test_each_redraw_reads_the_records_once(
    terminal: Cli, monkeypatch: pytest.MonkeyPatch, selection: tuple[str, ...]
):
    """One query for all secrets, never one for each."""
    terminal("rotate", "--all")
    calls: list[str] = []

    def counted(name: str) -> None:
        method = getattr(SqlJournal, name)

        def call(journal: SqlJournal, *given: object) -> object:
            calls.append(name)
            return method(journal, *given)

        monkeypatch.setattr(SqlJournal, name, call)

    for name in ("secrets", "secret", "events", "history", "rotations"):
        counted(name)
    first: list[int] = []
    _use(monkeypatch, _Clock(sleeps=4, redrawn=lambda: first.append(len(calls))))
    terminal("status", *selection, "--watch", code=0)
    assert calls[first[0] :] == ["secrets"] * 3


def test_watch_needs_a_terminal(cli: Cli):
    """A pipe or --json would never end."""
    for more in ((), ("--json",)):
        outcome = cli("status", "--watch", *more, code=2)
        text = outcome.err if not more else str(outcome.errors)
        assert "--watch needs a terminal" in text
        assert "rotator status --json" in text


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (["--watch"], ["--watch=2"]),
        (["--watch", "5"], ["--watch=5"]),
        (["--watch", "0.5", "app"], ["--watch=0.5", "app"]),
        (["--watch", "app"], ["--watch=2", "app"]),
        (["--watch", "--all"], ["--watch=2", "--all"]),
        (["--watch", "--watch", "3"], ["--watch=2", "--watch=3"]),
        (["--watch=7", "app"], ["--watch=7", "app"]),
        (["app", "--watch", "--", "5"], ["app", "--watch=2", "--", "5"]),
        (["--", "--watch"], ["--", "--watch"]),
    ],
)
def test_watch_takes_a_number_or_nothing(given: list[str], read: list[str]):
    """The name of a secret may follow it."""
    assert _with_seconds(given) == read


@pytest.mark.parametrize("seconds", ["0", "0.01", "4000", "often"])
def test_watch_rejects_an_interval_out_of_range(cli: Cli, seconds: str):
    """Code 2, before the journal is opened."""
    assert cli("status", f"--watch={seconds}", code=2).out == ""
