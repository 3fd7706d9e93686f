"""A secret that is kept in two places: both hold the new credential before the old one goes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from rotator.core.errors import Conflict, Transient
from rotator.core.model import Credential, Kind, Outcome, Policy, Step
from rotator.core.secret import Secret
from rotator.engine import Copy, Engine, ManagedSecret
from rotator.testing.fake_backend import FakeBackend
from rotator.testing.fake_journal import MemoryJournal
from rotator.testing.fake_rotations import fake_rotation
from rotator.testing.fake_target import FakeTarget
from rotator.testing.fakes import ListLog, ManualClock, SeededEntropy

_GRACE = timedelta(hours=1)


class _World:
    def __init__(self, strategy: str = "new-user") -> None:
        self.backend, self.other = FakeBackend(), FakeBackend()
        self.target = FakeTarget(stored=self.backend.holds)
        self.clock = ManualClock()
        self.journal = MemoryJournal(clock=self.clock)
        self.secret = ManagedSecret(
            name="app",
            path="apps/app",
            backend_name="main",
            backend=self.backend,
            target_name="db",
            rotation=fake_rotation(strategy, self.target),
            plugin="fake",
            strategy=strategy,
            policy=Policy(grace=_GRACE, attempts=1, cycles=1),
            copies=(Copy(backend_name="other", backend=self.other, path="team/app"),),
        )
        self.engine = Engine(
            journal=self.journal,
            clock=self.clock,
            entropy=SeededEntropy(),
            log=ListLog(),
            holder=lambda: "test",
        )

    def copied(self) -> Credential:
        found = self.other.current("team/app")
        assert found is not None
        return found.credential

    def current(self) -> Credential:
        found = self.backend.current("apps/app")
        assert found is not None
        return found.credential

    def put(self, username: str, password: str, **fields: object) -> None:
        given = Credential(username=username, password=Secret(password), fields=fields)
        self.other.written_by_a_stranger("team/app", given)


@pytest.fixture
def world() -> _World:
    return _World()


def test_the_copy_holds_what_was_published(world: _World):
    """Already after the first rotation, and again after the second."""
    for _ in range(2):
        world.engine.rotate(world.secret, patience=timedelta(days=1))
        assert world.copied().password == world.current().password
        assert world.copied().username == world.current().username


def test_what_a_copy_holds_beside_login_and_password_stays(world: _World):
    """Another network may need another host."""
    world.engine.rotate(world.secret)
    first = world.copied()
    world.put(first.username, first.password.reveal(), host="10.0.0.1")
    world.engine.rotate(world.secret, patience=timedelta(days=1))
    assert world.copied().password == world.current().password
    assert world.copied().fields["host"] == "10.0.0.1"


def test_a_foreign_credential_where_a_copy_belongs_stops_the_rotation_before_it_begins(
    world: _World,
):
    """A path that is mistyped must not cost anybody a password."""
    world.put("payroll", "theirs")
    result = world.engine.rotate(world.secret)
    assert result.outcome is Outcome.UNDONE
    assert result.error is not None
    assert result.error.kind == Conflict.kind
    assert "'payroll'" in result.error.what
    assert world.copied().password.reveal() == "theirs"
    assert world.target.accounts == {}


def test_a_copy_that_fails_keeps_the_old_credential_alive_and_says_so(world: _World):
    """Until somebody has mended it; then the rotation goes on by itself."""
    world.engine.rotate(world.secret)
    old = world.copied()

    def broken(path: str, rotation_id: str, new: Credential) -> Credential:
        raise Transient(f"{path} {rotation_id} {new} cannot be written.")

    world.other.stage, working = broken, world.other.stage
    result = world.engine.rotate(world.secret, patience=timedelta(days=30))
    assert result.parked
    assert result.error is not None
    assert "the copy other:team/app could not be written" in result.error.what
    assert "The old credential stays valid" in result.error.safety
    assert world.target.accepts(old.username, old.password.reveal())
    world.other.stage = working
    world.engine.unpark(world.secret, reason="mended")
    ended = world.engine.resume(world.secret, patience=timedelta(days=30))
    assert ended is not None
    assert ended.outcome is Outcome.DONE
    assert ended.old_refused
    assert world.copied().password == world.current().password


def test_the_grace_period_counts_from_the_last_copy(world: _World):
    """Whoever reads the copy has as much time as whoever reads the original."""
    world.engine.rotate(world.secret)
    read = world.other.current

    def away(path: str) -> object:
        if world.journal.open_rotation("app") and world.current() != first:
            raise Transient(f"{path} is away.")
        return read(path)

    first = world.current()
    world.secret = _patient(world.secret)
    world.other.current = away  # pyright: ignore[reportAttributeAccessIssue] # a fault
    world.engine.rotate(world.secret, patience=timedelta(minutes=50))
    world.other.current = read
    world.clock.advance(timedelta(minutes=10))
    copied_after = world.clock.now()
    result = world.engine.resume(world.secret)
    assert result is not None
    assert result.until is not None
    assert result.until >= copied_after + _GRACE


def test_a_copy_that_was_changed_in_the_grace_period_stops_the_revoke(world: _World):
    """Somebody put the old one back there: it is still needed."""
    world.engine.rotate(world.secret)
    old = world.copied()
    world.engine.rotate(world.secret)
    world.put(old.username, old.password.reveal())
    world.clock.advance(2 * _GRACE)
    result = world.engine.resume(world.secret)
    assert result is not None
    assert result.parked
    assert result.error is not None
    assert "no longer holds" in result.error.what
    assert world.target.accepts(old.username, old.password.reveal())


def test_a_rollback_goes_back_in_every_copy(world: _World):
    """Also where the first backend moves labels."""
    world.engine.rotate(world.secret)
    old = world.copied()
    world.engine.rotate(world.secret)
    assert world.copied().password != old.password
    world.engine.rollback(world.secret, patience=timedelta(days=1))
    assert world.copied().password == old.password == world.current().password
    result = world.engine.rotate(world.secret, patience=timedelta(days=1))
    assert result.outcome is Outcome.DONE
    assert world.copied().password == world.current().password


def test_a_check_tells_of_copies_that_differ(world: _World):
    """They are in the journal's record of it, too."""
    world.engine.rotate(world.secret)
    assert world.engine.check(world.secret).stale == ()
    world.put("app", "typed by hand")
    assert world.engine.check(world.secret).stale == ("other:team/app",)
    assert world.journal.events("app")[-1].data["stale"] == ["other:team/app"]


def test_nothing_is_adopted_while_a_copy_holds_something_else(world: _World):
    """The next rotation would stop there; better to hear of it now."""
    world.engine.rotate(world.secret)
    world.put("payroll", "theirs")
    world.backend.written_by_a_stranger("apps/app", world.current())
    with pytest.raises(Conflict, match="payroll"):
        world.engine.adopt(world.secret)


def test_the_plan_and_the_journal_name_the_copies(world: _World):
    """An auditor sees where a credential went."""
    steps = world.engine.plan(world.secret).steps
    assert any(one.step is Step.COPY and "other:team/app" in one.text for one in steps)
    world.engine.rotate(world.secret)
    copied = [
        event
        for event in world.journal.events("app")
        if event.step is Step.COPY and event.kind is Kind.FINISHED
    ]
    assert copied[0].data["copies"] == {"other:team/app": "1"}


def _patient(secret: ManagedSecret) -> ManagedSecret:
    return replace(secret, policy=replace(secret.policy, attempts=10, cycles=10))
