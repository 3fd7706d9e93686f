"""A leaked password does not come back by rotator's own doing: by a rollback, or by an adoption."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotator.core.errors import RotatorError, Unknown, UsageError
from rotator.core.history import MAPPED, OPEN, PROVEN
from rotator.core.model import Credential
from rotator.engine import LeakReport, Mode
from rotator.testing.fake_backend import FakeBackend
from rotator.testing.fake_target import Account
from tests.engine.sandboxes import DAY, HOUR, EngineSandbox, Killed, fail_next
from tests.engine.test_incident_and_rotations import KeepingBackend

KILL = LeakReport(id="INC-1", reason="found in a paste", mode=Mode.KILL)
MAP = replace(KILL, mode=Mode.MAP)


def in_grace(*, report: LeakReport = MAP, backend: FakeBackend | None = None) -> EngineSandbox:
    """Return a secret whose older version is reported as leaked, while both are valid."""
    made = EngineSandbox(backend=backend or KeepingBackend())
    made.rotate_wholly()
    version = made.record.version
    made.engine.rotate(made.secret)
    made.engine.open_incident(made.secret, replace(report, version=version))
    return made


# -- rollback --------------------------------------------------------------------------------------


def test_rollback_refuses_a_version_that_is_recorded_as_leaked():
    """Nobody has decided how it is replaced, and it must not be served again."""
    made = in_grace()
    before = made.everything()
    with pytest.raises(UsageError, match="has leaked \\(incident INC-1\\)") as error:
        made.engine.rollback(made.secret)
    assert "rotator incident close app --reason" in error.value.hint
    assert error.value.safety == "Nothing was changed."
    assert made.everything() == before


def test_rollback_refuses_a_version_that_was_recorded_before_its_rotation():
    """A scheduled rotation has replaced it, and its undo would serve it."""
    made = EngineSandbox()
    made.rotate_wholly()
    made.engine.open_incident(made.secret, MAP)
    made.engine.rotate(made.secret)
    with pytest.raises(UsageError, match="has leaked"):
        made.engine.rollback(made.secret)


def test_rollback_refuses_a_version_whose_incident_was_followed_by_another():
    """The newer report hides no older one."""
    made = in_grace()
    made.engine.open_incident(
        made.secret, replace(MAP, id="INC-2", version=made.record.version, reason="another paste")
    )
    with pytest.raises(UsageError, match="has leaked \\(incident INC-1\\)"):
        made.engine.rollback(made.secret)


def test_rollback_is_possible_after_a_false_alarm():
    """An operator has closed the incident, and the journal has the reason."""
    made = in_grace()
    made.engine.close_incident(made.secret, reason="the value was another one")
    assert made.engine.rollback(made.secret).rolling_back


def test_rollback_before_publish_keeps_a_recorded_secret_as_it_is():
    """The leaked version is served before and after; only a decision ends that."""
    made = EngineSandbox()
    served = made.rotate_wholly()
    made.engine.open_incident(made.secret, MAP)
    _ = fail_next(made.rotation, "verify", Killed())
    with pytest.raises(Killed):
        made.engine.rotate(made.secret)
    _ = made.process().rollback(made.secret)
    assert made.served == served
    assert made.record.open_rotation is None


def test_rollback_refuses_while_a_publish_may_have_happened():
    """Where it has, the undo would be a restore of the leaked version."""
    made = EngineSandbox()
    made.rotate_wholly()
    made.engine.open_incident(made.secret, MAP)
    _ = fail_next(made.backend, "publish", Unknown("the answer was lost."), done=True)
    made.engine.rotate(made.secret)
    with pytest.raises(UsageError, match="has leaked"):
        made.engine.rollback(made.secret)


# -- adopt -----------------------------------------------------------------------------------------


def brought_back(
    made: EngineSandbox, leaked: Credential, username: str | None = None
) -> Credential:
    """Let somebody set a leaked password on the target, and write it into the backend."""
    theirs = replace(leaked, username=username or made.served.username)
    account = made.target.accounts.setdefault(theirs.username, Account())
    account.passwords, account.can_login = [leaked.password.reveal()], True
    made.write_by_hand(theirs)
    return theirs


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("strategy", ["new-user", "single-user", "dual-password"])
def test_an_adopted_leaked_password_is_replaced_at_once(strategy: str, *, closed: bool):
    """Somebody has put it back: it is taken over, and due in its incident now."""
    made = EngineSandbox(strategy, backend=KeepingBackend())
    leaked = made.rotate_wholly()
    made.engine.open_incident(made.secret, KILL)
    _ = made.engine.contain(made.secret)
    assert made.record.incident_state == PROVEN
    if closed:
        made.engine.close_incident(made.secret, reason="over")
    theirs = brought_back(made, leaked)
    health = made.engine.adopt(made.secret)
    assert health.incident == "INC-1"
    record = made.record
    assert (record.incident, record.incident_state) == ("INC-1", OPEN)
    assert (record.leaked_version, record.prove_at) == (record.version, made.clock.now())
    proof = made.engine.contain(made.secret).proof
    assert proof is not None
    assert proof.ok, proof.unproven
    assert not made.accepts(theirs)
    assert made.served.password != leaked.password


def test_a_recorded_leak_that_is_adopted_stays_recorded():
    """No program decides for an operator."""
    made = EngineSandbox(backend=KeepingBackend())
    leaked = made.rotate_wholly()
    made.engine.open_incident(made.secret, MAP)
    made.write_by_hand(replace(leaked, fields={"port": "5432"}))
    assert made.engine.adopt(made.secret).incident == "INC-1"
    assert (made.record.incident_state, made.record.leaked_version) == (
        MAPPED,
        made.record.version,
    )


def test_an_adoption_after_a_false_alarm_opens_nothing():
    """The value is an ordinary one."""
    made = EngineSandbox(backend=KeepingBackend())
    leaked = made.rotate_wholly()
    made.engine.open_incident(made.secret, MAP)
    made.engine.close_incident(made.secret, reason="a false alarm")
    made.write_by_hand(replace(leaked, fields={"port": "5432"}))
    assert made.engine.adopt(made.secret).incident is None
    assert made.record.incident is None


def test_a_restored_copy_of_the_leaked_version_is_replaced_too():
    """As Vault's KV makes one in a rollback: its version has another number, and the same password."""
    made = EngineSandbox(backend=FakeBackend(copies=True))
    leaked, version = made.rotate_wholly(), made.record.version
    made.engine.rotate(made.secret)
    _ = made.engine.rollback(made.secret, patience=DAY)
    assert made.served == leaked
    assert made.record.version != version
    made.backend.read = KeepingRead(made, leaked, version or "")  # type: ignore[method-assign]
    made.engine.open_incident(made.secret, replace(KILL, version=version))
    proof = made.engine.contain(made.secret).proof
    assert proof is not None
    assert proof.ok, proof.unproven
    assert not made.accepts(leaked)


class KeepingRead:
    """Reads of a backend that still holds an old version."""

    def __init__(self, made: EngineSandbox, leaked: Credential, version: str) -> None:
        self._works = made.backend.read
        current = made.backend.current("apps/app")
        assert current is not None
        self._old = replace(current, id=version, credential=leaked)

    def __call__(self, path: str, version: str):
        return self._old if version == self._old.id else self._works(path, version)


# -- any order -------------------------------------------------------------------------------------

_CALLS = ("rotate", "finish", "map", "map previous", "kill", "close", "rollback", "adopt old")


@given(
    calls=st.lists(st.sampled_from(_CALLS), max_size=14),
    strategy=st.sampled_from(["new-user", "alternating-users", "single-user", "dual-password"]),
)
def test_no_order_of_commands_serves_a_leaked_version_again(calls: list[str], strategy: str):
    """Whatever was reported, decided, closed, rotated and rolled back before."""
    made = EngineSandbox(strategy, backend=KeepingBackend())
    first, leaked = made.rotate_wholly(), set[str]()
    for number, call in enumerate(calls):
        before = made.served.password.reveal()
        with suppress(RotatorError):
            _called(made, call, f"INC-{number}", first, leaked)
        served = made.served.password.reveal()
        if call != "adopt old" and served != before:
            assert served not in leaked, (call, calls)


def _called(made: EngineSandbox, call: str, id_: str, first: Credential, leaked: set[str]) -> None:
    """Do one thing, and keep in mind what has leaked."""
    if call in ("map", "map previous", "kill"):
        version = made.record.version
        if call == "map previous":
            opened = made.journal.open_rotation("app")
            version = opened.old_version if opened is not None and opened.published_at else None
        if version is None:
            return
        mode = Mode.KILL if call == "kill" else Mode.MAP
        made.engine.open_incident(made.secret, replace(MAP, id=id_, version=version, mode=mode))
        leaked.add(_password(made, version))
        if call == "kill":
            proof = made.engine.contain(made.secret).proof
            assert proof is None or not proof.ok or made.served.password.reveal() not in leaked
    elif call == "close":
        record = made.record
        made.engine.close_incident(made.secret, reason="a false alarm")
        if record.incident_state != PROVEN and record.leaked_version is not None:
            leaked.discard(_password(made, record.leaked_version))
    elif call == "adopt old":
        _ = brought_back(made, first, first.username)
        made.engine.adopt(made.secret)
        if first.password.reveal() in leaked:
            assert made.record.incident is not None
    elif call == "finish":
        made.clock.advance(2 * HOUR)
        made.engine.resume(made.secret)
    else:
        getattr(made.engine, call)(made.secret)


def _password(made: EngineSandbox, version: str) -> str:
    held = made.backend.read("apps/app", version)
    assert held is not None
    return held.credential.password.reveal()
