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


def test_a_port_that_somebody_listens_on_is_passed_over(monkeypatch: pytest.MonkeyPatch):
    """The next one is tried."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        # Of the others some may be taken too: by whoever is at work beside this test.
        drawn = iter([port, port, *range(20_000, 21_000)])
        monkeypatch.setattr(scratch, "_FIRST", 0)
        monkeypatch.setattr(scratch.secrets, "randbelow", lambda _below: next(drawn))
        assert scratch.free_port() in range(20_000, 21_000)


def test_where_the_kernel_leaves_no_room_any_free_port_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Some have it give out nearly all of them."""
    told = tmp_path / "range"
    told.write_text("1024\t65535\n")
    monkeypatch.setattr(scratch, "_RANGE", told)
    assert scratch.free_port() > 1024


class _Server(scratch.Scratch):
    def __init__(self) -> None:
        self.said: list[str] = []

    def _begin(self) -> None:
        self.said.append("begun")
        raise OSError("no room")

    def _remove(self) -> None:
        self.said.append("removed")


def test_what_does_not_start_leaves_nothing():
    """No process, no folder."""
    server = _Server()
    with pytest.raises(OSError, match="no room"), server:
        pytest.fail("it did not start")
    assert server.said == ["begun", "removed"]
