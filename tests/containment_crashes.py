"""A containment that dies at any statement goes on in the next process and ends with a proof."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rotator import system
from rotator.engine import Engine, LeakReport, Mode
from rotator.testing.crash import Crash
from rotator.testing.fakes import ListLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest

    from rotator.api import Credential
    from rotator.engine import ManagedSecret
    from tests.harness import AnyHarness

_KILL = LeakReport(id="INC", reason="found in a paste", mode=Mode.KILL)
# More calls than a recovery needs.
_CALLS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Statements:
    """Where a driver sends a statement. `of`: whether a connection is the admin's."""

    owner: type
    method: str
    of: Callable[[Any], bool]


class _Death:
    """Raises `Crash` before or after the statement of this number that the admin sends."""

    def __init__(self, statements: Statements, number: int, *, after: bool) -> None:
        self._statements, self._left, self._after = statements, number, after
        self.happened = False

    @contextmanager
    def armed(self, patch: pytest.MonkeyPatch) -> Iterator[None]:
        """Watch every statement inside the block."""
        where = self._statements
        send = getattr(where.owner, where.method)

        def watched(connection: Any, *given: Any, **more: Any) -> Any:
            if not where.of(connection):
                return send(connection, *given, **more)
            self._left -= 1
            if self._left == 0 and not self._after:
                self._die(connection)
            result = send(connection, *given, **more)
            if self._left == 0 and self._after:
                self._die(connection)
            return result

        with patch.context() as patched:
            patched.setattr(where.owner, where.method, watched)
            yield

    def _die(self, connection: Any) -> None:
        self.happened = True
        # The system closes what a process leaves.
        connection.close()
        raise Crash


def survived(
    harness: AnyHarness,
    secret: ManagedSecret,
    statements: Statements,
    patch: pytest.MonkeyPatch,
    *,
    every: int,
    logs_in: Callable[[Credential], bool],
    open_session: Callable[[Credential], Callable[[], bool]],
) -> int:
    """Kill a containment at every so many statements, each time of a new leak; return how many died.

    With 1, before and after each one; else before and after in turn. `open_session` returns a
    function that checks whether the session works.
    """
    deaths, number, after = 0, 1, False
    while True:
        leaked = harness.serves(secret)
        works = open_session(leaked)
        harness.engine.open_incident(secret, replace(_KILL, id=f"INC-{number}-{after}"))
        death = _Death(statements, number, after=after)
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
        assert not logs_in(leaked), at
        assert logs_in(harness.serves(secret)), at
        assert not works(), at
        harness.engine.close_incident(secret, reason="done")
        if not death.happened:
            return deaths
        deaths += 1
        if every == 1 and not after:
            after = True
        else:
            number, after = number + every, every > 1 and not after


def _engine(harness: AnyHarness) -> Engine:
    """Return the engine of another process over the same journal."""
    clock, entropy = system.SystemClock(), system.SystemEntropy()
    return Engine(
        journal=harness.journal, clock=clock, entropy=entropy, log=ListLog(), holder=system.holder
    )
