"""An incident beside other rotations, other incidents and other writers of the same secret."""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from rotator.core.consumers import Consumer, Gate
from rotator.core.errors import Unavailable, UsageError
from rotator.core.history import MAPPED, OPEN, PROVEN
from rotator.core.incident_timeline import timelines
from rotator.core.model import Credential, Kind
from rotator.core.secret import Secret
from rotator.dispatch.worker import notice_of
from rotator.engine import LeakReport, Mode
from rotator.testing.fake_backend import FakeBackend
from rotator.testing.fake_target import FakeAddress
from tests.engine.sandboxes import DAY, HOUR, EngineSandbox, fail_next

if TYPE_CHECKING:
    from rotator.core.model import Version

STRATEGIES = ("new-user", "alternating-users", "single-user", "dual-password")
KILL = LeakReport(id="INC-1", reason="found in a paste", mode=Mode.KILL)
MOVE = replace(KILL, mode=Mode.MOVE, within=timedelta(minutes=10))


class KeepingBackend(FakeBackend):
    """A backend that keeps every version, as most do for some time."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, Version] = {}

    def current(self, path: str) -> Version | None:
        version = super().current(path)
        if version is not None:
            self.seen[version.id] = version
        return version

    def read(self, path: str, version: str) -> Version | None:
        return super().read(path, version) or self.seen.get(version)


def sandbox(
    strategy: str, *, rotations: int = 1, backend: FakeBackend | None = None
) -> EngineSandbox:
    """Return a secret whose newest rotation has ended."""
    made = EngineSandbox(strategy, backend=backend or KeepingBackend())
    for _ in range(rotations):
        rotate(made)
    return made


def rotate(made: EngineSandbox) -> None:
    """Rotate once, through the grace period."""
    made.engine.rotate(made.secret)
    made.clock.advance(2 * HOUR)
    made.engine.resume(made.secret)
    assert made.record.open_rotation is None


def contained(made: EngineSandbox, report: LeakReport) -> Credential:
    """Return a leaked credential whose incident is proven."""
    leaked = made.served
    made.engine.open_incident(made.secret, report)
    proof = made.engine.contain(made.secret).proof
    assert proof is not None
    assert proof.ok, proof.unproven
    made.clock.advance(DAY)
    return leaked


# -- rotations after it ----------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_proof_leaves_the_grace_period_of_a_later_rotation_alone(strategy: str):
    """For 30 days the proofs fall into grace periods that have nothing to do with the leak."""
    made = sandbox(strategy)
    _ = contained(made, KILL)
    old = made.served
    made.engine.rotate(made.secret)
    made.target.open_session(old.username)
    before = made.accepts(old), made.target.sessions(old.username), made.record.open_rotation
    proof = made.engine.contain(made.secret).proof
    after = made.accepts(old), made.target.sessions(old.username), made.record.open_rotation
    assert after == before
    assert proof is not None
    assert proof.ok, proof.unproven


@pytest.mark.parametrize("report", [KILL, MOVE])
def test_sessions_of_a_login_that_takes_its_turn_again_count_as_later(report: LeakReport):
    """The password of the pair's login is a new one: its sessions did not begin with the leaked one."""
    made = sandbox("alternating-users")
    leaked = contained(made, report)
    rotate(made)
    assert made.served.username == leaked.username
    made.target.open_session(leaked.username)
    for in_grace in (False, True):
        if in_grace:
            made.engine.rotate(made.secret)
        proof = made.engine.contain(made.secret).proof
        assert proof is not None
        assert proof.ok, proof.unproven
        assert made.target.sessions(leaked.username)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_watch_ends_where_the_backend_forgets_the_leaked_version(strategy: str):
    """One notice, and no return that never was: nothing is left to try."""
    made = sandbox(strategy, backend=FakeBackend())
    _ = contained(made, KILL)
    rotate(made)
    proof = made.engine.contain(made.secret).proof
    assert proof is not None
    assert "no longer holds the leaked version" in proof.unproven[0]
    assert (proof.closed, made.record.incident) == (True, None)
    assert made.last.kind is Kind.INCIDENT_CLOSED
    assert made.last.data["proven"] is True
    (line,) = timelines(made.journal.events("app"))
    assert line.resurrections == 0


def test_an_address_that_is_away_is_no_return_of_the_password():
    """The receipt would say that it came back."""
    made = sandbox("new-user")
    _ = contained(made, KILL)
    made.target.addresses["replica:5432"] = FakeAddress(away=True)
    proof = made.engine.contain(made.secret).proof
    assert proof is not None
    assert not proof.ok
    (line,) = timelines(made.journal.events("app"))
    assert line.resurrections == 0


# -- decisions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_move_becomes_kill_while_it_waits_for_consumers(strategy: str):
    """The wait ends at once, with the sessions."""
    made = sandbox(strategy)
    made.target.open_session(made.served.username)
    made.consumers = (Consumer(name="web", instances=1, gate=Gate.HOLD, wait=HOUR),)
    leaked = made.served
    made.engine.open_incident(made.secret, MOVE)
    _ = made.engine.contain(made.secret)
    made.engine.open_incident(made.secret, replace(KILL, version=made.record.leaked_version))
    proof = made.engine.contain(made.secret).proof
    assert proof is not None
    assert proof.ok, proof.unproven
    assert not made.accepts(leaked)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_move_becomes_kill_while_its_backend_is_away(strategy: str):
    """The rotation that `move` began fences after all."""
    made = sandbox(strategy)
    leaked = made.served
    made.engine.open_incident(made.secret, MOVE)
    _ = fail_next(made.backend, "stage", *[Unavailable("it is away.")] * 9)
    assert made.engine.contain(made.secret).proof is None
    assert made.accepts(leaked)
    made.engine.open_incident(made.secret, replace(KILL, version=made.record.leaked_version))
    assert made.engine.contain(made.secret).proof is None
    assert not made.accepts(leaked)


def test_a_report_with_the_same_id_does_not_slow_a_kill_down():
    """An operator who repeats the command without `--mode` means no other mode."""
    made = sandbox("new-user")
    leaked = made.served
    made.engine.open_incident(made.secret, KILL)
    _ = fail_next(made.backend, "stage", Unavailable("it is away."))
    assert made.engine.contain(made.secret).proof is None
    made.engine.open_incident(made.secret, replace(MOVE, within=HOUR))
    made.consumers = (Consumer(name="web", instances=1, gate=Gate.HOLD, wait=HOUR),)
    proof = made.engine.contain(made.secret).proof
    assert proof is not None
    assert proof.ok, proof.unproven
    assert not made.accepts(leaked)


def test_a_decision_is_not_taken_back_by_a_report_that_only_records():
    """As a scanner's that runs again with the same id."""
    made = sandbox("new-user")
    record = replace(KILL, mode=Mode.MAP, version=made.record.version)
    made.engine.open_incident(made.secret, record)
    made.engine.open_incident(made.secret, record)
    assert made.record.incident_state == MAPPED
    made.engine.open_incident(made.secret, KILL)
    with pytest.raises(UsageError, match="is in incident INC-1 already"):
        made.engine.open_incident(made.secret, record)
    assert made.record.incident_state == OPEN
    _ = made.engine.contain(made.secret)
    with pytest.raises(UsageError, match="is in incident INC-1 already"):
        made.engine.open_incident(made.secret, record)
    assert made.record.incident_state == PROVEN


# -- other incidents -------------------------------------------------------------------------------


@pytest.mark.parametrize("id_", ["INC-1", "INC-2"])
@pytest.mark.parametrize("mode", [Mode.MAP, Mode.MOVE])
def test_a_report_of_an_older_version_does_not_hide_that_the_served_one_leaked(
    mode: Mode, id_: str
):
    """Else the older one is proven dead, and nobody replaces the one that is served."""
    made = sandbox("new-user", rotations=2)
    leaked = made.served
    older = made.journal.rotations("app", 10)[-1].new_version
    made.engine.open_incident(made.secret, replace(MOVE, mode=mode))
    with pytest.raises(UsageError, match="is still served") as error:
        made.engine.open_incident(made.secret, replace(KILL, id=id_, version=older))
    assert "rotator incident resume app" in error.value.hint
    made.engine.open_incident(made.secret, KILL)
    _ = made.engine.contain(made.secret)
    assert not made.accepts(leaked)
    made.engine.open_incident(made.secret, replace(KILL, id=id_, version=older))
    proof = made.engine.contain(made.secret).proof
    assert proof is not None
    assert proof.ok, proof.unproven


def test_the_id_of_a_closed_incident_is_not_used_again():
    """The two would be one in the receipt, with the times of the first."""
    made = sandbox("new-user")
    _ = contained(made, KILL)
    made.engine.close_incident(made.secret, reason="over")
    with pytest.raises(UsageError, match="was in incident INC-1 before") as error:
        made.engine.open_incident(made.secret, KILL)
    assert "rotator incident reopen app --reason 'WHY'" in error.value.hint
    made.engine.open_incident(made.secret, replace(KILL, id="INC-2"))
    assert made.record.incident == "INC-2"


def test_the_hint_for_a_second_leak_names_the_served_version():
    """So it can be pasted."""
    made = sandbox("new-user")
    _ = contained(made, KILL)
    with pytest.raises(UsageError, match="is in incident INC-1 already") as error:
        made.engine.open_incident(made.secret, replace(KILL, id="INC-2"))
    assert f"--version {made.record.version}" in error.value.hint
    again = replace(KILL, id="INC-2", version=made.record.version)
    made.engine.open_incident(made.secret, again)
    assert made.record.leaked_version == made.record.version


# -- other writers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("login", [None, "other"])
def test_a_password_that_somebody_wrote_to_the_backend_is_never_set_on_the_target(
    strategy: str, login: str | None
):
    """A leaked password that comes back is replaced by the version that rotator published, or by none."""
    made = sandbox(strategy)
    leaked = made.served
    kept = copy.deepcopy(made.target.accounts[leaked.username])
    made.engine.open_incident(made.secret, KILL)
    _ = made.engine.contain(made.secret)
    made.target.accounts[leaked.username] = kept
    before = made.target.state()
    theirs = Credential(username=login or made.served.username, password=Secret("of-a-stranger"))
    _ = made.write_by_hand(theirs)
    made.clock.advance(HOUR)
    proof = made.engine.contain(made.secret).proof
    assert proof is not None
    assert not proof.ok
    assert not made.accepts(theirs)
    assert made.target.state() == before


# -- what cannot be tried any more -----------------------------------------------------------------


def _lost(strategy: str = "new-user") -> EngineSandbox:
    """Return a secret whose incident is not proven, and whose leaked version the backend has forgotten."""
    made = sandbox(strategy, backend=FakeBackend())
    made.target.addresses["replica:5432"] = FakeAddress(away=True)
    made.engine.open_incident(made.secret, KILL)
    _ = made.engine.contain(made.secret)
    made.backend.read = lambda _path, _version: None  # type: ignore[method-assign]
    return made


def test_a_forgotten_version_that_was_never_proven_is_not_tried_for_ever():
    """After a day the attempts end; the incident stays open, and its notice names the command that closes it."""
    made = _lost()
    tries, proof = 0, made.engine.contain(made.secret).proof
    while proof is not None and proof.next is not None and tries < 100:
        tries += 1
        made.clock.advance(proof.next - made.clock.now())
        proof = made.engine.contain(made.secret).proof
    assert proof is not None
    assert proof.next is None
    assert not proof.closed
    assert tries < 50
    assert (made.record.incident_state, made.record.prove_at) == (OPEN, None)
    assert made.journal.watched() == []
    assert notice_of(made.last) is not None
    assert made.last.data["hint"] == "rotator incident close app --reason 'WHY'"


def test_a_forgotten_version_is_tried_again_on_an_operators_word():
    """As where the backend holds it again."""
    made = _lost()
    made.clock.advance(2 * DAY)
    assert made.engine.contain(made.secret).proof is not None
    assert made.record.prove_at is None
    del made.backend.read
    del made.target.addresses["replica:5432"]
    proof = made.engine.contain(made.secret).proof
    assert proof is not None
    assert proof.ok, proof.unproven
    assert made.record.prove_at is not None
