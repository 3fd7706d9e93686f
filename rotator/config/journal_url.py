"""The address of the audit database, as the configuration takes it."""

from __future__ import annotations

from typing import Final

from rotator.config.errors import wrong
from rotator.core.errors import UsageError
from rotator.journal import address

# What editors check by; whether a password stands in it, only the code can tell.
PATTERN: Final = r"^(sqlite:///[^?#]|(postgres|postgresql|postgresql\+psycopg)://)"


def check(url: str) -> str:
    """Return `url` if it is one that the journal can open, written the way the journal reads it."""
    try:
        return address.check(url, elsewhere="`password: env:ROTATOR_JOURNAL_PASSWORD`")
    except UsageError as error:
        raise wrong(error.what, error.hint) from None
