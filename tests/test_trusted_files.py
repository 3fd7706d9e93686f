"""Files that rotator relies on: who owns them, who can write them, and where links lead."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import pytest

from rotator import trusted_files
from rotator.api import Secret, UsageError
from rotator.backends.encryption import Keys, create_key_file, new_key
from rotator.backends.local import LocalBackend
from rotator.bootstrap import initialise
from rotator.config.loader import load_file
from rotator.config.model import ConfigError
from rotator.journal.sql import SqlJournal
from rotator.plugins import backend_plugin, rotation_plugin
from rotator.references import Resolver
from rotator.system import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable

_ANOTHER = 4711
_CONFIG = "version: 1\nbackends: {}\ntargets: {}\nsecrets: {}\n"
_IS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")


def _configuration(folder: Path) -> Path:
    file = folder / "rotator.yaml"
    if not os.path.lexists(file):
        file.write_text(_CONFIG)
    load_file(file, rotation_plugin, backend_plugin)
    return file


def _included(folder: Path) -> Path:
    main = folder.parent.parent / "main.yaml"
    main.write_text(f"{_CONFIG}include: {folder}/more.yaml\n")
    file = folder / "more.yaml"
    if not os.path.lexists(file):
        file.write_text("policies: {}\n")
    load_file(main, rotation_plugin, backend_plugin)
    return file


def _journal(folder: Path) -> Path:
    SqlJournal("sqlite:///j.db", clock=SystemClock(), actor="test", base=folder).close()
    return folder / "j.db"


def _backend(folder: Path) -> Path:
    LocalBackend("local", folder / "s.db", Keys([new_key()])).close()
    return folder / "s.db"


def _reference(folder: Path) -> Path:
    file = folder / "password"
    if not os.path.lexists(file):
        file.write_text("a secret\n")
        file.chmod(0o600)
    found = Resolver(lambda _name: pytest.fail("no backend"), folder, {}).secret("file:password")
    assert found == Secret("a secret")
    return file


# What opens a file, making it where it is not there; what it is; whether it holds secrets; whether
# it may be a link.
_READERS: dict[str, tuple[Callable[[Path], Path], bool, bool]] = {
    "configuration": (_configuration, False, True),
    "included": (_included, False, True),
    "journal": (_journal, False, False),
    "backend": (_backend, True, False),
    "reference": (_reference, True, True),
}


@pytest.fixture(params=_READERS)
def reader(request: pytest.FixtureRequest) -> tuple[Callable[[Path], Path], bool, bool]:
    """Each kind of file that rotator relies on."""
    return _READERS[request.param]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of ours."""
    made = tmp_path / "above" / "folder"
    made.mkdir(parents=True)
    return made


def _refused(read: Callable[[Path], Path], folder: Path) -> str:
    with pytest.raises((UsageError, ConfigError)) as raised:
        read(folder)
    error = raised.value
    if isinstance(error, ConfigError):
        return " ".join(f"{one.message} {one.remedy}" for one in error.problems)
    return f"{error.what} {error.hint}"


@pytest.mark.parametrize("mode", [0o666, 0o602, 0o620, 0o664, 0o622])
def test_a_file_that_others_can_write_is_refused(
    reader: tuple[Callable[[Path], Path], bool, bool], folder: Path, mode: int
):
    """With its name, owner and mode, and the command that closes it."""
    read, is_secret, _ = reader
    file = read(folder)
    file.chmod(mode)
    message = _refused(read, folder)
    assert str(file) in message
    assert f"uid {os.geteuid()}, mode {mode:04o}" in message
    assert (f"chmod 600 {file}" if is_secret else f"chmod go-w {file}") in message
    file.chmod(0o600 if is_secret else 0o644)
    read(folder)


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o644])
def test_only_what_is_secret_may_not_be_read_by_others(
    reader: tuple[Callable[[Path], Path], bool, bool], folder: Path, mode: int
):
    """A configuration holds no secret, and an auditor may read the journal."""
    read, is_secret, _ = reader
    read(folder).chmod(mode)
    if is_secret:
        assert f"mode {mode:04o}" in _refused(read, folder)
    else:
        read(folder)


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o757])
@pytest.mark.parametrize("up", [0, 1])
def test_a_folder_that_others_can_write_is_refused_with_all_that_is_in_it(
    reader: tuple[Callable[[Path], Path], bool, bool], folder: Path, mode: int, up: int
):
    """Who can write it, or one above it, can put another file there. A sticky one is safe."""
    read, _, _ = reader
    read(folder)
    where = (folder, folder.parent)[up]
    where.chmod(mode)
    if mode == 0o775 and up and os.geteuid() == 0:
        # The group root, in which nobody else is.
        read(folder)
        return
    message = _refused(read, folder)
    assert f"the folder {where} of" in message
    assert f"mode {mode:04o}" in message
    assert f"chmod go-w {where}" in message
    where.chmod(mode | stat.S_ISVTX)
    read(folder)


@_IS_ROOT
@pytest.mark.parametrize("mode", [0o600, 0o644, 0o666])
def test_a_file_of_another_user_is_refused(
    reader: tuple[Callable[[Path], Path], bool, bool], folder: Path, mode: int
):
    """Whatever its mode."""
    read, _, _ = reader
    file = read(folder)
    os.chown(file, _ANOTHER, 0)
    file.chmod(mode)
    message = _refused(read, folder)
    assert f"is owned by another user (uid {_ANOTHER}, mode {mode:04o})" in message
    assert f"chown -h 0 {file}" in message


@_IS_ROOT
def test_a_folder_of_another_user_is_refused(
    reader: tuple[Callable[[Path], Path], bool, bool], folder: Path
):
    """It could move the file away and put another one there."""
    read, _, _ = reader
    read(folder)
    os.chown(folder, _ANOTHER, 0)
    assert f"the folder {folder} of" in _refused(read, folder)


def test_links_are_followed_only_for_what_is_read_once(
    reader: tuple[Callable[[Path], Path], bool, bool], folder: Path
):
    """As Kubernetes makes them: a link to a link in a folder that only root or we can write."""
    read, _, may_be_link = reader
    file = read(folder)
    (folder / "..2026").mkdir()
    file.rename(folder / "..2026" / file.name)
    (folder / "..data").symlink_to("..2026")
    file.symlink_to(f"..data/{file.name}")
    if may_be_link:
        read(folder)
        (folder / "..2026").chmod(0o777)
        assert "..2026" in _refused(read, folder)
    else:
        assert "is a symbolic link" in _refused(read, folder)


def test_a_dangling_link_makes_no_file_elsewhere(
    reader: tuple[Callable[[Path], Path], bool, bool], folder: Path, tmp_path: Path
):
    """Somebody else would have chosen where the journal is kept."""
    read, _, may_be_link = reader
    elsewhere = tmp_path / "elsewhere"
    file = read(folder)
    for one in folder.iterdir():
        one.unlink()
    file.symlink_to(elsewhere)
    message = _refused(read, folder)
    assert may_be_link or "is a symbolic link" in message
    assert not elsewhere.exists()


@_IS_ROOT
def test_a_link_that_another_user_made_is_refused(folder: Path, tmp_path: Path):
    """Also in a folder like /tmp, where the sticky bit keeps files but not new links."""
    ours = _reference(folder)
    shared = tmp_path / "tmp"
    shared.mkdir()
    shared.chmod(0o1777)
    link = shared / "password"
    link.symlink_to(ours)
    assert trusted_files.read(link, "the secret file", secret=True) == b"a secret\n"
    os.chown(link, _ANOTHER, 0, follow_symlinks=False)
    with pytest.raises(UsageError, match=r"the symbolic link .* is owned by another user"):
        trusted_files.read(link, "the secret file", secret=True)


def test_a_path_that_is_no_file_does_not_block(folder: Path):
    """Such as a pipe that nobody writes to."""
    os.mkfifo(folder / "password", 0o600)
    assert "not a regular file" in _refused(_reference, folder)


def test_a_descriptor_of_ours_is_read(folder: Path):
    """A shell's `<(...)`."""
    del folder
    reading, writing = os.pipe()
    os.write(writing, b"a secret")
    os.close(writing)
    assert trusted_files.read(Path(f"/dev/fd/{reading}"), "it", secret=True) == b"a secret"
    os.close(reading)


def test_a_loop_of_links_is_an_error_of_the_system(folder: Path):
    """As `open` would say it."""
    (folder / "password").symlink_to("password")
    assert "password (Too many levels of symbolic links)" in _refused(_reference, folder)


@_IS_ROOT
def test_a_group_reads_what_root_gives_to_it(folder: Path):
    """As with `fsGroup`, and with systemd's credentials: root owns the file, a group may read it."""
    file = folder / "password"
    file.write_text("a secret\n")
    os.chown(file, 0, _ANOTHER)
    for mode, works in ((0o440, True), (0o640, True), (0o444, False), (0o660, False)):
        file.chmod(mode)
        with mock.patch.object(os, "geteuid", return_value=_ANOTHER):
            if works:
                assert trusted_files.read(file, "it", secret=True) == b"a secret\n"
            else:
                with pytest.raises(UsageError):
                    trusted_files.read(file, "it", secret=True)


@_IS_ROOT
def test_a_group_of_ours_alone_may_write(folder: Path):
    """Many systems give each user such a group, and files are made group-writable then."""
    file = folder / "rotator.yaml"
    file.write_text(_CONFIG)
    for path in (folder, file):
        os.chown(path, _ANOTHER, _ANOTHER)
    folder.chmod(0o775)
    file.chmod(0o664)
    with mock.patch.object(os, "geteuid", return_value=_ANOTHER):
        assert trusted_files.read(file, "it", secret=False)
        with (
            mock.patch("grp.getgrgid", return_value=mock.Mock(gr_mem=["nobody"])),
            pytest.raises(UsageError, match="mode 0775"),
        ):
            trusted_files.read(file, "it", secret=False)


def test_nothing_is_made_in_a_folder_that_others_can_write(tmp_path: Path):
    """`rotator init` refuses before it writes a key there."""
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(UsageError, match="mode 0777"):
        initialise(folder / "rotator.yaml", _CONFIG)
    assert list(folder.iterdir()) == []


def test_a_key_file_that_was_made_by_us_is_read(folder: Path):
    """Whatever the umask was."""
    create_key_file(folder / "password")
    Keys([Resolver(lambda _name: pytest.fail("none"), folder, {}).secret("file:password")])
