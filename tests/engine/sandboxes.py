"""The real engine over a target, a backend and a journal in memory; nothing sleeps."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from rotator.core.model import Credential, Event, Kind, Policy, Step
from rotator.core.secret import Secret
from rotator.engine import Copy, Engine, ManagedSecret
from rotator.testing.fake_backend import FakeBackend
from rotator.testing.fake_journal import MemoryConsumers, MemoryJournal
from rotator.testing.fake_rotations import fake_rotation
from rotator.testing.fake_target import Account, FakeTarget
from rotator.testing.fakes import ListLog, ManualClock, SeededEntropy

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from rotator.core.consumers import Consumer
    from rotator.core.history import RotationRecord, SecretRecord
    from rotator.core.leases import LeaseTerms

HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
POLICY: Final = Policy(
    every=30 * DAY,
    grace=HOUR,
    drain_wait=DAY,
    attempts=2,
    cycles=2,
    backoff=timedelta(seconds=1),
    backoff_cap=timedelta(minutes=1),
)
PATH: Final = "apps/app"


class Killed(BaseException):
    """The process ends here."""


class EngineSandbox:
    """One secret, `app`, under one strategy, with everything that the engine needs."""

    def __init__(
        self,
        strategy: str = "new-user",
        *,
        policy: Policy = POLICY,
        backend: FakeBackend | None = None,
        copies: tuple[Copy, ...] = (),
    ) -> None:
        self.strategy, self.policy, self.copies = strategy, policy, copies
        self.backend = backend or FakeBackend()
        self.target = FakeTarget(stored=self.backend.holds)
        self.clock, self.log = ManualClock(), ListLog()
        self.journal = MemoryJournal(clock=self.clock)
        self.registry: MemoryConsumers | None = MemoryConsumers(self.clock)
        self.consumers: tuple[Consumer, ...] = ()
        self.leases: LeaseTerms | None = None
        self.rotation: Any = fake_rotation(strategy, self.target)
        self.engine = self.process()

    def process(self) -> Engine:
        """Return an engine as a new process would have it."""
        return Engine(
            journal=self.journal,
            clock=self.clock,
            entropy=SeededEntropy(),
            log=self.log,
            holder=lambda: "test",
            registry=self.registry,
            leases=self.journal.leases,
        )

    @property
    def secret(self) -> ManagedSecret:
        return self.named("app")

    def named(self, name: str) -> ManagedSecret:
        """Return the secret under this name."""
        return ManagedSecret(
            name=name,
            path=PATH,
            backend_name="main",
            backend=self.backend,
            target_name="db",
            rotation=self.rotation,
            plugin="fake",
            strategy=self.strategy,
            policy=self.policy,
            copies=self.copies,
            consumers=self.consumers,
            leases=self.leases,
        )

    # -- what is there -------------------------------------------------------------------------

    @property
    def served(self) -> Credential:
        """What consumers read."""
        current = self.backend.current(PATH)
        assert current is not None
        return current.credential

    @property
    def record(self) -> SecretRecord:
        record = self.journal.secret("app")
        assert record is not None
        return record

    @property
    def opened(self) -> RotationRecord:
        opened = self.journal.open_rotation("app")
        assert opened is not None
        return opened

    @property
    def opened_at(self) -> datetime:
        """When what is served was published."""
        published = self.journal.rotations("app", 1)[0].published_at
        assert published is not None
        return published

    @property
    def last(self) -> Event:
        return self.journal.events("app")[-1]

    def accepts(self, credential: Credential) -> bool:
        return self.target.accepts(credential.username, credential.password.reveal())

    def finished(self) -> list[Step]:
        """Return the steps that the newest rotation has finished."""
        newest = self.journal.rotations("app", 1)[0].id
        return [
            event.step
            for event in self.journal.history(newest)
            if event.kind is Kind.FINISHED and event.step is not None
        ]

    def everything(self) -> object:
        """Return all that a call may change, to be compared."""
        version = self.backend.current(PATH)
        pending = self.backend.pending(PATH)
        return self.target.state(), version, pending, self.journal.events("app")

    # -- what happens to it --------------------------------------------------------------------

    def handed_over(self, username: str = "theirs") -> Credential:
        """Make a login that bears no mark of ours."""
        self.target.accounts[username] = Account(passwords=["made-by-hand"])
        return Credential(username=username, password=Secret("made-by-hand"))

    def write_by_hand(self, credential: Credential) -> str:
        """Make a credential current as somebody would who knows nothing of us."""
        return self.backend.written_by_a_stranger(PATH, credential)

    def rotate_wholly(self) -> Credential:
        """Rotate to the end, through grace; return what is served then."""
        self.engine.rotate(self.secret, patience=2 * DAY)
        return self.served


def fail_next(owner: object, method: str, *errors: BaseException, done: bool = False) -> list[int]:
    """Let the next calls of a method raise these errors, one each; then it works again.

    `done`: the call has its effect before. Returns a list that grows by one at each call.
    """
    works: Callable[..., object] = getattr(owner, method)
    left, calls = list(errors), list[int]()

    def call(*arguments: object, **named: object) -> object:
        calls.append(len(calls))
        if not left:
            return works(*arguments, **named)
        error = left.pop(0)
        if done:
            works(*arguments, **named)
        raise error

    setattr(owner, method, call)
    return calls
