"""The embedded backend: one SQLite file of encrypted values, with nothing else installed."""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from rotator import trusted_files
from rotator.api import (
    Conflict,
    Credential,
    Finding,
    PluginInfo,
    Secret,
    Severity,
    Transient,
    Unavailable,
    UsageError,
    Version,
    abilities_of_backend,
    seconds_left,
)
from rotator.backends.sealing import Keys, Sealed

if find_spec("cryptography") is None:
    # It is imported when a value is sealed or opened: too late to say what is missing.
    raise ModuleNotFoundError("No module named 'cryptography'", name="cryptography")

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from datetime import timedelta

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS versions (
    path TEXT NOT NULL, id INTEGER NOT NULL, rotation_id TEXT NOT NULL, stage TEXT,
    created TEXT NOT NULL, key_id TEXT NOT NULL, box BLOB NOT NULL,
    PRIMARY KEY (path, id));
CREATE UNIQUE INDEX IF NOT EXISTS one_version_a_rotation ON versions (path, rotation_id);
CREATE UNIQUE INDEX IF NOT EXISTS one_version_a_stage ON versions (path, stage)
    WHERE stage IN ('current', 'previous');
CREATE TABLE IF NOT EXISTS counters (path TEXT PRIMARY KEY, last INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS kept (
    path TEXT NOT NULL, field TEXT NOT NULL, key_id TEXT NOT NULL, box BLOB NOT NULL,
    PRIMARY KEY (path, field));
"""
_WAIT_FOR_LOCK: Final = 30.0
# By the beginning of SQLite's error names. All values of the file wait for these.
_WRITABLE: Final = (
    "Look at the owner, mode and mount of the file and its folder: ls -ld {file} $(dirname {file})"
)
_SOUND: Final = "Stop rotator, and restore the file from a copy. What SQLite finds: sqlite3 {file} 'PRAGMA integrity_check'"
_CAUSES: Final[Mapping[str, tuple[type[Transient], str, str]]] = {
    "SQLITE_READONLY": (Unavailable, "cannot be written", _WRITABLE),
    "SQLITE_PERM": (Unavailable, "cannot be opened", _WRITABLE),
    "SQLITE_AUTH": (Unavailable, "cannot be opened", _WRITABLE),
    "SQLITE_CANTOPEN": (Unavailable, "cannot be opened", _WRITABLE),
    "SQLITE_NOTADB": (Unavailable, "is not a sound database", _SOUND),
    "SQLITE_CORRUPT": (Unavailable, "is not a sound database", _SOUND),
    "SQLITE_IOERR": (
        Unavailable,
        "cannot be read or written: its disk reports an error",
        "Look at the disk and its free space: df $(dirname {file}); dmesg | tail",
    ),
    "SQLITE_FULL": (
        Unavailable,
        "cannot be written: the disk is full",
        "Make room: df $(dirname {file})",
    ),
    "SQLITE_BUSY": (
        Transient,
        "was locked by another process for too long",
        "See which: fuser -v {file}",
    ),
}
# As many digits as SQLite's integers hold for certain.
_VERSION: Final = re.compile(r"[1-9][0-9]{0,17}")
_ROW: Final = "id, rotation_id, created, key_id, box"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalOptions:
    """Options of the embedded backend."""

    path: str = field(
        default="rotator-secrets.db",
        metadata={
            "help": "The file that holds the encrypted values, relative to the configuration."
        },
    )
    key: str = field(
        default="file:rotator.key",
        metadata={"help": "Reference to the key that encrypts them."},
    )
    old_keys: tuple[str, ...] = field(
        default=(),
        metadata={"help": "References to keys that are only read with any more."},
    )
    keep: int = field(
        default=10,
        metadata={"help": "How many superseded versions of each secret are kept."},
    )

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if self.keep < 1:
            raise UsageError(
                "`keep` is 1 or more: the previous version is needed until it is revoked."
            )


class LocalBackend:
    """Secrets in one SQLite file. Safe between threads and between processes."""

    def __init__(self, name: str, file: Path, keys: Keys, *, keep: int = 10) -> None:
        """Open the file, or make it with mode 0600. Raises `UsageError` or `Denied`."""
        self._name: str = name
        self._where: str = f"backend {name!r} ({file})"
        self._file: Path = file
        self._keys: Keys = keys
        self._keep: int = keep
        self._local: threading.local = threading.local()
        self._open: list[sqlite3.Connection] = []
        self._guard: threading.Lock = threading.Lock()
        # SQLite has one writer, and lets whoever comes second sleep; threads queue here instead.
        self._turn: threading.Lock = threading.Lock()
        self._create()

    # -- the contract --------------------------------------------------------------------------

    def current(self, path: str) -> Version | None:
        """Return the published version."""
        query = f"SELECT {_ROW} FROM versions WHERE path = ? AND stage = 'current'"  # noqa: S608 # a constant list of columns
        with self._reading() as db:
            return self._version(path, _one(db, query, path))

    def read(self, path: str, version: str) -> Version | None:
        """Return that very version."""
        query = f"SELECT {_ROW} FROM versions WHERE path = ? AND id = ?"  # noqa: S608
        with self._reading() as db:
            return self._version(path, _one(db, query, path, _number(version)))

    def previous(self, path: str) -> Version | None:
        """Return what was published before the current version."""
        query = f"SELECT {_ROW} FROM versions WHERE path = ? AND stage = 'previous'"  # noqa: S608
        with self._reading() as db:
            return self._version(path, _one(db, query, path))

    def staged(self, path: str, rotation_id: str) -> Credential | None:
        """Return what this rotation has staged."""
        query = (
            f"SELECT {_ROW} FROM versions WHERE path = ? AND rotation_id = ? AND stage = 'pending'"  # noqa: S608
        )
        with self._reading() as db:
            found = self._version(path, _one(db, query, path, rotation_id))
        return found.credential if found else None

    def stage(self, path: str, rotation_id: str, new: Credential) -> Credential:
        """Keep `new` as pending; the first write wins."""
        query = f"SELECT {_ROW} FROM versions WHERE path = ? AND rotation_id = ?"  # noqa: S608
        with self._writing() as db:
            found = self._version(path, _one(db, query, path, rotation_id))
            if found is not None:
                return found.credential
            number = cast(
                "int",
                db.execute(
                    "INSERT INTO counters VALUES (?, 1)"
                    " ON CONFLICT (path) DO UPDATE SET last = last + 1 RETURNING last",
                    (path,),
                ).fetchone()[0],
            )
            sealed = self._keys.seal(_encode(new), _place(path, number))
            created = datetime.now(UTC).isoformat(timespec="microseconds")
            db.execute(
                "INSERT INTO versions VALUES (?, ?, ?, 'pending', ?, ?, ?)",
                (path, number, rotation_id, created, sealed.key_id, sealed.box),
            )
            return new

    def publish(self, path: str, rotation_id: str, *, expect: str | None) -> str:
        """Make the staged value current, if `expect` still is."""
        with self._writing() as db:
            ours = _one(
                db,
                "SELECT id, stage FROM versions WHERE path = ? AND rotation_id = ?",
                path,
                rotation_id,
            )
            current = _one(db, "SELECT id FROM versions WHERE path = ? AND stage = 'current'", path)
            now = str(current[0]) if current else None
            if ours is not None and str(ours[0]) == now:
                return str(ours[0])
            if now != expect:
                raise self._conflict(path, now, expect)
            if ours is None or ours[1] != "pending":
                raise Conflict(
                    f"nothing is staged for this rotation at {path!r} in backend {self._name!r}."
                )
            self._promote(db, path, cast("int", ours[0]))
            return str(ours[0])

    def discard(self, path: str, rotation_id: str) -> None:
        """Forget what this rotation has staged."""
        with self._writing() as db:
            db.execute(
                "DELETE FROM versions WHERE path = ? AND rotation_id = ? AND stage = 'pending'",
                (path, rotation_id),
            )

    def remove(self, path: str, *, expect: str | None) -> None:
        """Remove every version at `path`, if `expect` still is the current one."""
        with self._writing() as db:
            current = _one(db, "SELECT id FROM versions WHERE path = ? AND stage = 'current'", path)
            now = str(current[0]) if current else None
            if now is not None and now != expect:
                raise self._conflict(path, now, expect)
            db.execute("DELETE FROM versions WHERE path = ?", (path,))

    def restore(self, path: str, *, expect: str, to: str) -> str:
        """Make version `to` current again, if `expect` still is."""
        with self._writing() as db:
            current = _one(db, "SELECT id FROM versions WHERE path = ? AND stage = 'current'", path)
            now = str(current[0]) if current else None
            if now == to:
                return to
            if now != expect:
                raise self._conflict(path, now, expect)
            number = _number(to)
            wanted = _one(db, "SELECT stage FROM versions WHERE path = ? AND id = ?", path, number)
            if wanted is None or wanted[0] == "pending":
                raise Conflict(f"backend {self._name!r} no longer holds version {to} of {path!r}.")
            self._promote(db, path, number)
            return to

    # -- values beside credentials -------------------------------------------------------------

    def get_value(self, path: str, field: str) -> Secret | None:
        """Return one kept value."""
        with self._reading() as db:
            row = _one(db, "SELECT key_id, box FROM kept WHERE path = ? AND field = ?", path, field)
        if row is None:
            return None
        sealed = Sealed(key_id=cast("str", row[0]), box=cast("bytes", row[1]))
        return Secret(self._keys.open(sealed, _place(path, field)).decode())

    def put_value(self, path: str, field: str, value: Secret) -> None:
        """Keep one value, replacing what was there."""
        sealed = self._keys.seal(value.reveal().encode(), _place(path, field))
        with self._writing() as db:
            db.execute(
                "INSERT INTO kept VALUES (?, ?, ?, ?) ON CONFLICT (path, field)"
                " DO UPDATE SET key_id = excluded.key_id, box = excluded.box",
                (path, field, sealed.key_id, sealed.box),
            )

    # -- care ----------------------------------------------------------------------------------

    def rotation_ids(self, path: str) -> set[str]:
        """Return the rotations that wrote the versions held at `path`, pending ones too."""
        with self._reading() as db:
            rows = db.execute("SELECT rotation_id FROM versions WHERE path = ?", (path,)).fetchall()
        return {cast("str", row[0]) for row in rows}

    def reseal(self) -> int:
        """Encrypt everything anew under the newest key; return how many values that were."""
        count = 0
        with self._writing() as db:
            for table, name in (("versions", "id"), ("kept", "field")):
                query = f"SELECT path, {name}, key_id, box FROM {table} WHERE key_id <> ?"  # noqa: S608
                for path, part, old, box in db.execute(query, (self._keys.newest,)).fetchall():
                    place = _place(path, part)
                    sealed = self._keys.seal(
                        self._keys.open(Sealed(key_id=old, box=box), place), place
                    )
                    update = f"UPDATE {table} SET key_id = ?, box = ? WHERE path = ? AND {name} = ?"  # noqa: S608
                    db.execute(update, (sealed.key_id, sealed.box, path, part))
                    count += 1
        return count

    def examine(self, paths: Mapping[str, timedelta | None]) -> list[Finding]:
        """Write and read a value, and look for pending values that were left behind."""
        probe = Secret(datetime.now(UTC).isoformat())
        self.put_value(".doctor", "probe", probe)
        works = self.get_value(".doctor", "probe") == probe
        findings = [
            Finding(
                severity=Severity.OK if works else Severity.ERROR,
                subject=f"backend {self._name}",
                message=f"{self._file} can be written and read"
                if works
                else "what was written could not be read back",
            )
        ]
        for path in paths:
            query = "SELECT count(*) FROM versions WHERE path = ? AND stage = 'pending'"
            with self._reading() as db:
                pending = cast("int", db.execute(query, (path,)).fetchone()[0])
            if pending:
                findings.append(
                    Finding(
                        severity=Severity.WARNING,
                        subject=f"backend {self._name}, {path}",
                        message=f"{pending} pending value(s), from a rotation that is not over",
                        remedy="rotator resume --all",
                    )
                )
        return findings

    def close(self) -> None:
        """Close every connection."""
        with self._guard:
            for db in self._open:
                db.close()
            self._open.clear()
        self._local = threading.local()

    # -- below the contract --------------------------------------------------------------------

    def _promote(self, db: sqlite3.Connection, path: str, number: int) -> None:
        """Current becomes previous, `number` becomes current, and what is too old goes."""
        db.execute(
            "UPDATE versions SET stage = NULL WHERE path = ? AND stage = 'previous'", (path,)
        )
        db.execute(
            "UPDATE versions SET stage = 'previous' WHERE path = ? AND stage = 'current'", (path,)
        )
        db.execute(
            "UPDATE versions SET stage = 'current' WHERE path = ? AND id = ?", (path, number)
        )
        db.execute(
            "DELETE FROM versions WHERE path = ?1 AND stage IS NULL AND id NOT IN ("
            "SELECT id FROM versions WHERE path = ?1 AND stage IS NULL ORDER BY id DESC LIMIT ?2)",
            (path, self._keep - 1),
        )

    def _version(self, path: str, row: tuple[object, ...] | None) -> Version | None:
        if row is None:
            return None
        number, rotation_id, created, key, box = cast("tuple[int, str, str, str, bytes]", row)
        plain = self._keys.open(Sealed(key_id=key, box=box), _place(path, number))
        return Version(
            id=str(number),
            credential=_decode(plain),
            rotation_id=rotation_id,
            created=datetime.fromisoformat(created),
        )

    def _conflict(self, path: str, now: str | None, expect: str | None) -> Conflict:
        return Conflict(
            f"backend {self._name!r} holds version {now or 'none'} of {path!r}, not {expect or 'none'}: somebody else wrote.",
            hint="Their value was not overwritten.",
        )

    def _create(self) -> None:
        try:
            # Made before SQLite makes it, so that it is never open to others; SQLite gives its
            # -wal and -shm files the mode of the database.
            called = f"the file of backend {self._name!r},"
            _ = trusted_files.create(self._file, called, secret=True)
        except OSError as error:
            raise UsageError(
                f"backend {self._name!r}: {self._file} cannot be opened ({error.strerror}).",
                hint="Look at the folder's owner and mode, and at the free space.",
            ) from error
        with self._translated(), self._guard:
            db = sqlite3.connect(self._file, timeout=_WAIT_FOR_LOCK, isolation_level=None)
            try:
                db.execute("PRAGMA journal_mode = WAL").fetchone()
                if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'kept'").fetchone():
                    db.executescript(_SCHEMA)
            finally:
                db.close()

    def _connection(self) -> sqlite3.Connection:
        db = cast("sqlite3.Connection | None", getattr(self._local, "db", None))
        if db is None:
            db = sqlite3.connect(
                self._file,
                timeout=seconds_left(_WAIT_FOR_LOCK),
                isolation_level=None,
                check_same_thread=False,
            )
            # Durable before we say so: a password must not be lost to a power cut.
            db.execute("PRAGMA synchronous = FULL")
            self._local.db = db
            with self._guard:
                self._open.append(db)
        return db

    @contextmanager
    def _reading(self) -> Generator[sqlite3.Connection]:
        with self._translated():
            yield self._in_time(self._connection())

    @contextmanager
    def _writing(self) -> Generator[sqlite3.Connection]:
        with self._translated(), self._own_turn():
            db = self._in_time(self._connection())
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")

    @contextmanager
    def _own_turn(self) -> Generator[None]:
        """Wait for the other threads that write."""
        if not self._turn.acquire(timeout=seconds_left(_WAIT_FOR_LOCK)):
            raise Transient(f"{self._where} is being written by another thread for too long.")
        try:
            yield
        finally:
            self._turn.release()

    @staticmethod
    def _in_time(db: sqlite3.Connection) -> sqlite3.Connection:
        """Let it wait for other processes no longer than the step may take."""
        wait = int(seconds_left(_WAIT_FOR_LOCK) * 1000)
        db.execute(f"PRAGMA busy_timeout = {wait}")
        return db

    @contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except sqlite3.Error as error:
            code = error.sqlite_errorname if hasattr(error, "sqlite_errorname") else ""
            cause = next((one for start, one in _CAUSES.items() if code.startswith(start)), None)
            if cause is None:
                raise Transient(
                    f"{self._where} could not be used ({code or type(error).__name__})."
                ) from error
            kind, what, hint = cause
            raise kind(f"{self._where} {what}.", hint=hint.format(file=self._file)) from error


class _LocalPlugin:
    """Opens the embedded backend."""

    info: PluginInfo = PluginInfo(
        name="local",
        summary="One SQLite file of encrypted values; nothing else to install.",
        target_options=LocalOptions,
        abilities=abilities_of_backend(LocalBackend),
    )

    def open(
        self, name: str, options: object, resolve: Callable[[str], Secret], base: Path
    ) -> LocalBackend:
        """Open it; relative paths start at `base`."""
        chosen = cast("LocalOptions", options)
        keys = Keys([resolve(one) for one in (chosen.key, *chosen.old_keys)])
        return LocalBackend(name, base / chosen.path, keys, keep=chosen.keep)


PLUGIN: Final = _LocalPlugin()


def _one(db: sqlite3.Connection, query: str, *values: object) -> tuple[object, ...] | None:
    return cast("tuple[object, ...] | None", db.execute(query, values).fetchone())


def _number(version: str) -> int:
    """Return a version's number; -1, which no version has, for what is none of ours."""
    return int(version) if _VERSION.fullmatch(version) else -1


def _place(path: str, part: object) -> str:
    return json.dumps([path, str(part)])


def _encode(credential: Credential) -> bytes:
    return json.dumps(
        {
            "username": credential.username,
            "password": credential.password.reveal(),
            "fields": dict(credential.fields),
        }
    ).encode()


def _decode(plain: bytes) -> Credential:
    data = json.loads(plain)
    return Credential(
        username=data["username"], password=Secret(data["password"]), fields=data["fields"]
    )
