"""An open incident outlives whatever else an operator does to its secret, or is ended in words."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest

from rotator.core.errors import UsageError
from rotator.core.history import MAPPED, OPEN, PROVEN, SecretRecord
from rotator.core.incident_timeline import CLOSED, chain, every_timeline, timelines
from rotator.core.model import Kind
from rotator.engine import LeakReport, Mode, Retirement
from rotator.testing.fake_target import FakeAddress
from tests.engine.sandboxes import DAY, HOUR, EngineSandbox, Killed

KILL = LeakReport(id="INC-1", reason="found in a paste", mode=Mode.KILL)
MAP = replace(KILL, mode=Mode.MAP)
STATES = (MAPPED, OPEN, PROVEN)


def sandbox(state: str, strategy: str = "new-user") -> EngineSandbox:
    """Return a secret in an incident of this state, with no rotation open."""
    made = EngineSandbox(strategy)
    made.rotate_wholly()
    if state == OPEN:
        made.target.addresses["replica:5432"] = FakeAddress(away=True)
    made.engine.open_incident(made.secret, MAP if state == MAPPED else KILL)
    if state != MAPPED:
        _ = made.engine.contain(made.secret)
    assert made.record.incident_state == state
    assert made.record.open_rotation is None
    return made


def incident_of(record: SecretRecord | None) -> tuple[object, ...]:
    """Return all that a record has about its incident."""
    assert record is not None
    return (
        *(record.incident, record.incident_state, record.incident_mode, record.incident_at),
        *(record.leaked_version, record.leaked_login, record.leaked_moment, record.prove_at),
    )


# -- rename ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", STATES)
def test_rename_carries_the_incident_over(state: str):
    """The password leaked, whatever its secret is called."""
    made = sandbox(state)
    before = incident_of(made.record)
    made.engine.rename("app", made.named("web"))
    assert incident_of(made.journal.secret("web")) == before
    assert made.record.incident is None


def test_a_renamed_secret_is_replaced_and_proven():
    """By its new name, with the mode and the reason of the report."""
    made = sandbox(MAPPED)
    leaked, version = made.served, made.record.version
    made.engine.rename("app", made.named("web"))
    web = made.named("web")
    made.engine.open_incident(web, KILL)
    proof = made.engine.contain(web).proof
    assert proof is not None
    assert proof.ok, proof.unproven
    assert not made.accepts(leaked)
    assert made.journal.rotations("web", 1)[0].reason == "incident INC-1: found in a paste"
    assert made.engine.exposure(web, version).login == leaked.username
    assert made.engine.find_version(web, leaked.password) == version


@pytest.mark.parametrize("strategy", ["new-user", "single-user"])
def test_a_password_that_comes_back_after_a_rename_is_made_invalid_again(strategy: str):
    """The watch goes on under the new name."""
    made = EngineSandbox(strategy)
    made.rotate_wholly()
    leaked = made.served
    kept = copy.deepcopy(made.target.accounts[leaked.username])
    made.engine.open_incident(made.secret, KILL)
    _ = made.engine.contain(made.secret)
    made.engine.rename("app", made.named("web"))
    made.target.accounts[leaked.username] = kept
    made.clock.advance(HOUR)
    done = made.engine.contain(made.named("web"))
    assert done.revoked == (leaked.username,)
    assert not made.accepts(leaked)


def test_the_timeline_of_a_renamed_secret_is_one():
    """From the report under the old name to the proof under the new one."""
    made = sandbox(PROVEN)
    reported = timelines(made.journal.events("app"))[0].reported_at
    made.engine.rename("app", made.named("web"))
    made.clock.advance(HOUR)
    _ = made.engine.contain(made.named("web"))
    (line,) = timelines(chain(made.journal.events, "web"))
    assert (line.secret, line.reported_at, line.state) == ("web", reported, PROVEN)
    assert [one.secret for one in line.events if one.kind is Kind.PROVEN] == ["app", "web"]
    (old,) = timelines(made.journal.events("app"))
    assert (old.state, old.renamed_to) == (CLOSED, "web")


def test_a_renamed_secret_is_listed_once_by_its_new_name():
    """Where every incident is listed, as on the page of the console."""
    made = sandbox(PROVEN)
    made.engine.rename("app", made.named("web"))
    made.clock.advance(HOUR)
    made.engine.open_incident(
        made.named("web"), replace(MAP, id="INC-2", version=made.journal.secret("web").version)
    )  # type: ignore[union-attr]
    found = every_timeline(made.journal, made.journal.leaked(10))
    assert [(one.secret, one.incident) for one in found] == [("web", "INC-2"), ("web", "INC-1")]


def test_the_chain_of_a_secret_that_got_its_old_name_back_has_each_event_once():
    """`app` to `web` to `app`."""
    made = sandbox(PROVEN)
    made.engine.rename("app", made.named("web"))
    made.engine.rename("web", made.secret)
    events = chain(made.journal.events, "app")
    assert len({(one.secret, one.seq) for one in events}) == len(events)
    (line,) = timelines(events)
    assert (line.secret, line.state) == ("app", PROVEN)
    assert made.record.incident_state == PROVEN


def test_rename_that_was_killed_loses_no_incident():
    """Between the two chains both know it."""
    made = sandbox(PROVEN)
    works = made.journal.append
    calls = [0]

    def append(*arguments: object) -> object:
        calls[0] += 1
        if calls[0] == 2:  # the end of the old chain
            raise Killed
        return works(*arguments)  # type: ignore[arg-type]

    made.journal.append = append  # type: ignore[method-assign,assignment]
    with pytest.raises(Killed):
        made.engine.rename("app", made.named("web"))
    made.journal.append = works  # type: ignore[method-assign]
    before = incident_of(made.record)
    made.process().rename("app", made.named("web"))
    assert incident_of(made.journal.secret("web")) == before


# -- retire ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [MAPPED, OPEN])
@pytest.mark.parametrize("asked", [Retirement(), Retirement(remove_value=True)])
def test_retire_refuses_while_the_leaked_password_may_be_accepted(state: str, asked: Retirement):
    """Nobody would replace it, or try it, any more."""
    made = sandbox(state)
    made.backend.remove = lambda *_arguments, **_named: None  # type: ignore[attr-defined]
    before = made.everything()
    with pytest.raises(UsageError, match="leaked \\(incident INC-1\\)") as error:
        made.engine.retire(made.secret, asked)
    assert "rotator incident close app --reason" in error.value.hint
    assert error.value.safety == "Nothing was changed."
    assert made.everything() == before


def test_retire_refuses_before_it_completes_an_open_rotation():
    """A rotation of `move` that waits for its consumers is the incident's."""
    made = EngineSandbox()
    made.rotate_wholly()
    made.target.accounts[made.served.username].began = [made.target.moment()]
    made.engine.open_incident(made.secret, replace(KILL, mode=Mode.MOVE, within=DAY))
    assert made.engine.contain(made.secret).proof is None
    before = made.everything()
    with pytest.raises(UsageError, match="incident INC-1"):
        made.engine.retire(made.secret, Retirement())
    assert made.everything() == before


@pytest.mark.parametrize("state", [MAPPED, PROVEN])
def test_retire_with_its_login_ends_the_incident_in_the_journal(state: str):
    """The leaked login is gone and rejected, or was proven before."""
    made = sandbox(state)
    retired = made.engine.retire(made.secret, Retirement(drop_login=True))
    assert retired.refused is True
    assert retired.incident == "INC-1"
    closed = [one for one in made.journal.events("app") if one.kind is Kind.INCIDENT_CLOSED]
    assert [one.data["proven"] for one in closed] == [state == PROVEN]
    (line,) = timelines(made.journal.events("app"))
    assert line.state == CLOSED


def test_retire_with_another_login_than_the_leaked_one_refuses():
    """The one that is dropped proves nothing of the other."""
    made = sandbox(OPEN)
    with pytest.raises(UsageError, match="incident INC-1"):
        made.engine.retire(made.secret, Retirement(drop_login=True))


def test_retire_after_the_proof_says_that_the_watch_ends():
    """The journal has it, and nobody waits for a notice."""
    made = sandbox(PROVEN)
    assert made.engine.retire(made.secret, Retirement(reason="moved")).incident == "INC-1"
    closed = made.journal.events("app")[-2]
    assert (closed.kind, closed.data["proven"]) == (Kind.INCIDENT_CLOSED, True)


@pytest.mark.parametrize("state", STATES)
def test_let_go_ends_an_unproven_incident_only_on_an_operators_word(state: str):
    """Its target is gone, so nobody can prove it; the journal says that it is not proven."""
    made = sandbox(state)
    if state != PROVEN:
        with pytest.raises(UsageError, match="incident INC-1") as error:
            made.engine.let_go("app", reason="")
        assert "--abandon --reason" in error.value.hint
    made.engine.let_go("app", reason="scrapped", abandoned=True)
    closed = made.journal.events("app")[-2]
    assert (closed.kind, closed.data["proven"]) == (Kind.INCIDENT_CLOSED, state == PROVEN)


# -- the others ------------------------------------------------------------------------------------


def _rolled_back(made: EngineSandbox) -> None:
    made.engine.rotate(made.secret)
    made.engine.rollback(made.secret)


def _adopted(made: EngineSandbox) -> None:
    made.write_by_hand(made.handed_over())
    made.engine.adopt(made.secret)


def _parked(made: EngineSandbox) -> None:
    made.engine.park(made.secret, reason="holiday")
    made.engine.unpark(made.secret, reason="back")


_OTHERS: dict[str, Callable[[EngineSandbox], object]] = {
    "park and unpark": _parked,
    "adopt another credential": _adopted,
    "adopt the same one": lambda made: made.engine.adopt(made.secret),
    "rotate": lambda made: made.engine.rotate(made.secret, patience=2 * DAY),
    "roll back": _rolled_back,
    "check": lambda made: made.engine.check(made.secret),
    "schedule": lambda made: made.engine.schedule(made.secret, None, reason="x"),
    "postpone": lambda made: made.engine.postpone(made.secret, None, reason="x"),
}


@pytest.mark.parametrize("state", [OPEN, PROVEN])
@pytest.mark.parametrize("name", _OTHERS)
def test_other_commands_keep_the_incident(name: str, state: str):
    """Only a proof, a close or a retirement ends one."""
    made = sandbox(state)
    before = incident_of(made.record)
    _OTHERS[name](made)
    assert incident_of(made.record)[:6] == before[:6]
    assert made.record.prove_at is not None


@pytest.mark.parametrize("name", [one for one in _OTHERS if one != "roll back"])
def test_other_commands_keep_a_recorded_incident(name: str):
    """It waits for a decision, and nothing else ends that."""
    made = sandbox(MAPPED)
    before = incident_of(made.record)
    _OTHERS[name](made)
    assert incident_of(made.record)[:6] == before[:6]
