"""A password has leaked: it is replaced, and proven dead wherever its login is accepted."""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import timedelta

import pytest

from rotator.core.consumers import Consumer, Gate, InstanceKind, Level, Report
from rotator.core.daemon_settings import Topic
from rotator.core.errors import Denied, NotDue, Transient, Unavailable, UsageError
from rotator.core.history import PROVEN
from rotator.core.incident_timeline import timelines
from rotator.core.model import Kind, Outcome, Step
from rotator.core.secret import Secret
from rotator.core.session import Session
from rotator.dispatch.worker import topic_of
from rotator.engine import Leaked, LeakReport, Mode
from rotator.engine.incident import WATCHED
from rotator.testing.fake_target import FakeAddress
from tests.engine.sandboxes import DAY, HOUR, EngineSandbox, fail_next

STRATEGIES = ("new-user", "alternating-users", "single-user", "dual-password")
KILL = LeakReport(id="INC-1", reason="found in a paste", mode=Mode.KILL)
MOVE = replace(KILL, mode=Mode.MOVE, within=timedelta(minutes=10))


def sandbox(strategy: str = "new-user", *, rotations: int = 1) -> EngineSandbox:
    """Return a secret whose newest rotation has ended."""
    made = EngineSandbox(strategy)
    for _ in range(rotations):
        made.engine.rotate(made.secret)
        made.clock.advance(2 * HOUR)
        made.engine.resume(made.secret)
    assert made.record.open_rotation is None
    return made


def fail_step(made: EngineSandbox, step: Step, error: Exception) -> list[int]:
    """Let a step fail once."""
    of_backend = step in (Step.STAGE, Step.PUBLISH)
    return fail_next(made.backend if of_backend else made.rotation, step.value, error)


@pytest.mark.parametrize("mode", [KILL, MOVE])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_leaked_password_is_dead_and_the_served_one_is_not(strategy: str, mode: LeakReport):
    """In one call, whatever the strategy, without its grace period."""
    made = sandbox(strategy)
    leaked = made.served
    made.engine.open_incident(made.secret, mode)
    done = made.engine.contain(made.secret)
    assert done.proof is not None, done
    assert done.proof.ok, done.proof.unproven
    assert not made.accepts(leaked)
    assert made.accepts(made.served)
    assert made.target.violations == []
    assert (made.record.incident_state, made.record.open_rotation) == (PROVEN, None)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_sessions_from_before_are_ended(strategy: str):
    """A session that began with the leaked password would work on."""
    made = sandbox(strategy)
    login = made.served.username
    made.target.accounts[login].began = [made.target.moment(), made.target.moment()]
    made.engine.open_incident(made.secret, KILL)
    done = made.engine.contain(made.secret)
    assert done.proof is not None
    assert done.proof.ok, done.proof.unproven
    assert done.proof.sessions == 0
    assert not made.target.sessions(login)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_kill_needs_no_backend_to_make_the_password_invalid(strategy: str):
    """A backend that is away delays the new credential, not the end of the leaked one."""
    made = sandbox(strategy)
    leaked = made.served
    made.engine.open_incident(made.secret, KILL)
    works = made.backend.current, made.backend.staged
    for call in ("current", "staged"):
        _ = fail_next(made.backend, call, *[Unavailable("it is away.")] * 100)
    done = made.engine.contain(made.secret)
    assert done.proof is None
    assert not made.accepts(leaked)
    made.backend.current, made.backend.staged = works  # type: ignore[method-assign]
    made.clock.advance(HOUR)
    done = made.process().contain(made.secret)
    assert done.proof is not None
    assert done.proof.ok, done.proof.unproven
    assert made.accepts(made.served)


@pytest.mark.parametrize("step", [Step.STAGE, Step.CREATE, Step.VERIFY, Step.PUBLISH])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_failure_never_makes_the_leaked_password_valid_again(strategy: str, step: Step):
    """Where a rotation would be undone, an incident goes on forward or waits for an operator."""
    made = sandbox(strategy)
    leaked = made.served
    made.engine.open_incident(made.secret, KILL)
    for error in (Transient, Denied):
        _ = fail_step(made, step, error("it failed."))
        done = made.engine.contain(made.secret)
        assert not made.accepts(leaked), done
        made.clock.advance(HOUR)
    if made.record.parked is not None:
        made.engine.unpark(made.secret, reason="mended")
    done = made.engine.contain(made.secret)
    assert done.proof is not None
    assert done.proof.ok
    assert made.accepts(made.served)


def test_move_waits_for_declared_consumers_no_longer_than_it_may():
    """Whatever their gate is: the time is the operator's."""
    made = sandbox()
    made.consumers = (Consumer(name="web", instances=1, gate=Gate.OFF, wait=HOUR),)
    leaked = made.served
    made.engine.open_incident(made.secret, MOVE)
    done = made.engine.contain(made.secret)
    assert (done.proof, done.waiting) == (None, "consumers have not confirmed the new version")
    assert made.accepts(leaked)
    made.clock.advance(timedelta(minutes=11))
    done = made.engine.contain(made.secret)
    assert done.proof is not None
    assert done.proof.ok
    assert not made.accepts(leaked)


def test_move_goes_on_as_soon_as_its_consumers_have_moved():
    """Nobody waits for a clock."""
    made = sandbox()
    made.consumers = (Consumer(name="web", instances=1, gate=Gate.OFF, wait=HOUR),)
    made.engine.open_incident(made.secret, MOVE)
    assert made.engine.contain(made.secret).proof is None
    version = made.record.version
    assert version is not None
    report = Report(
        secret="app",
        consumer="web",
        instance="web-1",
        kind=InstanceKind.CLIENT,
        version=version,
        level=Level.USED,
    )
    assert made.registry is not None
    _ = made.registry.report([report])
    made.clock.advance(timedelta(seconds=3))
    done = made.engine.contain(made.secret)
    assert done.proof is not None
    assert done.proof.ok


@pytest.mark.parametrize(("listed", "proven"), [(3, True), (1_000, False)])
def test_a_session_may_stay_listed_for_a_moment_after_its_end(
    listed: int,
    proven: bool,  # noqa: FBT001 # pytest passes it
    monkeypatch: pytest.MonkeyPatch,
):
    """A proof waits a second for it, and no longer."""
    made = sandbox()
    leaked = made.served
    made.engine.open_incident(made.secret, KILL)
    made.engine.contain(made.secret)
    left = iter([[Session(login=leaked.username, client="gone")]] * listed)
    monkeypatch.setattr(made.rotation, "sessions", lambda _login, _ctx: next(left, []))
    made.clock.advance(timedelta(minutes=3))
    before = made.clock.now()
    done = made.engine.contain(made.secret)
    assert done.proof is not None
    assert done.proof.ok is proven, done.proof.unproven
    assert made.clock.now() - before <= timedelta(seconds=2)


def test_move_ends_sessions_that_stay_too_long():
    """Else a pool would keep the old login alive."""
    made = sandbox()
    login = made.served.username
    made.target.accounts[login].began = [made.target.moment()]
    made.engine.open_incident(made.secret, MOVE)
    assert made.engine.contain(made.secret).proof is None
    made.clock.advance(timedelta(minutes=11))
    done = made.engine.contain(made.secret)
    assert done.proof is not None
    assert done.proof.ok, done.proof.unproven


@pytest.mark.parametrize("mode", [KILL, MOVE])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_secret_in_its_grace_period_is_taken_over(strategy: str, mode: LeakReport):
    """The one that is served leaked: that one dies, and so does the older one."""
    made = sandbox(strategy)
    older = made.served
    made.engine.rotate(made.secret)
    leaked = made.served
    made.engine.open_incident(made.secret, mode)
    done = made.engine.contain(made.secret)
    assert done.proof is not None
    assert done.proof.ok, done.proof.unproven
    assert not made.accepts(leaked)
    assert not made.accepts(older)
    assert made.accepts(made.served)
    assert made.served.password != leaked.password


def test_only_the_previous_one_dies_where_only_that_leaked():
    """What is served stays served: nobody is troubled."""
    made = sandbox()
    older, version = made.served, made.record.version
    made.engine.rotate(made.secret)
    served = made.served
    found = made.engine.find_version(made.secret, Secret(older.password.reveal()))
    assert found == version
    assert made.engine.exposure(made.secret, found).leaked is Leaked.PREVIOUS
    made.engine.open_incident(made.secret, replace(KILL, version=found))
    done = made.engine.contain(made.secret)
    assert done.proof is not None
    assert done.proof.ok, done.proof.unproven
    assert (made.served, made.accepts(older)) == (served, False)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("step", [Step.STAGE, Step.CREATE, Step.VERIFY])
def test_an_unfinished_rotation_is_taken_over(strategy: str, step: Step):
    """Its new credential has not leaked, so it becomes the replacement."""
    made = sandbox(strategy)
    leaked = made.served
    _ = fail_step(made, step, Unavailable("away."))
    made.engine.rotate(made.secret)
    made.engine.open_incident(made.secret, KILL)
    done = made.engine.contain(made.secret)
    assert done.proof is not None
    assert done.proof.ok, done.proof.unproven
    assert not made.accepts(leaked)
    assert made.accepts(made.served)


def test_a_parked_secret_is_taken_over():
    """The report of a leak counts as an operator's look."""
    made = sandbox()
    leaked = made.served
    made.engine.park(made.secret, reason="holiday")
    made.engine.open_incident(made.secret, KILL)
    done = made.engine.contain(made.secret)
    assert done.proof is not None
    assert done.proof.ok
    assert not made.accepts(leaked)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (FakeAddress(trusts=True), "accepts any password"),
        (FakeAddress(away=True), "could not be tried"),
    ],
)
def test_an_address_that_proves_nothing_is_named(address: FakeAddress, said: str):
    """It is never proven while one address is unknown, or asks for no password."""
    made = sandbox()
    made.target.addresses["pooler:6432"] = address
    made.engine.open_incident(made.secret, KILL)
    done = made.engine.contain(made.secret)
    assert done.proof is not None
    assert not done.proof.ok
    assert any("pooler:6432" in one and said in one for one in done.proof.unproven)
    assert made.record.incident_state == "open"
    del made.target.addresses["pooler:6432"]
    assert made.engine.contain(made.secret).proof is not None
    assert made.record.incident_state == PROVEN


def test_a_pooler_that_has_kept_the_password_is_found():
    """It accepts what the server itself rejects."""
    made = sandbox()
    made.target.addresses["pooler:6432"] = FakeAddress(kept={made.served.password.reveal()})
    made.engine.open_incident(made.secret, KILL)
    done = made.engine.contain(made.secret)
    assert done.proof is not None
    assert "pooler:6432 still accepts the leaked password." in done.proof.unproven


def test_it_is_proven_again_after_minutes_an_hour_a_day_and_each_day_for_a_month():
    """Then the incident is closed."""
    made = sandbox()
    made.engine.open_incident(made.secret, KILL)
    begun = made.record.incident_at
    assert begun is not None
    waits, proof = list[timedelta](), made.engine.contain(made.secret).proof
    while proof is not None and proof.next is not None:
        waits.append(proof.next - begun)
        made.clock.advance(proof.next - made.clock.now())
        proof = made.engine.contain(made.secret).proof
    assert proof is not None
    assert proof.closed
    assert waits[:3] == [timedelta(minutes=2), HOUR, DAY]
    assert WATCHED <= waits[-1] <= WATCHED + DAY
    assert made.record.incident is None


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_password_that_comes_back_is_made_invalid_again(strategy: str):
    """As after the restore of a snapshot: the incident opens again until it is rejected."""
    made = sandbox(strategy)
    leaked = made.served
    kept = copy.deepcopy(made.target.accounts[leaked.username])
    made.engine.open_incident(made.secret, KILL)
    _ = made.engine.contain(made.secret)
    served = made.served
    made.target.accounts[leaked.username] = kept
    kept.began = [made.target.moment()]
    assert made.accepts(leaked)
    made.clock.advance(HOUR)
    done = made.engine.contain(made.secret)
    assert done.revoked == (leaked.username,)
    assert done.proof is not None
    assert done.proof.ok, done.proof.unproven
    assert (made.accepts(leaked), made.accepts(made.served), made.served) == (False, True, served)
    assert not made.target.sessions(leaked.username)
    assert made.target.violations == []
    (line,) = timelines(made.journal.events("app"))
    assert line.resurrections == 1
    told = [one for one in made.journal.events("app") if one.kind in (Kind.LEAKED, Kind.PROVEN)]
    heard = [topic_of(one.kind, one.data) for one in told if one.rotation_id is None]
    opened, proven = Topic.INCIDENT_OPENED, Topic.INCIDENT_PROVEN
    assert heard == [opened, proven, opened, proven]


def test_a_password_that_comes_back_and_stays_is_named():
    """Where the target cannot be changed: an operator gets the notice."""
    made = sandbox("single-user")
    leaked = made.served
    made.engine.open_incident(made.secret, KILL)
    _ = made.engine.contain(made.secret)
    made.target.accounts[leaked.username].passwords = [leaked.password.reveal()]
    made.clock.advance(HOUR)
    _ = fail_next(made.rotation, "create", Denied("it is not allowed."))
    done = made.engine.contain(made.secret)
    assert done.proof is not None
    assert not done.proof.ok
    assert made.record.incident_state == "open"


def test_bad_reports_are_rejected_and_change_nothing():
    """With what to do instead."""
    made = EngineSandbox()
    with pytest.raises(UsageError, match="not under management"):
        made.engine.open_incident(made.secret, KILL)
    made = sandbox()
    before = made.everything()
    with pytest.raises(UsageError, match="knows no version '99'"):
        made.engine.open_incident(made.secret, replace(KILL, version="99"))
    with pytest.raises(UsageError, match="no incident"):
        made.engine.contain(made.secret)
    with pytest.raises(UsageError, match="no incident"):
        made.engine.close_incident(made.secret, reason="x")
    assert made.everything() == before


def test_a_closed_incident_is_no_longer_watched():
    """An operator's word ends it, and the journal keeps whether it was proven."""
    made = sandbox()
    made.engine.open_incident(made.secret, KILL)
    _ = made.engine.contain(made.secret)
    made.engine.close_incident(made.secret, reason="done")
    assert made.record.incident is None
    assert made.last.data["proven"] is True


def test_the_other_rotations_go_on_as_before():
    """After an incident the grace period counts again."""
    made = sandbox()
    made.engine.open_incident(made.secret, KILL)
    _ = made.engine.contain(made.secret)
    old = made.served
    assert made.engine.rotate(made.secret).outcome is None
    assert made.accepts(old)
    with pytest.raises(NotDue):
        made.engine.rotate(made.secret)
    made.clock.advance(2 * HOUR)
    result = made.engine.resume(made.secret)
    assert result is not None
    assert result.outcome is Outcome.DONE
