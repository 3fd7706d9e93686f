"""A signal strikes at any line of the main thread: the daemon leaves all the same."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from rotator.bootstrap import initialise

if TYPE_CHECKING:
    from pathlib import Path

_CONFIG = """\
version: 1
journal: {url: "sqlite:///rotator.db", signing_key: "local:rotator/audit#private_key"}
daemon: {listen: none}
backends: {local: {type: local, path: secrets.db, key: "file:rotator.key"}}
"""
# Starts one daemon after the other in its main thread. Each is struck one line later than the one before,
# counted from the line after its start; the last has no such line, and is struck while it waits.
_STRUCK = """
import os, signal, sys, threading
from pathlib import Path
from rotator import logs
from rotator.faces.daemon import Daemon

logs.set_up(level="off")
signals = [getattr(signal, name) for name in sys.argv[2:]]
at, struck = 0, True
while struck:
    struck, left = False, list(signals)
    lines, waits = 0, False

    def strike(frame, event, argument):
        global lines, struck
        if event == "line" and left and not waits:
            lines += 1
            if lines > at:
                struck = True
                signal.raise_signal(left.pop(0))
        return strike

    def begun(_):
        frame = sys._getframe()
        while frame is not None:
            frame.f_trace = strike
            frame = frame.f_back
        sys.settrace(strike)
        later.start()

    def end():
        global waits
        waits = True
        for one in list(left):
            left.remove(one)
            os.kill(os.getpid(), one)
            if one == signal.SIGTERM:
                return

    # With one line more than there are, it is struck while it waits.
    later = threading.Timer(1, end)
    daemon = Daemon(Path(sys.argv[1]), begun=begun)
    code = daemon.run()
    sys.settrace(None)
    later.cancel()
    assert code == 0, code
    at += 1
print(at)
"""


@pytest.mark.parametrize(
    "signals",
    [("SIGTERM",), pytest.param(("SIGHUP", "SIGTERM"), marks=pytest.mark.slow)],
    ids="-".join,
)
def test_a_signal_may_strike_at_any_line_after_the_start(tmp_path: Path, signals: tuple[str, ...]):
    """Also while the main thread holds a lock of its own, and while another signal is handled."""
    config = tmp_path / "rotator.yaml"
    initialise(config, _CONFIG)
    command = [sys.executable, "-c", _STRUCK, str(config), *signals]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 3
