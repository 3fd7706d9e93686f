"""A folder in memory that only its owner can open, for a command and its children."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rotator.agent import files

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rotator.core.secret import Secret

_PREFIX: Final = "rotator-exec-"
_LOCK: Final = ".lock"


class PrivateFolder:
    """Mode 0700, in $XDG_RUNTIME_DIR or /dev/shm. It lives as long as somebody holds its lock.

    The command inherits the lock: where `rotator exec` is killed, the folder stays for the command,
    and the next `rotator exec` of this user removes it once the command has ended.
    """

    def __init__(self) -> None:
        """Create it, and remove those of commands that have ended."""
        base = runtime_folder()
        _remove_abandoned(base)
        new = Path(tempfile.mkdtemp(prefix=".rotator-new-", dir=base))
        self._lock: int = os.open(new / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        os.set_inheritable(self._lock, True)  # its only argument
        # Only now others look at it, and find it locked.
        self.path: Path = new.rename(base / f"{_PREFIX}{secrets.token_hex(8)}")

    def write(self, contents: Mapping[str, Secret]) -> None:
        """Replace each file that changed. Raises `SinkError`."""
        for name, content in contents.items():
            _ = files.write_file(self.path / name, content, files.Access(), before=lambda: None)

    def remove(self) -> None:
        """Remove it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def runtime_folder() -> Path:
    """Return a folder in memory for this user's private files; the temporary folder where there is none."""
    given = os.environ.get("XDG_RUNTIME_DIR", "")
    for folder in (Path(given) if given.startswith("/") else None, Path("/dev/shm")):  # noqa: S108 # tmpfs
        if folder is not None and folder.is_dir() and os.access(folder, os.W_OK | os.X_OK):
            return folder
    return Path(tempfile.gettempdir())


def _remove_abandoned(base: Path) -> None:
    for folder in base.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            status = folder.lstat()
            if status.st_uid != os.geteuid() or not stat.S_ISDIR(status.st_mode):
                continue
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
