"""The program: misuse, help, version, streams, unexpected errors."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from rich.text import Text

from rotator.core.secret import Secret
from rotator.faces.cli import exit_codes, program
from rotator.faces.cli.options import (
    complete_backends,
    complete_fields,
    complete_names,
    complete_tags,
    complete_targets,
)
from rotator.faces.cli.render.console import Screen

if TYPE_CHECKING:
    from tests.cli.conftest import Cli

_COMMANDS = (
    ("init",), ("check",), ("doctor",), ("plugins",), ("demo",), ("plan",), ("rotate",), ("resume",),
    ("status",), ("history",), ("verify",), ("rollback",), ("revoke",), ("park",), ("unpark",),
    ("adopt",), ("get",), ("audit", "verify"), ("audit", "show"), ("db", "upgrade"), ("db", "status"),
)  # fmt: skip


def _rotator(*arguments: str, **given: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rotator", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **given)


def test_version_is_fast():
    """`--version` is answered before any heavy import. The limit is wide, for slow CI."""
    spent = []
    for _ in range(3):
        begun = time.perf_counter()
        result = _rotator("--version")
        spent.append(time.perf_counter() - begun)
        assert result.stdout.startswith("rotator ")
    assert min(spent) < 0.5


def test_version_imports_nothing_heavy():
    """It loads neither typer nor SQLAlchemy nor a driver."""
    script = (
        "import sys; sys.argv = ['rotator', '--version']\n"
        "from rotator.faces.cli import main; main()\n"
        "heavy = {'typer', 'rich', 'sqlalchemy', 'psycopg', 'pydantic', 'structlog', 'yaml'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_help_imports_no_database_and_no_driver():
    """Commands import these packages when they run."""
    script = (
        "import sys; from rotator.faces.cli import program\n"
        "try: program.run(['rotate', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'sqlalchemy', 'psycopg', 'yaml', 'structlog', 'cryptography'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("command", _COMMANDS, ids=" ".join)
def test_help_has_examples(bare: Cli, command: tuple[str, ...]):
    """The examples call the command itself."""
    told = bare(*command, "--help").out
    assert "Examples" in told
    assert f"rotator {' '.join(command)}" in told.split("Examples")[1]
    assert "--json" in told


def test_help_lists_every_command(bare: Cli):
    """No command is missing on the first page."""
    told = bare("--help").out
    assert all(f" {command[0]} " in told for command in _COMMANDS)
    assert bare().out.split() == told.split()


def test_help_has_no_types_of_python(bare: Cli):
    """Flags show no value, and other options show their metavar."""
    listed = [line.split("│")[1].split() for line in bare("--help").out.splitlines() if "│" in line]
    names = [words[0] for words in listed if words and words[0].isalpha()]
    assert {"rotate", "audit", "db", "notify", "import", "worker"} <= set(names)
    for command in [(), *((one,) for one in names), *_COMMANDS]:
        told = bare(*command, "--help", code=None).out
        assert not re.search(r"<\w+[^>]*>|list\[|BOOLEAN|INTEGER", told), told


def test_status_and_help_have_aliases(cli: Cli):
    """`ls` and `list` for `status`, and `help`; the first page lists one name each."""
    assert cli.json("ls").data == cli.json("list").data
    assert cli.json("ls").answer["command"] == "status"
    assert not re.search(r"│ (ls|list) ", cli("--help").out)
    assert cli("help").out == cli("--help").out
    assert cli("help", "audit", "show").out == cli("audit", "show", "--help").out
    assert "No such command" in cli("help", "nonsense", code=2).err


def test_an_invalid_command_line_exits_with_2(bare: Cli):
    """The error is one line with the command for help."""
    assert "Did you mean 'rotate'" in bare("rotat", code=2).err
    assert "rotator rotate --help" in bare("rotate", "--bogus", code=2).err
    assert "a duration" in bare("rotate", "x", "--timeout", "soon", code=2).err
    assert "no log level" in bare("check", "--log-level", "loud", code=2).err
    error = bare.json("rotate", "--bogus", code=2).errors[0]
    assert error["kind"] == "usage"
    assert "--bogus" in error["what"]
    assert bare.json("audit", "nonsense", code=2).answer["command"] == "audit"


@pytest.mark.parametrize("option", [("--patience", "soon"), ("--patience=soon",)], ids=" ".join)
def test_timeout_accepts_its_former_name(bare: Cli, option: tuple[str, ...]):
    """`--patience` is `--timeout`, and the help does not show it."""
    assert "'--timeout'" in bare("rotate", "x", *option, code=2).err
    assert "patience" not in bare("rotate", "--help").out


def test_rotate_needs_a_selection(cli: Cli):
    """It rejects an empty selection, and names combined with --all."""
    assert "no secrets selected" in cli("rotate", code=2).err
    assert "cannot be combined" in cli("rotate", "app", "--all", code=2).err
    assert cli.server.target.usable() == set()


def test_every_command_suggests_names_for_an_unknown_secret(cli: Cli):
    """Nothing is changed."""
    for command in (
        "rotate",
        "plan",
        "history",
        "rollback",
        "revoke",
        "adopt",
        "get",
        "status",
        "verify",
    ):
        error = cli.json(command, "ap", code=2).errors[0]
        assert error["what"].startswith("unknown secret `ap`")
        assert "`app`" in error["hint"]
    assert cli.server.target.usable() == set()


def test_shared_options_are_accepted_before_and_after_the_command(cli: Cli):
    """`rotator --json status` and `rotator status --json` are the same."""
    assert cli("--json", "status").answer["command"] == "status"
    assert cli("status", "--json").answer["command"] == "status"
    assert cli("audit", "show", "--json").answer["command"] == "audit show"


def test_piped_output_is_plain(cli: Cli):
    """It has no color codes, and lines are not wrapped."""
    cli("rotate", "--all")
    for arguments in (
        ("status",),
        ("history", "app"),
        ("plan", "app"),
        ("doctor",),
        ("plugins", "paper"),
    ):
        assert "\x1b" not in cli(*arguments).out


def test_names_and_tags_complete_from_the_configuration(cli: Cli):
    """An invalid configuration completes nothing."""
    context: Any = SimpleNamespace(obj=None, params={})
    assert complete_names(context, "") == ["app", "web", "old"]
    assert complete_names(context, "w") == ["web"]
    assert complete_tags(context, "b") == ["billing"]
    assert complete_backends(context, "l") == ["local"]
    assert complete_targets(context, "") == ["main"]
    assert complete_fields("p") == ["password"]
    cli.write("version: [")
    for complete in (complete_names, complete_tags, complete_backends, complete_targets):
        assert complete(context, "") == []


def test_bash_completion_calls_the_program(cli: Cli):
    """It prints matching commands."""
    environ = os.environ | {
        "_ROTATOR_COMPLETE": "complete_bash",
        "COMP_WORDS": "rotator rot",
        "COMP_CWORD": "1",
    }
    assert _rotator(env=environ).stdout.split() == ["rotate"]


def test_an_unexpected_error_shows_no_traceback_and_no_text(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
):
    """It shows the type only; `--debug` adds the traceback without values."""

    def broken(*_: object, **__: object) -> None:
        password = "hunter" + str(2)
        assert password
        raise ZeroDivisionError("the text may hold anything")

    monkeypatch.setattr("rotator.bootstrap.App.doctor", broken)
    told = cli("doctor", code=1)
    assert "ZeroDivisionError" in told.err
    assert "may hold anything" not in told.err
    error = cli.json("doctor", code=1).errors[0]
    assert error["kind"] == "bug"
    shown = cli("doctor", "--debug", code=1).err
    assert "in broken" in shown
    assert "hunter2" not in shown


def test_a_closed_pipe_is_no_error():
    """`rotator plugins | head -1` ends without a traceback."""
    command = f"{sys.executable} -m rotator plugins postgresql | head -1"
    result = subprocess.run(  # noqa: S602
        command, shell=True, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0
    assert result.stderr == ""


def test_the_worst_exit_code_wins():
    """Stuck before failed, failed before misuse, misuse before later, later before done."""
    assert exit_codes.worst([0, 4, 2, 1, 3]) == 3
    assert exit_codes.worst([0, 4, 2, 1]) == 1
    assert exit_codes.worst([0, 4, 2]) == 2
    assert exit_codes.worst([0, 4]) == 4
    assert exit_codes.worst([0, 130, 3]) == 130
    assert exit_codes.worst([]) == 0


def test_every_command_is_registered_once():
    """Each command has one module and one name."""
    names = program.build().list_commands(None)
    assert {"rotate", "unpark", "import", "audit"} <= set(names)
    assert len(names) == len(set(names))


def test_the_screen_masks_secrets_in_memory(capsys: pytest.CaptureFixture[str]):
    """A secret that is printed by mistake is masked."""
    secret = Secret("canary-of-the-screen")
    screen = Screen()
    screen.out.print(f"it is {secret.reveal()}")
    screen.err.print(Text(secret.reveal()))
    said = capsys.readouterr()
    assert said.out == "it is ***\n"
    assert said.err == "***\n"
