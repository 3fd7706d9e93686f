"""Servers for the tests of a worker: Valkey from its wheel, and Debian's Redis."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.servers.valkey import PACKAGES, ScratchValkey, is_installed, join
from tests.valkey.harness import harness_on
from tests.valkey.sandboxes import PROGRAMS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.valkey.harness import Harness


@pytest.fixture(scope="session", params=PROGRAMS)
def program(request: pytest.FixtureRequest) -> str:
    """The name of a server; Redis' tests are skipped where it is missing."""
    if not is_installed(request.param):
        pytest.skip(f"no Redis server: apt-get install {PACKAGES}")
    return request.param


@pytest.fixture(scope="session")
def server(program: str) -> Iterator[ScratchValkey]:
    """One of each, with an ACL file; it writes down every command that takes any time at all."""
    with ScratchValkey(program, "slowlog-log-slower-than 0", "slowlog-max-len 100000") as started:
        yield started


@pytest.fixture(scope="session")
def pair(program: str) -> Iterator[list[ScratchValkey]]:
    """A primary and its replica."""
    with ScratchValkey(program) as primary, ScratchValkey(program, of=primary) as replica:
        yield [primary, replica]


@pytest.fixture
def harness(server: ScratchValkey, tmp_path: Path) -> Iterator[Harness]:
    """An application on a single server."""
    with harness_on([server], tmp_path) as made:
        yield made


@pytest.fixture
def harness_of_two(pair: list[ScratchValkey], tmp_path: Path) -> Iterator[Harness]:
    """An application on a primary and its replica."""
    with harness_on(pair, tmp_path) as made:
        yield made


@pytest.fixture(scope="session")
def cluster(program: str) -> Iterator[list[ScratchValkey]]:
    """Three primaries that share the slots."""
    with ExitStack() as stack:
        yield cluster_of_three(program, stack)


def cluster_of_three(program: str, stack: ExitStack) -> list[ScratchValkey]:
    """Start three nodes and make them a cluster."""
    first = stack.enter_context(ScratchValkey(program, clustered=True))
    others = [
        stack.enter_context(ScratchValkey(program, clustered=True, beside=first)) for _ in range(2)
    ]
    join([first, *others])
    return [first, *others]
