"""`rotator agent`: its file, its answers, its signals and its death at any moment."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import jsonschema
import pytest
import yaml

from rotator.agent.settings import AgentOptions
from rotator.agent.sources import open_agent
from rotator.agent.template import TEXT
from rotator.config.agent_file import schema_text
from rotator.config.model import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.agent.conftest import Host

_ROTATOR = (sys.executable, "-m", "rotator")
_SINKS = """
secrets:
  shop:
    sinks:
      - {file: db.json, format: json}
      - {folder: db, files: {env: {format: env}, pgpass: {format: pgpass}}}
"""


def _run(host: Host, *arguments: str, code: int = 0, **environ: str):
    run = [*_ROTATOR, *arguments]
    done = subprocess.run(
        run,
        cwd=host.folder,
        capture_output=True,
        text=True,
        env={**os.environ, **environ},
        check=False,
        timeout=120,
    )
    assert done.returncode == code, done
    return done


def test_once_writes_and_ends(host: Host):
    host.write(_SINKS)
    host.publish("app", "s3cret-value")
    done = _run(host, "agent", "run", "--once", "--json")
    answer = json.loads(done.stdout)
    assert answer["data"] == {"secrets": {"shop": "1"}}
    assert json.loads((host.folder / "db.json").read_text())["password"] == "s3cret-value"
    assert "s3cret" not in done.stdout + done.stderr


def test_once_fails_with_each_error(host: Host):
    host.write("secrets: {shop: {sinks: [{file: nowhere/a, format: env}]}, other: {}}\n")
    host.publish("app", "s3cret-value")
    done = _run(host, "agent", "run", "--once", "--timeout", "0s", "--json", code=1)
    errors = {error["secret"]: error for error in json.loads(done.stdout)["errors"]}
    assert set(errors) == {"shop", "other"}
    assert errors["shop"]["kind"] == "sink"
    assert "s3cret" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("secrets: {shop: {sinks: [{file: a}]}}", "`file` needs `format`"),
        ("secrets: {shop: {sinks: [{format: env}]}}", "either `file` or `folder`"),
        ("secrets: {shop: {sinks: [{file: a, format: toml}]}}", "expected 'env'"),
        ("secrets: {shop: {sinks: [{file: a, format: env, mode: '0644'}]}}", "lets every user"),
        ("secrets: {shop: {sinks: [{file: a, format: env, mode: 0600}]}}", "expected text"),
        ("secrets: {shop: {sinks: [{folder: a, files: {../b: {format: env}}}]}}", "invalid name"),
        ("secrets: {shop: {sinks: [{file: a, format: env, reload: {}}]}}", "expected one of"),
        ("secrets: {shop: {sinks: [{file: a, format: env, reload: {signal: HUP}}]}}", "pid_file"),
        (
            "secrets: {shop: {sinks: [{file: a, format: env, reload: {http: 'http://x/'}}]}}",
            "must be https://",
        ),
        ("secrets: {a: {sinks: [{file: x, format: env}, {file: x, format: env}]}}", "same path"),
        ("secrets: {'a b': {}}", "invalid name"),
        ("sockets: {}", "unknown key"),
        ("daemon: {url: https://x, token: hunter2hunter2}", "got a literal value"),
        ("refresh: 0s", "50ms or more"),
    ],
)
def test_a_problem_is_named_with_its_place(host: Host, text: str, words: str):
    with pytest.raises(ConfigError) as raised:
        host.consumer(text)
    assert words in str(raised.value)
    assert raised.value.problems[0].line >= 1
    assert "hunter2" not in str(raised.value)


def test_a_missing_file_names_the_command_that_writes_one(host: Host):
    done = _run(host, "agent", "run", "--once", "-c", "nowhere.yaml", code=2)
    assert "rotator agent init" in done.stderr


def test_init_writes_a_file_that_fits_its_schema(host: Host):
    _run(host, "agent", "init", "--output", "new.yaml")
    assert (host.folder / "new.yaml").read_text() == TEXT
    assert (host.folder / "new.yaml").stat().st_mode & 0o777 == 0o600
    _run(host, "agent", "init", "--output", "new.yaml", code=2)
    (host.folder / "new.yaml").chmod(0o600)
    (host.folder / "secret-id").write_text("x")
    open_agent(host.folder / "new.yaml").close()
    schema = json.loads(schema_text(AgentOptions))
    jsonschema.validate(yaml.safe_load(TEXT), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"version": 1}, schema)


def test_the_embedded_backend_is_not_created(host: Host):
    host.write("secrets: {shop: {}}\n")
    text = host.config.read_text().replace("secrets.db", "other.db")
    host.config.write_text(text)
    assert "does not exist" in _run(host, "agent", "run", "--once", code=2).stderr
    assert not (host.folder / "other.db").exists()


def test_the_service_announces_itself_and_ends_cleanly(host: Host, tmp_path: Path):
    host.publish("app", "s3cret-value")
    host.write(_SINKS + "socket: {path: a.sock}\n")
    notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    address = f"\0rotator-test-{os.getpid()}"
    notices.bind(address)
    notices.settimeout(60)
    run = [*_ROTATOR, "agent", "run"]
    environ = {**os.environ, "NOTIFY_SOCKET": f"@{address[1:]}"}
    with subprocess.Popen(
        run, cwd=host.folder, env=environ, stderr=subprocess.PIPE, text=True
    ) as agent:
        try:
            assert notices.recv(100) == b"READY=1"
            assert (host.folder / "db.json").exists()
            assert (host.folder / "a.sock").exists()
            listed = subprocess.run(
                ["/bin/ps", "-o", "args=", "-p", str(agent.pid)], capture_output=True, check=False
            )
            assert b"s3cret" not in listed.stdout
            agent.send_signal(signal.SIGTERM)
            assert agent.wait(20) == 0
            assert notices.recv(100) == b"STOPPING=1"
            assert agent.stderr is not None
            assert "s3cret" not in agent.stderr.read()
        finally:
            agent.kill()
            notices.close()
    assert not (host.folder / "a.sock").exists()


@pytest.mark.parametrize("count", [12, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.timeout(1800)
def test_a_file_is_whole_wherever_the_agent_is_killed(host: Host, count: int):
    host.publish("user-0", "password-0", filler="x" * 5000)
    host.write(_SINKS)
    chance = random.Random(7)
    run = [*_ROTATOR, "agent", "run"]
    published = 0
    for number in range(count):
        with subprocess.Popen(run, cwd=host.folder, stderr=subprocess.DEVNULL) as agent:
            deadline = time.monotonic() + chance.uniform(0.3, 2.0)
            while time.monotonic() < deadline:
                published += 1
                host.publish(f"user-{published}", f"password-{published}", filler="x" * 5000)
                _check_whole(host)
                time.sleep(0.02)
            agent.kill()
        _check_whole(host)
        if number == count - 1:
            _run(host, "agent", "run", "--once")
            assert f"password-{published}" in (host.folder / "db.json").read_text()
            names = {file.name for file in host.folder.iterdir()}
            assert not {name for name in names if name.endswith(".rotator-tmp")}
            assert len({name for name in names if name.startswith(".db.")}) == 1


def _check_whole(host: Host) -> None:
    file = host.folder / "db.json"
    if not file.exists():
        return
    data = json.loads(file.read_text())
    number = data["password"].removeprefix("password-")
    assert data["username"] == f"user-{number}"
    assert len(data["filler"]) == 5000
