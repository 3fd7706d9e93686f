"""What scratch servers have in common."""

from __future__ import annotations

import random
import socket
from pathlib import Path

import pytest

from rotator.testing import scratch


def test_a_free_port_is_none_that_a_connection_could_be_given():
    """A server that is killed and started again finds it free: no client has it for its near end."""
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(10_000 <= scratch.free_port() < low for _ in range(50))


def test_two_processes_do_not_draw_the_same_one():
    """Whatever a test has seeded."""
    drawn = set[int]()
    for _ in range(20):
        random.seed(0)
        drawn.add(scratch.free_port())
    assert len(drawn) > 15


def test_a_free_port_is_none_that_a_server_listens_on(monkeypatch: pytest.MonkeyPatch):
    """The next one is tried."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        # Of the others some may be taken too: by other programs.
        drawn = iter([port, port, *range(20_000, 21_000)])
        monkeypatch.setattr(scratch, "_FIRST", 0)
        monkeypatch.setattr(scratch.secrets, "randbelow", lambda _below: next(drawn))
        assert scratch.free_port() in range(20_000, 21_000)


def test_a_free_port_is_any_where_the_kernel_uses_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Some have it give out nearly all of them."""
    file = tmp_path / "range"
    file.write_text("1024\t65535\n")
    monkeypatch.setattr(scratch, "_RANGE", file)
    assert scratch.free_port() > 1024


class _Server(scratch.Scratch):
    def __init__(self) -> None:
        self.calls: list[str] = []

    def _begin(self) -> None:
        self.calls.append("begun")
        raise OSError("no room")

    def _remove(self) -> None:
        self.calls.append("removed")


def test_a_scratch_server_that_does_not_start_leaves_nothing():
    """No process, no folder."""
    server = _Server()
    with pytest.raises(OSError, match="no room"), server:
        pytest.fail("it did not start")
    assert server.calls == ["begun", "removed"]
