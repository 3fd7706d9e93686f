"""Who holds a lock, and whether that process is known to be gone: on real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from rotator import system

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_NAME_AND_WAIT = """
import sys
from rotator import system
print(system.holder(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def child() -> Iterator[subprocess.Popen[str]]:
    """A process that prints its holder's name and lives until its input is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", _NAME_AND_WAIT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with process:
        yield process
        process.kill()


def _name(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def test_a_living_process_is_not_dead(child: subprocess.Popen[str]):
    """Its lock is respected."""
    assert not system.is_dead(_name(child))


def test_this_process_is_not_dead():
    """Two engines in one process do not take each other's lock."""
    assert not system.is_dead(system.holder())


def test_a_process_that_was_killed_is_dead(child: subprocess.Popen[str]):
    """After SIGKILL its lock is taken over at once, without waiting for it to expire."""
    name = _name(child)
    child.kill()
    child.wait()
    assert system.is_dead(name)


def test_a_zombie_is_dead(child: subprocess.Popen[str]):
    """It holds nothing any more, though its parent has not looked yet."""
    name = _name(child)
    child.kill()
    # Waits for the end and leaves the zombie where it is.
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert system.is_dead(name)


def test_a_reused_process_number_is_another_holder(child: subprocess.Popen[str]):
    """Another process with the number of a dead one has another start time."""
    boot, namespace, pid, start, drawn = _name(child).split("/")
    earlier = "/".join((boot, namespace, pid, str(int(start) - 1), drawn))
    assert system.is_dead(earlier)


@pytest.mark.parametrize("part", [0, 1], ids=["another boot or machine", "another container"])
def test_a_process_elsewhere_is_never_known_to_be_dead(child: subprocess.Popen[str], part: int):
    """Its number means nothing here; only its lock's end frees the secret."""
    parts = _name(child).split("/")
    child.kill()
    child.wait()
    parts[part] = "elsewhere"
    assert not system.is_dead("/".join(parts))


@pytest.mark.parametrize(
    "name",
    ["", "cron", "a/b/c", "?/?/1/1/x", "/////", "a/b/c/d/e/f", "host/1/not-a-number/2/x", "🔑"],
)
def test_a_name_that_we_did_not_make_is_never_dead(name: str):
    """Anything else that is found in a journal is left in peace."""
    assert not system.is_dead(name)


def test_a_number_that_is_none_is_never_dead():
    """Right machine, nonsense for a process number."""
    boot, namespace, _, start, drawn = system.holder().split("/")
    assert not system.is_dead(f"{boot}/{namespace}/-1/{start}/{drawn}")
    assert not system.is_dead(f"{boot}/{namespace}/{10**30}/{start}/{drawn}")
    assert not system.is_dead(f"{boot}/{namespace}/²/{start}/{drawn}")


def test_a_process_that_proc_hides_is_not_dead(
    child: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
):
    """With `hidepid` another user's process is not to be seen in /proc, and lives all the same."""
    name = _name(child)
    monkeypatch.setattr(system, "_start_time", lambda _pid: None)
    assert not system.is_dead(name)
    child.kill()
    child.wait()
    assert system.is_dead(name)


def test_no_holder_is_dead_where_the_machine_is_not_known(monkeypatch: pytest.MonkeyPatch):
    """Without a pid namespace or a start time, a process number means nothing."""
    boot, namespace, pid, _, drawn = system.holder().split("/")
    monkeypatch.setattr(system, "_namespace", lambda: "?")
    assert not system.is_dead(f"{boot}/?/{pid}/1/{drawn}")
    monkeypatch.setattr(system, "_start_time", lambda _pid: None)
    assert system.holder().split("/")[3] == "?"
    assert not system.is_dead(f"{boot}/{namespace}/{pid}/?/{drawn}")


def test_every_holder_has_a_name_of_its_own():
    """Also two threads of one process."""
    names: list[str] = []
    threads = [threading.Thread(target=lambda: names.append(system.holder())) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(names)) == 20


def test_the_actor_names_the_face_and_the_host():
    """The journal names it as the actor."""
    actor = system.actor("cli")
    assert str(actor) == f"cli:{actor.subject}@{actor.host}"
    assert actor.method == "os"


def test_no_environment_variable_changes_the_actor(monkeypatch: pytest.MonkeyPatch):
    """Roles are given by it."""
    before = system.actor("cli")
    for name in ("USER", "LOGNAME", "LNAME", "USERNAME", "SUDO_USER"):
        monkeypatch.setenv(name, "somebody")
    assert system.actor("cli") == before


def test_an_actor_without_a_user_name_has_its_number(monkeypatch: pytest.MonkeyPatch):
    """In a container there may be no name for the user."""

    def nobody(_number: int) -> object:
        raise KeyError

    monkeypatch.setattr(system.pwd, "getpwuid", nobody)
    assert str(system.actor("daemon")).startswith(f"daemon:uid {os.getuid()}@")


def test_the_clock_is_in_utc_and_goes_on():
    """Aware, in UTC, and monotonic."""
    clock = system.SystemClock()
    assert clock.now().tzinfo is UTC
    assert abs(clock.now() - datetime.now(UTC)).total_seconds() < 5
    before = clock.monotonic()
    clock.sleep(0)
    assert clock.monotonic() >= before


def test_entropy_stays_below_its_limit():
    """Every number below the limit comes up, none at or above it."""
    entropy = system.SystemEntropy()
    assert {entropy.below(3) for _ in range(500)} == {0, 1, 2}
    assert len(entropy.token(16)) == 16
    assert entropy.token(16) != entropy.token(16)


_LOOK = """
import resource, sys
from unittest import mock
from rotator.faces.cli import command, program

def look(*_):
    import ctypes
    dumpable = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
    print(limits[resource.RLIMIT_CORE], dumpable)
    raise SystemExit(0)

# Only a process that may do more can raise a limit again, which a test before may have lowered.
limits = {resource.RLIMIT_CORE: (1024, resource.RLIM_INFINITY)}
with (
    mock.patch.object(resource, "getrlimit", limits.__getitem__),
    mock.patch.object(resource, "setrlimit", limits.__setitem__),
    mock.patch.object(command, "set_up_logs", look),
):
    program.run(sys.argv[1:])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_a_process_leaves_no_image_of_its_memory(tmp_path: Path):
    """No core file, and nothing that a debugger of the same user could read."""
    done = subprocess.run(
        [sys.executable, "-c", _LOOK, "daemon"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert done.stdout == "(0, 0) 0\n"
