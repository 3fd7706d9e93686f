"""The console as a process of its own: how soon a page hears of a step, and what SIGKILL leaves."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx2 as httpx

from tests.web.conftest import PASSPHRASE

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.web.conftest import Site


@contextmanager
def served(site: Site) -> Generator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    """Run `rotator web run` over the journal of a site; yield the process and a client of it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    config = site.cli.folder / "console.yaml"
    config.write_text(
        "version: 1\njournal: {url: 'sqlite:///rotator.db'}\n"
        f"web: {{listen: '127.0.0.1:{port}'}}\n"
    )
    command = [sys.executable, "-m", "rotator", "web", "run", "-c", str(config)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        assert process.stderr is not None
        # The line of its log says that it listens.
        begun = json.loads(process.stderr.readline())
        assert begun["url"] == url
        with httpx.Client(base_url=url, trust_env=False, headers={"origin": url}) as client:
            yield process, client
    finally:
        process.kill()
        _ = process.communicate()


def test_a_step_is_told_within_two_seconds_and_a_kill_loses_only_the_page(site: Site):
    """Server-sent events after a commit; then SIGKILL in the middle of the stream, and all is intact, sessions too."""
    site.rotate("app")
    with served(site) as (process, client):
        form = client.get("/sign-in")
        token = re.search(r'name="token" value="([^"]+)"', form.text)
        assert token is not None
        values = {"name": "viewer", "password": PASSPHRASE, "token": token[1]}
        assert client.post("/sign-in", data=values).status_code == 303
        with client.stream("GET", "/events", timeout=10) as stream:
            lines = stream.iter_lines()
            assert "event: ready" in [next(lines), next(lines)]
            site.cli("park", "app", "--reason", "vendor works on it")
            committed = time.monotonic()
            assert any(line == "event: journal" for line in lines)
            assert time.monotonic() - committed < 2
            assert "vendor works on it" in client.get("/journal").text
            process.send_signal(signal.SIGKILL)
            _ = process.wait(timeout=10)
        cookies = dict(client.cookies)
    site.cli("audit", "verify")
    with served(site) as (process, client):
        assert client.get("/healthz").text == "ok\n"
        client.cookies.update(cookies)
        assert client.get("/").status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
