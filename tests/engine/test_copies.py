"""A secret that is kept in two places: both hold the new credential before the old one goes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from rotator.core.errors import Conflict, Transient
from rotator.core.model import Credential, Kind, Outcome, Policy, Step
from rotator.core.secret import Secret
from rotator.engine import Copy
from rotator.testing.fake_backend import FakeBackend
from tests.engine.sandboxes import HOUR, EngineSandbox


class _SandboxWithCopy(EngineSandbox):
    def __init__(self) -> None:
        self.other = FakeBackend()
        copy = Copy(backend_name="other", backend=self.other, path="team/app")
        super().__init__(policy=Policy(grace=HOUR, attempts=1, cycles=1), copies=(copy,))

    def copied(self) -> Credential:
        found = self.other.current("team/app")
        assert found is not None
        return found.credential

    def put(self, username: str, password: str, **fields: object) -> None:
        given = Credential(username=username, password=Secret(password), fields=fields)
        self.other.written_by_a_stranger("team/app", given)


@pytest.fixture
def sandbox() -> _SandboxWithCopy:
    return _SandboxWithCopy()


def test_the_copy_holds_what_was_published(sandbox: _SandboxWithCopy):
    """Already after the first rotation, and again after the second."""
    for _ in range(2):
        sandbox.engine.rotate(sandbox.secret, patience=timedelta(days=1))
        assert sandbox.copied().password == sandbox.served.password
        assert sandbox.copied().username == sandbox.served.username


def test_what_a_copy_holds_beside_login_and_password_stays(sandbox: _SandboxWithCopy):
    """Another network may need another host."""
    sandbox.engine.rotate(sandbox.secret)
    first = sandbox.copied()
    sandbox.put(first.username, first.password.reveal(), host="10.0.0.1")
    sandbox.engine.rotate(sandbox.secret, patience=timedelta(days=1))
    assert sandbox.copied().password == sandbox.served.password
    assert sandbox.copied().fields["host"] == "10.0.0.1"


def test_a_foreign_credential_where_a_copy_belongs_stops_the_rotation_before_it_begins(
    sandbox: _SandboxWithCopy,
):
    """A path that is mistyped must not cost anybody a password."""
    sandbox.put("payroll", "theirs")
    result = sandbox.engine.rotate(sandbox.secret)
    assert result.outcome is Outcome.UNDONE
    assert result.error is not None
    assert result.error.kind == Conflict.kind
    assert "'payroll'" in result.error.what
    assert sandbox.copied().password.reveal() == "theirs"
    assert sandbox.target.accounts == {}


def test_a_copy_that_fails_keeps_the_old_credential_valid(sandbox: _SandboxWithCopy):
    """Until somebody has mended it; then the rotation goes on."""
    sandbox.engine.rotate(sandbox.secret)
    old = sandbox.copied()

    def broken(path: str, rotation_id: str, new: Credential) -> Credential:
        raise Transient(f"{path} {rotation_id} {new} cannot be written.")

    sandbox.other.stage, working = broken, sandbox.other.stage
    result = sandbox.engine.rotate(sandbox.secret, patience=timedelta(days=30))
    assert result.parked
    assert result.error is not None
    assert "the copy other:team/app could not be written" in result.error.what
    assert "The old credential stays valid" in result.error.safety
    assert sandbox.target.accepts(old.username, old.password.reveal())
    sandbox.other.stage = working
    sandbox.engine.unpark(sandbox.secret, reason="mended")
    ended = sandbox.engine.resume(sandbox.secret, patience=timedelta(days=30))
    assert ended is not None
    assert ended.outcome is Outcome.DONE
    assert ended.old_refused
    assert sandbox.copied().password == sandbox.served.password


def test_the_grace_period_counts_from_the_last_copy(sandbox: _SandboxWithCopy):
    """Readers of the copy have as much time as readers of the original."""
    sandbox.engine.rotate(sandbox.secret)
    read = sandbox.other.current

    def away(path: str) -> object:
        if sandbox.journal.open_rotation("app") and sandbox.served != first:
            raise Transient(f"{path} is away.")
        return read(path)

    first = sandbox.served
    sandbox.policy = replace(sandbox.policy, attempts=10, cycles=10)
    sandbox.other.current = away  # pyright: ignore[reportAttributeAccessIssue] # a fault
    sandbox.engine.rotate(sandbox.secret, patience=timedelta(minutes=50))
    sandbox.other.current = read
    sandbox.clock.advance(timedelta(minutes=10))
    copied_after = sandbox.clock.now()
    result = sandbox.engine.resume(sandbox.secret)
    assert result is not None
    assert result.until is not None
    assert result.until >= copied_after + HOUR


def test_a_copy_that_was_changed_in_the_grace_period_stops_the_revoke(sandbox: _SandboxWithCopy):
    """Somebody put the old one back there: it is still needed."""
    sandbox.engine.rotate(sandbox.secret)
    old = sandbox.copied()
    sandbox.engine.rotate(sandbox.secret)
    sandbox.put(old.username, old.password.reveal())
    sandbox.clock.advance(2 * HOUR)
    result = sandbox.engine.resume(sandbox.secret)
    assert result is not None
    assert result.parked
    assert result.error is not None
    assert "no longer holds" in result.error.what
    assert sandbox.target.accepts(old.username, old.password.reveal())


def test_a_rollback_goes_back_in_every_copy(sandbox: _SandboxWithCopy):
    """Also where the first backend moves labels."""
    sandbox.engine.rotate(sandbox.secret)
    old = sandbox.copied()
    sandbox.engine.rotate(sandbox.secret)
    assert sandbox.copied().password != old.password
    sandbox.engine.rollback(sandbox.secret, patience=timedelta(days=1))
    assert sandbox.copied().password == old.password == sandbox.served.password
    result = sandbox.engine.rotate(sandbox.secret, patience=timedelta(days=1))
    assert result.outcome is Outcome.DONE
    assert sandbox.copied().password == sandbox.served.password


def test_a_check_lists_copies_that_differ(sandbox: _SandboxWithCopy):
    """They are in the journal's record of it, too."""
    sandbox.engine.rotate(sandbox.secret)
    assert sandbox.engine.check(sandbox.secret).stale == ()
    sandbox.put("app", "typed by hand")
    assert sandbox.engine.check(sandbox.secret).stale == ("other:team/app",)
    assert sandbox.journal.events("app")[-1].data["stale"] == ["other:team/app"]


def test_adopt_refuses_a_secret_whose_copy_holds_another_credential(sandbox: _SandboxWithCopy):
    """The next rotation would stop there; better to hear of it now."""
    sandbox.engine.rotate(sandbox.secret)
    sandbox.put("payroll", "theirs")
    sandbox.write_by_hand(sandbox.served)
    with pytest.raises(Conflict, match="payroll"):
        sandbox.engine.adopt(sandbox.secret)


def test_the_plan_and_the_journal_name_the_copies(sandbox: _SandboxWithCopy):
    """An auditor sees where a credential went."""
    steps = sandbox.engine.plan(sandbox.secret).steps
    assert any(one.step is Step.COPY and "other:team/app" in one.text for one in steps)
    sandbox.engine.rotate(sandbox.secret)
    copied = [
        event
        for event in sandbox.journal.events("app")
        if event.step is Step.COPY and event.kind is Kind.FINISHED
    ]
    assert copied[0].data["copies"] == {"other:team/app": "1"}
