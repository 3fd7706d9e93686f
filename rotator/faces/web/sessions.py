"""Who is signed in: sessions in a private file, and the limit on failed sign-ins."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import sqlite3
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from rotator import trusted_files
from rotator.core.access import Actor
from rotator.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from rotator.core.ports import Clock

_WHAT: Final = "the file of the console's sessions"
_SCHEMA: Final = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS sessions (key TEXT PRIMARY KEY, actor TEXT NOT NULL, expires REAL NOT NULL);
CREATE TABLE IF NOT EXISTS failures (key TEXT NOT NULL, at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS failures_of_a_key ON failures (key, at);
"""
_MOST_SESSIONS: Final = 10_000
_WINDOW: Final = timedelta(minutes=5)
# Failed sign-ins within the window: from one address, and for one name from anywhere.
_MOST_FROM_ADDRESS: Final = 10
_MOST_FOR_NAME: Final = 20
_MOST_FAILURES: Final = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who sends a request. `token`: what a form of theirs must hold. `expires` None: by each request."""

    actor: Actor
    token: str = field(repr=False)
    expires: datetime | None = None


class SessionFile:
    """Sessions and failed sign-ins in a file of mode 0600. Nothing in it opens a session.

    Another process, such as `rotator web sign-out`, may change it at any time.
    """

    def __init__(self, file: Path) -> None:
        """Make the file where there is none. Raises `UsageError` where it cannot be used."""
        self._file: Path = file
        self._guard: threading.Lock = threading.Lock()
        try:
            _ = trusted_files.create(file, _WHAT, secret=True)
            self._db: sqlite3.Connection = sqlite3.connect(
                file, check_same_thread=False, isolation_level=None
            )
            _ = self._db.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from error

    def run(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Execute a statement, and return its rows."""
        try:
            with self._guard:
                return self._db.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def end_sessions(self, name: str | None) -> int:
        """End the sessions of `NAME` or `METHOD:NAME`, None for everybody; return how many."""
        keys = [
            key
            for key, actor in self.run("SELECT key, actor FROM sessions")
            if name is None or _actor(actor).is_called(name)
        ]
        for key in keys:
            _ = self.run("DELETE FROM sessions WHERE key = ?", key)
        return len(keys)

    def close(self) -> None:
        """Close the file."""
        with self._guard:
            self._db.close()

    def _unusable(self, error: Exception) -> UsageError:
        why = error.strerror if isinstance(error, OSError) else error
        return UsageError(
            f"cannot use {_WHAT} {self._file} ({why}).",
            hint="Set `web.sessions` to a file in a folder that the console can write to.",
        )


class Sessions:
    """Sessions of people who are signed in. They outlive the process."""

    def __init__(self, file: SessionFile, clock: Clock, lasts: timedelta) -> None:
        """`lasts`: for how long somebody stays signed in."""
        self._file: SessionFile = file
        self._clock: Clock = clock
        self._lasts: timedelta = lasts
        self._secret: bytes = secrets.token_bytes(32)

    def begin(self, actor: Actor) -> str:
        """Return the id of a new session: what the cookie holds, and nothing else knows."""
        id_, now = secrets.token_urlsafe(32), self._clock.now()
        _ = self._file.run("DELETE FROM sessions WHERE expires <= ?", now.timestamp())
        _ = self._file.run(
            "INSERT INTO sessions VALUES (?, ?, ?)",
            _key(id_),
            json.dumps({**actor.as_data(), "groups": actor.groups}),
            (now + self._lasts).timestamp(),
        )
        newest = "SELECT key FROM sessions ORDER BY expires DESC LIMIT ?"
        _ = self._file.run(f"DELETE FROM sessions WHERE key NOT IN ({newest})", _MOST_SESSIONS)  # noqa: S608 # constants
        return id_

    def find(self, id_: str) -> Principal | None:
        """Return whose session this is; None for one that is unknown or has expired."""
        found = self._file.run("SELECT actor, expires FROM sessions WHERE key = ?", _key(id_))
        if not found or found[0][1] <= self._clock.now().timestamp():
            return None
        ((actor, expires),) = found
        # Who has the id has the token too: it need not be kept.
        token = hmac.new(id_.encode(), b"form", hashlib.sha256).hexdigest()
        return Principal(
            actor=_actor(actor), token=token, expires=datetime.fromtimestamp(expires, UTC)
        )

    def end(self, id_: str) -> None:
        """End a session."""
        _ = self._file.run("DELETE FROM sessions WHERE key = ?", _key(id_))

    def end_all(self, actor: Actor) -> None:
        """End every session of somebody, in any browser."""
        _ = self._file.end_sessions(f"{actor.method}:{actor.subject}")

    def token_of(self, text: str) -> str:
        """Return the token of a form that belongs to no session: of a proxy's user, or of the sign-in."""
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()


class Throttle:
    """Counts failed sign-ins, and refuses further ones for a while, also after a restart."""

    def __init__(self, file: SessionFile, clock: Clock) -> None:
        """Failures are kept in `file`."""
        self._file: SessionFile = file
        self._clock: Clock = clock

    def wait(self, address: str, name: str) -> timedelta | None:
        """Return how long to wait before the next try; None for not at all."""
        since, waits = (self._clock.now() - _WINDOW).timestamp(), list[timedelta]()
        for key, most in _limits(address, name):
            recent = "SELECT at FROM failures WHERE key = ? AND at > ? ORDER BY at DESC LIMIT ?"
            found = self._file.run(recent, key, since, most)
            if len(found) == most:
                waits.append(timedelta(seconds=found[-1][0] - since))
        return max(waits, default=None)

    def failed(self, address: str, name: str) -> None:
        """Count a failed sign-in."""
        now = self._clock.now()
        _ = self._file.run("DELETE FROM failures WHERE at <= ?", (now - _WINDOW).timestamp())
        for key, _most in _limits(address, name):
            _ = self._file.run("INSERT INTO failures VALUES (?, ?)", key, now.timestamp())
        newest = "SELECT rowid FROM failures ORDER BY at DESC LIMIT ?"
        _ = self._file.run(f"DELETE FROM failures WHERE rowid NOT IN ({newest})", _MOST_FAILURES)  # noqa: S608 # constants

    def succeeded(self, address: str, name: str) -> None:
        """Take back what `failed` counted last: the sign-in has succeeded."""
        last = "SELECT rowid FROM failures WHERE key = ? ORDER BY at DESC LIMIT 1"
        for key, _most in _limits(address, name):
            _ = self._file.run(f"DELETE FROM failures WHERE rowid IN ({last})", key)  # noqa: S608 # a constant


def _actor(text: str) -> Actor:
    return Actor.from_data(json.loads(text)) or Actor(subject="", method="", face="", host="")


def _limits(address: str, name: str) -> Iterable[tuple[str, int]]:
    yield f"address {_key(address)}", _MOST_FROM_ADDRESS
    yield f"name {_key(name)}", _MOST_FOR_NAME


def _key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
