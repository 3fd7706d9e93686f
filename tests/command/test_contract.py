"""The contract of a plugin, for the program that `rotator plugins --template --command` writes."""

from __future__ import annotations

import hashlib
import io
import json
import sqlite3
import sys
from contextlib import closing, redirect_stdout
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest

from rotations.command import PLUGIN, SecretOptions, TargetOptions, protocol
from rotations.command.process import Output
from rotator.api import Credential, Secret
from rotator.testing import RotationSuite, Sandbox
from rotator.testing.fakes import step_context
from rotator.testing.templates import COMMAND_FILES, PROGRAM, write_template

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_TABLE = "CREATE TABLE logins (name PRIMARY KEY, hash, owner)"


def _ask(file: Path, query: str, *values: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(file)) as db, db:
        return db.execute(query, values).fetchall()


def _in_this_process(program: Path, request: bytes, seconds: float) -> Output:
    """Run the program as a module: thousands of new processes would take minutes."""
    _ = seconds
    loader = SourceFileLoader("__main__", str(program))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    output = io.StringIO()
    with mock.patch.object(sys, "stdin", io.StringIO(request.decode())), redirect_stdout(output):
        loader.exec_module(module_from_spec(spec))
    return Output(answer=output.getvalue().encode(), errors=b"", status=0)


class TestTemplate(RotationSuite):
    """Both strategies of the example pass."""

    sample = 20

    @pytest.fixture(params=["new-user", "single-user"])
    def make_sandbox(
        self, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Callable[[], Sandbox]:
        """Return what makes a file of its own."""
        monkeypatch.setattr(protocol, "run", _in_this_process)
        write_template(tmp_path / "program", COMMAND_FILES)
        program, numbers = tmp_path / "program" / PROGRAM, iter(range(10_000))

        def make() -> Sandbox:
            file = tmp_path / f"{next(numbers)}.db"
            _ask(file, _TABLE)

            def foreign() -> Credential:
                theirs = Credential(username="legacy", password=Secret("set-by-hand-Rb7wq2"))
                text = f"{theirs.username}:{theirs.password.reveal()}"
                hashed = hashlib.sha256(text.encode()).hexdigest()
                _ask(file, "INSERT INTO logins VALUES (?, ?, ?)", "legacy", hashed, "somebody")
                return theirs

            return Sandbox.of(
                PLUGIN,
                request.param,
                target_options=TargetOptions(program=program, settings={"path": str(file)}),
                secret_options=SecretOptions(username="shop"),
                usable=lambda: {name for (name,) in _ask(file, "SELECT name FROM logins")},
                state=lambda: _ask(file, "SELECT * FROM logins ORDER BY name"),
                foreign=foreign,
            )

        return make


def test_the_template_runs_as_a_program(tmp_path: Path):
    """Create, verify, revoke, in processes of its own."""
    write_template(tmp_path, COMMAND_FILES)
    _ask(tmp_path / "logins.db", _TABLE)
    options = TargetOptions(
        program=tmp_path / PROGRAM, settings={"path": str(tmp_path / "logins.db")}
    )
    target = PLUGIN.target("mine", options, lambda: Credential(username="", password=Secret("")))
    rotation = target.rotation("new-user", SecretOptions())
    ctx = step_context(secret="app")
    first, second = rotation.propose(None, ctx), rotation.propose(None, ctx)
    rotation.create(first, ctx)
    assert rotation.verify(first, ctx).ok
    assert not rotation.probe(second, ctx)
    rotation.revoke(first, ctx)
    assert not rotation.probe(first, ctx)


def test_the_request_holds_what_the_page_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each key, with the admin and the current credential."""
    requests: list[dict[str, Any]] = []

    def answered(program: Path, request: bytes, seconds: float) -> Output:
        _ = program, seconds
        requests.append(json.loads(request))
        return Output(answer=b'{"ok": true}', errors=b"", status=0)

    monkeypatch.setattr(protocol, "run", answered)
    write_template(tmp_path, COMMAND_FILES)
    admin = Credential(username="root", password=Secret("admin-Rb7wq2"))
    options = TargetOptions(program=tmp_path / PROGRAM, settings={"url": "x"})
    rotation = PLUGIN.target("mine", options, lambda: admin).rotation(
        "dual-password", SecretOptions(settings={"role": "y"})
    )
    current = Credential(username="shop", password=Secret("current-Rb7wq2"))
    new = Credential(username="shop", password=Secret("new-Rb7wq2"))
    rotation.create(new, step_context(secret="app", current=current))
    [request] = requests
    assert request.pop("seconds") > 1
    assert request.pop("rotation_id")
    assert request == {
        "protocol": 1,
        "action": "create",
        "strategy": "dual-password",
        "secret": "app",
        "names": ["app"],
        "login": {"username": "shop", "password": "new-Rb7wq2"},
        "current": {"username": "shop", "password": "current-Rb7wq2"},
        "adopted": False,
        "end_sessions": False,
        "admin": {"username": "root", "password": "admin-Rb7wq2"},
        "target": {"url": "x"},
        "options": {"role": "y"},
    }
