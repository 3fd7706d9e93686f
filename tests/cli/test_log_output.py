"""Logs: scrubbed, without locals, one line each, and never in anybody's way."""

from __future__ import annotations

import io
import json
import logging
import sys
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from rotator import logs
from rotator.core.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CANARY = 'canary-"quoted"\\-password'


@pytest.fixture
def canary() -> Secret:
    """A living secret, with characters that JSON escapes."""
    return Secret(_CANARY)


@pytest.fixture(autouse=True)
def quiet_afterwards() -> Iterator[None]:
    """Leave logging as the other tests expect it."""
    yield
    logs.set_up(level="info")


Stderr: TypeAlias = "Callable[[], str]"


@pytest.fixture
def stderr(capsys: pytest.CaptureFixture[str]) -> Stderr:
    """Return what was written to standard error since the last call."""
    return lambda: capsys.readouterr().err


def _lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_line_is_one_json_object_with_its_time_in_utc(stderr: Stderr):
    """Elsewhere than on a terminal a log line is JSON, with what the engine bound to it."""
    logs.set_up()
    logs.get_log().info("finished", secret="app", rotation_id="r1", step="create", seconds=0.5)
    (line,) = _lines(stderr())
    assert line["event"] == "finished"
    assert line["level"] == "info"
    assert line["timestamp"].endswith("Z")
    assert (line["secret"], line["rotation_id"], line["step"]) == ("app", "r1", "create")


@pytest.mark.parametrize("human", [True, False], ids=["human", "json"])
def test_every_living_secret_is_scrubbed_wherever_it_hides(
    stderr: Stderr,
    canary: Secret,
    human: bool,  # noqa: FBT001 # pytest passes it by name
):
    """In the event, in values, in keys, in lists, in mappings, in objects, in exceptions."""

    class Leaky:
        def __str__(self) -> str:
            return f"<{canary.reveal()}>"

        __repr__ = __str__

    value = canary.reveal()
    logs.set_up(level="debug", human=human)
    log = logs.get_log()
    log.info(f"said {value}", plain=value, inside=[{"deep": (value, {value: value})}], obj=Leaky())  # noqa: G004
    log.warning("bytes", raw=value.encode())
    try:
        int(value)
    except ValueError as error:
        log.error("failed", exc_info=error)  # noqa: TRY400 # each form that callers may use
        log.error("failed", exc_info=True)  # noqa: G201
        log.error("failed", exc_info=sys.exc_info())  # noqa: G201
    logging.getLogger("sqlalchemy.engine").warning("statement %s", value)
    logging.getLogger("sqlalchemy.engine").error("statement", exc_info=ValueError(value))
    text = stderr()
    assert text.count("ValueError") >= 4
    assert "canary" not in text
    assert "***" in text


def test_a_traceback_has_no_locals(stderr: Stderr):
    """Values of variables are not shown, also where no Secret wraps them."""
    logs.set_up()

    def broken() -> None:
        local = "hunter" + str(2)
        raise KeyError(len(local))

    try:
        broken()
    except KeyError as error:
        logs.get_log().error("failed", exc_info=error)
    (line,) = _lines(stderr())
    assert "in broken" in line["exception"]
    assert "hunter2" not in line["exception"]


def test_levels_filter(stderr: Stderr):
    """What is below the level is not written; `off` writes nothing."""
    logs.set_up(level="warning")
    logs.get_log().info("no")
    logs.get_log().warning("yes")
    logs.set_up(level="off")
    logs.get_log().error("no")
    logging.getLogger("alembic").error("no")
    assert [line["event"] for line in _lines(stderr())] == ["yes"]


def test_libraries_are_heard_from_warnings_up(stderr: Stderr):
    """Their chatter, some of it statements, is not; setting up twice does not double them."""
    logs.set_up(level="debug")
    logs.set_up(level="debug")
    logging.getLogger("psycopg.pool").info("chatter")
    logging.getLogger("psycopg.pool").warning("pool is %s", "full")
    (line,) = _lines(stderr())
    assert line["event"] == "pool is full"
    assert line["logger"] == "psycopg.pool"


def test_a_log_that_cannot_be_written_disturbs_nobody(monkeypatch: pytest.MonkeyPatch):
    """A full disk or a closed pipe behind standard error is no reason to stop a rotation."""

    class Broken(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

    logs.set_up()
    monkeypatch.setattr(sys, "stderr", Broken())
    logs.get_log().error("lost")
    logging.getLogger("alembic").error("lost")
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    logs.get_log().error("lost")


def test_a_person_gets_lines_without_json(stderr: Stderr, monkeypatch: pytest.MonkeyPatch):
    """On a terminal a line reads like a sentence; NO_COLOR takes the colours away."""
    monkeypatch.setenv("NO_COLOR", "1")
    logs.set_up(human=True)
    logs.get_log().info("finished", secret="app", step="create")
    line = stderr()
    assert "finished" in line
    assert "secret=app" in line
    assert "\x1b" not in line
