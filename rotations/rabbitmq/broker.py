"""One cluster: its management API as the admin, and logins by AMQP. Where its errors become ours.

No text of the server leaves it.
"""

from __future__ import annotations

import json
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote, urlsplit

from amqp import Connection
from amqp.exceptions import AccessRefused, NotAllowed

from rotator.api import (
    Denied,
    HttpAnswer,
    HttpServer,
    Refused,
    Session,
    StepError,
    Transient,
    Unavailable,
    Unknown,
    admin_logins,
    basic_auth,
    call_within,
    json_object,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotations.rabbitmq.options import TargetOptions
    from rotator.api import Credential, StepContext

T = TypeVar("T")

# What the server's operators see beside a connection of ours.
_PROPERTIES: Final = {"connection_name": "rotator"}
_LOOKS: Final = 50
_POLL_SECONDS: Final = 0.02
# A login exchanges some hundred bytes.
_MOST_BYTES: Final = 2**20
_BAD_REQUEST: Final = 400
_UNAUTHORIZED: Final = 401
_NOT_FOUND: Final = 404
_SUCCESS: Final = range(200, 300)
_FAILED: Final = range(500, 600)
_PORTS: Final = {"amqp": 5672, "amqps": 5671}


class Broker:
    """What all rotations on one target share. Safe to use from threads: each call connects anew."""

    def __init__(self, name: str, options: TargetOptions, admin: Callable[[], Credential]) -> None:
        """Nothing is connected yet."""
        self.options: TargetOptions = options
        self._name: str = name
        self._admin: Callable[[], Credential] = admin
        self._server: HttpServer = HttpServer(url=options.url, ca=options.ca, target=name)

    def __str__(self) -> str:
        return str(self._server)

    def get(self, ctx: StepContext, *path: str, take: Callable[[Any], T]) -> T | None:
        """Return what `take` makes of the answer at a path; None where there is nothing."""
        doing = f"reading {path[0]}"
        answer = self._ask("GET", path, None, ctx, doing=doing)
        if answer.status == _NOT_FOUND:
            return None
        self._require_success(answer, doing, changes=False)
        try:
            # Many answers are lists.
            return take(json_object(b'{"answer":' + answer.body + b"}")["answer"])
        except (AttributeError, LookupError, TypeError, ValueError):
            failed = Transient(f"{self}: {doing}: the answer has no valid form.")
        raise failed

    def put(self, body: dict[str, object], ctx: StepContext, *path: str) -> None:
        """Set what is at a path."""
        doing = f"writing {path[0]}"
        self._require_success(self._ask("PUT", path, body, ctx, doing=doing), doing, changes=True)

    def delete(self, ctx: StepContext, *path: str) -> None:
        """Delete what is at a path. Gone already is success."""
        doing = f"deleting {path[0]}"
        answer = self._ask("DELETE", path, None, ctx, doing=doing)
        if answer.status != _NOT_FOUND:
            self._require_success(answer, doing, changes=True)

    def connections(self, user: str, ctx: StepContext) -> list[str]:
        """Return the names of the connections that are listed of a user: `CLIENT -> SERVER`."""

        def take(found: Any) -> list[str]:
            return [str(one["name"]) for one in found]

        return self.get(ctx, "connections", "username", user, take=take) or []

    def has_statistics(self, connection: str, ctx: StepContext) -> bool:
        """Return whether the server has statistics of a connection: from some seconds after its start."""
        return self.get(ctx, "connections", connection, take=bool) is not None

    def sessions(self, user: str, ctx: StepContext) -> list[Session]:
        """Return the open connections of a user."""
        clients = [one.partition(" -> ")[0] for one in self.connections(user, ctx)]
        return [Session(login=user, client=client) for client in clients]

    def log_in(self, credential: Credential, vhost: str, ctx: StepContext) -> bool | None:
        """Log in once by AMQP: True when the virtual host opened, None when only the login was accepted.

        Raises `Transient` when neither is known.
        """
        ctx.require_time()
        parts = urlsplit(self.options.amqp_url)
        seconds = ctx.seconds_left()
        tls: Any = False
        if parts.scheme == "amqps":
            tls = {
                "context": {"cafile": self.options.ca, "check_hostname": True},
                "server_hostname": parts.hostname,
            }
        connection = _LimitedConnection(
            f"{parts.hostname}:{parts.port or _PORTS[parts.scheme]}",
            userid=credential.username,
            password=credential.password.reveal(),
            virtual_host=vhost,
            ssl=tls,
            connect_timeout=min(seconds, self.options.connect_timeout),
            read_timeout=seconds,
            write_timeout=seconds,
            client_properties=dict(_PROPERTIES),
        )

        def run() -> bool | None:
            try:
                connection.connect()
            except AccessRefused:
                return False
            except NotAllowed:
                return None
            return True

        what = (
            f"{self.options.amqp_url}: whether login {credential.username!r} is accepted is unknown"
        )
        try:
            accepted = call_within(seconds, run)
            if accepted:
                self._close(connection, credential.username, ctx)
        except Exception as error:  # noqa: BLE001 # the library's own, sockets': none may leave
            failed = Transient(f"{what} ({type(error).__name__}).")
            if isinstance(error, ssl.SSLCertVerificationError):
                failed = Transient(
                    f"{what}: the server's certificate is invalid ({error.verify_message}).",
                    hint=f"Set `ca` of target {self._name!r} to the authority that signed it.",
                )
        else:
            return accepted
        finally:
            with suppress(Exception):
                connection.collect()
        raise failed

    def _close(self, connection: Connection, user: str, ctx: StepContext) -> None:
        """Close a connection of ours so that the server lists it no longer.

        RabbitMQ notes the start and the end of a connection in two processes that race. It lists for
        ever a connection whose end it noted first, and a revoke would wait for it. So the start has
        to be noted before the end comes. The login has its answer: no error of this matters.
        """
        end = f":{connection.sock.getsockname()[1]}"

        def wait(*, listed: bool) -> None:
            with suppress(StepError):
                for _ in range(_LOOKS):
                    if listed is any(one.client.endswith(end) for one in self.sessions(user, ctx)):
                        return
                    ctx.clock.sleep(_POLL_SECONDS)

        wait(listed=True)
        with suppress(Exception):
            # Not only its socket: the server would log a warning.
            call_within(ctx.seconds_left(), connection.close)
        wait(listed=False)

    def _ask(
        self,
        method: str,
        path: tuple[str, ...],
        body: dict[str, object] | None,
        ctx: StepContext,
        *,
        doing: str,
    ) -> HttpAnswer:
        ctx.require_time()
        data = None if body is None else json.dumps(body).encode()
        for admin in admin_logins(self._admin):
            answer = self._server.send(
                method,
                "/api/" + "/".join(quote(one, safe="") for one in path),
                {"Authorization": basic_auth(admin), "Content-Type": "application/json"},
                data,
                seconds=ctx.seconds_left(),
                doing=doing,
                changes=method != "GET",
            )
            if answer.status != _UNAUTHORIZED:
                return answer
        raise Unavailable(
            f"{self}: {doing}: the admin is rejected, or has no tag `administrator`.",
            hint=f"Correct `admin` of target {self._name!r}.",
        )

    def _require_success(self, answer: HttpAnswer, doing: str, *, changes: bool) -> None:
        if answer.status in _SUCCESS:
            return
        what = f"{self}: {doing}: the API answered with status {answer.status}."
        if answer.status in _FAILED:
            raise Unknown(what) if changes else Transient(what)
        if answer.status == _BAD_REQUEST and changes:
            raise Refused(
                what, hint="Compare the secret's password policy with the server's validators."
            )
        raise Denied(what, hint="Give the admin the tag `administrator`.")


class _LimitedConnection(Connection):
    """A connection that receives so many bytes at most: the library takes frames of any size."""

    def Transport(self, *args: Any, **given: Any) -> Any:  # noqa: N802 # the library's name
        """Return a transport whose reads are counted."""
        transport: Any = super().Transport(*args, **given)
        connect, left = transport.connect, _MOST_BYTES

        def limited() -> None:
            connect()
            receive = transport._quick_recv  # noqa: SLF001 # it has no other place for a limit

            def counted(size: int) -> bytes:
                nonlocal left
                received: bytes = receive(min(size, left + 1))
                left -= len(received)
                if left < 0:
                    raise OSError
                return received

            transport._quick_recv = counted  # noqa: SLF001 # as above

        transport.connect = limited
        return transport
