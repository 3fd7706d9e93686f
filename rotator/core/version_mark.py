"""A short mark of a secret's version, by which a server's own list of sessions shows who uses which.

It is computed from the backend's name of the version, such as `7`, and holds nothing of the secret.
"""

from __future__ import annotations

import re
from typing import Final

_DIGITS: Final = 6
_SEPARATOR: Final = " r:"
# Of several nodes, the name of a session is followed by the node's. Names of Valkey's clients hold no
# space: there a dash precedes the mark.
_AT_THE_END: Final = re.compile(rf"(?:^|[ -])r:([0-9a-f]{{{_DIGITS}}})(?: at \S+)?$")
# PostgreSQL cuts application names to NAMEDATALEN - 1 bytes
# (https://www.postgresql.org/docs/current/runtime-config-logging.html, application_name).
POSTGRESQL_BYTES: Final = 63


def version_mark(version: str) -> str:
    """Return the mark of a version: six hexadecimal digits."""
    import hashlib  # noqa: PLC0415 # OpenSSL: clients are imported without it

    return hashlib.sha256(version.encode()).hexdigest()[:_DIGITS]


def with_mark(application: str, version: str, limit: int = POSTGRESQL_BYTES) -> str:
    """Return the application's name with the mark at its end, in at most `limit` bytes of UTF-8."""
    mark = f"{_SEPARATOR}{version_mark(version)}"
    kept = application.encode()[: limit - len(mark)].decode(errors="ignore").rstrip()
    return f"{kept}{mark}".lstrip()


def mark_in(application: str) -> str | None:
    """Return the mark at the end of an application's name; None where there is none."""
    found = _AT_THE_END.search(application)
    return found.group(1) if found else None


def without_mark(application: str) -> str:
    """Return an application's name without the mark at its end."""
    return _AT_THE_END.sub("", application)
