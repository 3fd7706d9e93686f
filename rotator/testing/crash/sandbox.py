"""What outlives a process: the target, the backend, the journal and the clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from rotator.core.consumers import Consumer, InstanceKind, Level, Report
from rotator.core.contracts.backend import OffersNext, SecretBackend, TellsRotations
from rotator.core.contracts.plugin import StrategyInfo
from rotator.core.contracts.rotation import Rotation
from rotator.core.delegated import DelegatedRotation
from rotator.core.errors import UsageError
from rotator.core.model import Credential
from rotator.core.ports import Clock, Journal
from rotator.core.secret import Secret
from rotator.testing.fake_backend import FakeBackend
from rotator.testing.fake_engine import FakeDelegatedRotation, FakeEngine
from rotator.testing.fake_journal import MemoryConsumers, MemoryJournal
from rotator.testing.fake_rotations import fake_rotation
from rotator.testing.fake_target import Account, FakeTarget
from rotator.testing.fakes import ManualClock, SeededEntropy, step_context

if TYPE_CHECKING:
    from rotator.core.contracts.plugin import RotationPlugin, Target
    from rotator.testing.crash.points import Points


class Tapped(Protocol):
    """A fake that passes each single effect through `tap`."""

    tap: Callable[[str, Callable[[], None]], None]


class Effects:
    """Lets each call of one of a plugin's own functions be a point at which it can die.

    `what` names the point. `of` tells by the first argument, the connection, whether it is the
    plugin's; other calls pass as they are.
    """

    def __init__(
        self, what: str = "statement", *, of: Callable[[Any], bool] = lambda _link: True
    ) -> None:
        self._what: str = what
        self._of: Callable[[Any], bool] = of
        # What happens to the connection right before its call: the freeze harness holds it there.
        self.before: Callable[[Any], None] | None = None
        self.tap: Callable[[str, Callable[[], None]], None] = lambda _what, effect: effect()

    def through(self, real: Callable[..., Any]) -> Callable[..., Any]:
        """Return `real` with the tap around it."""

        def call(link: Any, *args: Any, **named: Any) -> Any:
            if not self._of(link):
                return real(link, *args, **named)
            answers: list[Any] = []

            def effect() -> None:
                if self.before is not None:
                    self.before(link)
                answers.append(real(link, *args, **named))

            self.tap(self._what, effect)
            return answers[0]

        return call


_ADMIN: Final = "Sandbox.of(..., admin=Credential(username=..., password=Secret(...)))"


def _memory_journal(clock: Clock, is_dead: Callable[[str], bool]) -> Journal:
    return MemoryJournal(clock=clock, is_dead=is_dead)


@dataclass(slots=True, kw_only=True)
class Sandbox:
    """Everything but the process: a fresh one for each of thousands of runs. See `Sandbox.of`.

    `rotation` makes the plugin's rotation, once per process; `close` lets go of all of them.
    `declared` is what the plugin says of the strategy. `copies`: backends that keep a copy, at the
    same path. `usable` names the logins of ours that somebody could get into right now (None: not
    looked at). `accepts` tries a credential,
    through the plugin's `probe` unless something else is given. `state` is compared before and
    after calls that must change nothing. `open_session` opens one for the current login, and
    `close_sessions` closes all; without them the scenarios with sessions are left out.
    `plant` puts on the target whatever an application could make the admin run, and returns a function
    that returns what of it has run as the admin.
    `refuse_next` makes the target refuse the next candidate. `foreign` makes a login that bears no
    mark of ours, to be adopted. `write_by_hand` makes a credential current in the backend as
    somebody would who knows nothing of us, and returns its version.

    For a secret that another system rotates: `rotations` counts how often it has, `lose_password`
    leaves the target with a password that it does not serve, and `rotate_by_itself` has it rotate
    without being asked by us.

    `make_journal` opens another
    journal than the one in memory, over the clock and what tells of dead holders. `secret` and `path`
    are the names under which the journal and the backend know the secret.
    """

    rotation: Callable[[], Rotation]
    close: Callable[[], None] = lambda: None
    declared: StrategyInfo | None = None
    backend: SecretBackend = field(default_factory=FakeBackend)
    copies: Sequence[SecretBackend] = ()
    usable: Callable[[], set[str]] | None = None
    accepts: Callable[[Credential], bool] | None = None
    state: Callable[[], object] | None = None
    violations: Callable[[], Sequence[str]] = tuple
    open_session: Callable[[str], None] | None = None
    close_sessions: Callable[[], None] | None = None
    refuse_next: Callable[[], None] | None = None
    plant: Callable[[], Callable[[], Sequence[str]]] | None = None
    foreign: Callable[[], Credential] | None = None
    write_by_hand: Callable[[Credential], str] | None = None
    rotations: Callable[[], int] | None = None
    lose_password: Callable[[], None] | None = None
    rotate_by_itself: Callable[[], object] | None = None
    tapped: Sequence[Tapped] = ()
    clock: ManualClock = field(default_factory=ManualClock)
    dead: set[str] = field(default_factory=set[str])
    make_journal: Callable[[Clock, Callable[[str], bool]], Journal] = _memory_journal
    journal: Journal = field(init=False)
    entropy: SeededEntropy = field(default_factory=SeededEntropy)
    # Who uses the secret, as the configuration declares it; and what they have reported.
    consumers: tuple[Consumer, ...] = ()
    registry: MemoryConsumers = field(init=False)
    moved_to: set[str] = field(default_factory=set[str])
    # What somebody else wrote, and the version whose credential it repeats.
    repeats: dict[str, str] = field(default_factory=dict[str, str])
    prepared_for: str = ""
    secret: str = "app"
    path: str = "apps/app"
    _onlooker: Rotation | None = field(init=False, default=None)

    @classmethod
    def of(
        cls,
        plugin: RotationPlugin,
        strategy: str,
        *,
        target_options: object = None,
        secret_options: object = None,
        admin: Credential | None = None,
        close: Callable[[], None] | None = None,
        **more: Any,
    ) -> Sandbox:
        """Return a sandbox whose rotations come from a plugin, through its own door.

        Each process opens the target anew. Options that are left out are as the plugin's defaults
        have them. `more` are the fields of a sandbox.
        """
        info = plugin.info
        declared = {one.name: one for one in info.strategies}
        if strategy not in declared:
            raise UsageError(
                f"plugin {info.name} declares no strategy {strategy!r}.",
                hint=f"It has: {', '.join(declared)}.",
            )
        target_options = info.target_options() if target_options is None else target_options
        secret_options = info.secret_options() if secret_options is None else secret_options
        if admin is None and info.may_have_admin:
            admin = Credential(username="", password=Secret(""))
        opened: list[Target] = []

        def rotation() -> Rotation:
            opened.append(plugin.target("target", target_options, lambda: _admin(admin)))
            return opened[-1].rotation(strategy, secret_options)

        def close_all() -> None:
            while opened:
                opened.pop().close()
            if close is not None:
                close()

        return cls(rotation=rotation, close=close_all, declared=declared[strategy], **more)

    def __post_init__(self) -> None:
        """Open the journal, over this sandbox's clock and its dead."""
        backend = self.backend
        if self.write_by_hand is None and isinstance(backend, FakeBackend):
            self.write_by_hand = lambda one: backend.written_by_a_stranger(self.path, one)
        self.registry = MemoryConsumers(self.clock)
        self.journal = self.make_journal(self.clock, self.dead.__contains__)

    def consumers_move(self) -> None:
        """Let every consumer report that it uses what the backend serves."""
        current = self.backend.current(self.path)
        if current is not None:
            self.moved_to.add(current.id)
            self._report(current.id, Level.USED)

    def consumers_prepare(self) -> None:
        """Let every consumer report that it has read the next version."""
        backend = self.backend
        following = backend.next(self.path) if isinstance(backend, OffersNext) else None
        if following is None:
            return
        self.prepared_for = following.rotation_id
        self._report(following.rotation_id, Level.PREPARED)

    def _report(self, version: str, level: Level) -> None:
        """Let every instance of every consumer report a level."""
        _ = self.registry.report(
            [
                Report(
                    secret=self.secret,
                    consumer=consumer.name,
                    instance=f"{consumer.name}-{number}",
                    kind=InstanceKind.CLIENT,
                    version=version,
                    level=level,
                )
                for consumer in self.consumers
                for number in range(consumer.instances)
            ]
        )

    @property
    def is_delegated(self) -> bool:
        """Whether another system rotates this sandbox's secret."""
        return isinstance(self.rotation(), DelegatedRotation)

    def lets_in(self, credential: Credential) -> bool:
        """Return whether the target accepts this credential right now, unseen by the harness."""
        if self.accepts is not None:
            return self.accepts(credential)
        if self._onlooker is None:
            self._onlooker = self.rotation()
        context = step_context(secret=self.secret, path=self.path, clock=self.clock)
        return self._onlooker.probe(credential, context)

    def password_of(self, login: str) -> Secret:
        """Return the password of a login that the backend serves, or has staged."""
        backend = self.backend
        current = backend.current(self.path)
        found = [] if current is None else [current.credential]
        if isinstance(backend, TellsRotations):
            staged = (backend.staged(self.path, one) for one in backend.rotation_ids(self.path))
            found += [one for one in staged if one is not None]
        return next(one.password for one in found if one.username == login)

    def told(self) -> Sequence[str]:
        """Return what the fakes have told on so far."""
        if isinstance(self.journal, MemoryJournal):
            return (*self.violations(), *self.journal.violations)
        return self.violations()

    def watch(self, points: Points) -> None:
        """Let each single effect of the fakes be two points of the process."""
        for number, fake in enumerate(self.tapped):
            fake.tap = _tap(points, port_of(fake, number))


def port_of(fake: Tapped, number: int) -> str:
    """Return how the points of a tapped fake are named; `number` is its place among them."""
    return type(fake).__name__.removeprefix("Fake").lower() or str(number)


def fake_sandbox(strategy: str, *, copies: bool = False, copied: bool = False) -> Sandbox:
    """Return a sandbox of fakes for one of the four strategies, or for `NEW_KEY`.

    `copies`: restoring writes a copy. `copied`: another backend keeps a copy of the secret.
    """
    backend, other = FakeBackend(copies=copies), FakeBackend(copies=not copies)
    target = FakeTarget(stored=backend.holds)
    return Sandbox(
        rotation=lambda: fake_rotation(strategy, target),
        backend=backend,
        copies=(other,) if copied else (),
        usable=target.usable,
        accepts=lambda one: target.accepts(one.username, one.password.reveal()),
        state=target.state,
        violations=lambda: target.violations,
        open_session=target.open_session,
        close_sessions=target.close_sessions,
        foreign=lambda: _foreign(target),
        refuse_next=lambda: setattr(target, "refuse_next", 1),
        tapped=(backend, target, other) if copied else (backend, target),
    )


def _admin(admin: Credential | None) -> Credential:
    if admin is None:
        raise UsageError("the plugin asks for an admin, and this sandbox has none.", hint=_ADMIN)
    return admin


def delegated_sandbox(engine: FakeEngine | None = None) -> Sandbox:
    """Return a sandbox whose secret a fake engine rotates."""
    engine = engine or FakeEngine()
    return Sandbox(
        rotation=lambda: FakeDelegatedRotation(engine),
        backend=engine,
        accepts=engine.accepts,
        state=lambda: engine.set,
        rotations=lambda: engine.rotations,
        lose_password=engine.lose,
        rotate_by_itself=engine.rotate,
        refuse_next=lambda: setattr(engine, "refuse_next", 1),
        tapped=(engine,),
    )


def _foreign(target: FakeTarget) -> Credential:
    password = "set-by-hand-long-ago"
    target.accounts["legacy"] = Account(passwords=[password])
    return Credential(username="legacy", password=Secret(password))


def _tap(points: Points, port: str) -> Callable[[str, Callable[[], None]], None]:
    return lambda what, effect: points.call(port, what, effect)
