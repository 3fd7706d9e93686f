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
from tests.house import FIRST, QUICK
from tests.mysql.dialects import MYSQL, dialect_of, is_let_in
from tests.mysql.houses import House
from tests.mysql.worlds import STRATEGIES
from tests.sampling import sampled_pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from rotator.api import StepContext
    from rotator.testing.mysql_like import MySqlLikeServer

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


def _wait_for_nobody(house: House) -> None:
    """Return once the server works on nothing that was sent to it."""
    asked = (
        "SELECT count(*) FROM information_schema.PROCESSLIST"
        " WHERE COMMAND = 'Query' AND ID <> CONNECTION_ID() AND USER <> 'event_scheduler'"
    )
    while house.server.run(asked)[0][0]:
        time.sleep(0.01)


@pytest.mark.parametrize(("strategy", "lock"), sampled_pairs(STRATEGIES, _LOCKS, of=2))
def test_nothing_takes_effect_after_a_step_that_waited_for_a_lock(
    house: House, strategy: str, lock: str
):
    """A backup holds the lock for longer than all attempts take. What is undone stays undone."""
    if lock.startswith("instance") and house.dialect is not MYSQL:
        pytest.skip("MariaDB has no such lock")
    secret = house.secret(strategy, policy=_HURRIED)
    house.adopt(secret)
    before = house.dialect.rows(house.server, house.name)
    with _held(house.server, lock):
        begun = time.monotonic()
        _ = house.engine.rotate(secret)
        # Two steps at most: create, withdraw.
        assert time.monotonic() - begun < 2 * _SECONDS + 1
    _wait_for_nobody(house)
    if house.journal.open_rotation(secret.name) is not None:
        with suppress(Exception):
            house.engine.unpark(secret, reason="the backup is over")
        _ = house.engine.resume(secret)
    served = house.serves(secret)
    assert is_let_in(house.server, served.username, served.password.reveal())
    if served.username == house.name and served.password.reveal() == FIRST:
        assert house.dialect.rows(house.server, house.name) == before


def _in_time(seconds: float, current: Credential) -> StepContext:
    return step_context(
        clock=SystemClock(),
        timeout=seconds,
        current=current,
        secret=current.username,
        adopted=frozenset({current.username}),
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_call_ends_in_time_on_a_frozen_host(house: House, strategy: str):
    """SIGSTOP: the kernel accepts connections, and the server never answers. Nothing is half done later."""
    rotation = house.secret(strategy).rotation
    current = Credential(username=house.name, password=Secret(FIRST))
    new = rotation.propose(current, _in_time(30, current))
    before = house.dialect.rows(house.server, house.name)
    os.kill(house.server.pid, signal.SIGSTOP)
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
        os.kill(house.server.pid, signal.SIGCONT)
    _wait_for_nobody(house)
    rotation.withdraw(new, _in_time(30, current))
    assert is_let_in(house.server, house.name, FIRST)
    assert not is_let_in(house.server, new.username, new.password.reveal())
    assert house.dialect.rows(house.server, house.name) == before


def test_what_a_killed_process_left_waiting_is_ended_before_anything_is_undone(house: House):
    """Another process finds the connection by the lock that it holds on the server."""
    current = Credential(username=house.name, password=Secret(FIRST))
    dead, alive = (house.secret("dual-password").rotation for _ in range(2))
    new = dead.propose(current, _in_time(30, current))
    with _held(house.server, "tables flushed"):
        worker = threading.Thread(target=_ignoring, args=(dead.create, new, _in_time(20, current)))
        worker.start()
        while "ALTER USER" not in str(house.server.run("SHOW FULL PROCESSLIST")):
            time.sleep(0.01)
        # It wrote nothing, so there is nothing to set again; and it never will.
        alive.withdraw(new, _in_time(5, current))
        assert "ALTER USER" not in str(house.server.run("SHOW FULL PROCESSLIST"))
        worker.join()
    assert is_let_in(house.server, house.name, FIRST)
    assert not is_let_in(house.server, house.name, new.password.reveal())


def _ignoring(call: Callable[..., object], *given: object) -> None:
    with suppress(StepError):
        _ = call(*given)


def test_a_host_that_says_nothing_is_left_in_time(house: House):
    """A proxy that takes the connection and holds everything back; also one that is slow all the time."""
    current = Credential(username=house.name, password=Secret(FIRST))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        rotation = house.secret("dual-password", port=silent.getsockname()[1]).rotation
        begun = time.monotonic()
        with pytest.raises(StepError):
            rotation.probe(current, _in_time(1, current))
        assert time.monotonic() - begun < 1.5
