"""redis-py and valkey-py: clients whose connections follow a credential.

client = rotator.client.redis.client(credential, host="cache.example.org")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rotator.client.refusals import Refusal
from rotator.core.version_mark import with_mark

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from rotator.client.credential import Credential
    from rotator.client.login import Login


def client(credential: Credential, *, library: ModuleType | None = None, **options: Any) -> Any:
    """Return a client. `options` are those of the pool; `library` is `redis` (default) or `valkey`."""
    if library is None:
        import redis as library  # noqa: PLC0415 # the package that the application uses

    named: Any = library
    base = named.SSLConnection if options.pop("ssl", False) else named.Connection
    pool = named.ConnectionPool(connection_class=following(credential, base, named), **options)
    # Idle connections of an older version would hold a revoke up until somebody takes them from the pool.
    _ = credential.on_change(lambda _login: pool.disconnect(inuse_connections=False))
    made: Any = (named.Redis if hasattr(named, "Redis") else named.Valkey)(connection_pool=pool)
    return made


def refusal_of(library: Any) -> Callable[[BaseException], Refusal | None]:
    """Return what decides whether an error of the library is a refusal. Valkey locks no account."""
    refused = library.exceptions.AuthenticationError

    def decide(error: BaseException) -> Refusal | None:
        return Refusal.LOGIN if isinstance(error, refused) else None

    return decide


def following(credential: Credential, base: Any, library: Any) -> Any:
    """Return a subclass of the library's connection that logs in by the credential.

    An open connection of an older version is replaced when its pool hands it out. `client` also closes those
    that are idle when the version changes. Connections are named
    by `CLIENT SETNAME` where the login may do that.
    """
    errors, of_library = library.exceptions, refusal_of(library)

    class Following(base):
        # Whether the login may name its connections; known from the first one.
        may_mark: bool = True

        def __init__(self, **options: Any) -> None:
            self._application: str = options.pop("client_name", None) or ""
            super().__init__(**options)
            self._version: str | None = None

        def connect(self) -> None:
            if self._sock is not None:
                if self._version is not None and not credential.is_outdated(self._version):
                    return
                self.disconnect()
            credential.connect(self._attempt, refusal_of=of_library)

        def _attempt(self, login: Login) -> None:
            self.username, self.password = login.username, login.password.reveal()
            try:
                super().connect()
            finally:
                self.password = None
            self._version = login.version
            self._mark(login)

        def _mark(self, login: Login) -> None:
            if not self.may_mark:
                return
            # A client's name may hold no space (https://valkey.io/commands/client-setname/).
            name = with_mark(self._application, login.version).replace(" ", "-")
            try:
                self.send_command("CLIENT", "SETNAME", name)
                self.read_response()
            except errors.ResponseError:
                type(self).may_mark = False

    return Following
