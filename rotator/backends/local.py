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
    Denied,
    Finding,
    NextVersion,
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
from rotator.backends import manifest, templates
from rotator.backends.encryption import Keys, Sealed
from rotator.backends.manifest import KeptEntry, Manifest, VersionEntry

if find_spec("cryptography") is None:
    # It is imported when a value is sealed or opened: too late to say what is missing.
    raise ModuleNotFoundError("No module named 'cryptography'", name="cryptography")

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from datetime import timedelta

    from rotator.api import Rights

_WAIT_FOR_LOCK: Final = 30.0
# By the beginning of SQLite's error names. All values of the file wait for these.
_WRITABLE: Final = (
    "Check the owner, mode and mount of the file and its folder: ls -ld {file} $(dirname {file})"
)
_SOUND: Final = (
    "Stop rotator, and restore the file from a backup. To see what SQLite finds: sqlite3"
    " {file} 'PRAGMA integrity_check'"
)
_CAUSES: Final[Mapping[str, tuple[type[Transient], str, str]]] = {
    "SQLITE_READONLY": (Unavailable, "cannot be written", _WRITABLE),
    "SQLITE_PERM": (Unavailable, "cannot be opened", _WRITABLE),
    "SQLITE_AUTH": (Unavailable, "cannot be opened", _WRITABLE),
    "SQLITE_CANTOPEN": (Unavailable, "cannot be opened", _WRITABLE),
    "SQLITE_NOTADB": (Unavailable, "is corrupt or not a database", _SOUND),
    "SQLITE_CORRUPT": (Unavailable, "is corrupt or not a database", _SOUND),
    "SQLITE_IOERR": (
        Unavailable,
        "cannot be read or written: its disk reports an error",
        "Check the disk and its free space: df $(dirname {file}); dmesg | tail",
    ),
    "SQLITE_FULL": (
        Unavailable,
        "cannot be written: the disk is full",
        "Free disk space: df $(dirname {file})",
    ),
    "SQLITE_BUSY": (
        Transient,
        "was locked by another process for too long",
        "Find the process: fuser -v {file}",
    ),
}
# As many digits as SQLite's integers hold for certain.
_VERSION: Final = re.compile(r"[1-9][0-9]{0,17}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalOptions:
    """Options of the embedded backend."""

    path: str = field(
        default="rotator-secrets.db",
        metadata={"help": "File of the encrypted values, relative to the configuration."},
    )
    key: str = field(
        default="file:rotator.key",
        metadata={"help": "Reference to the encryption key."},
    )
    old_keys: tuple[str, ...] = field(
        default=(),
        metadata={"help": "References to retired keys, used only for decryption."},
    )
    keep: int = field(
        default=10,
        metadata={"help": "Superseded versions to keep of each secret."},
    )
    templates: dict[str, str] = field(
        default_factory=dict[str, str],
        metadata={
            "help": "Keys made of the others when a secret is read: `mysql://{username}@{host}`.",
            "reference": False,
        },
    )

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if self.keep < 1:
            raise UsageError(
                "`keep` must be 1 or more: the previous version is needed until it is revoked."
            )
        templates.check(self.templates, ("username", "password"))


class LocalBackend:
    """Secrets in one SQLite file. Safe between threads and between processes."""

    def __init__(
        self,
        name: str,
        file: Path,
        keys: Keys,
        *,
        keep: int = 10,
        key_files: Mapping[str, Path | None] | None = None,
    ) -> None:
        """Open the file, or make it with mode 0600. Raises `UsageError` or `Denied`.

        `key_files`: where the keys are, by their references; None for one that is in no file.
        """
        self._name: str = name
        self._where: str = f"backend {name!r} ({file})"
        self._file: Path = file
        self._keys: Keys = keys
        self._keep: int = keep
        self._key_files: Mapping[str, Path | None] = key_files or {}
        self._local: threading.local = threading.local()
        self._open: list[sqlite3.Connection] = []
        self._guard: threading.Lock = threading.Lock()
        # SQLite has one writer, and lets whoever comes second sleep; threads queue here instead.
        self._turn: threading.Lock = threading.Lock()
        self._create()

    # -- the contract --------------------------------------------------------------------------

    def current(self, path: str) -> Version | None:
        """Return the published version."""
        return self._read(path, lambda found: found.staged("current"))

    def read(self, path: str, version: str) -> Version | None:
        """Return that very version."""
        return self._read(path, lambda found: found.version(_number(version)))

    def previous(self, path: str) -> Version | None:
        """Return what was published before the current version."""
        return self._read(path, lambda found: found.staged("previous"))

    def staged(self, path: str, rotation_id: str) -> Credential | None:
        """Return what this rotation has staged."""

        def pending(found: Manifest) -> VersionEntry | None:
            ours = found.of_rotation(rotation_id)
            return ours if ours is not None and ours.stage == "pending" else None

        version = self._read(path, pending)
        return version.credential if version else None

    def stage(self, path: str, rotation_id: str, new: Credential) -> Credential:
        """Keep `new` as pending; the first write wins."""
        with self._writing() as db:
            before = self._manifest(db, path)
            ours = before.of_rotation(rotation_id)
            if ours is not None:
                return self._version(db, path, ours).credential
            entry = VersionEntry(
                id=before.last + 1,
                rotation_id=rotation_id,
                stage="pending",
                created=datetime.now(UTC).isoformat(timespec="microseconds"),
                origin=manifest.WRITTEN,
            )
            sealed = self._keys.seal(manifest.pad(_encode(new)), entry.bound(path))
            db.execute(
                "INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    path,
                    entry.id,
                    rotation_id,
                    entry.stage,
                    entry.created,
                    sealed.key_id,
                    sealed.box,
                    entry.origin,
                ),
            )
            manifest.save(db, self._keys, before, last=entry.id)
            return new

    def publish(self, path: str, rotation_id: str, *, expect: str | None) -> str:
        """Make the staged value current, if `expect` still is."""
        with self._writing() as db:
            before = self._manifest(db, path)
            ours, now = before.of_rotation(rotation_id), _current(before)
            if ours is not None and str(ours.id) == now:
                return str(ours.id)
            if now != expect:
                raise self._conflict(path, now, expect)
            if ours is None or ours.stage != "pending":
                raise Conflict(
                    f"nothing is staged for this rotation at {path!r} in backend {self._name!r}."
                )
            self._promote(db, before, ours.id)
            return str(ours.id)

    def discard(self, path: str, rotation_id: str) -> None:
        """Forget what this rotation has staged."""
        with self._writing() as db:
            before = self._manifest(db, path)
            ours = before.of_rotation(rotation_id)
            if ours is not None and ours.stage == "pending":
                db.execute("DELETE FROM versions WHERE path = ? AND id = ?", (path, ours.id))
                manifest.save(db, self._keys, before)

    def remove(self, path: str, *, expect: str | None) -> None:
        """Remove every version at `path`, if `expect` still is the current one."""
        with self._writing() as db:
            before = self._manifest(db, path)
            now = _current(before)
            if now is not None and now != expect:
                raise self._conflict(path, now, expect)
            if before.versions:
                db.execute("DELETE FROM versions WHERE path = ?", (path,))
                manifest.save(db, self._keys, before)

    def restore(self, path: str, *, expect: str, to: str) -> str:
        """Make version `to` current again, if `expect` still is."""
        with self._writing() as db:
            before = self._manifest(db, path)
            now = _current(before)
            if now == to:
                return to
            if now != expect:
                raise self._conflict(path, now, expect)
            wanted = before.version(_number(to))
            if wanted is None or wanted.stage == "pending":
                raise Conflict(f"backend {self._name!r} no longer holds version {to} of {path!r}.")
            self._promote(db, before, wanted.id)
            return to

    # -- for consumers that prepare ------------------------------------------------------------

    def offer(self, path: str, rotation_id: str, *, expect: str) -> None:
        """Require that something is staged. A reader of the file needs no other right."""
        _ = expect
        if self.staged(path, rotation_id) is None:
            raise Conflict(
                f"nothing is staged for this rotation at {path!r} in backend {self._name!r}."
            )

    def retract(self, path: str, rotation_id: str) -> None:
        """Do nothing: what is published or discarded is no longer staged."""

    def next(self, path: str) -> NextVersion | None:
        """Return what is staged; of several, the newest."""

        def pending(found: Manifest) -> VersionEntry | None:
            staged = [one for one in found.versions if one.stage == "pending"]
            return max(staged, key=lambda one: one.id, default=None)

        version = self._read(path, pending)
        if version is None:
            return None
        return NextVersion(
            rotation_id=version.rotation_id or "", version=version.id, credential=version.credential
        )

    # -- values beside credentials -------------------------------------------------------------

    def get_value(self, path: str, field: str) -> Secret | None:
        """Return one kept value."""
        query = "SELECT key_id, box FROM kept WHERE path = ? AND field = ?"
        with self._reading() as db:
            entry = self._manifest(db, path).value(field)
            if entry is None:
                return None
            plain = self._opened(path, entry, db.execute(query, (path, field)).fetchone())
        text = plain.decode()
        return Secret(text if entry.origin == manifest.UNOPENED else json.loads(text))

    def put_value(self, path: str, field: str, value: Secret) -> None:
        """Keep one value, replacing what was there."""
        with self._writing() as db:
            before = self._manifest(db, path)
            entry = KeptEntry(field=field, number=before.counter + 1, origin=manifest.WRITTEN)
            plain = manifest.pad(json.dumps(value.reveal()).encode())
            sealed = self._keys.seal(plain, entry.bound(path))
            db.execute(
                "INSERT OR REPLACE INTO kept VALUES (?, ?, ?, ?, ?, ?)",
                (path, field, sealed.key_id, sealed.box, entry.number, entry.origin),
            )
            manifest.save(db, self._keys, before)

    # -- care ----------------------------------------------------------------------------------

    def rotation_ids(self, path: str) -> set[str]:
        """Return the rotations that wrote the versions held at `path`, pending ones too."""
        with self._reading() as db:
            return {one.rotation_id for one in self._manifest(db, path).versions}

    def served(self, path: str) -> str | None:
        """Return the id of the current version."""
        with self._reading() as db:
            return _current(self._manifest(db, path))

    def reseal(self) -> int:
        """Encrypt everything anew under the newest key; return how many values that were.

        What was encrypted under older keys, or was thrown away, is in the file no more afterwards.
        """
        count = 0
        with self._writing() as db:
            for path in manifest.paths(db):
                before = self._manifest(db, path)
                entries = (*before.versions, *before.kept)
                count += sum(
                    manifest.reseal(db, self._keys, path, one, self._where) for one in entries
                )
                manifest.save(db, self._keys, before)
        with self._translated(), self._own_turn():
            if not _compacted(self._in_time(self._connection())):
                raise Transient(
                    f"{self._where} was re-encrypted, but another process reads it: the file"
                    " still contains older values.",
                    hint=f"Stop that process (fuser -v {self._file}), then run: rotator reseal"
                    f" {self._name}",
                )
        return count

    def rights(self, paths: Sequence[str]) -> Rights:
        """Return who may do what, by the owners and modes of the file and its keys."""
        from rotator.backends import local_rights  # noqa: PLC0415 # only here

        return local_rights.read(self._file, self._key_files, paths)

    def examine(self, paths: Mapping[str, timedelta | None]) -> list[Finding]:
        """Write and read a value, and look for pending values that were left behind."""
        probe = Secret(datetime.now(UTC).isoformat())
        with self._writing() as db:
            # Also one that was written under another key by mistake.
            for table in ("kept", "manifests"):
                db.execute(f"DELETE FROM {table} WHERE path = '.doctor'")  # noqa: S608 # constants
        self.put_value(".doctor", "probe", probe)
        works = self.get_value(".doctor", "probe") == probe
        message = f"{self._file} is readable and writable"
        if not works:
            message = "a test value was written but could not be read back"
        severity = Severity.OK if works else Severity.ERROR
        findings = [_finding(severity, f"backend {self._name}", message, "")]
        for path in paths:
            findings += self._examine_path(path)
        return findings

    def _examine_path(self, path: str) -> list[Finding]:
        """Read everything at a path; what is damaged there hides nothing of other paths."""
        subject, found = f"backend {self._name}, {path}", list[Finding]()
        with self._reading() as db:
            try:
                held = self._manifest(db, path)
            except Denied as error:
                return [_finding(Severity.ERROR, subject, error.what, error.hint)]
            for entry in held.versions:
                try:
                    _ = self._version(db, path, entry)
                except (Denied, Unavailable) as error:
                    worse = Severity.WARNING if entry.stage is None else Severity.ERROR
                    found.append(_finding(worse, subject, error.what, error.hint))
        pending = sum(one.stage == "pending" for one in held.versions)
        if pending:
            message = f"{pending} pending value(s) from an open rotation"
            found.append(_finding(Severity.WARNING, subject, message, "rotator resume --all"))
        current = held.staged("current")
        if current is not None and current.origin != manifest.WRITTEN:
            message = (
                f"version {current.id} was written before this file had manifests: unknown"
                " whether another version was current before the upgrade"
            )
            remedy = "The next rotation of the secret clears this warning."
            found.append(_finding(Severity.WARNING, subject, message, remedy))
        return found

    def close(self) -> None:
        """Close every connection."""
        with self._guard:
            for db in self._open:
                db.close()
            self._open.clear()
        self._local = threading.local()

    # -- below the contract --------------------------------------------------------------------

    def _manifest(self, db: sqlite3.Connection, path: str) -> Manifest:
        return manifest.load(db, self._keys, path, self._where)

    def _promote(self, db: sqlite3.Connection, before: Manifest, number: int) -> None:
        """Current becomes previous, `number` becomes current, and what is too old goes."""
        path = before.path
        for new, old in ((None, "previous"), ("previous", "current")):
            db.execute(
                "UPDATE versions SET stage = ? WHERE path = ? AND stage = ?", (new, path, old)
            )
        db.execute(
            "UPDATE versions SET stage = 'current' WHERE path = ? AND id = ?", (path, number)
        )
        db.execute(
            "DELETE FROM versions WHERE path = ?1 AND stage IS NULL AND id NOT IN ("
            "SELECT id FROM versions WHERE path = ?1 AND stage IS NULL ORDER BY id DESC LIMIT ?2)",
            (path, self._keep - 1),
        )
        manifest.save(db, self._keys, before)

    def _read(self, path: str, choose: Callable[[Manifest], VersionEntry | None]) -> Version | None:
        with self._reading() as db:
            entry = choose(self._manifest(db, path))
            return None if entry is None else self._version(db, path, entry)

    def _version(self, db: sqlite3.Connection, path: str, entry: VersionEntry) -> Version:
        query = "SELECT key_id, box FROM versions WHERE path = ? AND id = ?"
        plain = self._opened(path, entry, db.execute(query, (path, entry.id)).fetchone())
        try:
            created = datetime.fromisoformat(entry.created)
        except (TypeError, ValueError):
            what = manifest.called(path, entry, self._where)
            raise Denied(f"{what} was changed or moved: its time is invalid.") from None
        return Version(
            id=str(entry.id),
            credential=_decode(plain),
            rotation_id=entry.rotation_id,
            created=created,
        )

    def _opened(self, path: str, entry: VersionEntry | KeptEntry, row: tuple[str, bytes]) -> bytes:
        sealed = Sealed(key_id=row[0], box=row[1])
        what = manifest.called(path, entry, self._where)
        return self._keys.open(sealed, entry.bound(path), what)

    def _not_ours(self) -> Denied:
        return Denied(
            f"{self._where} contains invalid text: it was changed or moved.",
            hint="Find out who can write to the file, and restore it from a backup.",
        )

    def _conflict(self, path: str, now: str | None, expect: str | None) -> Conflict:
        return Conflict(
            f"backend {self._name!r} has version {now or 'none'} of {path!r}, expected"
            f" {expect or 'none'}: another writer changed it.",
            hint="rotator did not overwrite that value.",
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
                hint="Check the folder's owner and mode, and the free disk space.",
            ) from error
        with self._translated(), self._guard:
            db = sqlite3.connect(self._file, timeout=_WAIT_FOR_LOCK, isolation_level=None)
            try:
                db.execute("PRAGMA journal_mode = WAL").fetchone()
                if manifest.prepare(db, self._keys, self._where):
                    # What was written before is in the file no more, unless it is in use.
                    _ = _compacted(db)
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
            # What is thrown away is overwritten.
            db.execute("PRAGMA secure_delete = ON")
            self._local.db = db
            with self._guard:
                self._open.append(db)
        return db

    @contextmanager
    def _reading(self) -> Generator[sqlite3.Connection]:
        with self._translated():
            db = self._in_time(self._connection())
            # A manifest and what it is of are read from one state of the file.
            db.execute("BEGIN")
            try:
                yield db
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")

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
            raise Transient(f"{self._where} was locked by another thread for too long.")
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
        except UnicodeEncodeError:
            raise self._not_ours() from None
        except sqlite3.Error as error:
            if str(error).startswith("Could not decode"):
                # Python's own, of bytes that are no text where we have only ever written text.
                raise self._not_ours() from None
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
        summary="One SQLite file with encrypted values; no other software required.",
        target_options=LocalOptions,
        abilities=abilities_of_backend(LocalBackend),
    )

    def open(
        self, name: str, options: object, resolve: Callable[[str], Secret], base: Path
    ) -> LocalBackend:
        """Open it; relative paths start at `base`."""
        chosen = cast("LocalOptions", options)
        references = (chosen.key, *chosen.old_keys)
        keys = Keys([resolve(one) for one in references])
        key_files = {
            one: base / one.removeprefix("file:") if one.startswith("file:") else None
            for one in references
        }
        file = base / chosen.path
        return LocalBackend(name, file, keys, keep=chosen.keep, key_files=key_files)


PLUGIN: Final = _LocalPlugin()


def _number(version: str) -> int:
    """Return a version's number; -1, which no version has, for what is none of ours."""
    return int(version) if _VERSION.fullmatch(version) else -1


def _current(found: Manifest) -> str | None:
    current = found.staged("current")
    return None if current is None else str(current.id)


def _compacted(db: sqlite3.Connection) -> bool:
    """Write the file anew without what was thrown away; return False while another process reads it."""
    try:
        db.execute("VACUUM")
        busy, *_ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.OperationalError as error:
        if not error.sqlite_errorname.startswith("SQLITE_BUSY"):
            raise
        return False
    return not busy


def _finding(severity: Severity, subject: str, message: str, remedy: str) -> Finding:
    return Finding(severity=severity, subject=subject, message=message, remedy=remedy)


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
