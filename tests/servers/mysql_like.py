"""What the scratch servers of MariaDB and MySQL have in common: one data folder, one port of loopback."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar, Final

import pymysql

from rotator.api import UsageError
from rotator.testing.guard import Guard
from rotator.testing.scratch import Scratch, free_port

_PATIENCE: Final = 60.0
_STEP: Final = 0.05


class MySqlLikeServer(Scratch):
    """A server as long as the `with` block lasts; `root` is its superuser, with a password.

    `options` are the server's own, such as `--general-log=1`.
    """

    product: ClassVar[str]

    def __init__(self, *options: str) -> None:
        """Nothing is started yet. Raises `UsageError` where there is no server to start."""
        self._options: tuple[str, ...] = options
        self._program: list[str] = self._command()
        self._folder: Path = Path(tempfile.mkdtemp(prefix=f"rotator-{self.product.lower()}-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: Guard | None = None
        self.root_password: str = secrets.token_urlsafe(18)
        self.host: str = "127.0.0.1"
        self.port: int = free_port()

    def _command(self) -> list[str]:
        """Return the server's program with the options that it always has. Raises `UsageError`."""
        raise NotImplementedError

    def _initialise(self) -> None:
        """Make the data folder, whose root has no password."""
        raise NotImplementedError

    def _begin(self) -> None:
        self._guard = Guard(self._folder)
        self._tmp.mkdir()
        self._initialise()
        self.start()
        with self._connect(unix_socket=str(self._socket), user="root") as first:
            cursor = first.cursor()
            password = [self.root_password]
            _ = cursor.execute("ALTER USER 'root'@'localhost' IDENTIFIED BY %s", password)
            # Debian's test database and anonymous accounts stay: they are what users have.
            _ = cursor.execute("DROP USER IF EXISTS 'root'@'127.0.0.1'")
            _ = cursor.execute("CREATE USER 'root'@'127.0.0.1' IDENTIFIED BY %s", password)
            _ = cursor.execute("GRANT ALL ON *.* TO 'root'@'127.0.0.1' WITH GRANT OPTION")

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    @property
    def _tmp(self) -> Path:
        # Its own: a server that starts removes leftovers there, and would remove another server's files.
        return self._folder / "tmp"

    @property
    def _socket(self) -> Path:
        return self._folder / "socket"

    @property
    def pid(self) -> int:
        """The server's process, to freeze or kill it."""
        if self._process is None:
            raise UsageError(f"{self.product} is not started.")
        return self._process.pid

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [
            *self._program,
            f"--datadir={self._data}",
            f"--tmpdir={self._tmp}",
            f"--socket={self._socket}",
            f"--pid-file={self._folder / 'pid'}",
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
            *self._options,
        ]
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        if self._guard is not None:
            self._guard.watch(self._process.pid)
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                with socket.create_connection((self.host, self.port), 1) as link:
                    if link.recv(1):
                        return
            except OSError:
                pass
            if self._process.poll() is not None or time.monotonic() > end:
                raise UsageError(f"{self.product} did not start: {self.log_text()[-800:]}")
            time.sleep(_STEP)

    def stop(self) -> None:
        """Stop it as an operator does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            _ = self._process.wait(_PATIENCE)

    def restart(self) -> None:
        """Stop and start it."""
        self.stop()
        self.start()

    def connect(
        self, user: str = "root", password: str | None = None, database: str | None = None
    ) -> Any:
        """Log in over TCP, in autocommit mode."""
        return self._connect(
            host=self.host,
            port=self.port,
            user=user,
            # As bytes: PyMySQL takes a text for Latin-1.
            password=(self.root_password if password is None else password).encode(),
            database=database,
        )

    def run(self, *statements: str, database: str | None = None) -> list[tuple[Any, ...]]:
        """Run statements as root; return the rows of the last one."""
        with self.connect(database=database) as link, link.cursor() as cursor:
            for statement in statements:
                _ = cursor.execute(statement)
            return list(cursor.fetchall())

    def log_text(self) -> str:
        """Return what the server has written, its general log and binary log included."""
        files = [
            *self._folder.glob("*.log"),
            *self._data.glob("*.log"),
            *self._data.glob("binlog.*"),
        ]
        return "".join(one.read_text(errors="replace") for one in files)

    def _connect(self, **given: Any) -> Any:
        # PyMySQL would read the system's authorities for each connection, in case the server has TLS.
        return pymysql.connect(connect_timeout=5, autocommit=True, ssl_disabled=True, **given)

    def _remove(self) -> None:
        if self._process is not None:
            self._process.kill()
            _ = self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._guard is not None:
            self._guard.release()

    def _run_program(self, command: list[str]) -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            output = (done.stdout + done.stderr).strip()
            raise UsageError(f"{Path(command[0]).name} failed: {output[-800:]}")


def server_user() -> str:
    """Return the system's user that the server runs as: the one that runs the tests."""
    return "root" if os.geteuid() == 0 else str(os.geteuid())


def cache_folder() -> Path:
    """Return where servers are unpacked that no package installs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rotator"
