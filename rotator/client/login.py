"""What an application works with: a login, where it is read, and what can fail."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Protocol, runtime_checkable

from rotator.core.secret import Secret
from rotator.core.version_mark import version_mark

# What an application acknowledges of a version, the lowest first.
LEVELS: Final = ("read", "loaded", "used")
_NONE: Final[Mapping[str, object]] = MappingProxyType({})


# No dataclasses here: their module takes a third of the time in which this package is imported.
class Login:
    """One version of a secret. `fields` holds what else is kept with it, such as the host.

    `rotation` is the id of the rotation that is to publish it; None for the version that is served.
    """

    __slots__ = ("fields", "password", "rotation", "username", "version")

    def __init__(
        self,
        *,
        username: str,
        password: Secret,
        version: str,
        fields: Mapping[str, object] = _NONE,
        rotation: str | None = None,
    ) -> None:
        self.rotation: str | None = rotation
        self.username: str = username
        self.password: Secret = password
        self.version: str = version
        self.fields: Mapping[str, object] = fields

    def __repr__(self) -> str:
        return f"Login(username={self.username!r}, version={self.version!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Login):
            return NotImplemented
        return (self.username, self.password, self.version, self.rotation, dict(self.fields)) == (
            other.username,
            other.password,
            other.version,
            other.rotation,
            dict(other.fields),
        )

    __hash__ = None  # pyright: ignore[reportAssignmentType] # its fields have none

    @property
    def mark(self) -> str:
        """Six hexadecimal digits that stand for the version; nothing of the secret is in them."""
        return version_mark(self.version)


class Health:
    """How up to date a `Credential` is. `age` is in seconds since the last successful read.

    `daemon_error` is why the daemon cannot be asked, or does not take what is acknowledged.
    """

    __slots__ = ("age", "daemon_error", "error", "is_stale", "refused", "version")

    def __init__(
        self,
        *,
        version: str | None,
        age: float | None,
        is_stale: bool,
        error: str | None,
        refused: int,
        daemon_error: str | None,
    ) -> None:
        self.version: str | None = version
        self.age: float | None = age
        self.is_stale: bool = is_stale
        self.error: str | None = error
        self.refused: int = refused
        self.daemon_error: str | None = daemon_error

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"Health({shown})"


class SourceError(Exception):
    """The secret could not be read. Its text holds no secret."""


class Refused(Exception):
    """The server refused the version that is served, and no other one appeared in time."""


class Source(Protocol):
    """Where a secret is read. `refresh` is how long a value is used before it is read again, in seconds."""

    refresh: float

    def read(self) -> Login:
        """Return the version that is served now. Raises `SourceError`."""
        ...


@runtime_checkable
class ServesNext(Protocol):
    """A source that can also read the version that is about to be served."""

    def next(self) -> Login | None:
        """Return the version that comes next; None where there is none. Raises `SourceError`."""
        ...
