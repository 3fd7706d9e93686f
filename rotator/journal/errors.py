"""Database errors of the journal, told as what they mean to a person. The one place that knows."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from rotator.core.errors import Busy, JournalError
from rotator.core.traceback_frames import forget_variables

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Generator

_SAFE: Final = "rotator makes no change without a journal: it did nothing more."

# SQLite's error names (sqlite.org/rescode.html), by how they begin.
_SQLITE: Final = (
    (
        "SQLITE_READONLY",
        "cannot be written: it is read-only",
        "Check the owner and mode of the file and its folder.",
    ),
    ("SQLITE_FULL", "cannot grow: the disk is full", "Free disk space, then: rotator resume --all"),
    (
        "SQLITE_IOERR",
        "cannot be read or written: the disk reports an error",
        "Check the disk and its free space.",
    ),
    ("SQLITE_NOTADB", "is not a database", "Check the journal's url."),
    ("SQLITE_CORRUPT", "is damaged", "Restore it from a backup, then: rotator audit verify"),
    (
        "SQLITE_CANTOPEN",
        "cannot be opened",
        "Check the owner and mode of the file and its folder.",
    ),
    ("SQLITE_BUSY", "is locked by another program", "Find that program, then try again."),
)
_WITHOUT_ROOM: Final = ("SQLITE_FULL", "SQLITE_IOERR_SHM", "SQLITE_IOERR_WRITE")
# SQLSTATE classes (PostgreSQL manual, appendix A).
_POSTGRESQL: Final = (
    ("28", "rejected rotator's login", "Check the journal's user and password."),
    ("3D", "does not exist", "Create the database, or correct the journal's url."),
    (
        "42501",
        "denied the operation: a right is missing",
        "Grant rotator's login its rights again: deploy/postgresql/journal-role.sql",
    ),
    ("53100", "cannot grow: the disk is full", "Free disk space, then: rotator resume --all"),
    ("53", "has no resources left", "Check its connections and memory."),
    ("25006", "is read-only", "If it is a replica, use the primary: the journal requires it."),
    ("57P", "is starting or shutting down", "Try again in a moment."),
)


@contextmanager
def translated(place: str) -> Generator[None]:
    """Turn a driver's error into a `JournalError` that says what happened to the journal."""
    try:
        yield
    except IntegrityError as error:
        if "one_open_rotation" in str(error.orig) or "rotations.secret" in str(error.orig):
            raise Busy("another rotation of it is already open.") from error
        raise JournalError(
            f"the journal {place} already contains the record that rotator was writing.",
            safety=_SAFE,
            hint="The journal may have been tampered with: rotator audit verify",
        ) from error
    except SQLAlchemyError as error:
        # Frames of the driver hold the journal's password.
        forget_variables(error)
        what, hint = _meaning(error)
        raise JournalError(f"the journal {place} {what}.", safety=_SAFE, hint=hint) from error


def is_without_room(error: sqlite3.Error) -> bool:
    """Return whether SQLite could not write for want of room."""
    return (error.sqlite_errorname or "").startswith(_WITHOUT_ROOM)


def _meaning(error: SQLAlchemyError) -> tuple[str, str]:
    original = error.orig if isinstance(error, DBAPIError) else None
    name = str(getattr(original, "sqlite_errorname", "") or "")
    state = str(getattr(original, "sqlstate", "") or "")
    message = str(original)
    if (name == "SQLITE_ERROR" and "no such table" in message) or state == "42P01":
        return "has no rotator tables", "Create them: rotator db upgrade"
    for start, what, hint in _SQLITE:
        if name.startswith(start):
            return what, hint
    for start, what, hint in _POSTGRESQL:
        if state.startswith(start):
            return what, hint
    if state == "" and original is not None and type(original).__module__.startswith("psycopg"):
        if "password authentication failed" in message or "no password supplied" in message:
            return _POSTGRESQL[0][1], _POSTGRESQL[0][2]
        if "does not exist" in message:
            return _POSTGRESQL[1][1], _POSTGRESQL[1][2]
        return "is unreachable", "Check that the server is running, and check host and port."
    code = name or state or type(original or error).__name__
    return f"failed ({code})", "See `rotator docs journal`."
