"""HTTP/1.1 on a Unix socket, for applications in any language. Only the users that are named may ask.

GET /v1/secrets/NAME[?known=VERSION&next=ROTATION&wait=SECONDS] returns the value; POST /v1/acknowledgements passes
acknowledgements on to the daemon; POST /v1/leases, /v1/leases/renew and /v1/leases/release do so with requests for
leases, in the name of the user that asks; GET /v1/health shows how up to date each value is.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import socketserver
import stat
import struct
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import parse_qs, unquote, urlsplit

from rotator.agent.errors import SinkError
from rotator.agent.files import group_id, user_id
from rotator.agent.settings import SocketOptions, mode_of
from rotator.client import SourceError
from rotator.client.daemon import DaemonError
from rotator.core.consumers import InvalidReport, parse_reports
from rotator.http_body import linger, read_body

if TYPE_CHECKING:
    from rotator.agent.agent import Agent
    from rotator.client import Login

_LONGEST_WAIT: Final = 60.0
_LARGEST: Final = 1 << 16
_MOST_CONNECTIONS: Final = 128
_PEER: Final = struct.Struct("3i")
# Requests about leases, and what the daemon calls them.
_LEASES: Final = {f"/v1/leases{path}": path for path in ("", "/renew", "/release")}


class SocketServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Serves one agent's values. `with` closes and removes the socket."""

    daemon_threads: bool = True
    request_queue_size: int = 64

    def __init__(self, agent: Agent, options: SocketOptions) -> None:
        """Bind the socket: its mode is set before its name appears. Raises `SinkError`."""
        self.agent: Agent = agent
        users = {user_id(name) for name in options.users}
        self.users: frozenset[int | None] = frozenset({0, os.geteuid(), *users})
        self._file: Path = options.path
        self._free: threading.BoundedSemaphore = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        temporary = options.path.with_name(f".{options.path.name}.{secrets.token_hex(4)}")
        _require_free(options.path)
        try:
            super().__init__(str(temporary), _Handler, bind_and_activate=False)
            self.server_bind()
            if (group := group_id(options.group)) is not None:
                os.chown(temporary, -1, group)
            temporary.chmod(mode_of(options.mode))
            self.server_activate()
            temporary.replace(options.path)
            self._inode: int = options.path.stat().st_ino
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise SinkError(
                f"the socket {options.path} could not be created: {error.strerror}.",
                hint="Check the owner and mode of its folder, and the length of its path (at most 90 characters).",
            ) from None

    def start(self) -> None:
        """Serve in a thread."""
        threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True
        ).start()

    def server_close(self) -> None:
        """Close the socket, and remove its name where it is still ours."""
        super().server_close()
        with contextlib.suppress(OSError):
            if self._file.stat().st_ino == self._inode:
                self._file.unlink()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread; close it at once where too many are open."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report nothing: a client that hangs up is no error, and a traceback could hold a value."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version: str = "HTTP/1.1"
    server_version: str = "rotator"
    sys_version: str = ""
    timeout = 75.0
    _lingers: bool = False

    @property
    def _server(self) -> SocketServer:
        return cast("SocketServer", self.server)

    def do_GET(self) -> None:
        """Answer with a value, or with the health of all."""
        if not self._is_allowed():
            return
        parts = urlsplit(self.path)
        agent = self._server.agent
        if parts.path == "/v1/health":
            self._answer(HTTPStatus.OK, {"secrets": _health(agent)})
            return
        prefix, _, name = parts.path.partition("/v1/secrets/")
        name = unquote(name)
        if prefix or name not in agent.consumer.credentials:
            self._answer(HTTPStatus.NOT_FOUND, {"error": "there is no such secret."})
            return
        query = parse_qs(parts.query, keep_blank_values=True)
        try:
            # A value that is not a number is compared as false.
            wait = min(_LONGEST_WAIT, max(0.0, float(query.get("wait", ["0"])[0])))
        except ValueError:
            self._answer(HTTPStatus.BAD_REQUEST, {"error": "`wait` is a number of seconds."})
            return
        try:
            known = query.get("known", [""])[0]
            upcoming = query["next"][0] if "next" in query else None
            login = agent.wait_for_change(name, known, wait if known else 0.0, upcoming)
            following = agent.next_of(name, read="read_next" in query)
        except SourceError as error:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, {"error": str(error)})
            return
        self._answer(
            HTTPStatus.OK,
            {
                "version": login.version,
                "username": login.username,
                "password": login.password.reveal(),
                "fields": dict(login.fields),
                "next": None if following is None else _next(following),
            },
        )

    def do_POST(self) -> None:
        """Pass acknowledgements on."""
        if not self._is_allowed():
            return
        agent = self._server.agent
        if self.path in _LEASES:
            self._lease(agent, _LEASES[self.path])
            return
        if self.path != "/v1/acknowledgements":
            listed = ", ".join(("/v1/acknowledgements", *_LEASES))
            self._answer(HTTPStatus.NOT_FOUND, {"error": f"POST is for {listed} only."})
            return
        try:
            reports = parse_reports(self._body(), consumer="")
        except InvalidReport as error:
            self._answer(HTTPStatus.BAD_REQUEST, {"error": str(error)})
            return
        known = agent.consumer.credentials
        if unknown := [report.secret for report in reports if report.secret not in known]:
            self._answer(
                HTTPStatus.NOT_FOUND, {"error": "there is no such secret.", "secret": unknown[0]}
            )
            return
        daemon = agent.consumer.daemon
        if daemon is None:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, {"error": "no daemon is configured."})
            return
        for report in reports:
            daemon.acknowledge(
                report.secret,
                report.version,
                report.level.value,
                instance=report.instance,
                kind=report.kind.value,
            )
        self.send_response(HTTPStatus.NO_CONTENT)
        self.end_headers()

    def _lease(self, agent: Agent, path: str) -> None:
        """Ask the daemon for a lease. The holder is this agent's consumer, and the instance the user that asks."""
        body, daemon = self._body(), agent.consumer.daemon
        try:
            asked: object = json.loads(body)
        except (ValueError, RecursionError):
            asked = None
        if not isinstance(asked, dict):
            self._answer(HTTPStatus.BAD_REQUEST, {"error": "the body is no JSON object."})
            return
        if daemon is None:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, {"error": "no daemon is configured."})
            return
        given = cast("dict[str, object]", asked)
        instance = f"{socket.gethostname()}/uid-{self._peer()}/{given.get('instance') or ''}"
        try:
            answer = daemon.lease(path, {**given, "instance": instance})
        except DaemonError as error:
            told = error.answer if isinstance(error.answer, dict) else {"error": str(error)}
            self._answer(error.status or HTTPStatus.SERVICE_UNAVAILABLE, told)
            return
        self._answer(HTTPStatus.OK, answer)

    def _peer(self) -> int:
        """Return the user id of the process that asks."""
        peer = self.connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        _, uid, _ = _PEER.unpack(peer)
        return uid

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 # the base's name
        """Log nothing: a request may hold what no log should."""

    def _is_allowed(self) -> bool:
        uid = self._peer()
        if uid in self._server.users:
            return True
        self.close_connection = True
        self._answer(HTTPStatus.FORBIDDEN, {"error": f"user {uid} is not one of `users`."})
        return False

    def _body(self) -> bytes:
        """Return the body; nothing, which is no valid one, where it is too long."""
        body = read_body(self.rfile, self.headers, _LARGEST)
        if body is None:
            self.close_connection = True
            self._lingers = True
        return body or b""

    def finish(self) -> None:
        """End the connection."""
        super().finish()
        if self._lingers:
            linger(self.connection)

    def _answer(self, status: int, data: object) -> None:
        content = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        _ = self.wfile.write(content)


def _next(following: Login) -> dict[str, object]:
    return {
        "version": following.version,
        "username": following.username,
        "password": following.password.reveal(),
        "fields": dict(following.fields),
        "rotation": following.rotation,
    }


def _health(agent: Agent) -> dict[str, object]:
    errors, waits = agent.errors(), agent.waits()
    found: dict[str, object] = {}
    for name, credential in agent.consumer.credentials.items():
        health = credential.health()
        error = health.error or errors.get(name)
        found[name] = {
            "version": health.version,
            "is_stale": health.is_stale,
            "error": error,
            "waits": waits.get(name),
        }
    return found


def _require_free(file: Path) -> None:
    """Raise `SinkError` where something else than a dead socket has the name."""
    try:
        status = file.lstat()
    except OSError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise SinkError(f"{file} is not a socket.", hint="Remove it, or choose another path.")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(file))
        except OSError:
            return
    raise SinkError(f"another agent serves {file}.", hint="Stop it, or choose another path.")
