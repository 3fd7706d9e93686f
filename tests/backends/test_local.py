"""The embedded backend: the contract, its files, its keys, and what is left after a kill."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from typing import TYPE_CHECKING, Protocol

import pytest

from rotator.api import Conflict, Denied, RotatorError, Secret, Transient, Unavailable, UsageError
from rotator.backends.local import PLUGIN, LocalBackend, LocalOptions
from rotator.backends.sealing import Keys, create_key_file, new_key
from rotator.references import Resolver
from rotator.testing.backend_suite import BackendSuite, credential, publish

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PATH = "apps/app"


class Opener(Protocol):
    """Opens the store of a test."""

    def __call__(self, *keys: Secret, keep: int = 10) -> LocalBackend: ...


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opener]:
    """Open the store of this test, as often as it is asked for, with its own key or others."""
    key, backends = new_key(), list[LocalBackend]()

    def open_one(*keys: Secret, keep: int = 10) -> LocalBackend:
        one = LocalBackend("local", tmp_path / "secrets.db", Keys(keys or [key]), keep=keep)
        backends.append(one)
        return one

    yield open_one
    for one in backends:
        one.close()


@pytest.fixture
def backend(opened: Opener) -> LocalBackend:
    return opened()


class TestContract(BackendSuite):
    """What every backend does."""

    plugin = PLUGIN

    @pytest.fixture
    def backend(self, opened: Opener) -> LocalBackend:
        """Return the backend."""
        return opened()

    @pytest.fixture
    def another(self, opened: Opener) -> LocalBackend:
        """Return a client of the same file, with connections of its own."""
        return opened()


# -- files -------------------------------------------------------------------------------------


def test_its_files_are_its_owners_only(backend: LocalBackend, tmp_path: Path):
    """The database, and what SQLite lays beside it, whatever the umask says."""
    publish(backend, _PATH, "r1", "a")
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert set(modes.values()) == {0o600}
    assert "secrets.db-wal" in modes


def test_no_secret_and_no_login_is_on_the_disk_in_plain(backend: LocalBackend, tmp_path: Path):
    """Neither password nor login nor field; the path is the place and may be read."""
    publish(backend, _PATH, "r1", "findme")
    backend.put_value("keys", "signing", Secret("findme-too"))
    held = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"findme" not in held
    assert _PATH.encode() in held


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666])
def test_a_file_that_others_can_open_is_refused(opened: Opener, tmp_path: Path, mode: int):
    """With the mode and the remedy."""
    opened().close()
    (tmp_path / "secrets.db").chmod(mode)
    with pytest.raises(UsageError, match=f"{mode:04o}") as raised:
        opened()
    assert "chmod 600" in raised.value.hint


def test_a_file_that_is_no_database_is_refused_and_left_alone(opened: Opener, tmp_path: Path):
    """Somebody gave the wrong path."""
    file = tmp_path / "secrets.db"
    file.write_bytes(b"something else entirely, of some length\n" * 100)
    file.chmod(0o600)
    before = file.read_bytes()
    with pytest.raises(Unavailable, match="not a sound database"):
        opened()
    assert file.read_bytes() == before


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path):
    """A file stands where a folder is wanted."""
    (tmp_path / "here").write_text("")
    with pytest.raises(UsageError, match="cannot be opened"):
        LocalBackend("local", tmp_path / "here" / "secrets.db", Keys([new_key()]))


def test_a_full_disk_loses_nothing_and_says_so(backend: LocalBackend):
    """What was there can still be read, and the write can be tried again."""
    version = publish(backend, _PATH, "r1", "a")
    with backend._writing() as db:  # there is no full disk to be had here
        db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').fetchone()[0]}")
    with pytest.raises(Transient, match="disk is full"):
        _fill(backend)
    current = backend.current(_PATH)
    assert current is not None
    assert current.id == version


def _fill(backend: LocalBackend) -> None:
    for number in range(200):
        backend.put_value("filler", str(number), Secret("x" * 4096))


# -- keys --------------------------------------------------------------------------------------


def test_a_key_file_is_its_owners_only_and_never_overwritten(tmp_path: Path):
    """An overwritten key would lose every value."""
    file = tmp_path / "new" / "rotator.key"
    create_key_file(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    before = file.read_text()
    with pytest.raises(UsageError, match="may be in use"):
        create_key_file(file)
    assert file.read_text() == before
    Keys([Secret(before)])


@pytest.mark.parametrize("text", ["", "short", "not base64 at all!", "QUJD" * 40])
def test_what_is_no_key_is_refused_and_not_repeated(text: str):
    """The text may be a secret."""
    with pytest.raises(UsageError, match="not 32 bytes") as raised:
        Keys([Secret(text)])
    assert not text or text not in str(raised.value)


def test_another_key_opens_nothing_and_changes_nothing(opened: Opener):
    """It says which key is missing, by its public name."""
    first, other = new_key(), new_key()
    right = opened(first)
    version = publish(right, _PATH, "r1", "a")
    wrong = opened(other)
    with pytest.raises(Unavailable, match="not among the keys given") as raised:
        wrong.current(_PATH)
    assert "old_keys" in raised.value.hint
    assert first.reveal() not in str(raised.value)
    current = right.current(_PATH)
    assert current is not None
    assert current.id == version


def test_a_new_key_seals_and_the_old_one_still_opens(opened: Opener):
    """Values move to the new key as they are superseded, or all at once by `reseal`."""
    old, new = new_key(), new_key()
    publish(opened(old), _PATH, "r1", "a")
    opened(old).put_value("keys", "signing", Secret("kept"))
    both = opened(new, old)
    publish(both, _PATH, "r2", "b")
    with pytest.raises(Unavailable):
        opened(new).read(_PATH, "1")
    assert both.reseal() == 2
    assert both.reseal() == 0
    alone = opened(new)
    assert [alone.read(_PATH, number).credential.username for number in ("1", "2")] == ["a", "b"]
    assert alone.get_value("keys", "signing") == Secret("kept")


@pytest.mark.parametrize("column", ["box", "path", "id"])
def test_a_value_that_was_changed_or_moved_does_not_open(
    backend: LocalBackend, tmp_path: Path, column: str
):
    """Whoever can write the file cannot make one secret pass for another."""
    publish(backend, _PATH, "r1", "a")
    publish(backend, "apps/other", "r2", "b")
    with sqlite3.connect(tmp_path / "secrets.db") as db:
        if column == "box":
            box = bytearray(db.execute("SELECT box FROM versions").fetchone()[0])
            box[-1] ^= 1
            db.execute("UPDATE versions SET box = ? WHERE path = ?", (bytes(box), _PATH))
        elif column == "path":
            db.execute("UPDATE versions SET path = 'moved' WHERE path = ?", (_PATH,))
            db.execute("UPDATE versions SET path = ? WHERE path = 'apps/other'", (_PATH,))
        else:
            db.execute("UPDATE versions SET id = 9")
    db.close()
    with pytest.raises(Denied, match="changed or moved"):
        backend.current(_PATH)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_key_that_others_can_read_stops_the_start(tmp_path: Path, mode: int):
    """Before the store is even opened."""
    create_key_file(tmp_path / "rotator.key")
    (tmp_path / "rotator.key").chmod(mode)
    resolver = Resolver(lambda _name: pytest.fail("no backend is asked"), tmp_path, {})
    with pytest.raises(UsageError, match=f"{mode:04o}") as raised:
        PLUGIN.open("local", LocalOptions(), resolver.secret, tmp_path)
    assert "chmod 600" in raised.value.hint
    assert not (tmp_path / "rotator-secrets.db").exists()


# -- versions ----------------------------------------------------------------------------------


def test_superseded_versions_go_when_there_are_too_many(opened: Opener):
    """As many as `keep` says stay readable, beside the current one."""
    backend = opened(keep=2)
    versions = [publish(backend, _PATH, f"r{number}", f"v{number}") for number in range(6)]
    held = [version for version in versions if backend.read(_PATH, version) is not None]
    assert held == versions[-3:]
    with pytest.raises(Conflict, match="no longer holds"):
        backend.restore(_PATH, expect=versions[-1], to=versions[0])


def test_numbers_are_never_used_again(backend: LocalBackend):
    """A version that was discarded leaves a gap: what was seen under a number stays what it was."""
    backend.stage(_PATH, "r1", credential("a"))
    backend.discard(_PATH, "r1")
    assert publish(backend, _PATH, "r2", "b") == "2"


def test_keeping_no_superseded_version_is_refused():
    """Revoke needs the previous one."""
    with pytest.raises(UsageError, match="keep"):
        LocalOptions(keep=0)


# -- processes ---------------------------------------------------------------------------------

_CLIENT = """
import sys
from pathlib import Path
from rotator.api import Secret
from rotator.backends.local import LocalBackend
from rotator.backends.sealing import Keys
from rotator.testing.backend_suite import publish

backend = LocalBackend("local", Path(sys.argv[1]), Keys([Secret(sys.stdin.readline())]))
"""
_READER = f"""{_CLIENT}
print(backend.current("apps/app").credential.username)
backend.close()
"""
_WRITER = f"""{_CLIENT}
number = 0
while True:
    number += 1
    publish(backend, "apps/app", sys.argv[2] + f"-{{number}}", sys.argv[2] + f"-{{number}}")
    print(number, flush=True)
"""


def _reads(folder: Path, key: Secret) -> str:
    """Return whose credential another process finds."""
    command = [sys.executable, "-c", _READER, str(folder / "secrets.db")]
    done = subprocess.run(
        command, input=key.reveal(), stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout.strip()


def test_a_second_client_in_one_process_takes_no_locks_away_from_the_first(
    tmp_path: Path, opened: Opener
):
    """Or the next process would throw away the file in which the first still writes."""
    key = new_key()
    first = opened(key)
    publish(first, _PATH, "r1", "a")
    opened(key).close()
    assert _reads(tmp_path, key) == "a"
    publish(first, _PATH, "r2", "b")
    assert _reads(tmp_path, key) == "b"


def test_a_writer_killed_at_any_moment_leaves_a_sound_store(tmp_path: Path, opened: Opener):
    """What it said was published is there, whole, and the next writer goes on."""
    key = new_key()
    for turn in range(10):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path / "secrets.db"), f"turn{turn}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdin is not None
        assert writer.stdout is not None
        writer.stdin.write(key.reveal() + "\n")
        writer.stdin.flush()
        lines = [writer.stdout.readline() for _ in range(5 + turn)]
        os.kill(writer.pid, signal.SIGKILL)
        # Not by `communicate`: it would pass over what `readline` has read ahead.
        lines += writer.stdout.read().splitlines()
        writer.stdin.close()
        writer.stdout.close()
        writer.wait()
        backend = opened(key)
        current = backend.current(_PATH)
        assert current is not None
        name, _, number = current.credential.username.partition("-")
        assert name == f"turn{turn}"
        # One more may have been committed than there was time to say.
        assert int(number) - int(lines[-1]) in (0, 1)
        assert current.credential.password == credential(current.credential.username).password


def test_every_error_of_a_broken_store_is_ours(backend: LocalBackend, tmp_path: Path):
    """No driver error comes through, whatever is asked."""
    publish(backend, _PATH, "r1", "a")
    with sqlite3.connect(tmp_path / "secrets.db") as db:
        db.execute("DROP TABLE versions")
    db.close()
    for ask in (
        lambda: backend.current(_PATH),
        lambda: backend.stage(_PATH, "r2", credential("b")),
        lambda: backend.publish(_PATH, "r1", expect=None),
        lambda: backend.discard(_PATH, "r1"),
    ):
        with pytest.raises(RotatorError, match="backend 'local'"):
            ask()
