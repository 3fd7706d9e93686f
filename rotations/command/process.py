"""Runs a program once: one request in, one answer out, in time, within limits, and with no process left."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# Of its output and of its error output, each.
MOST_BYTES: Final = 2**20
_CHUNK: Final = 65_536
# How often to check whether the program has ended while something holds its output open.
_POLL_SECONDS: Final = 0.01
# How long a killed program may take to disappear.
_REAP_SECONDS: Final = 0.5
# No other variable of ours: some hold secrets.
_ENVIRONMENT: Final = frozenset(
    {
        "HOME",
        "LANG",
        "LC_ALL",
        "LC_CTYPE",
        "LOGNAME",
        "PATH",
        "SSL_CERT_DIR",
        "SSL_CERT_FILE",
        "TMPDIR",
        "TZ",
        "USER",
    }
)
_PATH: Final = "/usr/local/bin:/usr/bin:/bin"


class TooLate(Exception):
    """The program did not end in its time. `errors`: its error output until then."""

    def __init__(self, errors: bytes) -> None:
        super().__init__("the program did not end in its time")
        self.errors: bytes = errors


class TooMuch(Exception):
    """The program wrote more than it may. `errors`: its error output until then."""

    def __init__(self, errors: bytes) -> None:
        super().__init__("the program wrote too much")
        self.errors: bytes = errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What a program that has ended wrote. `status`: its exit status, or a signal as a negative number."""

    answer: bytes
    errors: bytes
    status: int


def run(program: Path, request: bytes, seconds: float) -> Output:
    """Start the program, send the request, and return its output once it has ended.

    Its process group is killed in any case. What it wrote counts from the moment of its end: a process
    that it left behind and that holds its output open is not waited for. Raises `OSError` when the
    program cannot be started, `TooLate` and `TooMuch`.
    """
    ends = time.monotonic() + seconds
    process = subprocess.Popen(
        [str(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        cwd="/",
        env=_environment(os.environ),
        start_new_session=True,
    )
    try:
        streams = _Streams(process, request)
        try:
            streams.exchange(ends)
        finally:
            streams.close()
    finally:
        _end(process)
    return Output(
        answer=bytes(streams.answer),
        errors=bytes(streams.errors),
        status=process.returncode if process.returncode is not None else -signal.SIGKILL,
    )


class _Streams:
    """The three streams of a program, none of which may block another."""

    def __init__(self, process: subprocess.Popen[bytes], request: bytes) -> None:
        self.answer: bytearray = bytearray()
        self.errors: bytearray = bytearray()
        self._pid: int = process.pid
        self._request: memoryview = memoryview(request)
        pipes = (process.stdin, process.stdout, process.stderr)
        self._stdin, self._stdout, self._stderr = cast("tuple[IO[bytes], ...]", pipes)
        self._selector: selectors.BaseSelector = selectors.DefaultSelector()
        for stream in (self._stdin, self._stdout, self._stderr):
            os.set_blocking(stream.fileno(), False)
            wanted = selectors.EVENT_WRITE if stream is self._stdin else selectors.EVENT_READ
            _ = self._selector.register(stream, wanted)

    def exchange(self, ends: float) -> None:
        """Send and receive until the program has ended and all that it wrote is read."""
        while True:
            has_ended = _has_ended(self._pid)
            left = ends - time.monotonic()
            if has_ended:
                self._finish(self._stdin)
            elif left <= 0:
                raise TooLate(bytes(self.errors))
            ready = self._selector.select(0 if has_ended else min(left, _POLL_SECONDS))
            if has_ended and not ready:
                return
            for key, _ in ready:
                stream = cast("IO[bytes]", key.fileobj)
                if stream is self._stdin:
                    self._send()
                else:
                    self._receive(stream)

    def close(self) -> None:
        """Close our ends."""
        for stream in (self._stdin, self._stdout, self._stderr):
            self._finish(stream)
        self._selector.close()

    def _send(self) -> None:
        try:
            sent = os.write(self._stdin.fileno(), self._request[:_CHUNK])
        except BlockingIOError:
            return
        except OSError:
            # It closed its input: its answer counts nevertheless.
            self._finish(self._stdin)
            return
        self._request = self._request[sent:]
        if not self._request:
            self._finish(self._stdin)

    def _receive(self, stream: IO[bytes]) -> None:
        into = self.answer if stream is self._stdout else self.errors
        try:
            received = os.read(stream.fileno(), _CHUNK)
        except BlockingIOError:
            return
        if not received:
            self._finish(stream)
        into += received
        if len(into) > MOST_BYTES:
            raise TooMuch(bytes(self.errors))

    def _finish(self, stream: IO[bytes]) -> None:
        if not stream.closed:
            with suppress(KeyError):
                _ = self._selector.unregister(stream)
            with suppress(OSError):
                stream.close()


def _environment(ours: Mapping[str, str]) -> dict[str, str]:
    return {"PATH": _PATH, **{key: ours[key] for key in _ENVIRONMENT if key in ours}}


def _has_ended(pid: int) -> bool:
    """Return whether a child has ended. It stays a zombie, so that nobody else gets its number."""
    options = os.WEXITED | os.WNOHANG | os.WNOWAIT
    try:
        return os.waitid(os.P_PID, pid, options) is not None
    except ChildProcessError:
        return True


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the program and all of its process group, then take note of its end."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    # What the kernel holds, or what is another user's, ends later.
    with suppress(subprocess.TimeoutExpired):
        _ = process.wait(_REAP_SECONDS)
