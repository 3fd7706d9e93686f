"""Connections on which no call outlasts its time, and what a failed one says in codes."""

from __future__ import annotations

import ctypes
import importlib
import re
import select
import socket
import threading
import time
from contextlib import suppress
from ipaddress import ip_address
from math import inf
from typing import TYPE_CHECKING, Any, Final, TypeVar

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

T = TypeVar("T")

# How often a waiting call looks at the time, in seconds.
_LOOK: Final = 0.05
# PQERRORS_VERBOSE: the message then holds the SQLSTATE and the routine that raised it.
_VERBOSE: Final = 2
# FATAL:  28P01: text (the word before is translated), and LOCATION:  auth_failed, auth.c:317
_STATE: Final = re.compile(r":  ([0-9A-Z]{5}): (.*)")
_ROUTINE: Final = re.compile(r":  (\w+), \w+\.c:\d+\s*$", re.MULTILINE)
_REJECTED: Final = "28000"


class TimeUp(psycopg.OperationalError):
    """The time of a call was up before the server answered."""


class NotConnected(psycopg.OperationalError):
    """A login failed, or nobody answered.

    `state`: the SQLSTATE, empty where no server of PostgreSQL's answered; `routine`: the server's
    function that raised it; `text`: its words, for people. `password_sent`: it asked for a password
    and got one. `tls`: TLS was on at the end.
    """

    def __init__(
        self,
        text: str,
        *,
        state: str = "",
        routine: str = "",
        password_sent: bool = False,
        tls: bool = False,
        late: bool = False,
    ) -> None:
        super().__init__(text)
        self.text: str = text
        self.state: str = state
        self.routine: str = routine
        self.password_sent: bool = password_sent
        self.tls: bool = tls
        self.late: bool = late


class BoundedConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection whose calls end at `until` (on `time.monotonic`), whatever the server does.

    At `until` the server is asked to cancel; `grace` seconds later the call raises `TimeUp`.
    `cancelled`: whether it was asked: a COMMIT may then have been done here and not on a standby.
    """

    until: float = inf
    grace: float = 0.5
    cancelled: bool = False

    def wait(
        self,
        gen: Generator[Any, Any, T],
        interval: float = _LOOK,
        timeout: float | None = None,
    ) -> T:
        """Wait for the server, and no longer than allowed."""
        _ = timeout
        return super().wait(self._limited(gen), min(interval, _LOOK))

    def limit(self, seconds: float, grace: float) -> None:
        """End every call from now on within so many seconds, and `grace` more."""
        self.until, self.grace, self.cancelled = time.monotonic() + seconds, grace, False

    def _limited(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                # A server that sends without an end is ready at every look.
                grace = self.grace if ready else 0.0
                if time.monotonic() >= self.until + grace:
                    self._end_call()
                wanted = gen.send(ready)
        except StopIteration as end:
            return end.value

    def _end_call(self) -> None:
        if self.cancelled or not psycopg.capabilities.has_cancel_safe():
            raise TimeUp("the server did not answer in time")
        self.cancelled = True
        self.until = time.monotonic() + 2 * self.grace
        with suppress(psycopg.Error):
            self.cancel_safe(timeout=self.grace)


def connect(parameters: Mapping[str, Any], seconds: float) -> BoundedConnection:
    """Log in. Raises `NotConnected`, within so many seconds."""
    until = time.monotonic() + seconds
    failed: NotConnected | None = None
    for address in _addresses(parameters, until):
        try:
            pgconn = _negotiated(make_conninfo("", **parameters, **address), until)
        except NotConnected as error:
            failed = error
            if error.state:
                break
            continue
        link = BoundedConnection(pgconn)  # pyright: ignore[reportArgumentType] # its default is for any kind of row
        link.autocommit = True
        link.prepare_threshold = None
        link.until = until
        return link
    raise failed or NotConnected("the host name has no address", late=time.monotonic() >= until)


def _negotiated(conninfo: str, until: float) -> pq.abc.PGconn:
    """Drive libpq's connection by hand: its own limit is whole seconds, and its errors are texts."""
    pgconn = pq.PGconn.connect_start(conninfo.encode())
    _make_verbose(pgconn)
    while pgconn.status != pq.ConnStatus.BAD:
        status = pgconn.connect_poll()
        if status == pq.PollingStatus.OK:
            pgconn.nonblocking = 1
            return pgconn
        if status == pq.PollingStatus.FAILED:
            break
        reading = status == pq.PollingStatus.READING
        poll = select.poll()
        poll.register(pgconn.socket, select.POLLIN if reading else select.POLLOUT)
        left = until - time.monotonic()
        # A server that sends without an end is ready at every look.
        if left <= 0 or not poll.poll(left * 1000):
            pgconn.finish()
            raise NotConnected("no answer in time", late=True)
    raise _failure(pgconn)


def _failure(pgconn: pq.abc.PGconn) -> NotConnected:
    text = pgconn.error_message.decode(errors="replace").strip()
    sent, tls = pgconn.used_password, pgconn.ssl_in_use
    pgconn.finish()
    # With `prefer` or `allow` libpq may have tried twice, with TLS and without: a try that pg_hba.conf
    # took no notice of says less than the other.
    states = list(_STATE.finditer(text))
    if not states:
        return NotConnected(_one_line(text), password_sent=sent, tls=tls)
    chosen = next((one for one in states if one[1] != _REJECTED), states[0])
    routine = _ROUTINE.search(text, chosen.end())
    return NotConnected(
        _one_line(chosen[2]),
        state=chosen[1],
        routine=routine[1] if routine else "",
        password_sent=sent,
        tls=tls,
    )


def _addresses(parameters: Mapping[str, Any], until: float) -> list[dict[str, str]]:
    """Look the host's name up, in a thread: a resolver may be silent for longer than we have."""
    host = str(parameters["host"])
    if host.startswith(("/", "@")):
        return [{}]
    with suppress(ValueError):
        return [{"hostaddr": str(ip_address(host))}]
    found: list[str] = []

    def look_up() -> None:
        with suppress(OSError):
            for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM):
                if str(entry[4][0]) not in found:
                    found.append(str(entry[4][0]))

    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(max(0.0, until - time.monotonic()))
    return [{"hostaddr": address} for address in found]


def _one_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines else ""


def _make_verbose(pgconn: pq.abc.PGconn) -> None:
    """Have the SQLSTATE put into the message: libpq offers it for a failed connection nowhere else."""
    address: int | None = getattr(pgconn, "pgconn_ptr", None)
    if _set_verbosity is not None and address:
        _ = _set_verbosity(address, _VERBOSE)


def _found_verbosity() -> Callable[[int, int], int] | None:
    """Return libpq's PQsetErrorVerbosity, which psycopg does not offer, from the libpq it runs on."""
    names = {"binary": "psycopg_binary.pq", "c": "psycopg_c.pq"}
    try:
        if pq.__impl__ in names:
            # Looked up in this library and in those that it was linked with.
            library = ctypes.CDLL(importlib.import_module(names[pq.__impl__]).__file__)
        else:
            from psycopg.pq.misc import find_libpq_full_path  # noqa: PLC0415 # of one implementation

            library = ctypes.CDLL(find_libpq_full_path())
        function = library.PQsetErrorVerbosity
    except (ImportError, OSError, AttributeError):
        return None
    function.argtypes, function.restype = [ctypes.c_void_p, ctypes.c_int], ctypes.c_int
    return function


_set_verbosity: Final = _found_verbosity()
