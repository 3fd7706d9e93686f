"""A daemon's sandbox without servers: a clock that is set, fakes behind every port, work done inline."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from rotator.core.access import Actor
from rotator.core.contracts.plugin import MarkedLogin
from rotator.core.daemon_settings import DaemonSettings, SpacingGroup, Topic
from rotator.core.model import Policy
from rotator.dispatch.dispatcher import Dispatcher
from rotator.dispatch.executor import ThreadExecutor
from rotator.dispatch.outages import Outages
from rotator.dispatch.worker import Worker
from rotator.engine import Engine, ManagedSecret
from rotator.testing.fake_backend import FakeBackend
from rotator.testing.fake_journal import MemoryConsumers, MemoryJournal, MemoryObservations
from rotator.testing.fake_rotations import fake_rotation
from rotator.testing.fake_target import FakeTarget
from rotator.testing.fakes import ListLog, ManualClock, SeededEntropy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rotator.core.consumers import Consumer
    from rotator.core.contracts.rotation import Rotation, StepContext
    from rotator.core.leases import LeaseTerms
    from rotator.core.model import Event, Json
    from rotator.requests import Requests

_STEP = timedelta(seconds=60)


@dataclass(slots=True)
class Entry:
    """What a configuration holds of a secret."""

    policy: Policy
    target: str = "db"
    backend: str = "vault"
    strategy: str = "new-user"
    consumers: tuple[Consumer, ...] = ()
    leases: LeaseTerms | None = None


class Inline:
    """Does work at once."""

    def submit(self, work: Callable[[], None]) -> None:
        work()


@dataclass(slots=True, kw_only=True)
class Place:
    """What outlives daemons. `rotation` may be replaced to let a target misbehave.

    `left`: entries that are in the file no more, as the journal remembers them.
    """

    entries: dict[str, Entry]
    left: dict[str, Entry] = field(default_factory=dict)
    partners: dict[str, SpacingGroup] = field(default_factory=dict)
    duty: DaemonSettings = field(default_factory=lambda: DaemonSettings(verify_every=None))
    clock: ManualClock = field(default_factory=ManualClock)
    backend: FakeBackend = field(default_factory=FakeBackend)
    targets: dict[str, FakeTarget] = field(default_factory=dict)
    told: list[tuple[Topic, str, Mapping[str, Json]]] = field(default_factory=list)
    written: list[Event] = field(default_factory=list)
    log: ListLog = field(default_factory=ListLog)
    observations: MemoryObservations = field(default_factory=MemoryObservations)
    wrap: Callable[[str, Rotation], Rotation] = lambda _name, rotation: rotation
    journal: MemoryJournal = field(init=False)
    engine: Engine = field(init=False)
    registry: MemoryConsumers = field(init=False)
    pool: object = field(default_factory=Inline)
    requests: Requests | None = None

    def __post_init__(self) -> None:
        self.journal = MemoryJournal(clock=self.clock, watchful=False)
        self.registry = MemoryConsumers(self.clock)
        self.engine = Engine(
            journal=self.journal,
            clock=self.clock,
            entropy=SeededEntropy(),
            log=self.log,
            holder=lambda: "daemon",
            observer=self.written.append,
            registry=self.registry,
            leases=self.journal.leases,
        )

    def entry(self, name: str) -> Entry:
        """Return what is known of a secret, in the file or not."""
        return self.entries.get(name) or self.left[name]

    def secret(self, name: str) -> ManagedSecret:
        """Return one, over a target of its own."""
        entry = self.entry(name)
        target = self.targets.setdefault(name, FakeTarget(stored=self.backend.holds))
        return ManagedSecret(
            name=name,
            path=name,
            backend_name=entry.backend,
            backend=self.backend,
            target_name=entry.target,
            rotation=self.wrap(name, fake_rotation(entry.strategy, target)),
            plugin="fake",
            strategy=entry.strategy,
            policy=entry.policy,
            consumers=entry.consumers,
            leases=entry.leases,
        )

    def marked(self, secret: ManagedSecret) -> Callable[[StepContext], list[MarkedLogin]]:
        """Return what lists the logins of a target, all of which bear a mark."""
        target = self.targets[secret.name]

        def marked(_ctx: StepContext) -> list[MarkedLogin]:
            return [
                MarkedLogin(login=name, can_login=one.can_login, is_of=one.owner.__eq__)
                for name, one in target.accounts.items()
            ]

        return marked

    def tell(self, topic: Topic, secret: str, data: Mapping[str, Json]) -> None:
        self.told.append((topic, secret, data))

    def daemon(self) -> Dispatcher:
        """Start one, as a process would."""
        worker = Worker(
            engine=self.engine,
            journal=self.journal,
            clock=self.clock,
            log=self.log,
            holder=lambda: "daemon",
            secret=self.secret,
            partners=self.partners,
            tell=self.tell,
            requests=self.requests,
            actor=Actor(subject="rotator", method="os", face="daemon", host="vm"),
            leases=self.journal.leases,
            lender=lambda lease: self.secret(lease.secret),
            marked=self.marked,
        )
        daemon = Dispatcher(
            secrets=self.entries,
            secret=self.secret,
            hands=ThreadExecutor(self.pool, worker),  # pyright: ignore[reportArgumentType] # a test may bring its own pool
            engine=self.engine,
            journal=self.journal,
            agenda=self.journal,
            duty=self.duty,
            clock=self.clock,
            log=self.log,
            tell=self.tell,
            faults=Outages(observations=self.observations, log=self.log, tell=self.tell),
            forgotten=self.left.get,
            requests=self.requests.ready if self.requests is not None else tuple,
            leases=self.journal.leases,
        )
        daemon.begin()
        return daemon

    def live(self, daemon: Dispatcher, until: datetime) -> None:
        """Let time pass, from one moment at which something happens to the next."""
        while self.clock.at < until:
            daemon.tick()
            # Work that has just become ready again is done in the same moment.
            daemon.tick()
            now = self.clock.at
            moments = [one.next_due for one in self.journal.secrets() if one.next_due is not None]
            ahead = [one for one in (*moments, daemon.next_look()) if one is not None and one > now]
            self.clock.at = min(until, max(now + _STEP, min(ahead, default=until)))
