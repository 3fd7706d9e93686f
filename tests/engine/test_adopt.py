"""`Engine.adopt`: a login comes under our care, without a change of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rotator.core.errors import UsageError
from rotator.core.model import Credential, Kind, Outcome
from rotator.core.secret import Secret
from rotator.engine import Second, UnprovenSecond
from rotator.testing.fake_rotations import AlternatingUsers
from tests.engine.sandboxes import DAY, HOUR, PATH, EngineSandbox, Killed, fail_next

if TYPE_CHECKING:
    from rotator.core.contracts.rotation import StepContext


def test_adopt_takes_over_what_the_backend_serves(sandbox: EngineSandbox):
    """On the target and in the backend nothing changes."""
    version = sandbox.write_by_hand(sandbox.handed_over())
    state = sandbox.target.state()
    health = sandbox.engine.adopt(sandbox.secret, reason="taken over")
    assert (health.login, health.version, health.accepted) == ("theirs", version, True)
    assert (sandbox.record.version, sandbox.record.adopted) == (version, ("theirs",))
    assert sandbox.last.data["reason"] == "taken over"
    assert sandbox.target.state() == state


def test_an_adopted_secret_is_due_a_period_after_its_adoption(sandbox: EngineSandbox):
    """Its age is not known, and unknown is never 'now'."""
    sandbox.write_by_hand(sandbox.handed_over())
    sandbox.engine.adopt(sandbox.secret)
    assert sandbox.record.next_due == sandbox.clock.now() + 30 * DAY
    assert sandbox.record.rotated_at is None


def test_an_adopted_secret_whose_age_is_given_is_due_by_it(sandbox: EngineSandbox):
    """A password of last year is due."""
    sandbox.write_by_hand(sandbox.handed_over())
    made_at = sandbox.clock.now() - 20 * DAY
    sandbox.engine.adopt(sandbox.secret, made_at=made_at)
    assert sandbox.record.next_due == made_at + 30 * DAY


def test_an_adopted_secret_is_rotated(sandbox: EngineSandbox):
    """Its old login is ours to drop, although it bears no mark."""
    sandbox.write_by_hand(sandbox.handed_over())
    sandbox.engine.adopt(sandbox.secret)
    assert sandbox.engine.rotate(sandbox.secret, patience=DAY).outcome is Outcome.DONE
    assert "theirs" not in sandbox.target.accounts
    assert sandbox.target.violations == []


def test_adopt_writes_a_given_credential_into_an_empty_backend(sandbox: EngineSandbox):
    """Then it is what the backend serves."""
    sandbox.engine.adopt(sandbox.secret, first=sandbox.handed_over())
    assert sandbox.served.username == "theirs"
    assert sandbox.backend.pending(PATH) == {}


def test_adopt_that_was_killed_is_run_again(sandbox: EngineSandbox):
    """The credential that it had staged is replaced."""
    wrong, right = "staged before", sandbox.handed_over()
    sandbox.target.accounts["theirs"].passwords.append(wrong)
    fail_next(sandbox.backend, "publish", Killed())
    first = Credential(username="theirs", password=Secret(wrong))
    with pytest.raises(Killed):
        sandbox.engine.adopt(sandbox.secret, first=first)
    sandbox.process().adopt(sandbox.secret, first=right)
    assert sandbox.served == right
    assert sandbox.backend.pending(PATH) == {}


def test_adopt_that_was_killed_after_its_publish_is_run_again(sandbox: EngineSandbox):
    """The backend serves what is given already."""
    fail_next(sandbox.backend, "publish", Killed(), done=True)
    first = sandbox.handed_over()
    with pytest.raises(Killed):
        sandbox.engine.adopt(sandbox.secret, first=first)
    assert sandbox.process().adopt(sandbox.secret, first=first).known


def test_adopt_refuses_an_empty_backend(sandbox: EngineSandbox):
    """There is nothing to adopt."""
    with pytest.raises(UsageError, match="nothing to adopt"):
        sandbox.engine.adopt(sandbox.secret)


def test_adopt_refuses_to_overwrite_what_the_backend_serves(sandbox: EngineSandbox):
    """Another credential is given than the one that it holds."""
    sandbox.write_by_hand(sandbox.handed_over())
    with pytest.raises(UsageError, match="already holds"):
        sandbox.engine.adopt(sandbox.secret, first=sandbox.handed_over("another"))
    assert sandbox.served.username == "theirs"


def test_adopt_refuses_a_credential_that_the_target_rejects(sandbox: EngineSandbox):
    """Nothing is written anywhere."""
    sandbox.handed_over()
    before = sandbox.everything()
    wrong = Credential(username="theirs", password=Secret("mistyped"))
    with pytest.raises(UsageError, match="rejects login 'theirs'"):
        sandbox.engine.adopt(sandbox.secret, first=wrong)
    assert sandbox.everything() == before


def test_adopt_a_second_time_writes_nothing(sandbox: EngineSandbox):
    """It is ours already."""
    sandbox.write_by_hand(sandbox.handed_over())
    sandbox.engine.adopt(sandbox.secret)
    before = sandbox.everything()
    assert sandbox.engine.adopt(sandbox.secret).known
    assert sandbox.everything() == before


def test_adopt_takes_over_what_somebody_wrote_by_hand(rotated: EngineSandbox):
    """After it the secret is rotated again."""
    rotated.write_by_hand(rotated.handed_over())
    rotated.engine.adopt(rotated.secret)
    assert rotated.engine.rotate(rotated.secret, patience=DAY).outcome is Outcome.DONE


def test_adopt_refuses_another_credential_while_a_rotation_is_open(in_grace: EngineSandbox):
    """The rotation would no longer know what to revoke."""
    in_grace.write_by_hand(in_grace.handed_over())
    with pytest.raises(UsageError, match="is still open"):
        in_grace.engine.adopt(in_grace.secret)


def test_adopt_takes_back_what_an_open_rotation_published(in_grace: EngineSandbox):
    """Somebody has written it anew, with another field beside it."""
    in_grace.write_by_hand(in_grace.served)
    in_grace.engine.adopt(in_grace.secret)
    in_grace.clock.advance(HOUR)
    resumed = in_grace.engine.resume(in_grace.secret)
    assert resumed is not None
    assert resumed.outcome is Outcome.DONE


# -- pairs -----------------------------------------------------------------------------------------


class _Pair(AlternatingUsers):
    """Two logins taking turns that can name the second one where nobody has adopted it."""

    def unmanaged(self, current: Credential, ctx: StepContext) -> str | None:
        other = "app_b" if current.username == "app_a" else "app_a"
        there = other in self._target.accounts and not self._target.is_ours(other, ctx)
        return other if there else None


@pytest.fixture
def pair() -> EngineSandbox:
    """Two logins, of which the backend serves the first."""
    sandbox = EngineSandbox("alternating-users")
    sandbox.rotation = _Pair(sandbox.target)
    sandbox.handed_over("app_b")
    sandbox.write_by_hand(sandbox.handed_over("app_a"))
    return sandbox


def test_adopt_refuses_a_pair_whose_second_login_is_unproven(pair: EngineSandbox):
    """Nobody has shown that it may be taken over."""
    before = pair.everything()
    with pytest.raises(UnprovenSecond, match="'app_b'"):
        pair.engine.adopt(pair.secret)
    assert pair.everything() == before


def test_adopt_takes_over_a_second_login_by_its_password(pair: EngineSandbox):
    """Both are ours then, and take turns."""
    health = pair.engine.adopt(pair.secret, second=Second(password=Secret("made-by-hand")))
    assert health.second == "app_b"
    assert pair.record.adopted == ("app_a", "app_b")
    assert pair.engine.rotate(pair.secret, patience=DAY).login == "app_b"


def test_adopt_refuses_a_wrong_password_of_the_second_login(pair: EngineSandbox):
    """A guess is no proof."""
    with pytest.raises(UsageError, match="second login 'app_b'"):
        pair.engine.adopt(pair.secret, second=Second(password=Secret("guessed")))


@pytest.mark.parametrize(("name", "reason"), [("app_a", "why"), ("app_b", "")])
def test_adopt_on_an_operators_word_needs_the_login_and_a_reason(
    pair: EngineSandbox, name: str, reason: str
):
    """So that nothing is taken over by mistake."""
    with pytest.raises(UsageError, match="needs that name and a reason"):
        pair.engine.adopt(pair.secret, second=Second(take_over=name), reason=reason)


def test_adopt_takes_over_a_second_login_on_an_operators_word(pair: EngineSandbox):
    """The journal keeps that its password was not tried."""
    pair.engine.adopt(pair.secret, second=Second(take_over="app_b"), reason="nobody knows it")
    proofs = [one.data.get("proof") for one in pair.journal.events("app")]
    assert "word" in proofs
    assert all(one.kind is Kind.ADOPTED for one in pair.journal.events("app"))


def test_adopt_refuses_a_second_login_where_a_strategy_has_one(sandbox: EngineSandbox):
    """Somebody has mistaken the strategy."""
    sandbox.write_by_hand(sandbox.handed_over())
    with pytest.raises(UsageError, match="has one login"):
        sandbox.engine.adopt(sandbox.secret, second=Second(password=Secret("made-by-hand")))
