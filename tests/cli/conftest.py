"""Commands called in this process, with a configuration in a folder of their own."""

from __future__ import annotations

import json
import textwrap
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any

import pytest

from rotator import plugins
from rotator.bootstrap import App, initialise, open_app
from rotator.faces.cli import program
from tests.cli import memory_plugin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Finding plugins reads the metadata of every package; what is installed does not change meanwhile.
_installed = cache(plugins._points)
_CONFIG = """
    version: 1
    journal: {url: "sqlite:///rotator.db", signing_key: "local:rotator/audit#private_key"}
    backends:
      local: {type: local, path: secrets.db, key: "file:rotator.key"}
    targets:
      main: {plugin: paper, admin: {username: admin, password: "env:ADMIN_PASSWORD"}}
    policies:
      default: {every: 30d, grace: 1h, retry: {attempts: 2, cycles: 4, backoff: 1ms, backoff_cap: 2ms}}
    secrets:
      app: {target: main, backend: local, strategy: new-user, tags: [prod, billing]}
      web: {target: main, backend: local, strategy: alternating-users, options: {base: web}, tags: [prod]}
      old: {target: main, backend: local, strategy: single-user, options: {base: old}}
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def answer(self) -> dict[str, Any]:
        """Return the JSON object on standard output, which holds nothing else."""
        return check_envelope(self.out)

    @property
    def data(self) -> dict[str, Any]:
        """Return the data of the answer."""
        return self.answer["data"]

    @property
    def errors(self) -> list[dict[str, Any]]:
        """Return the errors of the answer."""
        return self.answer["errors"]


def check_envelope(text: str) -> dict[str, Any]:
    """Return the one object that `--json` prints, after checking its shape."""
    answer = json.loads(text)
    assert text.endswith("\n")
    assert text.count("\n") == 1
    assert list(answer) == ["version", "command", "ok", "data", "errors"]
    assert answer["version"] == 1
    assert isinstance(answer["command"], str)
    assert isinstance(answer["ok"], bool)
    assert isinstance(answer["data"], dict)
    assert answer["ok"] is False or answer["errors"] == []
    for one in answer["errors"]:
        expected = {"kind", "what", "secret", "step", "safety", "hint"}
        assert set(one) - {"file", "line", "key"} == expected
        assert one["what"]
        assert one["secret"] is None or isinstance(one["secret"], str)
    return answer


def check_lines(outcome: Outcome) -> None:
    """Require that no line of a piped answer ends in blanks: a table was once padded to 10,000 columns.

    The pages of help, which another package draws, and what is drawn on a terminal are padded.
    """
    if "\x1b" in outcome.out or " Usage: " in outcome.out:
        return
    for line in (outcome.out + outcome.err).splitlines():
        assert line == line.rstrip(" "), line.rstrip(" ")


class Cli:
    """Calls commands in this process."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.config = folder / "rotator.yaml"
        self._capsys = capsys

    def __call__(self, *arguments: str, code: int | None = 0) -> Outcome:
        """Run `rotator ARGUMENTS`; require the exit code, unless it is None."""
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            program.run(list(arguments))
        said = self._capsys.readouterr()
        assert isinstance(left.value.code, int)
        outcome = Outcome(left.value.code, said.out, said.err)
        assert code is None or outcome.code == code, outcome
        assert "--debug" in arguments or "Traceback" not in outcome.err
        if "--json" in arguments:
            assert outcome.answer["ok"] is (outcome.code == 0)
        else:
            check_lines(outcome)
        return outcome

    def json(self, *arguments: str, code: int | None = 0) -> Outcome:
        """Run it with `--json`."""
        return self(*arguments, "--json", code=code)

    def write(self, text: str) -> None:
        """Replace the configuration."""
        self.config.write_text(textwrap.dedent(text))

    def edit(self, old: str, new: str) -> None:
        """Change the configuration."""
        text = self.config.read_text()
        assert old in text
        self.config.write_text(text.replace(old, new))

    def app(self) -> App:
        """Open what the commands work on."""
        return open_app(self.config, face="test")

    @property
    def server(self) -> memory_plugin.Server:
        """The server in memory."""
        return memory_plugin.SERVERS["main"]


@pytest.fixture
def bare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Cli:
    """Commands in an empty folder."""
    for name in ("ROTATOR_CONFIG", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    return Cli(tmp_path, capsys)


@pytest.fixture
def cli(bare: Cli, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cli]:
    """Commands with three secrets on a server in memory."""

    def points(group: str) -> list[EntryPoint]:
        known = [*_installed(group)]
        if group == plugins.ROTATIONS:
            known.append(EntryPoint("paper", "tests.cli.memory_plugin:PLUGIN", group))
        return sorted(known, key=lambda point: point.name)

    monkeypatch.setattr(plugins, "_points", points)
    monkeypatch.setenv("ADMIN_PASSWORD", "admin-password")
    memory_plugin.SERVERS.clear()
    memory_plugin.SERVERS["main"] = memory_plugin.Server()
    initialise(bare.config, textwrap.dedent(_CONFIG))
    yield bare
    plugins._plugin.cache_clear()
    memory_plugin.SERVERS.clear()
