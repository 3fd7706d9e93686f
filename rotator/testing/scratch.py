"""What the scratch servers have in common: they go with their `with` block, and listen on free ports."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from types import TracebackType

_FIRST: Final = 10_000
_RANGE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_HIGH: Final = 32_768
_TRIES: Final = 1000


class Scratch:
    """A server as long as the `with` block lasts."""

    def __enter__(self) -> Self:
        try:
            self._begin()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._remove()

    def _begin(self) -> None:
        """Make it and start it."""
        raise NotImplementedError

    def _remove(self) -> None:
        """End it and remove all that it left, however far it got."""
        raise NotImplementedError


def free_port() -> int:
    """Return a port of loopback that nobody listens on, and that no connection is given by chance.

    From below the range out of which the kernel takes the near ends of connections: what a server that
    is killed and started again listens on would else be taken meanwhile.
    """
    try:
        high = int(_RANGE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        high = _HIGH
    for _ in range(_TRIES if high > _FIRST else 0):
        # Not `random`: a test may have seeded it, in two processes alike.
        port = _FIRST + secrets.randbelow(high - _FIRST)
        if _is_free(port):
            return port
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket() as tried:
        try:
            tried.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
