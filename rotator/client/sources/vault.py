"""A secret in a KV version 2 mount of HashiCorp Vault or OpenBao."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, cast

from rotator.client.login import Login, SourceError
from rotator.client.sources.values import login_from
from rotator.core.secret import Secret

# What rotator writes beside a login, and beside the next version of it.
_ROTATION: Final = "rotator_rotation_id"
_NEXT_VERSION: Final = "rotator_next_version"
# Errors of hvac, which is imported where it is used only.
_ABSENT: Final = frozenset({"InvalidPath", "Forbidden"})


class VaultSource:
    """Reads the newest version at `path`, and the next one while consumers prepare.

    Log in by `token`, or by `token_file`, which is read again at each refresh and suits an agent
    that keeps it fresh; or give `client`, a function that returns an `hvac.Client` of your own. `pending`
    is the option of the same name of rotator's backend, below which the next version is.
    """

    def __init__(
        self,
        path: str,
        *,
        mount: str = "secret",
        pending: str = "rotator-pending",
        address: str = "",
        token: Secret | None = None,
        token_file: str | Path | None = None,
        ca_file: str | Path | None = None,
        namespace: str | None = None,
        client: Callable[[], Any] | None = None,
        username_field: str = "username",
        password_field: str = "password",  # noqa: S107 # the name of a key
        refresh: float = 300.0,
        timeout: float = 5.0,
    ) -> None:
        """Nothing is connected yet. `refresh` and `timeout` are in seconds."""
        ways = [way for way in (token, token_file, client) if way is not None]
        if len(ways) != 1 or (client is None and not address):
            raise ValueError(
                "give `address` with either `token` or `token_file`, or give `client` alone."
            )
        if address.startswith("http://") and not _is_loopback(address):
            raise ValueError("plain http:// is accepted on this machine only: use https://.")
        self.refresh: float = refresh
        self._path: str = path
        self._mount: str = mount.strip("/")
        self._next_path: str = f"{pending.strip('/')}/{path}/next"
        self._address: str = address
        self._token: Secret | None = token
        self._token_file: Path | None = None if token_file is None else Path(token_file)
        self._ca_file: str | None = None if ca_file is None else str(ca_file)
        self._namespace: str | None = namespace
        self._timeout: float = timeout
        self._client: Callable[[], Any] = client or self._connected
        self._names: tuple[str, str] = (username_field, password_field)

    def __repr__(self) -> str:
        return f"{self._mount}/{self._path} in {self._address or 'Vault'}"

    def read(self) -> Login:
        """Return the newest version. Raises `SourceError`."""
        data, version = self._held(self._path)
        return login_from(data, str(version), repr(self), *self._names)

    def next(self) -> Login | None:
        """Return the version that comes next; None where there is none, or where it may not be read.

        Raises `SourceError`.
        """
        found = self._held(self._next_path, optional=True)
        data = found[0] if isinstance(found[0], Mapping) else {}
        rotation, version = data.get(_ROTATION), data.get(_NEXT_VERSION)
        if not isinstance(rotation, str) or not isinstance(version, str):
            return None
        values = {key: value for key, value in data.items() if key != _NEXT_VERSION}
        return login_from(values, version, repr(self), *self._names, rotation=rotation)

    def _held(self, path: str, *, optional: bool = False) -> tuple[Any, Any]:
        """Return the data and the number of the newest version of a path.

        `optional`: nothing where it is missing or forbidden.
        """
        try:
            answer = self._client().secrets.kv.v2.read_secret_version(
                path=path, mount_point=self._mount, raise_on_deleted_version=True
            )
            return answer["data"]["data"], answer["data"]["metadata"]["version"]
        except SourceError:
            raise
        except Exception as error:  # noqa: BLE001 # hvac, requests and TLS have no base in common
            if optional and type(error).__name__ in _ABSENT:
                return None, None
            # The text of the server's answer is left out: it may repeat what it was sent.
            raise SourceError(f"{self!r} could not be read: {type(error).__name__}.") from None

    def _connected(self) -> Any:
        import hvac  # noqa: PLC0415 # only where this source is used

        return cast("Any", hvac).Client(
            url=self._address,
            token=self._current_token().reveal(),
            verify=self._ca_file or True,
            namespace=self._namespace,
            timeout=self._timeout,
            allow_redirects=False,
        )

    def _current_token(self) -> Secret:
        if self._token is not None:
            return self._token
        assert self._token_file is not None  # noqa: S101 # the constructor requires one of the two
        try:
            return Secret(self._token_file.read_text(encoding="utf-8").strip())
        except (OSError, UnicodeError) as error:
            raise SourceError(
                f"the token file {self._token_file} could not be read: {type(error).__name__}."
            ) from None


def _is_loopback(address: str) -> bool:
    host = address.removeprefix("http://").split("/")[0]
    host = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    return host in {"localhost", "127.0.0.1", "[::1]"}
