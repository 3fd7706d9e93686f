"""The negative control, and the proof after a revoke: no account is ever locked by us."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from rotator.core.errors import Unavailable
from rotator.core.model import Credential, Outcome, Policy
from rotator.engine import Engine, ManagedSecret
from rotator.testing.fake_rotations import STRATEGIES
from rotator.testing.fake_target import FakeTarget
from tests.engine.sandboxes import EngineSandbox

if TYPE_CHECKING:
    from rotator.api import Rotation, StepContext

_NO_GRACE = Policy(grace=timedelta(0))


class _Locking:
    """A rotation on a target that locks an account at its first wrong password."""

    def __init__(self, inner: Rotation, target: FakeTarget, *, locks: bool) -> None:
        self._inner, self._target, self._locks = inner, target, locks
        self.wrong: list[str] = []

    @property
    def overlaps(self) -> bool:
        return self._inner.overlaps

    def may_lock(self, login: str, ctx: StepContext) -> bool:
        return self._locks

    def probe(self, credential: Credential, ctx: StepContext) -> bool:
        accepted = self._inner.probe(credential, ctx)
        if not accepted and credential.username in self._target.accounts:
            self.wrong.append(credential.username)
        return accepted

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def _sandbox(strategy: str, *, locks: bool) -> tuple[Engine, ManagedSecret, _Locking]:
    sandbox = EngineSandbox(strategy, policy=_NO_GRACE)
    rotation = _Locking(sandbox.rotation, sandbox.target, locks=locks)
    sandbox.rotation = rotation
    return sandbox.engine, sandbox.secret, rotation


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_account_that_could_lock_is_never_sent_a_wrong_password(strategy: str):
    """By adopt, check and whole rotations; and the result holds what was not tried, and why."""
    engine, secret, rotation = _sandbox(strategy, locks=True)
    engine.rotate(secret)
    engine.adopt(secret)
    engine.check(secret)
    result = engine.rotate(secret)
    assert result.outcome is Outcome.DONE
    assert rotation.wrong == []
    assert result.old_refused is None
    assert result.untried == "a failed login could lock the account"


@pytest.mark.parametrize("strategy", ["dual-password", "single-user"])
def test_the_old_password_is_tried_once_after_a_revoke(strategy: str):
    """On the account that goes on: no second wrong password is sent there."""
    engine, secret, rotation = _sandbox(strategy, locks=False)
    engine.rotate(secret)
    engine.rotate(secret)
    rotation.wrong.clear()
    result = engine.rotate(secret)
    assert result.old_refused is True
    assert len(rotation.wrong) == 1


def test_a_call_does_not_wait_for_a_host_that_is_away():
    """Whatever its patience and however short the waits: the rotation stays open, tried once."""
    engine, secret, rotation = _sandbox("new-user", locks=False)
    engine.rotate(secret)
    tries: list[str] = []

    def rejected(new: Credential, _ctx: StepContext) -> None:
        tries.append(new.username)
        raise Unavailable("the admin is rejected.", hint="Correct its password.")

    rotation.create = rejected  # type: ignore[attr-defined]
    short = replace(_NO_GRACE, backoff_cap=timedelta(milliseconds=1))
    result = engine.rotate(replace(secret, policy=short), patience=timedelta(days=1))
    assert len(tries) == 1
    assert result.outcome is None
    assert result.waiting == "waiting for target db"
    assert result.error is not None
    assert result.error.kind == "unavailable"
