"""Applications of the demo that use the client library: a pool, and a new connection for each query."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import rotator.client.psycopg
from rotator.client import Credential, Login, SourceError
from rotator.core.errors import RotatorError

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg_pool import ConnectionPool

    from rotator.core.model import Version
    from rotator.testing.postgres import ScratchPostgres

_REFRESH: Final = 0.25


class BackendSource:
    """What the demo's backend serves."""

    refresh: float = _REFRESH

    def __init__(self, current: Callable[[], Version | None]) -> None:
        """Nothing is read yet."""
        self._current: Callable[[], Version | None] = current

    def read(self) -> Login:
        """Return the version that is served now."""
        try:
            version = self._current()
        except RotatorError as error:
            raise SourceError(error.what) from error
        if version is None:
            raise SourceError("the backend holds nothing.")
        login = version.credential
        return Login(username=login.username, password=login.password, version=version.id)


def pool_of(credential: Credential, server: ScratchPostgres, name: str) -> ConnectionPool[Any]:
    """Return a pool whose connections bear the application's name."""
    place = {"host": server.host, "port": server.port, "dbname": "shop", "autocommit": True}
    kwargs = {**place, "application_name": name}
    return rotator.client.psycopg.pool(credential, kwargs=kwargs, min_size=2, max_size=4, open=True)


class PooledLine:
    """A connection that is taken from a pool and given back."""

    def __init__(self, pool: ConnectionPool[Any], query: str, _credential: object) -> None:
        """Take it."""
        self._query: bytes = query.encode()
        self._pool: ConnectionPool[Any] = pool
        self._raw: Any = pool.getconn(timeout=5)

    def use(self) -> None:
        """Run the query."""
        _ = self._raw.execute(self._query)

    def close(self) -> None:
        """Give it back."""
        self._pool.putconn(self._raw)


class LibraryLine:
    """A connection by the client library, for a moment."""

    def __init__(
        self, credential: Credential, server: ScratchPostgres, query: str, _credential: object
    ) -> None:
        """Connect to the database `shop`."""
        self._query: bytes = query.encode()
        self._raw: Any = rotator.client.psycopg.connect(
            credential,
            host=server.host,
            port=server.port,
            dbname="shop",
            application_name="library",
            autocommit=True,
        )

    def use(self) -> None:
        """Run the query."""
        _ = self._raw.execute(self._query)

    def close(self) -> None:
        """Hang up."""
        self._raw.close()
