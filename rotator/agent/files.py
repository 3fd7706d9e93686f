"""Replaces files and folders as a whole: a reader sees the old content or the new one, nothing between."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import secrets
import shutil
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rotator.agent.errors import SinkError
from rotator.core.errors import UsageError
from rotator.core.secret import Secret

_ENDING: Final = ".rotator-tmp"
_LARGEST: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Mode and owner of a file. None is the agent's own user or group."""

    mode: int = 0o600
    owner: int | None = None
    group: int | None = None

    @property
    def uid(self) -> int:
        """The owner's number."""
        return os.geteuid() if self.owner is None else self.owner

    @property
    def gid(self) -> int:
        """The group's number."""
        return os.getegid() if self.group is None else self.group


def user_id(name: str | None) -> int | None:
    """Return the number of a user. Raises `UsageError`."""
    try:
        return (
            None if name is None else int(name) if name.isdecimal() else pwd.getpwnam(name).pw_uid
        )
    except KeyError:
        raise UsageError(f"there is no user {name!r} on this host.") from None


def group_id(name: str | None) -> int | None:
    """Return the number of a group. Raises `UsageError`."""
    try:
        return (
            None if name is None else int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid
        )
    except KeyError:
        raise UsageError(f"there is no group {name!r} on this host.") from None


def write_file(file: Path, content: Secret, access: Access, *, before: Callable[[], None]) -> bool:
    """Replace a file; return whether it changed. `before` is called right before the new one appears.

    Raises `SinkError`; the old file is then whole.
    """
    with _reported(file):
        _forget(file)
        if _is_unchanged(file, content, access):
            return False
        temporary = _temporary(file)
        try:
            _create(temporary, content, access)
            before()
            temporary.replace(file)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        sync_folder(file.parent)
    return True


def write_folder(
    link: Path, contents: Mapping[str, Secret], access: Access, *, before: Callable[[], None]
) -> bool:
    """Replace what a symbolic link leads to by a new folder; return whether it changed.

    The folder before it stays until `remove_old_folders`. Raises `SinkError`; the link then still
    leads to the old one.
    """
    with _reported(link):
        if link.exists() and not link.is_symlink():
            raise SinkError(
                f"{link} is not a symbolic link.",
                hint="Remove it, or choose another name: the agent creates the link itself.",
            )
        if _is_same_folder(link, contents, access):
            return False
        folder = link.parent / f".{link.name}.{secrets.token_hex(8)}"
        folder.mkdir(mode=0o700)
        temporary = _temporary(link)
        try:
            for name, content in contents.items():
                _create(folder / name, content, access)
            _give(folder, access, _folder_mode(access.mode))
            sync_folder(folder)
            before()
            temporary.symlink_to(folder.name)
            temporary.replace(link)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
            raise
        sync_folder(link.parent)
    return True


def remove_old_folders(link: Path) -> None:
    """Remove what the link led to before, and what a crash left behind."""
    with _reported(link):
        _forget(link)
        current = link.readlink().name if link.is_symlink() else ""
        for folder in link.parent.glob(f".{link.name}.*"):
            token = folder.name.removeprefix(f".{link.name}.")
            is_ours = len(token) == 16 and set(token) <= set("0123456789abcdef")  # noqa: PLR2004 # as made above
            if is_ours and folder.name != current and not folder.is_symlink():
                shutil.rmtree(folder, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def _temporary(file: Path) -> Path:
    return file.with_name(f".{file.name}.{secrets.token_hex(8)}{_ENDING}")


def _forget(file: Path) -> None:
    """Remove temporary files that a crash left behind."""
    for leftover in file.parent.glob(f".{file.name}.*{_ENDING}"):
        with suppress(OSError):
            leftover.unlink()


def _create(file: Path, content: Secret, access: Access) -> None:
    """Create a file that has its owner and mode before it has content."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(file, flags, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        _give(descriptor, access, access.mode)
        opened.write(content.reveal().encode())
        opened.flush()
        os.fsync(descriptor)


def _give(target: int | Path, access: Access, mode: int) -> None:
    status = os.stat(target)  # noqa: PTH116 # also a descriptor
    if (status.st_uid, status.st_gid) != (access.uid, access.gid):
        os.chown(target, access.uid, access.gid)
    # After the owner, because a change of the owner may clear bits.
    os.chmod(target, mode)  # noqa: PTH101 # as above


def _folder_mode(mode: int) -> int:
    """Return the mode of a folder whose files have `mode`: who may read may also enter."""
    return mode | (mode & 0o444) >> 2


def _is_unchanged(file: Path, content: Secret, access: Access) -> bool:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise SinkError(
                f"{file} is a symbolic link.", hint="Set `file` to the path that it leads to."
            ) from None
        if error.errno == errno.EACCES:
            # It may be replaced, though not read.
            return False
        raise
    with os.fdopen(descriptor, "rb") as opened:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise SinkError(f"{file} is not a regular file.", hint="Choose another path.")
        owners = (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode))
        return owners == (access.uid, access.gid, access.mode) and (
            opened.read(_LARGEST) == content.reveal().encode()
        )


def _is_same_folder(link: Path, contents: Mapping[str, Secret], access: Access) -> bool:
    if not link.is_symlink() or not link.is_dir():
        return False
    folder = link.resolve()
    names = {file.name for file in folder.iterdir()}
    return names == set(contents) and all(
        _is_unchanged(folder / name, content, access) for name, content in contents.items()
    )


_CAUSES: Final = {
    errno.ENOENT: ("its folder does not exist", "Create it: mkdir -p {folder}"),
    errno.ENOTDIR: ("its folder is not a folder", "Choose another path."),
    errno.EBUSY: (
        "it is a mount point, which cannot be replaced",
        "Mount the folder {folder} in place of the single file.",
    ),
    errno.EXDEV: (
        "it is a mount point, which cannot be replaced",
        "Mount the folder {folder} in place of the single file.",
    ),
    errno.EACCES: ("its folder is not writable", "Check: ls -ld {folder}"),
    errno.EROFS: ("its file system is read-only", "Choose a path on a writable one."),
    errno.EPERM: (
        "its owner, group or mode cannot be set",
        "Run the agent as root or as that user, and look at the folder: ls -ld {folder}",
    ),
    errno.ENOSPC: ("the disk is full", "Free disk space: df {folder}"),
    errno.EDQUOT: ("the disk quota is used up", "Free disk space: df {folder}"),
    errno.EISDIR: ("it is a folder", "Remove it, or choose another path."),
}


class _reported:  # noqa: N801 # reads as a verb in `with`
    """Reports an error of the system about a file as a `SinkError`."""

    def __init__(self, file: Path) -> None:
        self._file: Path = file

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if not isinstance(error, OSError):
            return
        what, hint = _CAUSES.get(error.errno or 0, (error.strerror or type(error).__name__, ""))
        raise SinkError(
            f"{self._file} could not be written: {what}.",
            hint=hint.format(folder=self._file.parent),
            safety="The old file is unchanged.",
        ) from None
