"""The daemon's HTTP interface for consumers: what an application acknowledges, and what is published.

Nothing secret is exchanged but the token, and that in the header only.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from rotator.client.forks import call_after_fork
from rotator.client.log import warn
from rotator.core.secret import Secret

# Seconds after which an acknowledgement that did not change is sent again, as a heartbeat.
_HEARTBEAT: Final = 60.0
# Seconds until a failed acknowledgement is sent again: doubled each time.
_FIRST_RETRY: Final = 1.0
_LAST_RETRY: Final = 60.0
# Seconds between two looks at the clock while a retry is waited for.
_LOOK: Final = 1.0
_LONGEST_WAIT: Final = 60.0
_ROWS: Final = 1000
_LARGEST: Final = 1 << 20
_OK: Final = frozenset({200, 204})
_FORBIDDEN: Final = 403
_REJECTED_ROWS: Final = 422
_MEANINGS: Final = {
    401: "rejected the token",
    403: "does not know this consumer of the secret",
    404: "has no interface for consumers at this address",
    422: "rejected an acknowledgement",
    503: "cannot reach its journal",
}


class DaemonError(Exception):
    """The daemon did not answer as expected. `status` is its HTTP status, where it gave one.

    Neither the text nor `answer` holds the token.
    """

    def __init__(self, text: str, status: int | None = None, answer: object = None) -> None:
        """`answer` is the JSON that came with the status."""
        super().__init__(text)
        self.status: int | None = status
        self.answer: object = answer


class _Acknowledgement:
    """What one instance last acknowledged of one secret."""

    __slots__ = ("due", "failures", "is_alone", "level", "sent_at", "version")

    def __init__(self) -> None:
        self.version: str = ""
        self.level: str = ""
        self.sent_at: float = -math.inf
        # The time at which it is sent; infinite where nothing is to be sent.
        self.due: float = math.inf
        self.failures: int = 0
        # Whether it is sent without other secrets: the daemon refuses a request that names a secret
        # of which it does not know this consumer.
        self.is_alone: bool = False


# The secret, the instance, its kind, and whether it is about the version that comes next.
_Key = tuple[str, str, str, bool]
# What an instance acknowledges of a version that is not served yet.
PREPARED: Final = "prepared"


class News:
    """The published versions of secrets; and of those that have one, the rotation of the next version."""

    __slots__ = ("following", "versions")

    def __init__(self, versions: Mapping[str, str], following: Mapping[str, str]) -> None:
        self.versions: Mapping[str, str] = versions
        self.following: Mapping[str, str] = following


class Daemon:
    """A connection to the daemon's interface for consumers. Safe between threads and across forks.

    `acknowledge` returns at once: a thread of its own sends. While the daemon is unreachable, only
    the last acknowledgement of each secret and instance is kept, and sent when it is back.
    """

    def __init__(
        self,
        url: str,
        *,
        token: Secret | str,
        ca_file: str | os.PathLike[str] | None = None,
        timeout: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is connected yet. `timeout` is in seconds, of each network operation.

        Raises `ValueError` for an address that is not `https://`, unless it is of loopback, and for
        a token that no HTTP header can hold.
        """
        self._host, self._port, self._path, self._is_tls = _parsed(url)
        self._token: Secret = token if isinstance(token, Secret) else Secret(token)
        if not _fits_a_header(self._token.reveal()):
            raise ValueError("the token is empty, or holds a character that no HTTP header can.")
        self._ca_file: str | None = None if ca_file is None else os.fspath(ca_file)
        self._begin(timeout, clock)

    def _begin(self, timeout: float, clock: Callable[[], float]) -> None:
        """Have nothing to send yet."""
        self._timeout: float = timeout
        self._clock: Callable[[], float] = clock
        self._rows: dict[_Key, _Acknowledgement] = {}
        self._changed: threading.Condition = threading.Condition()
        self._sender: threading.Thread | None = None
        self._is_closed: bool = False
        self.error: str | None = None
        """Why the last request failed; None after one that did not. It holds no token."""
        call_after_fork(self._start_anew)

    def __repr__(self) -> str:
        return f"Daemon({'https' if self._is_tls else 'http'}://{self._host}:{self._port})"

    # -- acknowledgements ----------------------------------------------------------------------

    def acknowledge(
        self, secret: str, version: str, level: str, *, instance: str, kind: str
    ) -> None:
        """Let the daemon know that `instance` has `version` of `secret` at `level`.

        At the level `prepared` the version is the id of the rotation that is to publish it.

        Sent at once where the version or the level changed, else at most once a minute. Returns at
        once and raises nothing: `error` and the log hold what failed.
        """
        now = self._clock()
        with self._changed:
            key = (secret, instance, kind, level == PREPARED)
            row = self._rows.setdefault(key, _Acknowledgement())
            if (row.version, row.level) != (version, level):
                row.version, row.level = version, level
                row.failures = 0
            elif row.due < math.inf or now - row.sent_at < _HEARTBEAT:
                return
            row.due = now
            if self._sender is None and not self._is_closed:
                self._sender = threading.Thread(
                    target=self._send_all, name="rotator-acknowledge", daemon=True
                )
                self._sender.start()
            self._changed.notify_all()

    def close(self) -> None:
        """End the thread; what is still to be sent gets one attempt, of at most a second."""
        with self._changed:
            self._is_closed = True
            sender = self._sender
            self._changed.notify_all()
        if sender is not None:
            sender.join(_LOOK)

    def _send_all(self) -> None:
        while rows := self._wait_for_rows():
            taken = {key: (row.version, row.level) for key, row in rows.items()}
            error = None
            try:
                self._post(taken)
            except DaemonError as failed:
                error = failed
            except Exception as failed:  # noqa: BLE001 # the thread of all later acknowledgements
                error = DaemonError(f"{self!r} could not be asked: {type(failed).__name__}.")
            self._settle(rows, taken, error)

    def _wait_for_rows(self) -> dict[_Key, _Acknowledgement]:
        """Return what is to be sent now; nothing once the connection is closed."""
        with self._changed:
            while True:
                now = self._clock()
                due = {key: row for key, row in self._rows.items() if row.due <= now}
                if due:
                    return _request_of(due)
                if self._is_closed:
                    return {}
                is_waiting = any(row.due < math.inf for row in self._rows.values())
                _ = self._changed.wait(_LOOK if is_waiting else None)

    def _settle(
        self,
        rows: Mapping[_Key, _Acknowledgement],
        taken: Mapping[_Key, tuple[str, str]],
        error: DaemonError | None,
    ) -> None:
        """Note what came of each row: sent, or to be sent again later."""
        failed = _failed_rows(taken, error)
        now = self._clock()
        with self._changed:
            for key, row in rows.items():
                # Where it changed meanwhile, it is due already.
                if (row.version, row.level) != taken[key]:
                    continue
                if key not in failed:
                    row.sent_at, row.due, row.failures = now, math.inf, 0
                    row.is_alone = False
                elif self._is_closed or (
                    key[3] and error is not None and error.status == _REJECTED_ROWS
                ):
                    # A rotation that the daemon does not know does not come back.
                    row.due = math.inf
                else:
                    row.due = now + min(_FIRST_RETRY * 2**row.failures, _LAST_RETRY)
                    row.failures += 1
                    row.is_alone = error is not None and error.status == _FORBIDDEN
        self._note(error)

    def _post(self, rows: Mapping[_Key, tuple[str, str]]) -> None:
        body = [
            {
                "secret": key[0],
                "version": row[0],
                "level": row[1],
                "instance": key[1],
                "kind": key[2],
            }
            for key, row in rows.items()
        ]
        _ = self._request("POST", "/v1/acknowledgements", {"acknowledgements": body}, wait=0.0)

    def _note(self, error: DaemonError | None) -> None:
        text = None if error is None else str(error)
        before, self.error = self.error, text
        if text is not None and text != before:
            warn("acknowledgements are sent later: %s", text)

    # -- versions ------------------------------------------------------------------------------

    def versions(self, known: Mapping[str, str], wait: float) -> dict[str, str]:
        """Return the published version of each secret in `known`, as soon as one differs from it.

        Without a change it returns after `wait` seconds, at most 60. A secret whose version is not
        known yet has the version `""`. Raises `DaemonError`.
        """
        return dict(self.news(known, {}, wait).versions)

    def news(self, known: Mapping[str, str], following: Mapping[str, str], wait: float) -> News:
        """Return as `versions` does, also as soon as another version comes next than in `following`.

        `following` has the rotation of the next version by secret, `""` for none. Raises `DaemonError`.
        """
        from urllib.parse import urlencode  # noqa: PLC0415 # costs an import of some milliseconds

        wait = max(0.0, min(wait, _LONGEST_WAIT))
        query = urlencode(
            [
                *(("secret", name) for name in known),
                *(("known", f"{name}:{version}") for name, version in known.items() if version),
                *(("next", f"{name}:{rotation}") for name, rotation in following.items()),
                ("wait", f"{wait:g}"),
            ]
        )
        answer = self._request("GET", f"/v1/versions?{query}", None, wait=wait)
        versions = answer.get("versions") if isinstance(answer, dict) else None
        if not isinstance(versions, dict):
            raise DaemonError(f"{self!r} answered something else than versions.")
        upcoming = answer.get("next")
        return News(
            _texts_of(versions, known),
            _texts_of(upcoming if isinstance(upcoming, dict) else {}, known),
        )

    # -- leases --------------------------------------------------------------------------------

    def lease(self, path: str, asked: Mapping[str, object]) -> Any:
        """Return the answer to a request about a lease: to issue one, "/renew" or "/release".

        What an answer holds: docs/reference/consumers.md. Raises `DaemonError`.
        """
        return self._request("POST", f"/v1/leases{path}", asked, wait=0.0)

    def instance(self, number: int) -> str:
        """Return the name of the holder of a lease: this process, and which of its credentials."""
        import socket  # noqa: PLC0415 # as above

        return f"{socket.gethostname()}/{os.getpid()}.{number}"

    # -- HTTP ----------------------------------------------------------------------------------

    def _request(self, method: str, path: str, body: object, *, wait: float) -> Any:
        """Return the JSON of the answer. Raises `DaemonError`."""
        import http.client  # noqa: PLC0415 # half of this package's import time
        import json  # noqa: PLC0415 # as above

        connection = self._connection(self._timeout + wait)
        headers = {"Accept": "application/json", "Connection": "close", **self._login_headers()}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            content = None if body is None else json.dumps(body).encode()
            connection.request(method, self._path + path, content, headers)
            with connection.getresponse() as response:
                status, answer = response.status, response.read(_LARGEST + 1)
        except (OSError, http.client.HTTPException, ValueError) as error:
            # The texts of these errors may repeat what was sent, or what came.
            raise DaemonError(f"{self!r} is unreachable: {type(error).__name__}.") from None
        finally:
            connection.close()
        try:
            data = json.loads(answer) if answer and len(answer) <= _LARGEST else None
        except (ValueError, RecursionError):
            data = None
        if status not in _OK:
            meaning = _MEANINGS.get(status, "failed")
            raise DaemonError(f"{self!r} {meaning} (HTTP status {status}).", status, data)
        return data

    def _login_headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token.reveal()}"}

    def _connection(self, timeout: float) -> Any:
        import http.client  # noqa: PLC0415 # as above

        if not self._is_tls:
            return http.client.HTTPConnection(self._host, self._port, timeout=timeout)
        import ssl  # noqa: PLC0415 # as above

        try:
            context = ssl.create_default_context(cafile=self._ca_file)
        except OSError as error:
            raise DaemonError(
                f"the CA file {self._ca_file} could not be read: {type(error).__name__}."
            ) from None
        return http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=context)

    def _start_anew(self) -> None:
        """A forked process has none of the threads of its parent, and needs locks of its own."""
        self._changed = threading.Condition()
        self._sender = None
        self._rows = {}


def _texts_of(found: object, names: Mapping[str, str]) -> dict[str, str]:
    return {
        name: text
        for name, text in cast("dict[object, object]", found).items()
        if isinstance(name, str) and isinstance(text, str) and name in names
    }


def _request_of(due: Mapping[_Key, _Acknowledgement]) -> dict[_Key, _Acknowledgement]:
    """Return the rows of one request."""
    together = [(key, row) for key, row in due.items() if not row.is_alone]
    if not together:
        secret = next(iter(due))[0]
        together = [(key, row) for key, row in due.items() if key[0] == secret]
    return dict(together[:_ROWS])


def _failed_rows(
    taken: Mapping[_Key, tuple[str, str]], error: DaemonError | None
) -> frozenset[_Key]:
    """Return the rows that the daemon did not take: all of them, unless it names those that it rejected."""
    if error is None:
        return frozenset()
    answer = cast("dict[str, object]", error.answer) if isinstance(error.answer, dict) else {}
    rejected = answer.get("rejected")
    if error.status != _REJECTED_ROWS or not isinstance(rejected, list):
        return frozenset(taken)
    named = {
        (row.get("secret"), row.get("version"))
        for row in cast("list[Any]", rejected)
        if isinstance(row, dict)
    }
    return frozenset(key for key, row in taken.items() if (key[0], row[0]) in named)


def _parsed(url: str) -> tuple[str, int, str, bool]:
    from urllib.parse import urlsplit  # noqa: PLC0415 # as above

    wanted = "the daemon's address is like https://rotator.example.org:8443"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError(f"{wanted}.") from None
    if not host or parts.scheme not in {"http", "https"} or "@" in parts.netloc:
        raise ValueError(f"{wanted}, without a login.")
    if parts.query or parts.fragment:
        raise ValueError(f"{wanted}, without a query.")
    is_tls = parts.scheme == "https"
    if not is_tls and host not in {"localhost", "127.0.0.1", "::1"}:
        raise ValueError("plain http:// is accepted on this machine only: use https://.")
    return host, port or (443 if is_tls else 80), parts.path.rstrip("/"), is_tls


def _fits_a_header(token: str) -> bool:
    return bool(token) and token.isascii() and token.isprintable() and " " not in token
