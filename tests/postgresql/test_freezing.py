"""A step is over only when the server cannot act on it any more: each statement is frozen, and thawed later."""

from __future__ import annotations

import os
import signal
import socket
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from rotator.testing.crash import explore_frozen, scenarios
from rotator.testing.holding_proxy import HoldingProxy
from tests.postgresql.sandboxes import STRATEGIES, effects, sandboxes
from tests.sampling import sampled_pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rotator.testing.crash import Effects, Hold
    from rotator.testing.postgres import ScratchPostgres

_GONE_SECONDS = 5.0


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> Effects:
    """Make every statement of the plugin's admin a point of its own."""
    tapped = effects()
    monkeypatch.setattr(psycopg.Connection, "execute", tapped.through(psycopg.Connection.execute))
    return tapped


@contextmanager
def _stopped_process(server: ScratchPostgres) -> Iterator[tuple[int, Hold]]:
    """Stop the server's process, as a frozen host would, and let it run again."""
    with server.connect() as watcher:

        def is_there(pid: int) -> bool:
            found = watcher.execute("SELECT state FROM pg_stat_activity WHERE pid = %s", [pid])
            return any(row[0] != "idle" for row in found.fetchall())

        def hold(link: psycopg.Connection[Any]) -> Callable[[], None]:
            pid = link.info.backend_pid
            os.kill(pid, signal.SIGSTOP)

            def thaw() -> None:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
                time.sleep(0.02)
                ends = time.monotonic() + _GONE_SECONDS
                while is_there(pid) and time.monotonic() < ends:
                    time.sleep(0.01)

            return thaw

        yield server.port, hold


@contextmanager
def _silent_proxy(server: ScratchPostgres) -> Iterator[tuple[int, Hold]]:
    """Keep back what the client sends, and deliver it once the client is gone."""
    with HoldingProxy(server.host, server.port) as proxy:

        def hold(link: psycopg.Connection[Any]) -> Callable[[], None]:
            with socket.socket(fileno=os.dup(link.fileno())) as end:
                return proxy.hold(end.getsockname()[1])

        yield proxy.port, hold


_HOLDS = {"stopped process": _stopped_process, "silent proxy": _silent_proxy}
_SCENARIOS = ("rotation", "rollback before publish")


def _explore(
    server: ScratchPostgres,
    strategy: str,
    how: str,
    name: str,
    statements: Effects,
    sample: int | None,
) -> None:
    with (
        _HOLDS[how](server) as (port, hold),
        sandboxes(server, strategy, statements, port=port) as make,
    ):
        scenario = next(one for one in scenarios(make) if one.name == name)
        report = explore_frozen(scenario, statements, hold, sample=sample)
    assert not report.violations, str(report)
    assert report.runs > 1


@pytest.mark.parametrize(("strategy", "how"), sampled_pairs(STRATEGIES, _HOLDS, of=2))
def test_a_statement_frozen_on_the_server_breaks_no_promise(
    postgres: ScratchPostgres, strategy: str, how: str, statements: Effects
):
    """A sample: the client gives up, and the server goes on at a later moment."""
    _explore(postgres, strategy, how, "rotation", statements, sample=1)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", _SCENARIOS)
@pytest.mark.parametrize("how", _HOLDS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_statement_frozen_at_any_point_breaks_a_promise(
    postgres: ScratchPostgres, strategy: str, how: str, name: str, statements: Effects
):
    """Every statement, thawed at every later call of the engine."""
    _explore(postgres, strategy, how, name, statements, sample=None)
