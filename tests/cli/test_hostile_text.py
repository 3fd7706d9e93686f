"""Text from other systems is printed without control characters."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from rich.text import Text

from rotator import logs
from rotator.core.errors import Refused, Transient, Unavailable
from rotator.core.printable import printable
from rotator.faces.cli.render.console import Screen, further, line, table

if TYPE_CHECKING:
    from tests.cli.conftest import Cli

# Title, clear screen, its one-byte form, backspaces over what stands there, carriage return, writing
# direction, invisible, delete, a hyperlink, a lone surrogate.
_HOSTILE = (
    "\x1b]0;owned\x07",
    "\x1b[2J\x1b[H",
    "\x9b2J",
    "bad\b\b\bok!",
    "bad\rok ",
    "\u202eko si\u202c",
    "\u200b\u2060",
    "\x7f\x00",
    "\x1b]8;;http://127.0.0.1/\x1b\\here\x1b]8;;\x1b\\",
    "\udcff",
    "\u2028forged",
)
_ALL = "".join(_HOSTILE)
# What rich sends by itself: colors, and to draw the running steps anew.
_COLORS = re.compile(r"\r?\x1b\[(?:[0-9;]*m|\?25[lh]|[0-9]*[AK])")


def _steers(text: str) -> set[str]:
    """Return the characters that a terminal would obey or not show."""
    return {one for one in _COLORS.sub("", text) if one != "\n" and not one.isprintable()}


@pytest.mark.parametrize("hostile", _HOSTILE, ids=ascii)
def test_every_character_that_prints_nothing_is_escaped(hostile: str):
    """What prints stays as it is, in every language; lines stay where they are asked for."""
    assert printable(f"a{hostile}b").isprintable()
    assert printable("Größe 東京 שלום ✓") == "Größe 東京 שלום ✓"
    assert printable("a\nb") == "a\\nb"
    assert printable("a\nb", lines=True) == "a\nb"


@pytest.mark.parametrize("terminal", [False, True], ids=["piped", "terminal"])
def test_no_renderable_reaches_the_screen_with_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *, terminal: bool
):
    """Not as a text, a cell, a line of ours, an error, nor in a style of its own."""
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    screen = Screen()
    for one in _HOSTILE:
        for console in (screen.out, screen.err):
            console.print(one)
            console.print(Text(one, style="bold"), style="dim")
            console.print(line(screen.sign("good"), one, one))
            console.print(table(screen, ("name", one), [(one, Text(one)), (one * 9, "x")]))
    said = capsys.readouterr()
    assert not _steers(said.out)
    assert not _steers(said.err)
    assert "\\x1b]0;owned\\x07" in said.out


def test_a_cell_is_as_wide_as_its_escapes(capsys: pytest.CaptureFixture[str]):
    """It is escaped before the table is laid out: nothing of it is cut off, columns stay in line."""
    screen = Screen()
    screen.out.print(
        table(screen, ("login", "next"), [("\x1b]0;a\x07", "here"), ("plain", "here")])
    )
    rows = capsys.readouterr().out.splitlines()
    assert "\\x1b]0;a\\x07" in rows[1]
    assert rows[1].index("here") == rows[2].index("here") == rows[0].index("next")


def test_further_lines_of_a_message_are_indented():
    """A server's message cannot imitate a line of rotator."""
    assert further("refused\n✓ app: rotated.") == "refused\n    ✓ app: rotated."


@pytest.mark.parametrize("terminal", [False, True], ids=["piped", "terminal"])
def test_commands_show_hostile_logins_reasons_and_errors_harmlessly(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, *, terminal: bool
):
    """A login's name, a reason for parking and the server's words, in every command that shows them."""
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    hostile = "".join(one for one in _HOSTILE if one.isascii() or one == "\u202eko si\u202c")
    hostile = hostile.replace("\x00", "").replace("\udcff", "")
    base = json.dumps("app" + hostile)
    cli.edit("app: {target: main,", f"app: {{target: main, options: {{base: {base}}},")
    said = [cli(one, "app", code=None) for one in ("plan", "rotate", "rotate")]
    assert any("\\x1b" in one.out for one in said), said
    said.append(cli("park", "app", "--reason", f"because {hostile}", code=None))
    said += [
        cli(*command, code=None)
        for command in (
            ("status",), ("status", "app"), ("history", "app"), ("doctor",), ("audit", "show"),
            ("audit", "verify"), ("unpark", "app", "--reason", hostile), ("history", "app"),
        )
    ]  # fmt: skip
    for error in (
        Transient(f"away {hostile}", hint=f"call {hostile}"),
        Unavailable(f"away {hostile}"),
        Refused(f"refused {hostile}", safety=f"safe {hostile}"),
        RuntimeError(f"bug {hostile}"),
    ):
        cli.server.bug = error
        said += [
            cli(*command, code=None)
            for command in (("rotate", "app"), ("status",), ("verify", "app"), ("plan", "app"))
        ]
    for one in said:
        assert not _steers(one.out), one.out
        assert not _steers(one.err), one.err


def test_json_escapes_every_character(cli: Cli):
    """Programs receive every character, escaped as JSON."""
    hostile = "\x1b[2J\x9b\u202e"
    _ = cli("park", "app", "--reason", hostile, code=None)
    answer = cli.json("history", "app", code=None)
    assert not _steers(answer.out)
    assert any(hostile in one for one in _texts(answer.answer))


def _texts(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for one in value.values() for text in _texts(one)]
    if isinstance(value, list):
        return [text for one in value for text in _texts(one)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("human", [False, True], ids=["json", "human"])
def test_a_line_of_the_log_is_one_line_and_steers_nothing(
    capsys: pytest.CaptureFixture[str], *, human: bool
):
    """Whatever a library or a server said, as event or as value; no line of the log can be forged."""
    logs.set_up(level="info", human=human)
    for one in (*_HOSTILE, "x\n2026-01-01 [info] rotated"):
        logs.get_log().info("refused", why=one, login=one)
        logs.get_log().info(one)
    said = capsys.readouterr().err
    assert not _steers(said)
    assert len(said.splitlines()) == 2 * (len(_HOSTILE) + 1)
