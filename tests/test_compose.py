"""docker-compose.yml is what the Compose client takes it for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

_FILE = Path(__file__).parents[1] / "docker-compose.yml"


def _client() -> list[str]:
    """Return the client, as Docker's plugin or as Debian's package."""
    docker, compose = shutil.which("docker"), shutil.which("docker-compose")
    if docker is not None:
        found = subprocess.run([docker, "compose", "version"], capture_output=True, check=False)
        if found.returncode == 0:
            return [docker, "compose"]
    if compose is None:
        pytest.skip("no Compose client: apt-get install docker-compose")
    return [compose]


def _config(**environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*_client(), "-f", str(_FILE), "config"],
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_file_is_valid_and_binds_to_loopback_only():
    """By the client's own reading, with every password given."""
    wanted = set(re.findall(r"\$\{(\w+):\?", _FILE.read_text()))
    assert wanted
    done = _config(**dict.fromkeys(wanted, "made-up"))
    assert done.returncode == 0, done.stderr
    published = re.findall(r"(?m)^ +- (\S+:\d+:\d+)(?:/tcp)?$|host_ip: (\S+)", done.stdout)
    assert published
    assert all("127.0.0.1" in "".join(one) for one in published)


def test_no_password_is_made_up_for_anybody():
    """Without them it does not start."""
    done = _config()
    assert done.returncode != 0
    assert "PASSWORD" in done.stderr
