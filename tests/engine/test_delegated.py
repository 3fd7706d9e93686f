"""Secrets that another system rotates: the engine asks it once, and proves what it serves then."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from rotator.core.errors import Denied, NotDue, Parked, UsageError
from rotator.core.model import Kind, Outcome, Policy, Step
from rotator.core.state_machine import DELEGATED
from rotator.engine import Engine, LeakReport, ManagedSecret, Mode, Retirement
from rotator.testing.crash import delegated_sandbox
from rotator.testing.fake_engine import FakeDelegatedRotation, FakeEngine
from rotator.testing.fakes import ListLog, ManualClock, SeededEntropy
from tests.engine.sandboxes import EngineSandbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotator.core.history import SecretRecord
    from rotator.testing.crash import Sandbox

_DAY = timedelta(days=1)


def _engine(sandbox: Sandbox, clock: ManualClock | None = None) -> Engine:
    return Engine(
        journal=sandbox.journal,
        clock=clock or sandbox.clock,
        entropy=SeededEntropy(),
        log=ListLog(),
        holder=lambda: "test",
    )


def _secret(sandbox: Sandbox, policy: Policy) -> ManagedSecret:
    return ManagedSecret(
        name=sandbox.secret,
        path=sandbox.path,
        backend_name="engine",
        backend=sandbox.backend,
        target_name="engine",
        rotation=sandbox.rotation(),
        plugin="fake",
        strategy="static-role",
        policy=policy,
    )


def test_a_second_engine_does_not_rotate_a_secret_that_is_no_longer_due():
    """Two daemons find it due: the look under the lock leaves one rotation."""
    sandbox = delegated_sandbox()
    engine, secret = _engine(sandbox), _secret(sandbox, Policy(every=_DAY))
    engine.adopt(secret)
    sandbox.clock.advance(2 * _DAY)
    assert engine.rotate(secret, only_if_due=True).old_refused is True
    with pytest.raises(NotDue):
        engine.rotate(secret, only_if_due=True)
    assert sandbox.rotations is not None
    assert sandbox.rotations() == 1


def test_a_secret_that_its_owner_rotated_is_not_rotated_again():
    """It is written down, and its own age decides when it is due next."""
    sandbox = delegated_sandbox()
    engine, secret = _engine(sandbox), _secret(sandbox, Policy(every=_DAY))
    engine.adopt(secret)
    sandbox.clock.advance(2 * _DAY)
    assert sandbox.rotate_by_itself is not None
    sandbox.rotate_by_itself()
    with pytest.raises(NotDue, match="rotated automatically"):
        engine.rotate(secret, only_if_due=True)
    assert sandbox.rotations is not None
    assert sandbox.rotations() == 1
    record = sandbox.journal.secret(sandbox.secret)
    assert record is not None
    assert record.next_due == sandbox.clock.now() + _DAY


def test_an_old_credential_that_is_still_accepted_is_an_error():
    """It was rotated and written down; an operator must know that it is still valid."""
    sandbox = delegated_sandbox()
    fake = sandbox.backend
    assert isinstance(fake, FakeEngine)

    class Trusting(FakeDelegatedRotation):
        def probe(self, credential, ctx):
            return credential.password.reveal().startswith("password-")

    secret = replace(_secret(sandbox, Policy()), rotation=Trusting(fake))
    result = _engine(sandbox).rotate(secret)
    assert (result.outcome, result.version) == (Outcome.PARKED, "1")
    assert isinstance(result.error, Denied)
    assert "still accepted" in result.error.what
    assert "The application is safe" in result.error.safety
    record = sandbox.journal.secret(sandbox.secret)
    assert record is not None
    assert (record.version, "still accepted" in (record.parked or "")) == ("1", True)


@pytest.mark.parametrize("mode", list(Mode))
def test_an_incident_is_rejected_with_the_command_that_works(mode: Mode):
    """A rotation of rotator's own could not end, and would be in the way of the owner's."""
    sandbox = delegated_sandbox()
    engine, secret = _engine(sandbox), _secret(sandbox, Policy(every=_DAY))
    engine.adopt(secret)
    before = sandbox.journal.events(sandbox.secret)
    with pytest.raises(UsageError, match="another system rotates") as error:
        engine.open_incident(secret, LeakReport(id="INC-1", reason="x", mode=mode))
    assert f"rotator rotate {sandbox.secret} --reason 'WHY'" in error.value.hint
    assert sandbox.journal.events(sandbox.secret) == before
    assert engine.rotate(secret).old_refused is True


# -- operators -------------------------------------------------------------------------------------


class _Slow(FakeEngine):
    """Is asked at one time and rotates at another, as a function does that AWS calls."""

    asked: list[str]

    def __init__(self) -> None:
        super().__init__()
        self.asked = []

    def request_rotation(self, path: str, rotation_id: str, *, expect: str | None) -> str:
        self.asked.append(rotation_id)
        return str(self.kept[0] + (str(self.kept[0]) == expect))


@dataclass(kw_only=True)
class _Place:
    """A secret whose owner was asked, and has not rotated it yet."""

    sandbox: Sandbox
    owner: _Slow
    engine: Engine
    secret: ManagedSecret

    @property
    def record(self) -> SecretRecord:
        record = self.sandbox.journal.secret(self.sandbox.secret)
        assert record is not None
        return record

    @property
    def steps(self) -> list[Step]:
        """The steps that have succeeded."""
        events = self.sandbox.journal.events(self.sandbox.secret)
        return [one.step for one in events if one.kind is Kind.FINISHED and one.step is not None]

    def changes_nothing(self) -> Callable[[], bool]:
        before = self.sandbox.journal.events(self.sandbox.secret), len(self.owner.asked)
        return lambda: (
            (
                self.sandbox.journal.events(self.sandbox.secret),
                len(self.owner.asked),
            )
            == before
        )


@pytest.fixture
def asked() -> _Place:
    owner = _Slow()
    sandbox = delegated_sandbox(owner)
    engine, secret = _engine(sandbox), _secret(sandbox, Policy(every=_DAY))
    engine.adopt(secret)
    result = engine.rotate(secret)
    assert (result.outcome, result.by, result.step) == (None, "engine", Step.AWAIT)
    assert "was asked to rotate it" in result.waiting
    return _Place(sandbox=sandbox, owner=owner, engine=engine, secret=secret)


def test_a_rotation_that_takes_its_time_is_one_rotation(asked: _Place):
    """Each look goes on with the same request, and the journal has one history of it."""
    assert asked.engine.resume(asked.secret) is not None
    asked.owner.rotate()
    result = asked.engine.rotate(asked.secret)
    assert (result.outcome, result.version, result.old_refused) == (Outcome.DONE, "1", None)
    assert len(asked.owner.asked) == 1
    (rotation,) = asked.sandbox.journal.rotations(asked.sandbox.secret)
    assert (rotation.outcome, rotation.new_version, rotation.old_login) == (
        *(Outcome.DONE, "1"),
        "app",
    )
    assert asked.steps == [Step.CHECK, Step.REQUEST, Step.AWAIT, Step.PROVE, Step.REVOKE]


def test_looks_that_find_nothing_new_are_not_recorded(asked: _Place):
    """An hour of them is a hundred requests at most, and no more than the policy has tries."""
    nothing = asked.changes_nothing()
    for _ in range(5):
        assert asked.engine.resume(asked.secret) is not None
    assert nothing()
    while (result := asked.engine.resume(asked.secret)) is not None and result.until is not None:
        asked.sandbox.clock.at = max(asked.sandbox.clock.at, result.until)
    policy = asked.secret.policy
    assert len(asked.owner.asked) == policy.attempts * policy.cycles
    assert "was asked to rotate it" in (asked.record.parked or "")


def test_the_lease_is_free_while_another_system_is_waited_for(asked: _Place):
    """Its function may keep the same journal: it works, and the call goes on afterwards."""

    class Function(ManualClock):
        def sleep(self, seconds: float) -> None:
            asked.sandbox.clock.advance(timedelta(seconds=seconds))
            self.at = asked.sandbox.clock.at
            lock = asked.sandbox.journal.acquire(asked.sandbox.secret, "function", _DAY)
            asked.owner.rotate()
            asked.sandbox.journal.release(lock)

    asked.engine = _engine(asked.sandbox, Function(asked.sandbox.clock.at))
    result = asked.engine.rotate(asked.secret, patience=_DAY)
    assert (result.outcome, asked.owner.rotations) == (Outcome.DONE, 1)


def test_a_function_that_keeps_the_same_journal_goes_on_with_the_request():
    """What was asked for is the rotation that it leads: the request ends, and is not rotated twice."""
    sandbox, led = delegated_sandbox(_Slow()), EngineSandbox(policy=Policy())
    engine = _engine(sandbox)
    secret = replace(_secret(sandbox, Policy()), name="app")
    led.journal = sandbox.journal  # type: ignore[assignment]
    led.engine = led.process()
    led.write_by_hand(led.handed_over())
    engine.adopt(secret)
    first = engine.rotate(secret)
    result = led.engine.advance(led.secret, rotation_id="token", to=Step.PUBLISH)
    assert result.rotation_id == "token"
    request = sandbox.journal.rotation(first.rotation_id or "")
    assert request is not None
    assert (request.outcome, led.opened.id) == (Outcome.DONE, "token")


@pytest.mark.parametrize("verb", ["roll back", "revoke"])
@pytest.mark.parametrize("opened", [True, False])
def test_what_only_the_owner_can_do_is_refused_before_anything(
    asked: _Place, verb: str, *, opened: bool
):
    """Nobody keeps the credential before, also not once the rotation is over."""
    if not opened:
        asked.owner.rotate()
        asked.engine.resume(asked.secret)
    nothing = asked.changes_nothing()
    act = asked.engine.rollback if verb == "roll back" else asked.engine.revoke
    with pytest.raises(UsageError, match=f"there is nothing to {verb}") as error:
        act(asked.secret)
    assert ("rotator resume app" if opened else "rotator rotate app") in error.value.hint
    assert error.value.safety == "Nothing was changed."
    assert nothing()


def test_a_secret_is_renamed_once_its_rotation_is_over(asked: _Place):
    """Until then the error names the command that completes it."""
    renamed = replace(asked.secret, name="orders")
    nothing = asked.changes_nothing()
    with pytest.raises(UsageError, match="still open") as error:
        asked.engine.rename("app", renamed)
    assert error.value.hint == "Complete it first: rotator resume app"
    assert nothing()
    asked.owner.rotate()
    asked.engine.resume(asked.secret)
    asked.engine.rename("app", renamed)
    result = asked.engine.rotate(renamed)
    assert result.rotation_id is not None
    assert result.waiting


def test_a_secret_whose_owner_never_rotates_it_can_be_retired(asked: _Place):
    """What was requested is left to the owner, and the journal says so."""
    retired = asked.engine.retire(asked.secret, Retirement(reason="switched off"))
    assert retired.still_open is None
    (rotation,) = asked.sandbox.journal.rotations(asked.sandbox.secret)
    assert rotation.outcome is Outcome.UNDONE
    ended = next(
        one for one in asked.sandbox.journal.history(rotation.id) if one.kind is Kind.ENDED
    )
    assert "engine may still rotate it" in str(ended.data["what"])
    assert asked.record.retired == "switched off"


def test_a_version_that_is_taken_over_ends_the_wait(asked: _Place):
    """Somebody has had it rotated otherwise; what is served is proven as usual."""
    asked.owner.kept = (7, "password-0")
    asked.engine.adopt(asked.secret)
    result = asked.engine.resume(asked.secret)
    assert result is not None
    assert (result.outcome, result.version) == (Outcome.DONE, "7")
    assert asked.steps[-2:] == [Step.PROVE, Step.REVOKE]


def test_a_parked_rotation_of_another_system_goes_on_once_it_is_unparked(asked: _Place):
    """Meanwhile nobody is asked."""
    asked.engine.park(asked.secret, reason="a freeze")
    nothing = asked.changes_nothing()
    with pytest.raises(Parked):
        asked.engine.rotate(asked.secret)
    assert nothing()
    asked.engine.unpark(asked.secret, reason="it is over")
    asked.owner.rotate()
    result = asked.engine.resume(asked.secret)
    assert result is not None
    assert result.outcome is Outcome.DONE


def test_a_plan_shows_each_step_of_another_system(asked: _Place):
    """In the order of the state machine."""
    asked.owner.rotate()
    asked.engine.resume(asked.secret)
    plan = asked.engine.plan(asked.secret)
    assert [one.step for one in plan.steps] == list(DELEGATED)
