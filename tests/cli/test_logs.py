"""Services log and report their start; other commands log only on request."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rotator.core.worklist import DueEntry
from rotator.faces.cli.services import describe
from rotator.faces.service import Begun

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Cli

_NOW = datetime(2026, 1, 1, tzinfo=UTC)


def _is_json(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


@pytest.mark.parametrize("command", ["rotate", "verify", "plan", "history", "doctor", "adopt"])
def test_a_short_command_logs_nothing(command: str, cli: Cli):
    """Standard error holds no JSON among lines for operators."""
    cli("rotate", "app")
    told = cli(command, "app", code=None)
    assert not any(_is_json(line) for line in told.err.splitlines()), told.err
    told = cli.json(command, "app", code=None)
    assert told.err == ""


def test_a_requested_log_has_the_format_of_the_answer(cli: Cli, monkeypatch: pytest.MonkeyPatch):
    """Lines for people beside an answer for people, JSON beside JSON; by option or environment."""
    lines = cli("rotate", "app", "-v").err.splitlines()
    assert any("finished" in line and "step=publish" in line for line in lines)
    assert not any(_is_json(line) for line in lines)
    lines = cli.json("rotate", "web", "--log-level", "info").err.splitlines()
    assert lines
    assert all(_is_json(line) for line in lines)
    monkeypatch.setenv("ROTATOR_LOG_LEVEL", "info")
    assert cli.json("rotate", "old").err
    assert cli.json("verify", "old", "--log-level", "off").err == ""
    monkeypatch.setenv("ROTATOR_LOG_LEVEL", "loud")
    assert "no log level 'loud'" in cli("check", code=2).err


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            {"secrets": 1, "backends": ("local",), "address": None, "soonest": None},
            "r.yaml, 1 secret, backend local; no metrics; no secret has a due date.",
        ),
        (
            {"secrets": 2, "backends": ("local", "vault"), "address": "127.0.0.1:9464"},
            (
                "r.yaml, 2 secrets, backends local, vault; metrics at http://127.0.0.1:9464/metrics;"
                " next due: app, 2026-01-02 00:00 UTC (in 1 d)."
            ),
        ),
    ],
)
def test_the_start_of_a_daemon_is_described_on_one_line(given: dict[str, object], expected: str):
    """Configuration, secrets, backends, address, next due secret."""
    soonest = DueEntry(
        name="app",
        next_due=_NOW + timedelta(days=1),
        since=_NOW,
        rotated_at=_NOW,
        timing=None,
        parked=False,
        due=None,
    )
    begun = Begun(**{"config": Path("r.yaml"), "soonest": soonest, **given})  # pyright: ignore[reportArgumentType]
    assert describe(begun, _NOW) == expected


def test_a_daemon_on_a_terminal_reports_its_start_and_its_end(bare: Cli):
    """One line each; elsewhere the log has them."""
    bare("init")
    bare.edit('listen: "127.0.0.1:9464"', "listen: none")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "rotator", "--no-color", "daemon"]
    with subprocess.Popen(
        command, cwd=bare.folder, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        begun = _read_until(ours, lambda text: "Ctrl-C stops it." in text)
        process.send_signal(signal.SIGINT)
        ended = _read_until(ours, lambda text: "is finished." in text)
        assert process.wait(timeout=60) == 0
    os.close(ours)
    said = " ".join(begun.split())
    assert "rotator daemon: rotator.yaml, 0 secrets, backend local; no metrics;" in said
    assert "rotator daemon: stopped;" in " ".join(ended.split())


def _read_until(terminal: int, enough: Callable[[str], bool]) -> str:
    text = ""
    while not enough(" ".join(text.split())):
        text += os.read(terminal, 4096).decode()
    return text
