"""`Engine.check`: a login with what the backend serves is tried, and the answer recorded."""

from __future__ import annotations

from rotator.core.model import Kind
from tests.engine.sandboxes import HOUR, EngineSandbox


def test_check_records_a_credential_that_logs_in(rotated: EngineSandbox):
    """And changes nothing else."""
    state = rotated.target.state()
    health = rotated.engine.check(rotated.secret)
    assert (health.accepted, health.known, health.recorded) == (True, True, True)
    assert (rotated.last.kind, rotated.last.data["accepted"]) == (Kind.CHECKED, True)
    assert rotated.target.state() == state


def test_check_records_a_credential_that_is_rejected(rotated: EngineSandbox):
    """Since when, until it logs in again."""
    passwords = rotated.target.accounts[rotated.served.username].passwords
    passwords.append("set by hand")
    right = passwords.pop(0)
    assert not rotated.engine.check(rotated.secret).accepted
    assert rotated.record.refused_at == rotated.clock.now()
    passwords.append(right)
    assert rotated.engine.check(rotated.secret).accepted
    assert rotated.record.refused is None


def test_check_records_a_version_that_the_journal_does_not_know(rotated: EngineSandbox):
    """It drifted: somebody else wrote it."""
    version = rotated.write_by_hand(rotated.handed_over())
    health = rotated.engine.check(rotated.secret)
    assert (health.accepted, health.known) == (True, False)
    assert rotated.record.drift == version


def test_check_of_an_empty_backend_finds_no_login(sandbox: EngineSandbox):
    """Nothing is accepted, because there is nothing."""
    health = sandbox.engine.check(sandbox.secret)
    assert (health.login, health.version, health.accepted) == (None, None, False)


def test_check_of_a_secret_that_another_engine_works_on_is_not_recorded(rotated: EngineSandbox):
    """The answer is returned all the same."""
    rotated.journal.acquire("app", "another", HOUR)
    before = rotated.everything()
    health = rotated.engine.check(rotated.secret)
    assert (health.accepted, health.recorded) == (True, False)
    assert rotated.everything() == before


def test_check_rotates_nothing_that_is_due(rotated: EngineSandbox):
    """A look is no rotation."""
    rotated.clock.advance(400 * HOUR * 24)
    served = rotated.served
    rotated.engine.check(rotated.secret)
    assert rotated.served == served
