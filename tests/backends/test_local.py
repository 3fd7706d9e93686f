"""The embedded backend: the contract, its files, its keys, and what is left after a kill."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from rotator.api import (
    Conflict,
    Credential,
    Denied,
    RotatorError,
    Secret,
    Severity,
    Transient,
    Unavailable,
    UsageError,
    time_limit,
)
from rotator.backends import manifest
from rotator.backends.encryption import Keys, create_key_file, new_key
from rotator.backends.local import PLUGIN, LocalBackend, LocalOptions
from rotator.references import Resolver
from rotator.testing.backend_suite import BackendSuite, credential, publish

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
    with pytest.raises(Unavailable, match="corrupt or not a database"):
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
    with pytest.raises(Unavailable, match="which is not configured") as raised:
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


# -- who else writes to the file ----------------------------------------------------------------

_OTHER = "apps/other"
_ATTACKS = {
    "what is pending is made current": (
        "UPDATE versions SET stage = NULL WHERE path = 'apps/app' AND stage = 'current'",
        "UPDATE versions SET stage = 'current' WHERE path = 'apps/app' AND stage = 'pending'",
    ),
    "the previous version is made current": (
        "UPDATE versions SET stage = NULL WHERE path = 'apps/app' AND stage = 'current'",
        "UPDATE versions SET stage = 'current' WHERE path = 'apps/app' AND stage = 'previous'",
    ),
    "the newest version is removed": (
        "DELETE FROM versions WHERE path = 'apps/app' AND stage = 'current'",
        "UPDATE versions SET stage = 'current' WHERE path = 'apps/app' AND stage = 'previous'",
    ),
    "the pending version is removed": (
        "DELETE FROM versions WHERE path = 'apps/app' AND stage = 'pending'",
    ),
    "the current version is nobody's": (
        "UPDATE versions SET stage = NULL WHERE path = 'apps/app' AND stage = 'current'",
    ),
    "another rotation wrote it": (
        "UPDATE versions SET rotation_id = 'forged' WHERE path = 'apps/app' AND stage = 'current'",
    ),
    "it was written at another time": (
        "UPDATE versions SET created = '2020-01-01T00:00:00+00:00' WHERE path = 'apps/app'",
    ),
    "two versions change places": (
        "UPDATE versions SET id = 99 WHERE path = 'apps/app' AND id = 1",
        "UPDATE versions SET id = 1 WHERE path = 'apps/app' AND id = 2",
        "UPDATE versions SET id = 2 WHERE path = 'apps/app' AND id = 99",
    ),
    "the manifest is removed": ("DELETE FROM manifests WHERE path = 'apps/app'",),
    "the manifest is that of another path": (
        "DELETE FROM manifests WHERE path = 'apps/app'",
        "UPDATE manifests SET path = 'apps/app' WHERE path = 'apps/other'",
    ),
    "numbers are to be used again": ("UPDATE manifests SET last = 1 WHERE path = 'apps/app'",),
    "a version is marked as one from before the manifests": (
        "UPDATE versions SET origin = 2 WHERE path = 'apps/app'",
    ),
}


def _forge(folder: Path, *statements: str) -> None:
    with sqlite3.connect(folder / "secrets.db") as db:
        for statement in statements:
            db.execute(statement)
    db.close()


def _filled(backend: LocalBackend) -> None:
    publish(backend, _PATH, "r1", "a")
    publish(backend, _PATH, "r2", "b")
    backend.stage(_PATH, "r3", credential("c"))
    publish(backend, _OTHER, "r4", "d")
    backend.put_value(_OTHER, "signing", Secret("kept"))


@pytest.mark.parametrize("name", _ATTACKS)
def test_what_was_changed_from_outside_is_neither_served_nor_written_over(
    backend: LocalBackend, tmp_path: Path, name: str
):
    """Without the key, a writer of the file decides nothing; other paths work."""
    _filled(backend)
    _forge(tmp_path, *_ATTACKS[name])
    for ask in (
        lambda: backend.current(_PATH),
        lambda: backend.previous(_PATH),
        lambda: backend.staged(_PATH, "r3"),
        lambda: backend.read(_PATH, "1"),
        lambda: backend.rotation_ids(_PATH),
        lambda: backend.served(_PATH),
        lambda: backend.stage(_PATH, "r5", credential("e")),
        lambda: backend.publish(_PATH, "r3", expect="2"),
        lambda: backend.restore(_PATH, expect="2", to="1"),
        lambda: backend.discard(_PATH, "r3"),
        lambda: backend.remove(_PATH, expect="2"),
        lambda: backend.put_value(_PATH, "field", Secret("value")),
        backend.reseal,
    ):
        with pytest.raises(Denied, match=r"'apps/app' .* changed or moved"):
            ask()
    if "another path" not in name:
        assert backend.current(_OTHER).credential.username == "d"
        assert backend.get_value(_OTHER, "signing") == Secret("kept")


def test_an_earlier_single_value_is_not_taken_for_the_newest(backend: LocalBackend, tmp_path: Path):
    """Such as the journal's anchor before events were cut off."""
    backend.put_value("rotator/audit", "anchor", Secret("first"))
    with sqlite3.connect(tmp_path / "secrets.db") as db:
        before = db.execute("SELECT * FROM kept").fetchone()
        backend.put_value("rotator/audit", "anchor", Secret("second"))
        db.execute("DELETE FROM kept")
        db.execute(f"INSERT INTO kept VALUES ({', '.join('?' * len(before))})", before)
    db.close()
    with pytest.raises(Denied, match="changed or moved"):
        backend.get_value("rotator/audit", "anchor")


def _read_all(backend: LocalBackend) -> dict[str, object]:
    """Return all that the backend says, each answer or our own error."""

    def asked(ask: Callable[[], object]) -> object:
        try:
            return ask()
        except RotatorError as error:
            return type(error)

    said: dict[str, object] = {}
    for path in (_PATH, _OTHER):
        said |= {
            f"{path} current": asked(lambda path=path: backend.current(path)),
            f"{path} previous": asked(lambda path=path: backend.previous(path)),
            f"{path} staged": asked(lambda path=path: backend.staged(path, "r3")),
            f"{path} 1": asked(lambda path=path: backend.read(path, "1")),
            f"{path} rotations": asked(lambda path=path: backend.rotation_ids(path)),
            f"{path} signing": asked(lambda path=path: backend.get_value(path, "signing")),
        }
    return said


def _others(value: object) -> list[object]:
    """Return what may be written in the place of a value."""
    found: list[object] = [
        b"",
        b"\xff\xfe",
        "",
        "\ud800".encode("utf-8", "surrogatepass"),
        7,
        1.5,
        None,
    ]
    if isinstance(value, bytes):
        found += [value[:-1], value[:20], bytes([value[0] ^ 1, *value[1:]]), bytes(len(value))]
    return [*found, f"{value}x", value + 1 if isinstance(value, int) else "current"]


def test_no_change_of_any_column_brings_another_answer(backend: LocalBackend, tmp_path: Path):
    """Whatever is written anywhere: each answer stays what it was, or is an error of ours."""
    _filled(backend)
    whole = _read_all(backend)
    assert RotatorError not in map(type, whole.values())
    tried = 0
    db = sqlite3.connect(tmp_path / "secrets.db", isolation_level=None)
    db.execute("PRAGMA synchronous = OFF")
    for table in ("versions", "kept", "manifests"):
        columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
        rows = db.execute(f"SELECT rowid, * FROM {table}").fetchall()
        for number, *values in rows:
            for column, value in zip(columns, values, strict=True):
                for other in _others(value):
                    update = f"UPDATE {table} SET {column} = ? WHERE rowid = ?"
                    try:
                        db.execute(update, (other, number))
                    except sqlite3.IntegrityError:
                        continue
                    for name, said in _read_all(backend).items():
                        refused = said in (Denied, Unavailable)
                        gone = column == "path" and said in (None, set())
                        assert refused or gone or said == whole[name], (table, column, other, name)
                    db.execute(update, (value, number))
                    tried += 1
    db.close()
    assert tried > 200
    assert _read_all(backend) == whole


@pytest.mark.parametrize("box", [b"", b"short", "a text", 7, b"\0" * 300])
def test_a_damaged_box_is_named_and_hides_no_other(
    backend: LocalBackend, tmp_path: Path, box: object
):
    """Its path and version are named; other versions of the path are read, and `doctor` goes on."""
    _filled(backend)
    with sqlite3.connect(tmp_path / "secrets.db") as db:
        db.execute("UPDATE versions SET box = ? WHERE path = ? AND id = 1", (box, _PATH))
    db.close()
    with pytest.raises(Denied, match="version 1 of 'apps/app'"):
        backend.read(_PATH, "1")
    assert backend.current(_PATH).credential.username == "b"
    found = backend.examine({_PATH: None, _OTHER: None})
    (error,) = [one for one in found if one.severity is Severity.ERROR]
    assert "version 1 of 'apps/app'" in error.message
    assert error.remedy


def test_lengths_on_the_disk_tell_nothing_of_passwords(backend: LocalBackend, tmp_path: Path):
    """Up to the size of a block all are the same."""
    for length in (1, 8, 64, 120):
        new = Credential(username="u", password=Secret("p" * length), fields={})
        backend.stage(f"apps/{length}", "r1", new)
        backend.put_value(f"apps/{length}", "value", Secret("v" * length))
    with sqlite3.connect(tmp_path / "secrets.db") as db:
        for table in ("versions", "kept"):
            assert len(db.execute(f"SELECT DISTINCT length(box) FROM {table}").fetchall()) == 1
    db.close()


# -- files from before manifests ----------------------------------------------------------------

_BEFORE = Path(__file__).with_name("without_manifests.sqlite")


def _fixture_key(name: str) -> Secret:
    return Secret(base64.urlsafe_b64encode(hashlib.sha256(name.encode()).digest()).decode())


_KEY, _OLDER_KEY = _fixture_key("key of the fixture"), _fixture_key("older key of the fixture")


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """A file that rotator wrote before there were manifests."""
    file = tmp_path / "secrets.db"
    shutil.copyfile(_BEFORE, file)
    file.chmod(0o600)
    return file


def _on_disk(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(folder.iterdir()))


def _boxes(file: Path) -> list[bytes]:
    with sqlite3.connect(file) as db:
        found = [
            row[0] for row in db.execute("SELECT box FROM versions UNION SELECT box FROM kept")
        ]
    db.close()
    return found


def test_a_file_from_before_manifests_upgrades_itself(before: Path, opened: Opener):
    """Everything is there, and what nobody can vouch for is marked until it is superseded."""
    boxes = _boxes(before)
    backend = opened(_KEY, _OLDER_KEY)
    current, previous = backend.current(_PATH), backend.previous(_PATH)
    assert current is not None
    assert previous is not None
    assert (current.id, current.rotation_id) == ("2", "r2")
    assert current.credential.password == credential("app-2").password
    assert previous.credential.password == credential("app-1").password
    assert backend.staged(_PATH, "r3") == credential("app-3")
    assert backend.get_value("rotator/audit", "private_key") == Secret("a signing key")
    assert backend.get_value("rotator/audit", "anchor") == Secret("an anchor")
    assert backend.rotation_ids("apps/often") == {"often-4", "often-5", "often-6", "often-7"}
    assert publish(backend, "apps/given-up", "r5", "another") == "2"
    assert not any(box in _on_disk(before.parent) for box in boxes)

    def marked() -> list[str]:
        found = backend.examine({_PATH: None, "apps/given-up": None})
        return [one.subject for one in found if "before this file had manifests" in one.message]

    assert marked() == [f"backend local, {_PATH}"]
    backend.publish(_PATH, "r3", expect="2")
    assert marked() == [f"backend local, {_PATH}"]
    publish(backend, _PATH, "r6", "app-4")
    assert marked() == []
    again = opened(_KEY)
    assert again.previous(_PATH).credential == credential("app-3")


def test_a_file_from_before_manifests_is_left_alone_without_any_of_its_keys(
    before: Path, opened: Opener
):
    """Manifests under the key of another file would lock the right one out."""
    held = before.read_bytes()
    with pytest.raises(Unavailable, match="which is not configured"):
        opened(new_key())
    assert before.read_bytes() == held
    assert opened(_KEY, _OLDER_KEY).current(_PATH) is not None


def test_a_version_whose_key_is_missing_at_the_upgrade_can_be_read_later(
    before: Path, opened: Opener
):
    """It stays as it was, with everything around it authenticated."""
    without = opened(_KEY)
    assert without.current(_PATH).credential == credential("app-2")
    with pytest.raises(Unavailable, match="old_keys"):
        without.previous(_PATH)
    with pytest.raises(Unavailable, match="old_keys"):
        without.reseal()
    both = opened(_KEY, _OLDER_KEY)
    assert both.previous(_PATH).credential == credential("app-1")
    assert both.get_value("rotator/audit", "private_key") == Secret("a signing key")
    assert both.reseal() > 0
    assert opened(_KEY).previous(_PATH).credential == credential("app-1")


def test_an_upgrade_that_is_cut_off_is_made_again(
    before: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch
):
    """It is one transaction."""
    save, calls = manifest.save, []

    def cut_off(*args: object, **given: object) -> None:
        calls.append(args)
        if len(calls) > 2:
            raise Transient("the power failed.")
        save(*args, **given)

    monkeypatch.setattr(manifest, "save", cut_off)
    with pytest.raises(Transient, match="power"):
        opened(_KEY, _OLDER_KEY)
    monkeypatch.undo()
    assert opened(_KEY, _OLDER_KEY).current(_PATH).credential == credential("app-2")


def test_several_that_open_it_at_once_upgrade_it_once(before: Path, opened: Opener):
    """The others find it done."""
    with ThreadPoolExecutor(4) as pool:
        backends = list(pool.map(lambda _: opened(_KEY, _OLDER_KEY), range(4)))
    assert [one.current(_PATH).id for one in backends] == ["2"] * 4


@pytest.mark.parametrize(
    ("statements", "error"),
    [
        (["PRAGMA user_version = 0"], "another program changed it"),
        (["PRAGMA user_version = 9"], "newer rotator"),
    ],
)
def test_a_file_whose_format_is_not_ours_is_refused(
    opened: Opener, tmp_path: Path, statements: list[str], error: str
):
    """Nobody turns the upgrade against what was written with manifests."""
    publish(opened(), _PATH, "r1", "a")
    _forge(tmp_path, *statements)
    with pytest.raises((Denied, Unavailable), match=error):
        opened()


def test_a_file_that_is_made_to_look_older_serves_nothing(opened: Opener, tmp_path: Path):
    """Boxes that were written with manifests are bound to more than the older ones."""
    publish(opened(), _PATH, "r1", "a")
    _forge(
        tmp_path,
        "DROP TABLE manifests",
        "ALTER TABLE versions DROP COLUMN origin",
        "ALTER TABLE kept DROP COLUMN origin",
        "ALTER TABLE kept DROP COLUMN number",
        "CREATE TABLE counters (path TEXT PRIMARY KEY, last INTEGER NOT NULL)",
        "PRAGMA user_version = 0",
    )
    with pytest.raises(Denied, match="version 1 of 'apps/app'"):
        opened().current(_PATH)


# -- what is thrown away ------------------------------------------------------------------------


def test_after_a_reseal_nothing_of_retired_keys_is_in_the_file(opened: Opener, tmp_path: Path):
    """Neither values under them, nor their names, nor what was thrown away before."""
    old, new = new_key(), new_key()
    backend = opened(old, keep=1)
    boxes: list[bytes] = []
    for number in range(6):
        publish(backend, _PATH, f"r{number}", f"v{number}")
        backend.put_value("keys", "signing", Secret(f"value {number}"))
        boxes += _boxes(tmp_path / "secrets.db")
    backend.close()
    both = opened(new, old)
    both.reseal()
    held = _on_disk(tmp_path)
    assert [box for box in boxes if box in held] == []
    assert Keys([old]).newest.encode() not in held
    assert opened(new).current(_PATH).credential == credential("v5")
    backend.close()


def test_a_reseal_that_leaves_older_values_behind_says_so(opened: Opener, tmp_path: Path):
    """Another process that reads keeps them in the file; the next reseal removes them."""
    old, new = new_key(), new_key()
    publish(opened(old), _PATH, "r1", "a")
    (box,) = _boxes(tmp_path / "secrets.db")
    both = opened(new, old)
    reader = sqlite3.connect(tmp_path / "secrets.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM versions").fetchall()
    with time_limit(0.2), pytest.raises(Transient, match="still contains older values") as raised:
        both.reseal()
    assert "rotator reseal local" in raised.value.hint
    reader.close()
    assert both.reseal() == 0
    assert box not in _on_disk(tmp_path)


@pytest.mark.parametrize("raw", [bytes(32), b"a" * 32, b"secret!!" * 4], ids=["zeros", "a", "word"])
def test_a_key_that_is_not_random_is_refused_but_opens_what_it_has_sealed(
    opened: Opener, raw: bytes
):
    """Else nobody could get away from it."""
    weak = Secret(base64.urlsafe_b64encode(raw).decode())
    with pytest.raises(UsageError, match="not random") as raised:
        Keys([weak])
    assert "old_keys" in raised.value.hint
    assert opened(new_key(), weak).reseal() == 0


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
from rotator.backends.encryption import Keys
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
