"""The demo as a newcomer runs it: what it tells, and that nothing of it stays."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest


def _start(scratch: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "rotator", "demo", *arguments],
        env={**os.environ, "TMPDIR": str(scratch)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _left(scratch: Path) -> list[str]:
    """Return what is left of a demo: files, and processes that were started in its folder."""
    found = [str(one) for one in scratch.rglob("*")]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            folder = str((process / "cwd").readlink())
        except OSError:
            continue
        if str(scratch) in line or folder.startswith(str(scratch)):
            found.append(line)
    return found


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    # An ordinary user runs the server when root starts the demo.
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    made = tmp_path / "scratch"
    made.mkdir()
    made.chmod(0o1777)
    return made


def test_a_leaked_password_goes_from_the_code_to_its_proof(scratch: Path):
    """Found, moved, killed and rejected, in less than a minute; nothing stays."""
    process = _start(scratch, "--leak", "--json")
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    data: dict[str, Any] = json.loads(out)["data"]
    assert [one["ok"] for one in data["scenes"]] == [True] * 5
    assert data["rejected_after"] <= 5
    assert data["proven_after"] <= 15
    assert data["sessions_ended"] == 1
    assert _left(scratch) == []


def test_the_demo_shows_what_it_says_and_leaves_nothing(scratch: Path):
    """No failed login for strategies that overlap, every old credential refused, a sound journal."""
    process = _start(scratch, "--json")
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    data: dict[str, Any] = json.loads(out)["data"]
    assert data["rotations"] >= 9
    assert data["client_failures"]["new-user"] == 0
    assert data["client_failures"]["alternating-users"] == 0
    assert data["client_failures"]["pool"] == 0
    assert data["client_failures"]["single-user with the client library"] == 0
    assert min(data["client_logins"].values()) > 10
    assert data["old_refused"] >= 9
    assert data["resumed"] >= 1
    assert data["audit_ok"] is True
    assert data["audit_events"] > 100
    assert _left(scratch) == []


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"]
)
def test_an_interrupted_demo_leaves_nothing(scratch: Path, signum: int, code: int):
    """Neither files nor the server nor a half-killed rotation."""
    process = _start(scratch)
    assert process.stdout is not None
    try:
        for _ in range(2):
            assert process.stdout.readline()
        # As a terminal does: everybody in the foreground gets it.
        os.killpg(process.pid, signum)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    # Where the interrupt strikes in code that Python evaluates from text, it ends by the signal
    # itself in the end, which a shell shows as the same code.
    assert process.returncode in (code, -signum), err
    assert "Traceback" not in err
    assert _left(scratch) == []


def test_the_demo_can_be_seen_in_a_browser(scratch: Path):
    """The printed user signs in and sees the demo's secrets; the console ends with the demo."""
    process = _start(scratch, "--web")
    assert process.stdout is not None
    try:
        said = next(line for line in process.stdout if "http://" in line)
        found = re.search(
            r"(?P<url>http://\S+), user (?P<name>\w+), password (?P<password>\w+)", said
        )
        assert found is not None
        jar = urllib.request.HTTPCookieProcessor()
        browser = urllib.request.build_opener(urllib.request.ProxyHandler({}), jar)
        form = browser.open(f"{found['url']}/sign-in").read().decode()
        token = re.search(r'name="token" value="([^"]+)"', form)
        assert token is not None
        given = {"token": token[1], "name": found["name"], "password": found["password"]}
        request = urllib.request.Request(  # noqa: S310 # the address that the demo printed
            f"{found['url']}/sign-in",
            data=urllib.parse.urlencode(given).encode(),
            headers={"Origin": found["url"]},
        )
        browser.open(request).close()
        page = browser.open(f"{found['url']}/secrets").read().decode()
        assert all(f"/secrets/{name}" in page for name in ("web", "batch", "legacy", "pool"))
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in err
    assert _left(scratch) == []
    with pytest.raises(OSError, match="refused"):
        browser.open(f"{found['url']}/sign-in")
