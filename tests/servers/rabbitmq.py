"""A real RabbitMQ in a scratch folder, on free ports of loopback, with its management API."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from contextlib import closing, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final
from urllib.parse import quote

from rotator.api import Credential, Secret, UsageError, basic_auth
from rotator.testing.guard import Guard
from rotator.testing.scratch import Scratch, free_port

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGE: Final = "rabbitmq-server"
# It takes 15 s to start: only `make rabbitmq` asks for it.
WANTED: Final = "ROTATOR_RABBITMQ"
_PROGRAMS: Final = "/usr/lib/rabbitmq/lib"
_EPMD: Final = "/usr/bin/epmd"
_ON_LOOPBACK: Final = "-kernel inet_dist_use_interface {127,0,0,1}"
_PATIENCE: Final = 90.0


class ScratchRabbitMq(Scratch):
    """A server as long as the `with` block lasts. `admin` may do everything."""

    def __init__(self) -> None:
        """Nothing is started yet. Raises `UsageError` where there is no server to start."""
        self._program: Path = _program()
        self._process: subprocess.Popen[bytes] | None = None
        self._name_server: subprocess.Popen[bytes] | None = None
        self._guard: Guard | None = None
        self.folder: Path = Path(tempfile.mkdtemp(prefix="rotator-rabbitmq-"))
        self.admin: Credential = Credential(
            username="rotator-admin", password=Secret(secrets.token_urlsafe(18))
        )
        self.port: int = free_port()
        self.management: int = free_port()
        self._distribution: int = free_port()
        self._names: int = free_port()

    @property
    def url(self) -> str:
        """Its management API."""
        return f"http://127.0.0.1:{self.management}"

    @property
    def amqp(self) -> str:
        """Where applications log in."""
        return f"amqp://127.0.0.1:{self.port}"

    def call(self, method: str, *path: str, body: object = None) -> Any:
        """Call the management API as the admin; None where there is nothing."""
        connection = HTTPConnection("127.0.0.1", self.management, timeout=10)
        with closing(connection):
            connection.request(
                method,
                "/api/" + "/".join(quote(one, safe="") for one in path),
                None if body is None else json.dumps(body),
                {"Authorization": basic_auth(self.admin), "Content-Type": "application/json"},
            )
            answer = connection.getresponse()
            text = answer.read()
        if answer.status == 404:
            return None
        assert answer.status < 400, f"{method} {path}: {answer.status}"
        return json.loads(text) if text else None

    def connect(self, user: str, password: str) -> Any:
        """Return a connection that is open; None where the login is rejected."""
        from amqp import Connection
        from amqp.exceptions import AccessRefused

        link = Connection(
            f"127.0.0.1:{self.port}", user, password, connect_timeout=10, read_timeout=10
        )
        try:
            link.connect()
        except AccessRefused:
            link.collect()
            return None
        # It may list for ever what ends before it is listed.
        self._await(lambda: self._lists(user, _name_of(link)))
        return link

    def close(self, user: str, link: Any) -> None:
        """Close a connection, and wait until the server has forgotten it."""
        name = _name_of(link)
        link.close()
        self._await(lambda: not self._lists(user, name))

    def open_session(self, user: str, password: str) -> RabbitSession:
        """Return an open connection of an application, which answers the server."""
        link = self.connect(user, password)
        assert link is not None
        return RabbitSession(self, user, link)

    def await_end(self, user: str) -> None:
        """Wait until the server lists no connection of a user."""
        self._await(lambda: not self.call("GET", "connections", "username", user))

    def log_text(self) -> str:
        """Return what the server has written."""
        logs = (self.folder / "log").glob("*.log") if (self.folder / "log").is_dir() else ()
        return "".join(one.read_text(errors="replace") for one in logs)

    def _lists(self, user: str, name: str) -> bool:
        found = self.call("GET", "connections", "username", user)
        return any(one["name"].startswith(name) for one in found)

    def _await(self, done: Callable[[], bool]) -> None:
        end = time.monotonic() + _PATIENCE
        while not done():
            assert time.monotonic() < end
            time.sleep(0.01)

    def _begin(self) -> None:
        self._guard = Guard(self.folder)
        (self.folder / "home").mkdir()
        _ = (self.folder / "plugins").write_text("[rabbitmq_management].\n")
        _ = (self.folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\n"
            "management.tcp.ip = 127.0.0.1\n"
            f"management.tcp.port = {self.management}\n"
            f"default_user = {self.admin.username}\n"
            f"default_pass = {self.admin.password.reveal()}\n"
        )
        with (self.folder / "output").open("wb") as output:
            # Without one it starts a daemon, which would outlive it.
            self._name_server = self._start(_EPMD, 0, output)
            self._process = self._start(self._program, self._name_server.pid, output)
        # Both, and what the server's script has started: one group.
        self._guard.watch(-self._name_server.pid)
        end = time.monotonic() + _PATIENCE
        while True:
            with suppress(OSError):
                _ = self.call("GET", "whoami")
                return
            if self._process.poll() is not None or time.monotonic() > end:
                text = (self.folder / "output").read_text(errors="replace")
                raise UsageError(f"RabbitMQ did not start: {text[-800:]}")
            time.sleep(0.1)

    def _start(self, program: str | Path, group: int, output: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [program],
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=self.folder,
            process_group=group,
        )

    def _environment(self) -> dict[str, str]:
        folder = self.folder
        return {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": f"{folder}/home",
            "RABBITMQ_NODENAME": f"{folder.name.replace('_', '-')}@localhost",
            "RABBITMQ_MNESIA_BASE": f"{folder}/data",
            "RABBITMQ_LOG_BASE": f"{folder}/log",
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins",
            "RABBITMQ_PID_FILE": f"{folder}/pid",
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _ON_LOOPBACK,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._names),
        }

    def _remove(self) -> None:
        if self._name_server is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._name_server.pid, signal.SIGKILL)
        for process in (self._process, self._name_server):
            if process is not None:
                _ = process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._guard is not None:
            self._guard.release()


class RabbitSession:
    """One connection, in a thread that answers when the server closes it."""

    def __init__(self, server: ScratchRabbitMq, user: str, link: Any) -> None:
        self._server: ScratchRabbitMq = server
        self._user: str = user
        self._link: Any = link
        self._stop: threading.Event = threading.Event()
        self._thread: threading.Thread = threading.Thread(target=self._answer)
        self._thread.start()

    def close(self) -> None:
        """Close it, and wait until the server has forgotten it."""
        self._stop.set()
        self._thread.join()
        self._server.await_end(self._user)

    def _answer(self) -> None:
        from amqp.exceptions import AMQPError

        while not self._stop.is_set():
            try:
                self._link.drain_events(timeout=0.02)
            except TimeoutError:
                continue
            except (AMQPError, OSError):
                break
        self._link.collect()


def _name_of(link: Any) -> str:
    return "{}:{} ->".format(*link.sock.getsockname())


def _program() -> Path:
    found = sorted(Path(_PROGRAMS).glob("rabbitmq_server-*/sbin/rabbitmq-server"))
    if not found or not Path(_EPMD).exists():
        raise UsageError("there is no RabbitMQ here.", hint=f"apt-get install {PACKAGE}")
    return found[-1]
