"""Which versions the server refused, and when each may be tried again.

A wait after a refusal costs the application an outage, and protects the account from being locked.
It is long only where both are known: that the server refused the password, and that this server can
lock an account. MySQL and MariaDB can, and their error numbers are exact. PostgreSQL and Valkey lock
no account of their own; and libpq does not reveal whether a login failed by its password, by a
connection limit or by a missing database.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final

from rotator.client.chance import between

# Seconds until a version may be tried again whose password was refused: doubled each time.
_FIRST_REST: Final = 60.0
_LONGEST_REST: Final = 900.0
# Seconds until another refused version may be tried again: doubled each time.
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 1.6
# Processes that were refused together do not try together for ever. The smallest share makes 75
# attempts a minute the most that a process makes with one password.
_SHARES: Final = (0.5, 1.0)
_DOUBLINGS: Final = 10

# Access denied; the same without a password.
# https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html
_MYSQL_PASSWORD: Final = frozenset({1045, 1698})
# Locked (MySQL, MariaDB); locked after failed logins; too many failed logins (MariaDB); expired.
# https://mariadb.com/docs/server/reference/error-codes
_MYSQL_LOGIN: Final = frozenset({3118, 4151, 3955, 4150, 1862})


class Refusal(Enum):
    """Why the server did not log us in, as exactly as the driver reveals it."""

    PASSWORD = "password"  # noqa: S105 # a word
    """It refused the password, and may lock the account after several."""
    LOGIN = "login"
    """It refused the login; no account is locked by that."""


def of_mysql(number: object) -> Refusal | None:
    """Return what an error number of MySQL or MariaDB means; None for one that is no refusal."""
    if number in _MYSQL_PASSWORD:
        return Refusal.PASSWORD
    return Refusal.LOGIN if number in _MYSQL_LOGIN else None


class _Refused:
    """One refused version."""

    __slots__ = ("count", "first_at", "is_password", "rest", "until")

    def __init__(self, now: float) -> None:
        self.first_at: float = now
        self.count: int = 0
        self.is_password: bool = False
        self.rest: float = 0.0
        self.until: float = now


class RefusedVersions:
    """The versions that the server refused. Not safe between threads: its owner locks."""

    def __init__(
        self, *, locks_accounts: bool, share: Callable[[], float] = lambda: between(*_SHARES)
    ) -> None:
        """With `locks_accounts`, each refusal counts as one of the password."""
        self._locks_accounts: bool = locks_accounts
        self._share: Callable[[], float] = share
        self._versions: dict[str, _Refused] = {}
        self.count: int = 0

    def take(self, version: str, now: float) -> bool:
        """Return whether a version may be tried now. Of those who ask after a refusal, one may."""
        refused = self._versions.get(version)
        if refused is None:
            return True
        if now < refused.until:
            return False
        refused.until = now + refused.rest
        return True

    def first_refused(self, version: str) -> float | None:
        """Return when the server first refused this version, of the refusals in a row."""
        refused = self._versions.get(version)
        return None if refused is None else refused.first_at

    def refused(self, version: str, refusal: Refusal, now: float) -> None:
        """Note a refusal."""
        self.count += 1
        refused = self._versions.setdefault(version, _Refused(now))
        doubled = 2 ** min(refused.count, _DOUBLINGS)
        refused.count += 1
        refused.is_password |= self._locks_accounts or refusal is Refusal.PASSWORD
        if refused.is_password:
            refused.rest = min(_FIRST_REST * doubled, _LONGEST_REST)
        else:
            refused.rest = min(_FIRST_PAUSE * doubled, _LONGEST_PAUSE) * self._share()
        refused.until = now + refused.rest

    def accepted(self, version: str) -> None:
        """Note that the server accepted this version."""
        _ = self._versions.pop(version, None)

    def undecided(self, version: str, now: float) -> None:
        """Note that the attempt ended without an answer to the login: another one may try."""
        if (refused := self._versions.get(version)) is not None:
            refused.until = now

    def clear(self) -> None:
        """Forget all of them: another version is served now."""
        self._versions.clear()
