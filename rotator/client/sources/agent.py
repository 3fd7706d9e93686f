"""A secret that an agent on the same machine serves through its Unix socket."""

from __future__ import annotations

import os
from typing import Any, Final, cast

from rotator.client.login import Login, SourceError
from rotator.client.sources.values import login_from, parsed
from rotator.client.unix_socket import connection_over

_LARGEST: Final = 1 << 20
_OK: Final = 200
_MEANINGS: Final = {
    403: "is not served to this user",
    404: "is unknown to the agent",
    503: "has not been read by the agent yet",
}


class AgentSource:
    """Reads one secret from the agent's socket, and the version that comes next where the agent has it.

    The agent checks which user asks, so nothing secret is needed here.
    """

    def __init__(
        self,
        secret: str,
        *,
        socket: str | os.PathLike[str] = "/run/rotator/agent.sock",
        refresh: float = 1.0,
        timeout: float = 5.0,
    ) -> None:
        """Nothing is connected yet. `refresh` and `timeout` are in seconds."""
        self.refresh: float = refresh
        self._secret: str = secret
        self._socket: str = os.fspath(socket)
        self._timeout: float = timeout

    def __repr__(self) -> str:
        return f"{self._secret} of the agent at {self._socket}"

    def read(self) -> Login:
        """Return the version that is served now. Raises `SourceError`."""
        return self._login(self._asked())

    def next(self) -> Login | None:
        """Return the version that comes next; None where there is none. Raises `SourceError`."""
        following = self._asked(read_next=True).get("next")
        if following is None:
            return None
        login = self._login(following)
        return Login(
            username=login.username,
            password=login.password,
            version=login.version,
            fields=login.fields,
            rotation=str(following.get("rotation") or login.version),
        )

    def wait(self, known: str, seconds: float = 25.0) -> Login:
        """Return the version that is served as soon as it is not `known`, or after some seconds.

        Raises `SourceError`.
        """
        return self._login(self._asked(known, seconds))

    def acknowledge(self, version: str, level: str, *, instance: str) -> None:
        """Let the agent know which version an instance has. Raises `SourceError`.

        `level` is "read", "loaded" or "used".
        """
        row = {
            "secret": self._secret,
            "version": version,
            "level": level,
            "instance": instance,
            "kind": "client",
        }
        _ = self._request("POST", "/v1/acknowledgements", {"acknowledgements": [row]}, 0.0)

    def _asked(
        self, known: str | None = None, wait: float = 0.0, *, read_next: bool = False
    ) -> dict[str, Any]:
        from urllib.parse import quote  # noqa: PLC0415 # costs an import of some milliseconds

        path = f"/v1/secrets/{quote(self._secret, safe='')}"
        if known is not None:
            path += f"?known={quote(known, safe='')}&wait={wait:g}"
        if read_next:
            path += "?read_next=1"
        answer = parsed(self._request("GET", path, None, wait), repr(self))
        if not isinstance(answer, dict):
            raise SourceError(f"{self!r} holds no JSON object.")
        return cast("dict[str, Any]", answer)

    def _login(self, answer: object) -> Login:
        values = cast("dict[str, Any]", answer) if isinstance(answer, dict) else {}
        version, fields = values.get("version"), values.get("fields") or {}
        if not isinstance(version, str) or not version or not isinstance(fields, dict):
            raise SourceError(f"{self!r} has no version.")
        named = {key: values.get(key) for key in ("username", "password")}
        return login_from({**fields, **named}, version, repr(self), "username", "password")

    def _request(self, method: str, path: str, body: object, wait: float) -> str:
        """Return the text of the answer. Raises `SourceError`."""
        import http.client  # noqa: PLC0415 # half of the client's import time
        import json  # noqa: PLC0415 # as above

        connection = connection_over(self._socket, self._timeout + wait)
        content = None if body is None else json.dumps(body).encode()
        headers = {"Connection": "close"}
        if content is not None:
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, path, content, headers)
            with connection.getresponse() as response:
                status, answer = response.status, response.read(_LARGEST + 1)
                text = answer.decode()
        except (OSError, http.client.HTTPException, ValueError) as error:
            # The texts of these errors may repeat what came.
            raise SourceError(f"{self!r} could not be read: {type(error).__name__}.") from None
        finally:
            connection.close()
        if status // 100 != _OK // 100:
            meaning = _MEANINGS.get(status, "could not be read")
            raise SourceError(f"{self!r} {meaning} (HTTP status {status}).")
        return text
