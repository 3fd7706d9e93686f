"""Files that rotator relies on: only root or the user that it runs as may be able to change them.

As ssh does it: who can write a file, replace it in its folder, or move a folder above it, controls
rotator. Links are followed where only root or we could have made them, so that the links of
a Kubernetes volume work.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import Final

from rotator.core.errors import UsageError

_WRITTEN_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH
_OPEN_TO_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_MOST_LINKS: Final = 40
# Files that are open already, such as a shell's `<(...)`: nobody else can replace one.
_DESCRIPTORS: Final = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")
# No thread opens a file that another one has just made and is about to close.
_CREATING: Final = threading.Lock()


def read(path: Path, what: str, *, secret: bool) -> bytes:
    """Return what is in a file that nobody but root and we can change.

    `secret`: nobody else may read it either; a group may where root gives the file to it. `what` is
    how an error calls the file. Raises `UsageError`, and `OSError` where it cannot be read.
    """
    if str(path).startswith(_DESCRIPTORS):
        return path.read_bytes()
    found = _resolved(path, what)
    # What was found is no link and nobody can replace it; what is no file must not block.
    descriptor = os.open(found, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        _check_file(found, os.fstat(descriptor), what, secret=secret)
        return file.read()


def create(file: Path, what: str, *, secret: bool) -> bool:
    """Make an empty file that only its owner can open; False when there is one already.

    One that is there is checked as by `read`, and may be no link: others open it by its name. It is
    not even opened here: closing it would give up every lock that this process holds on it, and
    another process would take an SQLite database that is in use here for one that is not
    (https://sqlite.org/howtocorrupt.html, 2.2). Raises `UsageError` and `OSError`.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    require_folder(file.parent, what)
    with _CREATING:
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            status = file.lstat()
        else:
            os.close(descriptor)
            return True
    if stat.S_ISLNK(status.st_mode):
        hint = f"Use the path of the file itself: {os.path.realpath(file)}"
        raise UsageError(f"{what} {file} is a symbolic link.", hint=hint)
    _check_file(file, status, what, secret=secret)
    return False


def require_program(path: Path, what: str) -> None:
    """Check that we can run a file that nobody but root and we can change.

    Raises `UsageError`, and `OSError` where it does not exist.
    """
    found = _resolved(path, what)
    _check_file(found, found.lstat(), what, secret=False)
    if not os.access(found, os.X_OK):
        hint = f"Allow it: chmod u+x {quote(str(path))}"
        raise UsageError(f"{what} {path} is not executable.", hint=hint)


def require_folder(folder: Path, what: str) -> None:
    """Check that nobody but root and we can replace what is in a folder. Raises `UsageError`."""
    _ = _resolved(folder, what, is_folder=True)


def _resolved(path: Path, what: str, *, is_folder: bool = False) -> Path:
    """Return a path without its links. Raises `UsageError` where others could lead it elsewhere."""
    at, left, links = "/", _parts(str(path.absolute())), 0
    _check_folder(at, os.lstat(at), what, path, direct=False)
    while left:
        name = left.pop()
        if name == "..":
            at = os.path.dirname(at)  # noqa: PTH120 # a text, as there may be thousands of files
        if name in ("", ".", ".."):
            continue
        child = f"{at.rstrip('/')}/{name}"
        status = os.lstat(child)
        if not stat.S_ISLNK(status.st_mode):
            if left or is_folder:
                _check_folder(child, status, what, path, direct=len(left) + is_folder == 1)
            at = child
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        # In a folder such as /tmp everybody can make one.
        _check_owner(child, status, f"the symbolic link {child} on the path to {what} {path}")
        target = os.readlink(child)  # noqa: PTH115 # as above
        left += _parts(target)
        at = "/" if target.startswith("/") else at
    return Path(at)


def _parts(path: str) -> list[str]:
    return path.split("/")[::-1]


def _check_folder(
    folder: str, status: os.stat_result, what: str, path: Path, *, direct: bool
) -> None:
    called = f"the folder {folder} of {what} {path}"
    _check_owner(folder, status, called)
    # In one with the sticky bit nobody can replace what belongs to somebody else.
    if status.st_mode & stat.S_ISVTX:
        return
    if _others_write(status, direct=direct) and not _is_read_only(folder):
        raise _open_to(folder, status, called, "written", "chmod go-w")


def _check_file(path: Path, status: os.stat_result, what: str, *, secret: bool) -> None:
    file, called = str(path), f"{what} {path}"
    if not stat.S_ISREG(status.st_mode):
        raise UsageError(f"{called} is not a regular file.", hint="Set the path to a file.")
    _check_owner(file, status, called)
    if status.st_uid not in _trusted():
        # A file of a container's host: neither it nor its mode can be changed from here.
        return
    others = _OPEN_TO_OTHERS
    if status.st_uid == 0 != os.geteuid():
        others &= ~stat.S_IRGRP
    if secret and status.st_mode & others:
        raise _open_to(file, status, called, "read or written", "chmod 600")
    if _others_write(status, direct=True) and not _is_read_only(file):
        raise _open_to(file, status, called, "written", "chmod go-w")


def _check_owner(path: str, status: os.stat_result, called: str) -> None:
    if status.st_uid in _trusted() or _is_read_only(path):
        return
    raise UsageError(
        f"{called} is owned by another user (uid {status.st_uid}, mode {_mode(status)}).",
        hint=f"Take ownership: chown -h {os.geteuid()} {quote(path)}. Or run rotator as that user.",
    )


def _open_to(path: str, status: os.stat_result, called: str, how: str, cure: str) -> UsageError:
    return UsageError(
        f"{called} can be {how} by others (uid {status.st_uid}, mode {_mode(status)}).",
        hint=f"Restrict it: {cure} {quote(path)}",
    )


def _mode(status: os.stat_result) -> str:
    return f"{stat.S_IMODE(status.st_mode):04o}"


def _trusted() -> tuple[int, int]:
    return 0, os.geteuid()


def _is_read_only(path: str) -> bool:
    """Return whether a path is on a file system that is mounted for reading only."""
    with suppress(OSError):
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    return False


def _others_write(status: os.stat_result, *, direct: bool) -> bool:
    """Return whether somebody else than root and we may write it.

    A group may that nobody else is in, such as the one that many systems make for each user. Root
    needs none; only folders above the one that counts may have been given to an empty group.
    """
    mode = status.st_mode & _WRITTEN_BY_OTHERS
    if mode != stat.S_IWGRP:
        return bool(mode)
    return (direct and os.geteuid() == 0) or _has_others(status.st_gid)


def _has_others(group: int) -> bool:
    import grp  # noqa: PLC0415 # only for what a group can write
    import pwd  # noqa: PLC0415

    members: list[str] = []
    with suppress(KeyError):
        members = grp.getgrgid(group).gr_mem
    return any(
        (one.pw_gid == group or one.pw_name in members) and one.pw_uid not in _trusted()
        for one in pwd.getpwall()
    )
