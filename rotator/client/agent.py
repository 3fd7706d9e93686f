"""An agent's Unix socket in the daemon's place: it passes on what an application acknowledges."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from rotator.client.daemon import Daemon, DaemonError, News
from rotator.client.unix_socket import connection_over

if TYPE_CHECKING:
    import http.client


class Agent(Daemon):
    """The agent of this machine, which checks which user asks and needs no token.

    Give it to a `Credential` beside an `AgentSource` of the same socket.
    """

    def __init__(
        self,
        socket: str | os.PathLike[str] = "/run/rotator/agent.sock",
        *,
        timeout: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is connected yet. `timeout` is in seconds, of each network operation."""
        self._socket: str = os.fspath(socket)
        self._path: str = ""
        self._begin(timeout, clock)

    def __repr__(self) -> str:
        return f"Agent({self._socket})"

    def news(self, known: Mapping[str, str], following: Mapping[str, str], wait: float) -> News:
        """Return what each secret in `known` serves; with a single one, as soon as something differs.

        Raises `DaemonError`.
        """
        from urllib.parse import quote  # noqa: PLC0415 # costs an import of some milliseconds

        wait = wait if len(known) == 1 else 0.0
        versions, upcoming = dict[str, str](), dict[str, str]()
        for name, version in known.items():
            path = f"/v1/secrets/{quote(name, safe='')}?known={quote(version)}&wait={wait:g}"
            if name in following:
                path += f"&next={quote(following[name], safe='')}"
            answer = self._request("GET", path, None, wait=wait)
            current = answer.get("version") if isinstance(answer, dict) else None
            if not isinstance(current, str):
                raise DaemonError(f"{self!r} answered something else than a version.")
            versions[name] = current
            rotation = _rotation_of(answer.get("next"))
            if rotation is not None:
                upcoming[name] = rotation
        return News(versions, upcoming)

    def instance(self, number: int) -> str:
        """Return the name of the holder of a lease; the agent puts the user and the machine before it."""
        return f"{os.getpid()}.{number}"

    def _login_headers(self) -> dict[str, str]:
        return {}

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        connection: Any = connection_over(self._socket, timeout)
        return connection


def _rotation_of(following: object) -> str | None:
    """Return the rotation of the next version in an agent's answer."""
    rotation = (
        cast("dict[str, Any]", following).get("rotation") if isinstance(following, dict) else None
    )
    return rotation if isinstance(rotation, str) else None
