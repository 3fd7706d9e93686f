"""The address of the audit database. It is never repeated: a password may stand in it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlsplit

from rotator.config.wording import wrong

if TYPE_CHECKING:
    from urllib.parse import SplitResult

# What editors check by; whether a password stands in it, only the code can tell.
PATTERN: Final = r"^(sqlite:///[^?#]|(postgres|postgresql|postgresql\+psycopg)://)"
_FORMS: Final = "Write `sqlite:///FILE` or `postgresql://USER@HOST:PORT/DATABASE`."
_POSTGRESQL: Final = ("postgresql", "postgres", "postgresql+psycopg")


def check(url: str) -> str:
    """Return `url` if it is one that the journal can open, written the way the journal reads it."""
    try:
        parts = urlsplit(url)
        inside = parts.password is not None or any(
            "password" in name.lower() for name, _ in parse_qsl(parts.query, keep_blank_values=True)
        )
        port_is_right = parts.port is None or parts.port > 0
    except ValueError:
        raise wrong("this is not the address of a database.", _FORMS) from None
    if inside:
        raise wrong(
            "a password stands in the address (it is not repeated here).",
            "Take it out and name its place: `password: env:ROTATOR_JOURNAL_PASSWORD`. Change the"
            " password if others could read this file.",
        )
    if parts.scheme == "sqlite":
        return _check_sqlite(url, parts)
    # SQLAlchemy cuts at the first '/', so a '#' or a stray '@' behind it means trouble.
    if parts.scheme not in _POSTGRESQL or parts.fragment or "@" in parts.path or not port_is_right:
        raise wrong("this is not the address of a database.", _FORMS)
    if not parts.path.strip("/"):
        raise wrong("the address names no database.", _FORMS)
    return f"postgresql{url[len(parts.scheme) :]}"


def is_postgresql(url: str) -> bool:
    """Return whether a checked `url` leads to PostgreSQL."""
    return url.startswith("postgresql:")


def absolute(url: str, base: Path) -> str:
    """Return a checked `url` with the path of an SQLite file taken from `base`."""
    if is_postgresql(url):
        return url
    file, mark, query = url.removeprefix("sqlite:///").partition("?")
    return f"sqlite:///{base / Path(file).expanduser()}{mark}{query}"


def _check_sqlite(url: str, parts: SplitResult) -> str:
    if parts.netloc or not re.match(r"sqlite:///[^?#]", url) or ":memory:" in url:
        raise wrong(
            "the journal is kept in a file.",
            "Write `sqlite:///FILE`, three slashes for a path that is relative to this file and"
            " four for an absolute one.",
        )
    return url
