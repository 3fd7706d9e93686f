"""An incident of a secret whose plugin cannot make a password invalid before it is replaced."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from rotator.core.contracts.rotation import Contains
from rotator.core.errors import UsageError
from rotator.engine import LeakReport, Mode
from tests.engine.sandboxes import HOUR, EngineSandbox

REPORT = LeakReport(id="INC-1", reason="found in a paste", within=timedelta(0))


class _Plain:
    """A rotation with the methods of the contract only."""

    def __init__(self, inner: object) -> None:
        for name in ("overlaps", "propose", "create", "verify", "probe", "revoke", "withdraw"):
            setattr(self, name, getattr(inner, name))


def _sandbox(strategy: str) -> EngineSandbox:
    made = EngineSandbox(strategy)
    made.rotation = _Plain(made.rotation)
    assert not isinstance(made.rotation, Contains)
    made.engine.rotate(made.secret)
    made.clock.advance(2 * HOUR)
    made.engine.resume(made.secret)
    return made


@pytest.mark.parametrize("strategy", ["new-user", "single-user", "dual-password"])
def test_move_replaces_the_leaked_password_and_proves_it(strategy: str):
    """The target as a whole is the one address that is tried."""
    made = _sandbox(strategy)
    leaked = made.served
    made.engine.open_incident(made.secret, REPORT)
    contained = made.engine.contain(made.secret)
    assert contained.proof is not None
    assert contained.proof.ok, contained.proof.unproven
    assert [one.address for one in contained.proof.entrances] == ["target db"]
    assert not made.accepts(leaked)
    assert made.accepts(made.served)


def test_kill_is_rejected_with_the_command_that_works():
    """Nothing is changed."""
    made = _sandbox("new-user")
    leaked = made.served
    with pytest.raises(UsageError, match="cannot make a password invalid") as error:
        made.engine.open_incident(made.secret, replace(REPORT, mode=Mode.KILL))
    assert "rotator incident open app --reason 'WHY' --mode move --within 0s" in error.value.hint
    assert made.record.incident is None
    assert made.accepts(leaked)
