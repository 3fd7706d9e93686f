"""docs/reference/cli.md against the program: every command, every key of every answer, every kind of error."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rotator.agent.errors import SinkError
from rotator.core import errors
from rotator.faces.cli import program

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.conftest import Cli

_PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "cli.md").read_text()
_ERRORS = (Path(__file__).parents[2] / "docs" / "reference" / "errors.md").read_text()
_KINDS = re.findall(r"(?m)^\| `([\w-]+)` \|", _ERRORS)
# Whatever a plugin or a step puts there is its own.
_OPEN = {"fields", "data", "client_logins"}


def _sections() -> dict[str, set[str]]:
    """Return the words in backquotes of each command's section."""
    found: dict[str, set[str]] = {}
    for part in re.split(r"(?m)^#### ", _PAGE.split("\n## `get`")[0])[1:]:
        head, _, body = part.partition("\n")
        for name in re.findall(r"`([^`]+)`", head):
            found[name] = set(re.findall(r"`([^`]+)`", body))
    return found


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, one in value.items():
            yield key
            if key not in _OPEN:
                yield from _keys(one)
    elif isinstance(value, list):
        for one in value:
            yield from _keys(one)


_CALLS = (
    ("check",),
    ("doctor",),
    ("plugins",),
    ("plan", "app"),
    ("rotate", "app"),
    ("resume",),
    ("rollback", "app"),
    ("revoke", "app"),
    ("status",),
    ("history", "app"),
    ("verify", "app"),
    ("park", "app", "--reason", "why"),
    ("unpark", "app", "--reason", "why"),
    ("adopt", "app"),
    ("get", "app"),
    ("get", "app", "--field", "username"),
    ("reseal", "local"),
    ("incident", "open", "app", "--mode", "kill", "--reason", "x"),
    ("incident", "resume"),
    ("incident", "list"),
    ("incident", "show", "app"),
    ("incident", "show", "app", "--receipt", "receipt"),
    ("incident", "close", "app", "--reason", "x"),
    ("incident", "reopen", "app", "--reason", "x"),
    ("incident", "close", "app", "--reason", "x"),
    ("retire", "app"),
    ("adopt", "app"),
    ("audit", "verify"),
    ("audit", "export", "--out", "proof"),
    ("audit", "show"),
    ("report", "--since", "1h", "--framework", "pci,soc2,iso27001,nist", "--sample", "3"),
    ("report", "--since", "1h", "--pack", "evidence"),
    ("db", "upgrade"),
    ("db", "status"),
    ("docs",),
    ("docs", "glossary"),
    ("deploy", "systemd", "--out", "unit"),
)


def test_every_command_has_its_section():
    """Each section documents a command, and each command has a section."""
    app = program.build()
    commands = set(program.ALIASES)
    for name in app.list_commands(None):
        group = getattr(app.get_command(None, name), "commands", None)
        commands |= {name} if group is None else {f"{name} {one}" for one in group}
    assert set(_sections()) == commands


def test_no_default_is_shown_as_python_writes_it():
    """A duration is shown as the option takes it: `5s`, not `0:00:05`."""
    odd = [
        f"{command.name} {option.opts[0]}"
        for command in _commands(program.build())
        for option in command.params
        if isinstance(option.default, timedelta) and option.show_default is True
    ]
    assert odd == []


def _commands(command: Any) -> Iterator[Any]:
    yield command
    if hasattr(command, "commands"):
        for below in command.list_commands(None):
            yield from _commands(command.get_command(None, below))


def test_every_key_of_every_answer_is_documented(cli: Cli):
    """What a command answers is described in its section, after work that fills every part."""
    cli("rotate", "app")
    old = cli("get", "app", "--field", "username").out
    cli.server.target.open_session(old)
    sections = _sections()
    sections["adopt"] |= sections["verify"]
    sections["history"] |= sections["audit show"]
    sections["incident show"] |= sections["audit show"]
    for call in _CALLS:
        if call[0] == "adopt":
            cli("revoke", "app", "--terminate", code=None)
        answer = cli.json(*call, code=None).answer
        assert answer["errors"] == [] or call[0] == "revoke", answer
        undocumented = set(_keys(answer["data"])) - sections[answer["command"]]
        assert undocumented == set(), answer["command"]


def test_the_answer_of_init_is_documented(bare: Cli):
    """`init` needs an empty folder."""
    assert set(_keys(bare.json("init").data)) <= _sections()["init"]


def test_every_kind_of_error_is_documented():
    """The table has each `kind` of an answer, and no other."""
    documented = set(_KINDS)
    # A step error always comes as one of its kinds; open sessions are waited for, never an error.
    assert SinkError.kind in documented  # imported, so that the search below finds it
    assert documented | {"step", "in-use", "already-taken"} == _kinds(errors.RotatorError) | {
        "config",
        "system",
        "bug",
    }


def _kinds(error: type[errors.RotatorError]) -> set[str]:
    below = error.__subclasses__()
    # What tests and plugins derive is not ours.
    ours = [one for one in below if one.__module__.startswith("rotator.")]
    return {one.kind for one in ours}.union(*map(_kinds, ours))
