"""Secrets that another system rotates: the engine asks it once, and proves what it serves then."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from rotator.core.errors import Denied, NotDue, UsageError
from rotator.core.model import Kind, Policy
from rotator.engine import Engine, LeakReport, ManagedSecret, Mode
from rotator.testing.crash import delegated_sandbox
from rotator.testing.fake_engine import FakeDelegatedRotation, FakeEngine
from rotator.testing.fakes import ListLog, SeededEntropy

if TYPE_CHECKING:
    from rotator.testing.crash import Sandbox

_DAY = timedelta(days=1)


def _engine(sandbox: Sandbox) -> Engine:
    return Engine(
        journal=sandbox.journal,
        clock=sandbox.clock,
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
    """Two daemons find it due: the look under the lease leaves one rotation."""
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
    with pytest.raises(Denied, match="still accepted") as told:
        _engine(sandbox).rotate(secret)
    assert "The application is safe" in told.value.safety
    followed = sandbox.journal.events(sandbox.secret)[-1]
    assert (followed.kind, followed.data["old_refused"]) == (Kind.FOLLOWED, False)


@pytest.mark.parametrize("mode", [Mode.MOVE, Mode.MAP])
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
