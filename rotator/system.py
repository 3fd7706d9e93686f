"""The outside world behind the ports: the system's clock, its randomness, who we are."""

from __future__ import annotations

import grp
import os
import pwd
import resource
import secrets
import socket
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rotator.core.access import OS, Actor

_SEPARATOR: Final = "/"
# Field 22 of /proc/PID/stat, counted from behind the parenthesised command name (proc(5)).
_START_TIME_FIELD: Final = 19
# Its number, see the manual page prctl(2).
_PR_SET_DUMPABLE: Final = 4


class SystemClock:
    """The system's clock."""

    def now(self) -> datetime:
        """Return the time of day in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds since the machine started."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


class SystemEntropy:
    """The system's cryptographic random numbers."""

    def below(self, limit: int) -> int:
        """Return a whole number from 0 to `limit - 1`."""
        return secrets.randbelow(limit)

    def token(self, size: int) -> bytes:
        """Return `size` random bytes."""
        return secrets.token_bytes(size)


def holder() -> str:
    """Return a name for this process that no other process ever has.

    Boot id, pid namespace, pid and the process's start time; a random part tells apart two
    engines in one process.
    """
    parts = (
        _boot(),
        _namespace(),
        str(os.getpid()),
        _start_time(os.getpid()) or "?",
        secrets.token_hex(4),
    )
    return _SEPARATOR.join(parts)


def is_dead(name: str) -> bool:
    """Return whether the process that called itself `name` is known to be gone.

    Only a process of this machine, this boot and this pid namespace can be known; False for any
    other, and for a name that `holder` did not make.
    """
    parts = name.split(_SEPARATOR)
    if len(parts) != 5 or "?" in parts or "" in parts or not parts[2].isdecimal():  # noqa: PLR2004 # as `holder` makes it
        return False
    boot, namespace, pid, started, _ = parts
    if (boot, namespace) != (_boot(), _namespace()):
        return False
    found = _start_time(int(pid))
    return _is_gone(int(pid)) if found is None else found != started


def actor(face: str) -> Actor:
    """Return who acts: the system's user with its groups, on this host.

    The kernel says who that is: an environment variable such as USER does not count.
    """
    try:
        entry = pwd.getpwuid(os.getuid())
        user, numbers = entry.pw_name, os.getgroups()
    except (OSError, KeyError):
        user, numbers = f"uid {os.getuid()}", os.getgroups()
    groups: list[str] = []
    for number in dict.fromkeys((os.getgid(), *numbers)):
        with suppress(KeyError):
            groups.append(grp.getgrgid(number).gr_name)
    host = socket.gethostname()
    return Actor(subject=user, method=OS, face=face, host=host, groups=tuple(groups))


def forbid_dumps() -> None:
    """Leave no image of this process's memory: no core file, and nothing that its user's debuggers read.

    Where a system has no such thing, it is as it was.
    """
    with suppress(OSError, ValueError):
        # Looked at first: a sandbox that has set it may forbid the call that sets it.
        if resource.getrlimit(resource.RLIMIT_CORE) != (0, 0):
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "linux":
        return
    with suppress(ImportError, MemoryError, OSError, AttributeError):
        import ctypes  # noqa: PLC0415 # only here

        _ = ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def tell_systemd(state: str) -> None:
    """Send a state to systemd, where it has started us (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as link:
            link.connect(address)
            link.sendall(state.encode())
    except OSError:
        pass


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "?"


def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").stat().st_ino)
    except OSError:
        return "?"


def _start_time(pid: int) -> str | None:
    """Return when a process started, in ticks; empty for a zombie, None when it is not to be seen."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    # A zombie holds no lock any more: it is dead, its parent has just not looked yet.
    return "" if fields[0] == "Z" else fields[_START_TIME_FIELD]


def _is_gone(pid: int) -> bool:
    """Ask the kernel: where /proc hides other users' processes (hidepid), unseen is not dead."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False
