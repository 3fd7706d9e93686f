"""A containment that dies at any statement goes on in the next process and ends with a proof."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from rotator import system
from rotator.api import Credential, Secret
from rotator.engine import Engine, LeakReport, Mode
from rotator.testing.crash import Crash
from rotator.testing.fakes import ListLog
from tests.postgresql.conftest import Harness
from tests.postgresql.test_rotating import STRATEGIES, options

if TYPE_CHECKING:
    from collections.abc import Iterator

_KILL = LeakReport(id="INC", reason="found in a paste", mode=Mode.KILL)
# More calls than a recovery needs.
_CALLS = 5


class Death:
    """Raises `Crash` before or after the statement of this number that the admin sends."""

    def __init__(self, admin: str, number: int, *, after: bool) -> None:
        self._admin, self._left, self._after = admin, number, after
        self.happened = False

    @contextmanager
    def armed(self, patch: pytest.MonkeyPatch) -> Iterator[None]:
        """Watch every statement inside the block."""
        execute = psycopg.Connection.execute

        def watched(connection: psycopg.Connection[Any], *given: Any, **more: Any) -> Any:
            if connection.info.user != self._admin:
                return execute(connection, *given, **more)
            self._left -= 1
            if self._left == 0 and not self._after:
                self._die(connection)
            result = execute(connection, *given, **more)
            if self._left == 0 and self._after:
                self._die(connection)
            return result

        with patch.context() as patched:
            patched.setattr(psycopg.Connection, "execute", watched)
            yield

    def _die(self, connection: psycopg.Connection[Any]) -> None:
        self.happened = True
        # The system closes what a process leaves.
        connection.close()
        raise Crash


def _engine(harness: Harness) -> Engine:
    """Return the engine of another process over the same journal."""
    clock, entropy = system.SystemClock(), system.SystemEntropy()
    return Engine(
        journal=harness.journal, clock=clock, entropy=entropy, log=ListLog(), holder=system.holder
    )


def _survives(harness: Harness, strategy: str, patch: pytest.MonkeyPatch, step: int) -> int:
    """Kill containments at every `step`-th statement, and return how many died."""
    name = f"{harness.group}_admin"
    harness.sql(f"CREATE ROLE {name} SUPERUSER LOGIN PASSWORD 'admin-password'")
    admin = Credential(username=name, password=Secret("admin-password"))
    secret = harness.secret(strategy, admin=admin, **options(harness, strategy))
    _ = harness.engine.rotate(secret)
    deaths, number, after = 0, 1, False
    while True:
        leaked = harness.serves(secret)
        session = harness.connect(leaked)
        harness.engine.open_incident(secret, replace(_KILL, id=f"INC-{number}-{after}"))
        death = Death(name, number, after=after)
        with death.armed(patch):
            try:
                done = _engine(harness).contain(secret)
            except Crash:
                done = None
        for _ in range(_CALLS):
            if done is not None and done.proof is not None:
                break
            done = _engine(harness).contain(secret)
        at = f"{'after' if after else 'before'} statement {number}"
        assert done is not None
        assert done.proof is not None, (at, done)
        assert done.proof.ok, (at, done.proof.unproven)
        assert not harness.logs_in(leaked), at
        assert harness.logs_in(harness.serves(secret)), at
        with pytest.raises(psycopg.OperationalError):
            _ = session.execute("SELECT 1")
        harness.engine.close_incident(secret, reason="done")
        if not death.happened:
            return deaths
        deaths += 1
        if step == 1 and not after:
            after = True
        else:
            number, after = number + step, step > 1 and not after


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_containment_survives_some_deaths(
    harness: Harness, strategy: str, monkeypatch: pytest.MonkeyPatch
):
    """At every seventh statement, before it or after it."""
    assert _survives(harness, strategy, monkeypatch, 7) >= 3


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_containment_survives_a_death_at_every_statement(
    harness: Harness, strategy: str, monkeypatch: pytest.MonkeyPatch
):
    """Before and after each one that the admin sends."""
    assert _survives(harness, strategy, monkeypatch, 1) >= 40
