"""From `init` to a verified export, on a real PostgreSQL."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from rotator.testing.postgres import ScratchPostgres
from tests.cli.installed_program import APP_PASSWORD, Real, prepare

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def server() -> Iterator[ScratchPostgres]:
    """A server with an application's roles."""
    with ScratchPostgres() as started:
        with started.connect() as admin:
            admin.execute("ALTER SYSTEM SET log_statement = 'all'")
            admin.execute("SELECT pg_reload_conf()")
        prepare(started)
        yield started


@pytest.fixture
def rotator(tmp_path: Path, server: ScratchPostgres) -> Real:
    """A folder that `init` has been run in."""
    real = Real(folder=tmp_path, server=server)
    real("init")
    real.configure()
    return real


def _logs_in(rotator: Real, login: str, password: str) -> bool:
    try:
        rotator.server.connect(user=login, password=password).close()
    except psycopg.OperationalError:
        return False
    return True


def test_a_secret_goes_from_init_to_a_verified_export(rotator: Real):
    """With a rotation, a rollback and a revoke."""
    assert "2 secrets, 1 target, 1 backend" in rotator("check").out
    assert rotator.json("doctor", "app").data["errors"] == 0
    adopted = rotator("adopt", "app", "--username", "app", "--password-from", "env:APP_PASSWORD")
    assert "login app is adopted" in adopted.out
    before = rotator.roles()
    assert "CREATE ROLE" in rotator("plan", "app").out
    assert rotator.roles() == before

    rotated = rotator("rotate", "app", "--reason", "the first one", process=True)
    assert "stays valid until" in rotated.out
    login = rotator("get", "app", "--field", "username").out
    password = rotator("get", "app", "--field", "password", "--reveal").out
    assert _logs_in(rotator, login, password)
    assert _logs_in(rotator, "app", APP_PASSWORD)
    assert password not in rotated.out + rotated.err
    assert rotator.json("status", "app").data["secrets"][0]["state"] == "grace"
    assert "the first one" in rotator("history", "app").out
    assert rotator.json("verify", "app").data["secrets"][0]["accepted"] is True

    assert "Login app is the current one again" in rotator("rollback", "app").out
    assert "was rejected" in rotator("revoke", "app").out
    assert not _logs_in(rotator, login, password)
    assert _logs_in(rotator, "app", APP_PASSWORD)

    rotator("rotate", "app")
    assert "was rejected" in rotator("revoke", "app").out
    assert not _logs_in(rotator, "app", APP_PASSWORD)

    assert rotator.json("audit", "verify").data["ok"] is True
    exported = rotator.json("audit", "export", "--out", "proof").data
    (rotator.folder / "key.pub").write_text(exported["public_key"])
    elsewhere = Real(folder=rotator.folder / "proof", server=rotator.server)
    verified = elsewhere.json(
        "audit", "verify", "--export", ".", "--public-key", "../key.pub", process=True
    ).data
    assert verified["ok"] is True
    assert verified["signatures_checked"] is True
    events = next((rotator.folder / "proof").glob("events.*"))
    events.write_bytes(events.read_bytes().replace(b"the first one", b"the First one"))
    assert elsewhere.json("audit", "verify", "--export", ".", code=1).data["damage"]
    assert password not in rotator.server.log_text()


def test_no_password_is_visible_to_other_processes(rotator: Real):
    """Not in `ps`, in the environment of other processes, or in the output."""
    rotator.configure(grace="0s", admin="postgres")
    rotator.environ["ROTATOR_ADMIN_PASSWORD"] = rotator.server.superuser_password
    arguments = ("rotate", "app", "--log-level", "debug")
    seen, said, passwords = set[bytes](), "", set[str]()
    for _ in range(3):
        with rotator.start(*arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            while process.poll() is None:
                seen |= _visible(ours=process.pid)
            assert process.stdout is not None
            said += process.stdout.read()
        assert process.returncode == 0, said
        passwords.add(rotator("get", "app", "--field", "password", "--reveal").out)
    assert any(b"rotate\0app" in one for one in seen)
    kept = [one.read_bytes() for one in rotator.folder.iterdir() if one.name != "rotator.key"]
    everything = b"".join([*seen, *kept, said.encode(), rotator.server.log_text().encode()])
    assert len(passwords) == 3
    for password in (*passwords, rotator.server.superuser_password):
        assert password.encode() not in everything


def _visible(*, ours: int) -> set[bytes]:
    """Return every command line on this machine, and every environment but that of one process."""
    found: set[bytes] = set()
    for process in Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ"):
            if name == "environ" and int(process.name) in (ours, os.getpid()):
                continue
            with suppress(OSError):
                found.add((process / name).read_bytes())
    return found


def test_a_csv_export_can_be_verified(rotator: Real):
    """It holds the same proof."""
    rotator("adopt", "app", "--username", "stranger_a", "--password-from", "env:NOBODY", code=2)
    exported = rotator.json("audit", "export", "--out", "proof", "--format", "csv").data
    assert any(one.endswith("events.csv") for one in exported["files"])
    assert rotator.json("audit", "verify", "--export", "proof").data["ok"] is True
    assert "not empty" in rotator("audit", "export", "--out", "proof", code=2).err
    assert "manifest" in rotator("audit", "verify", "--export", "nowhere", code=2).err


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"]
)
def test_an_interrupted_wait_reports_the_state_of_the_rotation(
    rotator: Real, signum: int, code: int
):
    """The process leaves at once, says how it goes on, and holds no lock."""
    rotator.configure(admin="postgres")
    rotator.environ["ROTATOR_ADMIN_PASSWORD"] = rotator.server.superuser_password
    rotator("rotate", "app")
    process = rotator.start(
        "rotate", "app", "--wait", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        deadline = time.monotonic() + 30
        while rotator.json("status", "app").data["secrets"][0]["state"] != "grace":
            assert time.monotonic() < deadline
        process.send_signal(signum)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == code
    assert "publish finished" in out
    assert "is open" in err
    assert "The new credential is published and valid." in err
    assert "rotator resume app" in err
    assert "Traceback" not in err
    assert "was rejected" in rotator("revoke", "app").out


def test_a_terminal_shows_live_progress_and_keeps_the_result(rotator: Real):
    """The result is in color unless NO_COLOR is set, and there is no log."""
    rotator.configure(admin="postgres")
    rotator.environ |= {
        "ROTATOR_ADMIN_PASSWORD": rotator.server.superuser_password,
        "TERM": "xterm-256color",
    }
    shown = _on_a_terminal(rotator, "rotate", "app")
    assert "rotated." in shown
    assert "\x1b[" in shown
    assert '"event"' not in shown
    rotator.environ["NO_COLOR"] = "1"
    assert "\x1b[32m" not in _on_a_terminal(rotator, "status")
    assert _on_a_terminal(rotator, "get", "app", "--field", "username").endswith("\r\n")


def test_adopt_prompts_for_the_password_on_a_terminal(rotator: Real):
    """The terminal does not echo it."""
    with rotator.server.connect() as admin:
        admin.execute("CREATE ROLE legacy LOGIN PASSWORD 'password-of-legacy'")
    try:
        arguments = ("adopt", "app", "--username", "legacy", "--password-from", "prompt")
        shown = _on_a_terminal(rotator, *arguments, typed="password-of-legacy\n")
    finally:
        with rotator.server.connect() as admin:
            admin.execute("DROP ROLE legacy")
    assert "Password:" in shown
    assert "password-of-legacy" not in shown
    assert "login legacy is adopted" in shown


def _on_a_terminal(rotator: Real, *arguments: str, typed: str = "") -> str:
    primary, secondary = pty.openpty()
    with subprocess.Popen(
        rotator.command(*arguments),
        cwd=rotator.folder,
        env=rotator.environ,
        stdin=secondary,
        stdout=secondary,
        stderr=secondary,
    ) as process:
        os.close(secondary)
        shown = b""
        try:
            while piece := os.read(primary, 65536):
                shown += piece
                if typed and b"Password" in shown:
                    os.write(primary, typed.encode())
                    typed = ""
        except OSError:
            pass  # Linux says so when the last writer has closed its end.
        finally:
            os.close(primary)
    assert process.returncode == 0, shown
    return shown.decode()
