"""Servers on loopback that do what no server should: stall, drip, flood, redirect, echo, forge.

    with HostileServer(HTTP["drips its body"]) as server, within(seconds=0.5):
        with pytest.raises(Transient):
            backend_at(server.port).current("app")

Each kind of `HTTP`, `RESP`, `POSTGRESQL` and `MYSQL` is a function that takes what a client has sent and
yields what it gets: bytes, `b""` for a moment's silence. After its end the connection is closed.
"""

from __future__ import annotations

import functools
import os
import random
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import TracebackType

Script: TypeAlias = Callable[[bytes], Iterator[bytes]]

_CHUNK: Final = 65_536
_MOMENT: Final = 0.02
_LOT: Final = 2**40
# What a machine takes to wake a thread.
_SLACK: Final = 0.4
_SILENCE: Final = b""


class HostileServer:
    """Answers every client by one script, as long as the `with` block lasts."""

    def __init__(self, script: Script, *, speaks_first: bool = False) -> None:
        """`speaks_first`: as in MySQL's protocol, where a server greets its clients."""
        self._script: Script = script
        self._speaks_first: bool = speaks_first
        self._listener: socket.socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._stop: threading.Event = threading.Event()
        self._links: list[socket.socket] = []
        self._guard: threading.Lock = threading.Lock()
        # What came, in the order of its arrival, from all clients.
        self.received: list[bytes] = []

    @property
    def port(self) -> int:
        """Where it listens, on 127.0.0.1."""
        return int(self._listener.getsockname()[1])

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        with self._guard:
            links = list(self._links)
        # Closing alone would not wake the threads that wait in accept(), recv() or send().
        for one in (self._listener, *links):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        while not self._stop.is_set():
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._guard:
                self._links.append(link)
            threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link: socket.socket) -> None:
        with suppress(OSError), link:
            going = not self._speaks_first or self._answer(link, b"")
            while going and not self._stop.is_set() and (request := link.recv(_CHUNK)):
                self.received.append(request)
                going = self._answer(link, request)

    def _answer(self, link: socket.socket, request: bytes) -> bool:
        """Answer one request; False where the connection ends with it."""
        for chunk in self._script(request):
            if self._stop.is_set():
                return False
            if chunk is ANOTHER:
                return True
            if chunk:
                link.sendall(chunk)
            else:
                _ = self._stop.wait(_MOMENT)
        return False


# Yielded at the end of an answer after which the connection stays open for another request.
ANOTHER: Final = bytes(bytearray(b"(another)"))


@contextmanager
def within(*, seconds: float, megabytes: float = 50) -> Generator[None]:
    """Assert that what is called inside ends in its time (and a tenth of it), with so much more memory.

    The memory is that of the whole process at its highest; it is measured on Linux only.
    """
    with suppress(OSError):
        # From now on the highest is counted anew (proc(5)).
        _ = Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before, begun = _memory("VmRSS"), time.monotonic()
    yield
    took, more = time.monotonic() - begun, _memory("VmHWM") - before
    # Where others are at work, a thread is woken late.
    slack = _SLACK * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    assert took <= seconds * 1.1 + slack, f"it took {took:.2f} s, and may take {seconds} s"
    assert more <= megabytes, f"it took {more:.0f} MB, and may take {megabytes} MB"


def _memory(what: str) -> float:
    """Return one figure of our process, in MB."""
    with suppress(OSError):
        text = Path("/proc/self/status").read_text(encoding="utf-8")
        return next(
            int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith(what)
        )
    return 0.0


def saying(*chunks: bytes) -> Script:
    """Return a script that answers every request by these bytes, on a connection that stays open."""

    def script(_: bytes) -> Iterator[bytes]:
        yield from chunks
        yield ANOTHER

    return script


def http_answer(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """Return an answer of a server of HTTP."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    if not any(one.lower().startswith("content-type") for one in headers):
        lines.append("Content-Type: application/json")
    return "\r\n".join([*lines, "", ""]).encode() + body


def http_saying(body: bytes, status: str = "200 OK", *headers: str) -> Script:
    """Return a script that answers every request by this body."""
    return saying(http_answer(body, status, *headers))


def _for_ever(*first: bytes, then: bytes) -> Script:
    def script(_: bytes) -> Iterator[bytes]:
        yield from first
        while True:
            yield then

    return script


def _dripping(*first: bytes, then: bytes) -> Script:
    def script(_: bytes) -> Iterator[bytes]:
        yield from first
        while True:
            for number in range(len(then)):
                yield then[number : number + 1]
                yield _SILENCE

    return script


def _once(*chunks: bytes) -> Script:
    def script(_: bytes) -> Iterator[bytes]:
        yield from chunks

    return script


def _noise(_: bytes) -> Iterator[bytes]:
    chance = random.Random(0)  # noqa: S311 # the same in every run
    yield from (chance.randbytes(_CHUNK) for _ in range(64))


def _head(*headers: str) -> bytes:
    return "\r\n".join(
        ["HTTP/1.1 200 OK", "Content-Type: application/json", *headers, "", ""]
    ).encode()


@functools.cache
def _bomb() -> bytes:
    packer = zlib.compressobj(1, wbits=31)
    return b"".join([*(packer.compress(b" " * 2**20) for _ in range(100)), packer.flush()])


def _packed(_: bytes) -> Iterator[bytes]:
    body = _bomb()
    yield _head(f"Content-Length: {len(body)}", "Content-Encoding: gzip")
    yield body
    yield ANOTHER


def _echoed(request: bytes) -> Iterator[bytes]:
    said = request.replace(b"\\", b"").replace(b'"', b"'").replace(b"\r\n", b" ")
    body = b'{"errors":["%b"],"Message":"%b"}' % (said, said)
    yield http_answer(body, "400 Bad Request")
    yield ANOTHER


def _redirected(_: bytes) -> Iterator[bytes]:
    yield http_answer(b"{}", "307 Temporary Redirect", "Location: /v1/again")
    yield ANOTHER


_CHUNKED: Final = _head("Transfer-Encoding: chunked")
_PIECE: Final = b"%x\r\n%b\r\n" % (_CHUNK, b" " * _CHUNK)
_SHRED: Final = b'{"a":[' + b'{"b":0},' * 375_000 + b"0]}"

HTTP: Final[Mapping[str, Script]] = {
    "never answers": _for_ever(then=_SILENCE),
    "drips its headers": _dripping(b"HTTP/1.1 200 OK\r\nX-Slow: ", then=b"x"),
    "drips its body": _dripping(_head("Content-Length: 99999"), then=b" "),
    "drips its chunks": _dripping(_CHUNKED, then=b"1\r\n \r\n"),
    "sends half": _for_ever(_head("Content-Length: 30"), b'{"data":', then=_SILENCE),
    "sends half and hangs up": _once(_head("Content-Length: 30"), b'{"data":'),
    "hangs up": _once(),
    "floods its first line": _for_ever(b"HTTP/1.1 200 ", then=b"x" * _CHUNK),
    "floods headers": _for_ever(b"HTTP/1.1 200 OK\r\n", then=b"X-A: b\r\n" * 1000),
    "floods its body": _for_ever(_head("Connection: close"), then=b" " * _CHUNK),
    "floods chunks": _for_ever(_CHUNKED, then=_PIECE),
    "promises a lot": _for_ever(_head(f"Content-Length: {_LOT}"), then=b" " * _CHUNK),
    "floods interim answers": _for_ever(then=b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "packs a bomb": _packed,
    "nests": http_saying(b"[" * 200_000),
    "nests in an object": http_saying(b'{"a":' * 5_000 + b"0" + b"}" * 5_000),
    "sends many parts": http_saying(_SHRED),
    "sends a long number": http_saying(b'{"data":' + b"9" * 1_000_000 + b"}"),
    "redirects for ever": _redirected,
    "sends noise": _noise,
    "echoes": _echoed,
}

RESP: Final[Mapping[str, Script]] = {
    "never answers": _for_ever(then=_SILENCE),
    "drips a line": _dripping(b"+", then=b"x"),
    "drips a text": _dripping(b"$99999\r\n", then=b"x"),
    "drips parts": _dripping(b"*99999\r\n", then=b"+x\r\n"),
    "sends half": _for_ever(b"$30\r\nhalf", then=_SILENCE),
    "sends half and hangs up": _once(b"$30\r\nhalf"),
    "hangs up": _once(),
    "floods a line": _for_ever(b"+", then=b"x" * _CHUNK),
    "floods a text": _for_ever(b"$%d\r\n" % _LOT, then=b"x" * _CHUNK),
    "floods parts": _for_ever(b"*%d\r\n" % _LOT, then=b"*0\r\n" * 10_000),
    "floods arrays of arrays": _for_ever(then=b"*%d\r\n" % _LOT * 10_000),
    "promises a lot": _for_ever(b"$99999999999999999999\r\n", then=_SILENCE),
    "sends many parts": saying(b"*2000000\r\n" + b"*0\r\n" * 2_000_000),
    "nests": saying(b"*1\r\n" * 200_000 + b"+x\r\n"),
    "sends a long number": saying(b":" + b"9" * 1_000_000 + b"\r\n"),
    "floods answers": _for_ever(then=b"+OK\r\n" * 10_000),
    "moves on for ever": saying(b"-MOVED 1 127.0.0.1:1\r\n"),
    "sends noise": _noise,
    "echoes": lambda request: iter((b"-ERR " + request.replace(b"\r\n", b" ") + b"\r\n", ANOTHER)),
}

# What somebody may have written where a login and a password belong, as the text of a backend's value.
VALUES: Final[Mapping[str, str]] = {
    "no JSON": "hello",
    "nothing": "",
    "a list": "[]",
    "null": "null",
    "a text": '"hello"',
    "nested lists": "[" * 5_000,
    "nested objects": '{"a":' * 5_000 + "0" + "}" * 5_000,
    "nested beside a login": '{{"username":"x","password":"y","more":{}0{}}}'.format(
        "[" * 400, "]" * 400
    ),
    "many parts": '{"username":"x","password":"y","more":[%s0]}' % ("0," * 200_000),
    "an infinite number": '{"username":"x","password":"y","port":1e999}',
    "no number": '{"username":"x","password":"y","port":NaN}',
    "a long number": '{"username":"x","password":"y","port":%s}' % ("9" * 5_000),
    "half a character": '{"username":"\\ud800","password":"\\udfff-long-enough"}',
    "half a character beside a login": '{"username":"x","password":"y","note":"\\ud800"}',
    "a NUL": '{"username":"x\\u0000","password":"\\u0000-long-enough"}',
    "other kinds": '{"username":["x"],"password":{"y":1}}',
    "numbers": '{"username":1,"password":2}',
    "no password": '{"username":"x"}',
    "two logins": '{"username":"x","password":"y","username":"z"}',
    "lines": '{"username":"x\\r\\ny","password":"a\\nb\\tc"}',
    "escapes": '{"username":"\\u001b[2J\\u001b]0;title\\u0007","password":"\\u202ey"}',
    "a long name": '{"username":"%s","password":"y"}' % ("x" * 60_000),
}

# One byte for the kind, four for the length, which counts itself.
_PG_OK: Final = b"R" + struct.pack(">II", 8, 0)
_PG_ERROR: Final = b"E" + struct.pack(">I", 2**30)
_PG_TLS: Final = struct.pack(">I", 80_877_103)


def _without_tls(script: Script) -> Script:
    """Return a script whose server has no TLS, which a client asks for first."""

    def asked(request: bytes) -> Iterator[bytes]:
        if request[4:8] == _PG_TLS:
            yield from (b"N", ANOTHER)
        else:
            yield from script(request)

    return asked


_PG_SCRIPTS: Final[Mapping[str, Script]] = {
    "never answers": _for_ever(then=_SILENCE),
    "drips": _dripping(_PG_ERROR, then=b"x"),
    "floods an error": _for_ever(_PG_ERROR, then=b"x" * _CHUNK),
    "floods notices": _for_ever(_PG_OK, then=(b"N" + struct.pack(">I", 12) + b"Mhello\0\0") * 1000),
    "floods settings": _for_ever(_PG_OK, then=(b"S" + struct.pack(">I", 8) + b"a\0b\0") * 1000),
    "hangs up": _once(),
    "sends noise": _noise,
}
POSTGRESQL: Final[Mapping[str, Script]] = {
    kind: _without_tls(script) for kind, script in _PG_SCRIPTS.items()
}

# Three bytes for the length, one for the number, then the packet. The server speaks first.
MYSQL: Final[Mapping[str, Script]] = {
    "never answers": _for_ever(then=_SILENCE),
    "drips": _dripping(b"\xff\xff\xff\x02", then=b"x"),
    "floods packets": _for_ever(then=b"\xff\xff\xff\x02" + b"x" * _CHUNK),
    "hangs up": _once(),
    "sends noise": _noise,
}
