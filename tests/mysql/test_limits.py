"""A step is over only when the server cannot act on it any more: locks, frozen hosts, silent proxies."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import pytest

from rotator.api import Credential, Secret, StepError
from rotator.system import SystemClock
from rotator.testing.fakes import step_context
from tests.harness import FIRST, QUICK
from tests.mysql.dialects import MYSQL, dialect_of, is_let_in
from tests.mysql.harness import Harness
from tests.mysql.sandboxes import STRATEGIES
from tests.sampling import sampled_pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from rotator.api import StepContext
    from tests.servers.mysql_like import MySqlLikeServer

_SECONDS: Final = 2.0
_HURRIED: Final = replace(QUICK, step_timeout=timedelta(seconds=_SECONDS))
_LOCKS: Final = {
    "tables flushed": ("FLUSH TABLES WITH READ LOCK", "UNLOCK TABLES"),
    "accounts locked": ("LOCK TABLES {table} READ, mysql.db READ", "UNLOCK TABLES"),
    "instance locked for backup": ("LOCK INSTANCE FOR BACKUP", "UNLOCK INSTANCE"),
}


@contextmanager
def _held(server: MySqlLikeServer, lock: str) -> Generator[None]:
    take, let_go = _LOCKS[lock]
    with closing(server.connect()) as link, link.cursor() as cursor:
        cursor.execute(take.format(table=dialect_of(server).table))
        yield
        cursor.execute(let_go)


def _wait_for_nobody(harness: Harness) -> None:
    """Return once the server works on nothing that was sent to it."""
    asked = (
        "SELECT count(*) FROM information_schema.PROCESSLIST"
        " WHERE COMMAND = 'Query' AND ID <> CONNECTION_ID() AND USER <> 'event_scheduler'"
    )
    while harness.server.run(asked)[0][0]:
        time.sleep(0.01)


@pytest.mark.parametrize(("strategy", "lock"), sampled_pairs(STRATEGIES, _LOCKS, of=2))
def test_nothing_takes_effect_after_a_step_that_waited_for_a_lock(
    harness: Harness, strategy: str, lock: str
):
    """A backup holds the lock for longer than all attempts take. What is undone stays undone."""
    if lock.startswith("instance") and harness.dialect is not MYSQL:
        pytest.skip("MariaDB has no such lock")
    secret = harness.secret(strategy, policy=_HURRIED)
    harness.adopt(secret)
    before = harness.dialect.rows(harness.server, harness.name)
    with _held(harness.server, lock):
        begun = time.monotonic()
        _ = harness.engine.rotate(secret)
        # Two steps at most: create, withdraw.
        assert time.monotonic() - begun < 2 * _SECONDS + 1
    _wait_for_nobody(harness)
    if harness.journal.open_rotation(secret.name) is not None:
        with suppress(Exception):
            harness.engine.unpark(secret, reason="the backup is over")
        _ = harness.engine.resume(secret)
    served = harness.serves(secret)
    assert is_let_in(harness.server, served.username, served.password.reveal())
    if served.username == harness.name and served.password.reveal() == FIRST:
        assert harness.dialect.rows(harness.server, harness.name) == before


def _in_time(seconds: float, current: Credential) -> StepContext:
    return step_context(
        clock=SystemClock(),
        timeout=seconds,
        current=current,
        secret=current.username,
        adopted=frozenset({current.username}),
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_call_ends_in_time_on_a_frozen_host(harness: Harness, strategy: str):
    """SIGSTOP: the kernel accepts connections, and the server never answers. Nothing is half done later."""
    rotation = harness.secret(strategy).rotation
    current = Credential(username=harness.name, password=Secret(FIRST))
    new = rotation.propose(current, _in_time(30, current))
    before = harness.dialect.rows(harness.server, harness.name)
    os.kill(harness.server.pid, signal.SIGSTOP)
    try:
        for call in (
            lambda ctx: rotation.create(new, ctx),
            lambda ctx: rotation.verify(new, ctx),
            lambda ctx: rotation.withdraw(new, ctx),
            lambda ctx: rotation.probe(current, ctx),
        ):
            begun = time.monotonic()
            with pytest.raises(StepError):
                call(_in_time(1, current))
            assert time.monotonic() - begun < 1.5
    finally:
        os.kill(harness.server.pid, signal.SIGCONT)
    _wait_for_nobody(harness)
    rotation.withdraw(new, _in_time(30, current))
    assert is_let_in(harness.server, harness.name, FIRST)
    assert not is_let_in(harness.server, new.username, new.password.reveal())
    assert harness.dialect.rows(harness.server, harness.name) == before


def test_what_a_killed_process_left_waiting_is_ended_before_anything_is_undone(harness: Harness):
    """Another process finds the connection by the lock that it holds on the server."""
    current = Credential(username=harness.name, password=Secret(FIRST))
    dead, alive = (harness.secret("dual-password").rotation for _ in range(2))
    new = dead.propose(current, _in_time(30, current))
    with _held(harness.server, "tables flushed"):
        worker = threading.Thread(target=_ignoring, args=(dead.create, new, _in_time(20, current)))
        worker.start()
        while "ALTER USER" not in str(harness.server.run("SHOW FULL PROCESSLIST")):
            time.sleep(0.01)
        # It wrote nothing, so there is nothing to set again; and it never will.
        alive.withdraw(new, _in_time(5, current))
        assert "ALTER USER" not in str(harness.server.run("SHOW FULL PROCESSLIST"))
        worker.join()
    assert is_let_in(harness.server, harness.name, FIRST)
    assert not is_let_in(harness.server, harness.name, new.password.reveal())


def _ignoring(call: Callable[..., object], *given: object) -> None:
    with suppress(StepError):
        _ = call(*given)


def test_a_host_that_says_nothing_is_left_in_time(harness: Harness):
    """A proxy that takes the connection and holds everything back; also one that is slow all the time."""
    current = Credential(username=harness.name, password=Secret(FIRST))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        rotation = harness.secret("dual-password", port=silent.getsockname()[1]).rotation
        begun = time.monotonic()
        with pytest.raises(StepError):
            rotation.probe(current, _in_time(1, current))
        assert time.monotonic() - begun < 1.5
