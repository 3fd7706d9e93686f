"""Audit logs as lines: plain and compressed files, standard input, and a socket that rotator listens on."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import selectors
import socket
import stat
import sys
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, cast

from rotator.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

# A line that is longer was not written by one request: OpenBao's largest request has 32 MiB
# (https://openbao.org/docs/configuration/listener/tcp, max_request_size).
LONGEST_LINE: Final = 128 * 1024 * 1024
STANDARD_INPUT: Final = "-"
_GZIP: Final = b"\x1f\x8b"
_BUFFER: Final = 1024 * 1024
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class Line:
    """One line, and the position after it. `is_whole`: whether its end was written."""

    text: bytes
    end: int
    is_whole: bool


@contextmanager
def opened(name: str) -> Generator[IO[bytes]]:
    """Open a log for reading, decompressed. Raises `UsageError`."""
    if name == STANDARD_INPUT:
        yield _decompressed(sys.stdin.buffer)
        return
    try:
        raw = Path(name).open("rb")  # noqa: SIM115 # closed below
    except OSError as error:
        raise UsageError(
            f"{name} cannot be read ({error.strerror}).",
            hint="Give the file of an audit device, or - for standard input.",
            safety="Nothing was changed.",
        ) from error
    with raw:
        if not stat.S_ISREG(os.fstat(raw.fileno()).st_mode):
            raise UsageError(
                f"{name} is not a file.",
                hint="Give a file, - for standard input, or a socket: unix:/run/rotator/audit.sock",
                safety="Nothing was changed.",
            )
        yield _decompressed(cast("IO[bytes]", raw))


def lines(file: IO[bytes]) -> Iterator[Line]:
    """Return the lines of a log with their positions. A compressed file that was cut off ends early."""
    position = 0
    while True:
        try:
            text = file.readline(LONGEST_LINE)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            return
        if not text:
            return
        position += len(text)
        yield Line(text, position, text.endswith(b"\n"))


def identity(kind: str, first: bytes) -> str:
    """Return by what a log is recognised, whatever its name: the kind, and a digest of its first line."""
    return f"{kind}:{hashlib.sha256(first.rstrip()).hexdigest()[:40]}"


def _decompressed(raw: IO[bytes]) -> IO[bytes]:
    buffered = io.BufferedReader(cast("io.RawIOBase", raw), _BUFFER)
    if buffered.peek(2)[:2] == _GZIP:
        # Without a buffer around it, which would lose what comes before the place of a cut.
        return cast("IO[bytes]", gzip.GzipFile(fileobj=buffered))
    return buffered


# -- sockets -----------------------------------------------------------------------------------


def is_socket(name: str) -> bool:
    """Return whether a name is that of a socket to listen on."""
    return name.startswith(("unix:", "tcp:"))


@contextmanager
def listening(name: str) -> Generator[socket.socket]:
    """Listen where the socket device of Vault or OpenBao connects to. Raises `UsageError`."""
    server = _bound(name)
    try:
        server.listen()
        yield server
    finally:
        server.close()
        if name.startswith("unix:"):
            Path(name.removeprefix("unix:")).unlink(missing_ok=True)


def _bound(name: str) -> socket.socket:
    kind, _, place = name.partition(":")
    host, _, port = place.rpartition(":")
    host = host.strip("[]")
    if kind == "tcp" and host not in _LOOPBACK:
        raise UsageError(
            f"{name} is not on loopback: anybody could write reads into it.",
            hint="Listen on tcp:127.0.0.1:PORT or unix:PATH.",
            safety="Nothing was changed.",
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    server = socket.socket(family if kind == "tcp" else socket.AF_UNIX)
    # Nobody but the owner's user and group may connect to the path.
    before = os.umask(0o117)
    try:
        if kind == "tcp":
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind((host, int(port)))
        else:
            server.bind(place)
    except (OSError, ValueError, OverflowError) as error:
        server.close()
        cause = error.strerror if isinstance(error, OSError) else None
        raise UsageError(
            f"cannot listen on {name} ({cause or 'PORT is a number'}).",
            hint="Give a new path or a free port: unix:PATH or tcp:127.0.0.1:PORT.",
            safety="Nothing was changed.",
        ) from error
    finally:
        _ = os.umask(before)
    return server


def received(
    server: socket.socket, *, every: float, should_stop: Callable[[], bool]
) -> Iterator[bytes | None]:
    """Return the lines that connections send; None every so many seconds, and where nothing came."""
    with selectors.DefaultSelector() as waiting:
        _ = waiting.register(server, selectors.EVENT_READ)
        pending: dict[socket.socket, bytearray] = {}
        try:
            is_last = False
            while not is_last:
                # What was sent before the end is taken up too.
                is_last = should_stop()
                ready = waiting.select(0 if is_last else every)
                is_last = is_last and not ready
                for key, _ in ready:
                    connection = cast("socket.socket", key.fileobj)
                    if connection is server:
                        client, _ = server.accept()
                        _ = waiting.register(client, selectors.EVENT_READ)
                        pending[client] = bytearray()
                        continue
                    data = _received(connection)
                    kept = pending[connection]
                    kept += data
                    *whole, rest = kept.split(b"\n")
                    yield from map(bytes, whole)
                    pending[connection] = rest
                    if not data or len(rest) > LONGEST_LINE:
                        _ = waiting.unregister(connection)
                        del pending[connection]
                        connection.close()
                yield None
        finally:
            for client in pending:
                client.close()


def _received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(_BUFFER)
    except OSError:
        return b""
