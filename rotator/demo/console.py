"""The web console over the demo's journal, as a process of its own."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from rotator.core.errors import RotatorError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from rotator.demo.report import DemoReport

_USER: Final = "demo"
_STARTS_WITHIN: Final = 30.0
_POLL: Final = 0.1


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A person who looks at the demo in a browser.

    `password` is that of the console's only user. `opened` hears the URL and the user once the console
    listens; `ended` hears the report, and returns when the person has seen enough.
    """

    # Of a user that ends with the demo, so it may be printed.
    password: str = field(repr=False)
    opened: Callable[[str, str], None]
    ended: Callable[[DemoReport], None]
    port: int = field(default_factory=_free_port)

    @property
    def section(self) -> str:
        """What the configuration says of the console."""
        return f'web:\n  listen: "127.0.0.1:{self.port}"\n'


@contextmanager
def console(config: Path, visit: Visit) -> Generator[None]:
    """Serve the console while the block runs. Raises `RotatorError` where it does not start."""
    command = [sys.executable, "-m", "rotator", "-c", str(config), "web"]
    _ = subprocess.run(
        [*command, "add-user", _USER, "--password-from", "-"],
        input=visit.password.encode(),
        stdout=subprocess.DEVNULL,
        check=True,
    )
    process = subprocess.Popen(
        [*command, "run"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait_until_it_listens(process, visit.port)
        visit.opened(f"http://127.0.0.1:{visit.port}", _USER)
        yield
    finally:
        process.terminate()
        try:
            _ = process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            _ = process.wait()


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _STARTS_WITHIN
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(_POLL)
        else:
            return
    raise RotatorError(
        "the web console did not start.", hint="Try the demo without it: rotator demo"
    )
