"""The address of the audit database. It is never repeated: a password may stand in it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from rotator.core.errors import UsageError
from rotator.core.net import is_local

if TYPE_CHECKING:
    from collections.abc import Iterable
    from urllib.parse import SplitResult

_FORMS: Final = "Write `sqlite:///FILE` or `postgresql://USER@HOST:PORT/DATABASE`."
_POSTGRESQL: Final = ("postgresql", "postgres", "postgresql+psycopg")


def check(url: str, *, elsewhere: str) -> str:
    """Return `url` if it is one that the journal can open, written the way the journal reads it.

    `elsewhere`: how whoever gave the address says where its password is. Raises `UsageError`.
    """
    try:
        parts = urlsplit(url)
        inside = parts.password is not None or any(
            "password" in name.lower() for name, _ in parse_qsl(parts.query, keep_blank_values=True)
        )
        port_is_right = parts.port is None or parts.port > 0
    except ValueError:
        raise UsageError("not a valid database URL.", hint=_FORMS) from None
    if inside:
        raise UsageError(
            "the URL contains a password (redacted).",
            hint=f"Remove it and reference it instead: {elsewhere}. If others could read this file,"
            " change the password.",
        )
    if parts.scheme == "sqlite":
        return _check_sqlite(url, parts)
    # SQLAlchemy cuts at the first '/', so a '#' or a stray '@' behind it means trouble.
    if parts.scheme not in _POSTGRESQL or parts.fragment or "@" in parts.path or not port_is_right:
        raise UsageError("not a valid database URL.", hint=_FORMS)
    if not parts.path.strip("/"):
        raise UsageError("the URL does not name a database.", hint=_FORMS)
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


def verified(url: str, authorities: str) -> str:
    """Return a checked `url` of PostgreSQL that lets nobody listen in or stand in for the server.

    To another host it gets `sslmode=verify-full` where it says nothing of TLS, and where it has a
    certificate verified, the file of `authorities` to do that by.
    """
    parts = urlsplit(url)
    query = parse_qsl(parts.query)
    said = dict(query)
    hosts = [parts.hostname, *(value for name, value in query if name in ("host", "hostaddr"))]
    mode = said.get("sslmode") or ("" if _are_local(hosts) else "verify-full")
    more = {} if "sslmode" in said or not mode else {"sslmode": mode}
    if mode in ("verify-ca", "verify-full") and "sslrootcert" not in said:
        more["sslrootcert"] = authorities
    if not more:
        return url
    return f"{url}{'&' if parts.query else '?'}{urlencode(more)}"


def _are_local(hosts: Iterable[str | None]) -> bool:
    """Return whether all are this machine; one that is not named is reached by a socket."""
    found = [one for named in hosts if named for one in named.split(",") if one]
    return all(is_local(re.sub(r"^([^/:]+):[0-9]+$", r"\1", one)) for one in found)


def _check_sqlite(url: str, parts: SplitResult) -> str:
    if parts.netloc or not re.match(r"sqlite:///[^?#]", url) or ":memory:" in url:
        raise UsageError(
            "the journal must be in a file.",
            hint="Write `sqlite:///FILE`: three slashes for a path relative to this file, four for"
            " an absolute path.",
        )
    return url
