"""What the embedded backend's file holds: its tables, and the manifest that authenticates each path.

A box proves its value and its place. That a version is current, which rotation wrote it and when,
and that none is missing, is what the path's manifest says: one row with an authentication code over
all of it, and a counter that each change of the path moves on.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from rotator.api import Denied, RotatorError, Unavailable
from rotator.backends.encryption import Sealed

if TYPE_CHECKING:
    import sqlite3

    from rotator.backends.encryption import Keys

# SQLite's `user_version`: 0 in files without manifests, of rotator 0.1 before its release.
_FORMAT: Final = 1
# What a value's `origin` may be: written with a manifest; before there were any, and encrypted anew
# when the file was upgraded; the same, but left as it was because its key was missing.
WRITTEN: Final = 0
UPGRADED: Final = 1
UNOPENED: Final = 2

_TABLES: Final = (
    """CREATE TABLE versions (
    path TEXT NOT NULL, id INTEGER NOT NULL, rotation_id TEXT NOT NULL, stage TEXT,
    created TEXT NOT NULL, key_id TEXT NOT NULL, box BLOB NOT NULL, origin INTEGER NOT NULL,
    PRIMARY KEY (path, id))""",
    "CREATE UNIQUE INDEX one_version_a_rotation ON versions (path, rotation_id)",
    """CREATE UNIQUE INDEX one_version_a_stage ON versions (path, stage)
    WHERE stage IN ('current', 'previous')""",
    """CREATE TABLE kept (
    path TEXT NOT NULL, field TEXT NOT NULL, key_id TEXT NOT NULL, box BLOB NOT NULL,
    number INTEGER NOT NULL, origin INTEGER NOT NULL,
    PRIMARY KEY (path, field))""",
    """CREATE TABLE manifests (
    path TEXT PRIMARY KEY, counter INTEGER NOT NULL, last INTEGER NOT NULL,
    key_id TEXT NOT NULL, mac BLOB NOT NULL)""",
)
_UPGRADE: Final = (
    f"ALTER TABLE versions ADD COLUMN origin INTEGER NOT NULL DEFAULT {UNOPENED}",
    "ALTER TABLE kept ADD COLUMN number INTEGER NOT NULL DEFAULT 0",
    f"ALTER TABLE kept ADD COLUMN origin INTEGER NOT NULL DEFAULT {UNOPENED}",
    _TABLES[-1],
)
# Lengths of passwords and logins are not seen in lengths of boxes.
_BLOCK: Final = 256
# What is neither text nor number was not written by us: it only has to be different.
_JSON: Final = json.JSONEncoder(default=repr)


class VersionEntry(NamedTuple):
    """What is known of a version but its value, as in the table."""

    id: int
    rotation_id: str
    stage: str | None
    created: str
    origin: int

    def bound(self, path: str) -> str:
        """Return what the box of this version is bound to."""
        if self.origin == UNOPENED:
            return _text([path, str(self.id)])
        return _text(["version", path, self.id, self.rotation_id, self.created, self.origin])


class KeptEntry(NamedTuple):
    """What is known of a single value but the value. `number`: the counter when it was written."""

    field: str
    number: int
    origin: int

    def bound(self, path: str) -> str:
        """Return what the box of this value is bound to."""
        if self.origin == UNOPENED:
            return _text([path, self.field])
        return _text(["kept", path, self.field, self.number, self.origin])


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything that is at one path. `last`: the newest version's number, also of one that is gone."""

    path: str
    counter: int = 0
    last: int = 0
    versions: tuple[VersionEntry, ...] = ()
    kept: tuple[KeptEntry, ...] = ()

    def staged(self, stage: str) -> VersionEntry | None:
        """Return the version with this stage."""
        return next((one for one in self.versions if one.stage == stage), None)

    def version(self, number: int) -> VersionEntry | None:
        """Return the version with this number."""
        return next((one for one in self.versions if one.id == number), None)

    def of_rotation(self, rotation_id: str) -> VersionEntry | None:
        """Return the version that this rotation wrote."""
        return next((one for one in self.versions if one.rotation_id == rotation_id), None)

    def value(self, field: str) -> KeptEntry | None:
        """Return the single value of this name."""
        return next((one for one in self.kept if one.field == field), None)

    def text(self) -> str:
        """Return what the authentication code is made over."""
        return _text(["manifest", self.path, self.counter, self.last, self.versions, self.kept])


def load(db: sqlite3.Connection, keys: Keys, path: str, where: str) -> Manifest:
    """Return what is at a path. Raises `Denied` where rotator did not write it so."""
    row = db.execute(
        "SELECT counter, last, key_id, mac FROM manifests WHERE path = ?", (path,)
    ).fetchone()
    counter, last, key_id, mac = row or (0, 0, "", b"")
    found = _entries(db, path, counter, last)
    what = f"the data of {where} at {path!r}"
    if row is not None:
        keys.require(Sealed(key_id=key_id, box=mac), found.text(), what)
    elif found.versions or found.kept:
        raise Denied(
            f"{what} has no manifest: it was changed or moved.",
            hint="Find out who can write to the backend's file, and restore it from a backup.",
        )
    return found


def save(db: sqlite3.Connection, keys: Keys, before: Manifest, *, last: int | None = None) -> None:
    """Authenticate what is now at a path, in the transaction that loaded and changed it."""
    last = before.last if last is None else last
    now = _entries(db, before.path, before.counter + 1, last)
    code = keys.mac(now.text())
    db.execute(
        "INSERT INTO manifests VALUES (?, ?, ?, ?, ?) ON CONFLICT (path) DO UPDATE SET"
        " counter = excluded.counter, last = excluded.last, key_id = excluded.key_id,"
        " mac = excluded.mac",
        (now.path, now.counter, now.last, code.key_id, code.box),
    )


def paths(db: sqlite3.Connection) -> list[str]:
    """Return every path at which something is, or was."""
    query = "SELECT path FROM manifests UNION SELECT path FROM versions UNION SELECT path FROM kept"
    return [cast("str", row[0]) for row in db.execute(query).fetchall()]


def pad(plain: bytes) -> bytes:
    """Fill JSON up with blanks to whole blocks."""
    return plain + b" " * (-len(plain) % _BLOCK)


def prepare(db: sqlite3.Connection, keys: Keys, where: str) -> bool:
    """Make the tables, or upgrade those of a file without manifests; return whether it was upgraded."""
    found = _format(db)
    if found == _FORMAT:
        return False
    if found > _FORMAT:
        raise Unavailable(
            f"{where} was written by a newer rotator (format {found}).",
            hint="Install that version again.",
        )
    db.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have been first.
        upgraded = _format(db) != _FORMAT and _prepare(db, keys, where)
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")
    return upgraded


def _prepare(db: sqlite3.Connection, keys: Keys, where: str) -> bool:
    tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "manifests" in tables:
        raise Denied(
            f"{where} has manifests but is marked as an older format: another program changed it.",
            hint="Restore the file from a backup.",
        )
    is_old = "versions" in tables
    if is_old:
        _require_any_key(db, keys, where)
    for statement in _UPGRADE if is_old else _TABLES:
        db.execute(statement)
    if is_old:
        last = dict(db.execute("SELECT path, last FROM counters").fetchall())
        for path in {*paths(db), *last}:
            _upgrade(db, keys, path, last.get(path, 0))
        db.execute("DROP TABLE counters")
    db.execute(f"PRAGMA user_version = {_FORMAT}")
    return is_old


def _upgrade(db: sqlite3.Connection, keys: Keys, path: str, last: int) -> None:
    """Encrypt the values of a path anew, bound to all that is known of them, and authenticate it.

    What cannot be opened stays as it is, and is reported when it is read.
    """
    old = _entries(db, path, 0, last)
    for one in (*old.versions, *old.kept):
        with suppress(RotatorError):
            reseal(db, keys, path, one, "")
    numbers = [one.id for one in old.versions if isinstance(one.id, int)]  # pyright: ignore[reportUnnecessaryIsInstance] # a column takes anything
    last = max([last if isinstance(last, int) else 0, *numbers])  # pyright: ignore[reportUnnecessaryIsInstance] # as above
    save(db, keys, old, last=last)


def reseal(
    db: sqlite3.Connection, keys: Keys, path: str, one: VersionEntry | KeptEntry, where: str
) -> bool:
    """Encrypt one value under the newest key; return whether it was not yet."""
    is_version = isinstance(one, VersionEntry)
    table, name = ("versions", "id") if is_version else ("kept", "field")
    part = one.id if is_version else one.field
    query = f"SELECT key_id, box FROM {table} WHERE path = ? AND {name} = ?"  # noqa: S608 # constants
    key_id, box = db.execute(query, (path, part)).fetchone()
    is_unopened = one.origin == UNOPENED
    if key_id == keys.newest and not is_unopened:
        return False
    plain = keys.open(Sealed(key_id=key_id, box=box), one.bound(path), called(path, one, where))
    if is_unopened and not is_version:
        plain = json.dumps(plain.decode()).encode()
    new = one._replace(origin=UPGRADED) if is_unopened else one
    sealed = keys.seal(pad(plain) if is_unopened else plain, new.bound(path))
    update = f"UPDATE {table} SET key_id = ?, box = ?, origin = ? WHERE path = ? AND {name} = ?"  # noqa: S608
    db.execute(update, (sealed.key_id, sealed.box, new.origin, path, part))
    return True


def called(path: str, one: VersionEntry | KeptEntry, where: str) -> str:
    """Return how an error calls a value."""
    part = f"version {one.id}" if isinstance(one, VersionEntry) else f"the value {one.field!r}"
    return f"{part} of {path!r} in {where}"


def _entries(db: sqlite3.Connection, path: str, counter: int, last: int) -> Manifest:
    versions = db.execute(
        "SELECT id, rotation_id, stage, created, origin FROM versions WHERE path = ? ORDER BY id",
        (path,),
    ).fetchall()
    kept = db.execute(
        "SELECT field, number, origin FROM kept WHERE path = ? ORDER BY field", (path,)
    ).fetchall()
    return Manifest(
        path=path,
        counter=counter,
        last=last,
        versions=tuple(map(VersionEntry._make, versions)),
        kept=tuple(map(KeptEntry._make, kept)),
    )


def _require_any_key(db: sqlite3.Connection, keys: Keys, where: str) -> None:
    """Raise `Unavailable` where all keys are those of another file: nothing is upgraded under them."""
    query = "SELECT key_id FROM versions UNION SELECT key_id FROM kept"
    used = [cast("object", row[0]) for row in db.execute(query).fetchall()]
    if used and not any(one in keys for one in used):
        keys.require(Sealed(key_id=cast("str", used[0]), box=b""), "", f"the data of {where}")


def _text(parts: list[object]) -> str:
    return _JSON.encode(parts)


def _format(db: sqlite3.Connection) -> int:
    return cast("int", db.execute("PRAGMA user_version").fetchone()[0])
