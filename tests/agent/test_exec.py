"""`rotator exec`: the command always has a working password, also where rotator is killed."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.agent.conftest import Host

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROTATOR = (sys.executable, "-m", "rotator")
# Writes what it was given, line by line, and answers signals as a service does.
_CHILD = """
import json, os, signal, sys, time
log = open("log", "a", buffering=1)
def say(what, **more):
    log.write(json.dumps({"what": what, "pid": os.getpid(), **more}) + "\\n")
signal.signal(signal.SIGHUP, lambda *_: say("hup", files=read()))
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(7))
def read():
    folder = os.environ.get("ROTATOR_SECRETS_DIR")
    return {n: open(os.path.join(folder, n)).read() for n in os.listdir(folder) if n[0] != "."} if folder else {}
def leave(*_):
    say("term")
    sys.exit(0)
signal.signal(signal.SIGTERM, (lambda *_: say("deaf")) if "deaf" in sys.argv else leave)
say("start", env=dict(os.environ), argv=sys.argv, files=read(), folder=os.environ.get("ROTATOR_SECRETS_DIR"))
deadline = time.monotonic() + 120
while time.monotonic() < deadline:
    time.sleep(0.05)
"""


@pytest.fixture
def child(host: Host) -> str:
    host.write("secrets: {shop: {}, pay: {}}\n")
    file = host.folder / "child.py"
    file.write_text(_CHILD)
    return str(file)


def _lines(host: Host, what: str) -> list[dict]:
    with suppress(FileNotFoundError):
        lines = (host.folder / "log").read_text().splitlines()
        return [line for line in map(json.loads, lines) if line["what"] == what]
    return []


def _wait(condition, seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.05)


@contextmanager
def _exec(host: Host, *arguments: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    run = [*_ROTATOR, "exec", *arguments]
    with subprocess.Popen(
        run,
        cwd=host.folder,
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            for line in _lines(host, "start"):
                if _is_running(line):
                    with suppress(ProcessLookupError):
                        os.kill(line["pid"], signal.SIGKILL)
            process.kill()


def _is_running(line: dict) -> bool:
    """Whether the child that wrote this line runs: its number may be that of another process by now."""
    with suppress(OSError):
        words = Path(f"/proc/{line['pid']}/cmdline").read_bytes().split(b"\0")
        return os.fsencode(line["argv"][0]) in words
    return False


def test_the_command_gets_the_values_and_gives_its_code(host: Host, child: str):
    host.publish("app", "s3cret-value", host="db")
    with _exec(host, "shop", "--", sys.executable, child, "--json", "a b", SOME="thing") as process:
        _wait(lambda: _lines(host, "start"))
        (line,) = _lines(host, "start")
        assert line["argv"][1:] == ["--json", "a b"]
        environ = line["env"]
        assert (environ["PGUSER"], environ["PGPASSWORD"]) == ("app", "s3cret-value")
        assert (environ["PGHOST"], environ["SOME"]) == ("db", "thing")
        for pid in (process.pid, line["pid"]):
            assert b"s3cret" not in Path(f"/proc/{pid}/cmdline").read_bytes()
        assert b"s3cret" not in Path(f"/proc/{process.pid}/environ").read_bytes()
        process.send_signal(signal.SIGUSR1)
        assert process.wait(20) == 7
        assert "s3cret" not in process.stdout.read() + process.stderr.read()


@pytest.mark.parametrize(
    ("command", "code"),
    [(["sh", "-c", "exit 41"], 41), (["sh", "-c", "kill -KILL $$"], 137), (["/nowhere"], 127)],
)
def test_the_code_of_the_command_is_passed_on(host: Host, child: str, command, code):
    host.publish("app", "first-Kq83zx")
    with _exec(host, "shop", "--", *command) as process:
        assert process.wait(30) == code


def test_sigterm_reaches_the_command_and_ends_both(host: Host, child: str):
    host.publish("app", "first-Kq83zx")
    with _exec(host, "shop", "--", sys.executable, child) as process:
        _wait(lambda: _lines(host, "start"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert len(_lines(host, "term")) == 1


def test_it_waits_for_every_value_and_can_be_stopped_meanwhile(host: Host, child: str):
    host.publish("app", "first-Kq83zx")
    env = ("--env", "A={shop.password}", "--env", "B={pay.username}:{pay.password:url}")
    with _exec(host, "shop", "pay", *env, "--", sys.executable, child):
        time.sleep(2)
        assert not _lines(host, "start")
        host.publish("pay", "p w", path="pay")
        _wait(lambda: _lines(host, "start"))
        environ = _lines(host, "start")[0]["env"]
        assert (environ["A"], environ["B"]) == ("first-Kq83zx", "pay:p%20w")
        assert "PGPASSWORD" not in environ
    (host.folder / "log").unlink()
    other = Host(host.folder, host.backend)
    other.write("secrets: {never: {}}\n")
    with _exec(host, "never", "--", sys.executable, child) as process:
        assert "waits for its value" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 143
    assert not _lines(host, "start")


def test_a_change_restarts_once_after_the_check_accepts_it(host: Host, child: str):
    host.publish("app", "first-Kq83zx")
    accepts = host.folder / "accepts"
    accepts.write_text("first-Kq83zx")
    check = f"sh -c 'grep -qx \"$PGPASSWORD\" {accepts}'"
    arguments = ("shop", "--splay", "0s", "--check", check, "--", sys.executable, child)
    with _exec(host, *arguments) as process:
        _wait(lambda: _lines(host, "start"))
        host.publish("app", "second-Kq83zx")
        time.sleep(4)
        assert not _lines(host, "term")
        accepts.write_text("second-Kq83zx")
        _wait(lambda: len(_lines(host, "start")) == 2)
        passwords = [line["env"]["PGPASSWORD"] for line in _lines(host, "start")]
        assert passwords == ["first-Kq83zx", "second-Kq83zx"]
        assert len(_lines(host, "term")) == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_a_command_that_ignores_sigterm_is_killed_for_its_restart(host: Host, child: str):
    host.publish("app", "first-Kq83zx")
    arguments = ("shop", "--splay", "0s", "--kill-after", "1s", "--", sys.executable, child, "deaf")
    with _exec(host, *arguments):
        _wait(lambda: _lines(host, "start"))
        host.publish("app", "second-Kq83zx")
        _wait(lambda: len(_lines(host, "start")) == 2)
        assert len(_lines(host, "deaf")) == 1


def test_a_signal_follows_the_changed_file_and_the_folder_is_private(host: Host, child: str):
    host.publish("app", "first-Kq83zx")
    runtime = host.folder / "runtime"
    runtime.mkdir(mode=0o700)
    arguments = ("shop", "--file", "json", "--on-change", "signal:HUP", "--", sys.executable, child)
    with _exec(host, *arguments, XDG_RUNTIME_DIR=str(runtime)) as process:
        _wait(lambda: _lines(host, "start"))
        (line,) = _lines(host, "start")
        folder = Path(line["folder"])
        assert folder.parent == runtime
        assert folder.stat().st_mode & 0o777 == 0o700
        assert json.loads(line["files"]["shop.json"])["password"] == "first-Kq83zx"
        assert "PGPASSWORD" not in line["env"]
        host.publish("app", "second-Kq83zx")
        _wait(lambda: _lines(host, "hup"))
        assert (
            json.loads(_lines(host, "hup")[0]["files"]["shop.json"])["password"] == "second-Kq83zx"
        )
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert not list(runtime.glob("*exec*"))


def test_a_folder_outlives_a_killed_rotator_and_not_its_command(host: Host, child: str):
    host.publish("app", "first-Kq83zx")
    runtime = host.folder / "runtime"
    runtime.mkdir(mode=0o700)
    arguments = ("shop", "--file", "json", "--", sys.executable, child)
    environ = {"XDG_RUNTIME_DIR": str(runtime)}
    run = [*_ROTATOR, "exec", *arguments]
    first = subprocess.Popen(run, cwd=host.folder, env={**os.environ, **environ})
    _wait(lambda: _lines(host, "start"))
    first.kill()
    first.wait()
    folder = Path(_lines(host, "start")[0]["folder"])
    with _exec(host, *arguments, **environ):
        _wait(lambda: len(_lines(host, "start")) == 2)
        assert "first-Kq83zx" in (folder / "shop.json").read_text()
    _wait(lambda: not Path(f"/proc/{_lines(host, 'start')[0]['pid']}").exists())
    with _exec(host, *arguments, **environ):
        _wait(lambda: len(_lines(host, "start")) == 3)
        assert not folder.exists()


def test_the_backend_may_go_away(host: Host, child: str):
    host.publish("app", "first-Kq83zx")
    with _exec(host, "shop", "--", sys.executable, child) as process:
        _wait(lambda: _lines(host, "start"))
        for name in ("secrets.db", "secrets.db-wal", "secrets.db-shm"):
            with suppress(FileNotFoundError):
                (host.folder / name).rename(host.folder / f"away-{name}")
        time.sleep(2)
        assert process.poll() is None
        assert not _lines(host, "term")


def test_what_rotator_needs_for_the_backend_is_not_inherited(host: Host, child: str):
    host.publish("app", "first-Kq83zx")
    key = (host.folder / "rotator.key").read_text().strip()
    host.config.write_text(host.config.read_text().replace("file:rotator.key", "env:BACKEND_KEY"))
    with _exec(host, "shop", "--", sys.executable, child, BACKEND_KEY=key):
        _wait(lambda: _lines(host, "start"))
        assert "BACKEND_KEY" not in _lines(host, "start")[0]["env"]
        assert key not in (host.folder / "log").read_text()


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root and unshare"
)
def test_as_pid_1_it_reaps_orphans_and_gives_the_code(host: Host, child: str):
    host.publish("app", "first-Kq83zx")
    script = "(sleep 0.2 & ) ; (sh -c 'sleep 0.3' &) ; sleep 2; grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l; exit 9"
    run = ["unshare", "--pid", "--fork", "--mount-proc", *_ROTATOR, "exec", "shop", "--"]
    done = subprocess.run(
        [*run, "sh", "-c", script],
        cwd=host.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "unshare" in done.stderr:
        pytest.skip("no namespaces here")
    assert (done.returncode, done.stdout.strip()) == (9, "0"), done


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("shop",), "`--` and a command"),
        (("--", "true"), "expected secrets"),
        (("other", "--", "true"), "no secret 'other'"),
        (("shop", "pay", "--", "true"), "several secrets need"),
        (("shop", "--env", "A", "--", "true"), "NAME=TEMPLATE"),
        (("shop", "--env", "A B=x", "--", "true"), "invalid name"),
        (("shop", "--env", "A={password:x}", "--", "true"), "unknown conversion"),
        (("shop", "--env", "A={port}", "--", "true"), "requires 'port'"),
        (("shop", "--file", "toml", "--", "true"), "no format"),
        (("shop", "--on-change", "x", "--", "true"), "is unknown"),
        (("shop", "--on-change", "signal:X", "--", "true"), "unknown signal"),
    ],
)
def test_a_bad_request_is_refused(host: Host, child: str, arguments, words):
    host.publish("app", "s3cret-value")
    with _exec(host, *arguments) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 2, err
    assert words in err
    assert "s3cret" not in out + err


@pytest.mark.parametrize("count", [8, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.timeout(3600)
def test_the_command_has_a_working_password_wherever_rotator_is_killed(host, child, count):
    """The backend's current or previous version: rotator revokes no other."""
    chance = random.Random(11)
    host.publish("user", "password-0")
    arguments = ("shop", "--splay", "0s", "--", sys.executable, child)
    for number in range(1, count + 1):
        before = len(_lines(host, "start"))
        with _exec(host, *arguments) as process:
            _wait(lambda before=before: len(_lines(host, "start")) > before)
            host.publish("user", f"password-{number}")
            time.sleep(chance.uniform(0.0, 4.0))
            process.kill()
            process.wait()
            alive = [line for line in _lines(host, "start")[before:] if _is_running(line)]
            for line in alive:
                working = {f"password-{number}", f"password-{number - 1}"}
                assert line["env"]["PGPASSWORD"] in working
