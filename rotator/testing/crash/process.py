"""One run of the program: an engine of its own over ports at which it can die."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from rotator.core.history import OPEN
from rotator.core.model import DrainThen, Policy
from rotator.engine import Copy, Engine, LeakReport, ManagedSecret, Mode, Result
from rotator.testing.crash.points import Point, Points
from rotator.testing.crash.proxies import (
    BackendProxy,
    JournalProxy,
    backend_proxy,
    rotation_proxy,
)
from rotator.testing.fakes import ListLog

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotator.testing.crash.promises import Promises
    from rotator.testing.crash.sandbox import Sandbox

# Short, so that waiting in the middle of a call is a handful of lock renewals.
POLICY: Final = Policy(
    grace=timedelta(seconds=50), drain_wait=timedelta(minutes=5), drain_then=DrainThen.HOLD
)
# More looks at an open rotation than any of the scenarios needs.
_MOST_LOOKS: Final = 120
# How many times a person who mended nothing unparks it.
_MOST_UNPARKED: Final = 3
# How many times an application is found still logged in before it lets go.
_PATIENT_LOOKS: Final = 2


class Stuck(AssertionError):
    """A rotation was looked at again and again and came to no end."""


class Process:
    """One process, with its own engine, over a sandbox that outlives it."""

    def __init__(
        self,
        sandbox: Sandbox,
        promises: Promises,
        *,
        policy: Policy = POLICY,
        fault: Callable[[Point], None] | None = None,
    ) -> None:
        self.sandbox: Sandbox = sandbox
        self._promises: Promises = promises
        # What an earlier process drew and did not store is lost with it.
        promises.drawn = None
        self.points: Points = Points(promises, fault)
        self.holder: str = f"process-{len(sandbox.dead) + 1}"
        self.log: ListLog = ListLog()
        self.secret: ManagedSecret = ManagedSecret(
            name=sandbox.secret,
            path=sandbox.path,
            backend_name="backend",
            backend=backend_proxy(sandbox.backend, self.points, promises),
            target_name="target",
            rotation=rotation_proxy(sandbox.rotation(), self.points, promises),
            plugin="plugin",
            strategy="strategy",
            policy=policy,
            consumers=sandbox.consumers,
            copies=tuple(
                Copy(
                    backend_name=f"copy-{number}",
                    backend=BackendProxy(one, self.points, promises, copied=True),
                    path=sandbox.path,
                )
                for number, one in enumerate(sandbox.copies, 1)
            ),
        )
        self.engine: Engine = Engine(
            journal=JournalProxy(sandbox.journal, self.points, promises),
            clock=sandbox.clock,
            entropy=sandbox.entropy,
            log=self.log,
            holder=lambda: self.holder,
            registry=sandbox.registry,
        )
        self._looks: int = 0
        sandbox.watch(self.points)

    def die(self) -> None:
        """Let the sandbox know that this process is gone."""
        self.points.dead = True
        self.sandbox.dead.add(self.holder)

    def rotate(self) -> None:
        """Rotate, and see it through."""
        self.finish(self.engine.rotate(self.secret))

    def rollback(self) -> None:
        """Roll back, and see it through."""
        self.finish(self.engine.rollback(self.secret))

    def revoke(self) -> None:
        """End the grace period, and see it through."""
        self.finish(self.engine.revoke(self.secret))

    def resume(self) -> None:
        """Go on with whatever is open, and see it through. A person looks at a parked secret."""
        for _ in range(_MOST_UNPARKED):
            record = self.sandbox.journal.secret(self.secret.name)
            if record is not None and record.parked is not None:
                self.engine.unpark(self.secret, reason="somebody looked")
            if record is not None and record.incident_state == OPEN:
                self.contain()
            else:
                self.finish(self.engine.resume(self.secret))
        if self.sandbox.is_delegated and not self.check():
            self._promises.looked_again += 1
            self.rotate()

    def leak(self, mode: Mode) -> None:
        """Report that the served password has leaked, and see it through."""
        report = LeakReport(id="leak", reason="it leaked", mode=mode, within=POLICY.grace)
        self.engine.open_incident(self.secret, report)
        self.contain()

    def contain(self) -> None:
        """Come back until the leaked password is shown to be rejected, or the secret is parked.

        After some proofs in vain, as with a target that is away, it is left to a later process.
        """
        unproven = 0
        for _ in range(_MOST_LOOKS):
            done = self.engine.contain(self.secret)
            unproven += done.proof is not None
            if done.is_proven or unproven > _PATIENT_LOOKS:
                return
            if done.proof is not None and done.proof.next is not None:
                self.sandbox.clock.at = max(self.sandbox.clock.at, done.proof.next)
            elif done.result is None or done.result.outcome is not None:
                return
            else:
                self._wait(done.result)
        raise Stuck(f"not proven after {_MOST_LOOKS} looks")

    def check(self) -> bool:
        """Try what is served, as a daemon does now and then."""
        return self.engine.check(self.secret).accepted

    def finish(self, result: Result | None) -> None:
        """Come back as often as the result says, at the time it says, until it ends or is parked."""
        for _ in range(_MOST_LOOKS):
            if result is None or result.outcome is not None:
                return
            self._wait(result)
            result = self.engine.resume(self.secret)
        raise Stuck(f"open after {_MOST_LOOKS} looks, at {result and result.step}")

    def _wait(self, result: Result) -> None:
        if result.until is None or not result.waiting:
            raise Stuck("open, and it does not say until when or why")
        self.sandbox.clock.at = max(self.sandbox.clock.at, result.until)
        self._looks += 1
        if self._looks > _PATIENT_LOOKS:
            if self.sandbox.consumers and self.sandbox.repeats:
                # Consumers confirm what they read, so the revoke waits until a person takes that over.
                self.engine.adopt(self.secret)
            self.sandbox.consumers_move()
            self.sandbox.consumers_prepare()
            if self.sandbox.close_sessions is not None:
                self.sandbox.close_sessions()
