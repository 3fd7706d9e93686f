"""docker-compose.yml is what the Compose client takes it for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from rotator.config import load

_FILE = Path(__file__).parents[2] / "docker-compose.yml"


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


def _config(*options: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*_client(), "-f", str(_FILE), *options, "config"],
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


def test_the_compose_file_holds_no_password():
    """Without them it does not start."""
    done = _config()
    assert done.returncode != 0
    assert "PASSWORD" in done.stderr


def test_the_profile_has_two_daemons_and_a_worker():
    """Read-only, without capabilities, by a configuration that rotator takes."""
    wanted = set(re.findall(r"\$\{(\w+):\?", _FILE.read_text()))
    done = _config("--profile", "rotator", **dict.fromkeys(wanted, "made-up"))
    assert done.returncode == 0, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    ours = {name: one for name, one in services.items() if "rotator" in one.get("profiles", ())}
    assert "journal-role.sql" in str(ours.pop("rights"))
    assert "console-role.sql" in str(services["rights"])
    consoles = {name: ours.pop(name) for name in ("console", "certificate")}
    assert set(ours) == {"upgrade", "daemon-1", "daemon-2", "worker"}
    assert all(one["read_only"] and one["cap_drop"] == ["ALL"] for one in ours.values())
    assert not any(one.get("ports") for one in ours.values())
    settings = load(_FILE.parent / "deploy" / "compose" / "rotator.yaml")
    assert settings.daemon.dispatch == "procrastinate"
    assert all(one["read_only"] and one["cap_drop"] == ["ALL"] for one in consoles.values())


def test_the_console_is_in_a_network_with_the_journal_alone():
    """It reaches no backend and no target, has their passwords nowhere, and is published on loopback."""
    wanted = set(re.findall(r"\$\{(\w+):\?", _FILE.read_text()))
    done = _config("--profile", "rotator", **dict.fromkeys(wanted, "made-up"))
    services = yaml.safe_load(done.stdout)["services"]
    console = services["console"]
    assert set(console["networks"]) == {"journal"}
    beside = {name for name, one in services.items() if "journal" in one.get("networks", ())}
    assert beside == {"console", "audit"}
    assert set(console["environment"]) == {"CONSOLE_PASSWORD"}
    settings = load(_FILE.parent / "deploy" / "compose" / "console.yaml")
    assert (settings.backends, settings.targets, settings.requests.key) == ({}, {}, None)
    assert settings.web.origin == "https://127.0.0.1:9466"
