"""Database errors of the journal, told as what they mean to a person. The one place that knows."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from rotator.core.errors import Busy, JournalError
from rotator.core.frames import forget_variables

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Generator

_SAFE: Final = "Without a journal there is no effect: nothing more was done."

# SQLite's error names (sqlite.org/rescode.html), by how they begin.
_SQLITE: Final = (
    (
        "SQLITE_READONLY",
        "cannot be written: it is read-only",
        "Look at the owner and mode of the file and its folder.",
    ),
    ("SQLITE_FULL", "cannot grow: the disk is full", "Make room, then: rotator resume --all"),
    (
        "SQLITE_IOERR",
        "cannot be read or written: the disk reports an error",
        "Look at the disk and its free space.",
    ),
    ("SQLITE_NOTADB", "is not a database", "Is the journal's url right?"),
    ("SQLITE_CORRUPT", "is damaged", "Restore it from a copy, then: rotator audit verify"),
    (
        "SQLITE_CANTOPEN",
        "cannot be opened",
        "Look at the owner and mode of the file and its folder.",
    ),
    ("SQLITE_BUSY", "is locked by another program", "Find out which, and try again."),
)
_WITHOUT_ROOM: Final = ("SQLITE_FULL", "SQLITE_IOERR_SHM", "SQLITE_IOERR_WRITE")
# SQLSTATE classes (PostgreSQL manual, appendix A).
_POSTGRESQL: Final = (
    ("28", "refuses our login", "Look at the journal's user and password."),
    ("3D", "does not exist", "Make the database, or mend the journal's url."),
    (
        "42501",
        "does not let us do that: a right is missing",
        "Give our login its rights again: deploy/postgresql/journal-role.sql",
    ),
    ("53100", "cannot grow: the disk is full", "Make room, then: rotator resume --all"),
    ("53", "has no resources left", "Look at its connections and memory."),
    ("25006", "is read-only", "Is it a replica? The journal needs the primary."),
    ("57P", "is starting or shutting down", "Try again in a moment."),
)


@contextmanager
def translated(place: str) -> Generator[None]:
    """Turn a driver's error into a `JournalError` that says what happened to the journal."""
    try:
        yield
    except IntegrityError as error:
        if "one_open_rotation" in str(error.orig) or "rotations.secret" in str(error.orig):
            raise Busy("another rotation of it is open already.") from error
        raise JournalError(
            f"the journal {place} already holds what was to be written.",
            safety=_SAFE,
            hint="Somebody may be tampering with it: rotator audit verify",
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
        return "has no tables of ours", "Set it up: rotator db upgrade"
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
        return "cannot be reached", "Is the server up, and are host and port right?"
    code = name or state or type(original or error).__name__
    return f"cannot be used ({code})", "See `rotator docs journal`."
